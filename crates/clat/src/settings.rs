//! What the flags mean: checked against each other, before the host is looked at.

use std::net::{Ipv4Addr, Ipv6Addr};

use xlat_core::addr::{Ipv4Prefix, Pref64, special};
use xlat_linux::daemon::exit::Usage;

use crate::cli::Run;

/// The well-known IPv4 prefix for hosts behind a CLAT (RFC 7335).
const SERVICE_CONTINUITY: Ipv4Prefix = Ipv4Prefix::containing(Ipv4Addr::new(192, 0, 0, 0), 29);

/// Room for what an IPv6 header is longer than an IPv4 header, and a Fragment header.
pub(crate) const GROWTH: u16 = 28;

/// Settings that make sense together.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) pref64: Pref64,
    pub(crate) ipv4: Ipv4Addr,
    /// Address that our own ICMPv4 errors come from: the hop behind the host.
    pub(crate) hop: Ipv4Addr,
    pub(crate) ipv6: Option<Ipv6Addr>,
    pub(crate) run: Run,
}

impl Settings {
    pub(crate) fn new(run: Run) -> Result<Self, Usage> {
        let Some(pref64) = run.prefix else {
            let line = "--prefix is missing: this version does not find out the NAT64 prefix by \
                        itself yet; give the one of your network, for example 64:ff9b::/96";
            return Err(Usage(line.into()));
        };
        check_ipv4(run.ipv4)?;
        if let Some(ipv6) = run.ipv6 {
            check_ipv6(ipv6, pref64)?;
        }
        if let (Some(mtu), Some(mtu4)) = (run.mtu, run.mtu4)
            && mtu4 > mtu - 20
        {
            let line = format!(
                "--mtu4 {mtu4} does not fit --mtu {mtu}: at most {}",
                mtu - 20
            );
            return Err(Usage(line));
        }
        if run.flags.no_host_setup && run.ipv6.is_none() {
            let line = "--no-host-setup needs --ipv6: the address must be routed to the TUN by you";
            return Err(Usage(line.into()));
        }
        Ok(Self {
            pref64,
            ipv4: run.ipv4,
            hop: hop(run.ipv4),
            ipv6: run.ipv6,
            run,
        })
    }
}

fn check_ipv4(ipv4: Ipv4Addr) -> Result<(), Usage> {
    let usable = SERVICE_CONTINUITY.contains(ipv4) && ipv4 != SERVICE_CONTINUITY.address();
    if usable || !special::is_never_v4(ipv4) {
        return Ok(());
    }
    Err(Usage(format!(
        "--ipv4 {ipv4} is no address for a host; 192.0.0.1 is made for this"
    )))
}

fn check_ipv6(ipv6: Ipv6Addr, pref64: Pref64) -> Result<(), Usage> {
    if pref64.contains(ipv6) {
        return Err(Usage(format!(
            "--ipv6 {ipv6} lies in the NAT64 prefix {pref64}; choose one of the uplink's network"
        )));
    }
    if !special::is_legal_v6_source(ipv6) || ipv6.is_unicast_link_local() {
        return Err(Usage(format!(
            "--ipv6 {ipv6} is no address that others can answer to; choose one of the uplink's \
             network"
        )));
    }
    Ok(())
}

/// The first address of 192.0.0.0/29 behind its lowest one that the host does not use.
fn hop(host: Ipv4Addr) -> Ipv4Addr {
    let [first, second] = [Ipv4Addr::new(192, 0, 0, 1), Ipv4Addr::new(192, 0, 0, 2)];
    if host == second { first } else { second }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::Parser;

    fn settings(flags: &[&str]) -> Result<Settings, Usage> {
        let args = [&["clat", "--prefix=2001:db8:64::/96"], flags].concat();
        Settings::new(Cli::try_parse_from(args).expect("parses").run)
    }

    #[test]
    fn cl_15_host_and_hop_are_two_addresses_of_192_0_0_0_29() {
        let default = settings(&[]).unwrap();
        assert_eq!(default.ipv4, Ipv4Addr::new(192, 0, 0, 1));
        assert_eq!(default.hop, Ipv4Addr::new(192, 0, 0, 2));
        let other = settings(&["--ipv4=192.0.0.2"]).unwrap();
        assert_eq!(other.hop, Ipv4Addr::new(192, 0, 0, 1));
    }

    #[test]
    fn flags_that_contradict_each_other_are_refused() {
        for flags in [
            &["--ipv6=2001:db8:64::1"][..],
            &["--ipv6=fe80::1"],
            &["--ipv6=ff02::1"],
            &["--ipv4=127.0.0.1"],
            &["--ipv4=192.0.0.0"],
            &["--mtu=1300", "--mtu4=1281"],
            &["--no-host-setup"],
        ] {
            assert!(settings(flags).is_err(), "{flags:?}");
        }
    }
}
