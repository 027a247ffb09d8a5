//! What the flags mean: checked against each other, before the host is looked at.

use std::net::{Ipv4Addr, Ipv6Addr};

use clat_host::Wanted;
use pref64_discovery::Trust;
use xlat_core::addr::{Eam, Ipv4Prefix, Ipv6Prefix, Pref64, special};
use xlat_host::daemon::exit::Usage;
use xlat_host::host::Host;
pub(crate) use xlat_proto::clat::Side4;

use crate::cli::{Forwarding, Run};

/// The well-known IPv4 prefix for hosts behind a CLAT (RFC 7335).
const SERVICE_CONTINUITY: Ipv4Prefix = Ipv4Prefix::containing(Ipv4Addr::new(192, 0, 0, 0), 29);

/// Room for what an IPv6 header is longer than an IPv4 header, and a Fragment header.
pub(crate) const GROWTH: u16 = 28;

/// Settings that make sense together.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) run: Run,
}

impl Settings {
    pub(crate) fn new(run: Run) -> Result<Self, Usage> {
        if let Some(ipv4) = run.ipv4 {
            check_ipv4(ipv4)?;
        }
        if let Some(ipv6) = run.ipv6 {
            check_ipv6(ipv6, run.prefix)?;
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
        if run.flags.no_host_setup && (run.ipv6.is_none() || run.prefix.is_none()) {
            let line = "--no-host-setup needs --prefix and --ipv6: the address must be routed to \
                        the TUN by you";
            return Err(Usage(line.into()));
        }
        if let Some(target) = run.probe
            && special::is_never_v4(target)
        {
            // Their use is to tell the prefix; nobody answers for them (RFC 7050 section 3.2).
            return Err(Usage(format!(
                "--probe {target} answers to nobody; give a host on the Internet that answers pings"
            )));
        }
        check_lan(&run)?;
        Ok(Self { run })
    }

    /// The IPv6 addresses of the hosts of our LANs; none if they share that of this host.
    pub(crate) fn lan_maps(&self) -> Vec<Eam> {
        let Some(prefix) = self.run.lan_prefix6 else {
            return Vec::new();
        };
        let maps = self.run.lan.iter().filter_map(|lan| lan_map(*lan, prefix));
        maps.collect()
    }

    /// True if the hosts of our LANs share this host's IPv4 address.
    pub(crate) fn lan_is_hidden(&self) -> bool {
        !self.run.lan.is_empty() && self.run.lan_prefix6.is_none()
    }

    /// The IPv4 side on a host that has these addresses already, other instances' among them, where
    /// `reserve` takes an address that no other instance has.
    pub(crate) fn side4(
        &self,
        taken: &[Ipv4Addr],
        reserve: impl Fn(Ipv4Addr) -> bool,
    ) -> Result<Side4, Usage> {
        Side4::choose(self.run.ipv4, self.run.metric, taken, reserve).ok_or_else(|| {
            let line = "all addresses of 192.0.0.0/29 are taken on this host; give another one \
                        with --ipv4";
            Usage(line.into())
        })
    }

    /// True if only the interfaces involved forward IPv6, and not the whole host.
    pub(crate) fn forwards_by_interface(&self, host: &Host) -> bool {
        self.run.forwarding == Forwarding::Interfaces && host.has_force_forwarding()
    }

    /// Which prefixes are to be used.
    pub(crate) fn trust(&self) -> Trust {
        Trust {
            probe: self.run.probe,
            require_secure: self.run.require_secure,
        }
    }

    /// Where to look on the host.
    pub(crate) fn wanted(&self) -> Wanted {
        Wanted {
            uplink: self.run.uplink.clone(),
            prefix: self.run.prefix,
            mtu: self.run.mtu,
            tun: self.run.place.tun.clone(),
            lan: self.run.lan.clone(),
        }
    }

    /// MTU of the IPv4 side in bytes, for this one of the IPv6 side.
    pub(crate) fn mtu4(&self, mtu: u16) -> u16 {
        self.run.mtu4.unwrap_or(mtu - GROWTH).min(mtu - 20)
    }
}

/// The IPv4 addresses in the low bits of the IPv6 prefix.
fn lan_map(lan: Ipv4Prefix, prefix: Ipv6Prefix) -> Option<Eam> {
    let address = prefix.address().to_bits() | u128::from(lan.address().to_bits());
    let v6 = Ipv6Prefix::new(Ipv6Addr::from_bits(address), 96 + lan.len()).ok()?;
    Eam::new(lan, v6).ok()
}

fn check_lan(run: &Run) -> Result<(), Usage> {
    for (at, lan) in run.lan.iter().enumerate() {
        if special::is_never_v4(lan.address()) || lan.overlaps(&SERVICE_CONTINUITY) {
            return Err(Usage(format!("--lan {lan} is no network of hosts")));
        }
        if run.lan[..at].iter().any(|other| other.overlaps(lan)) {
            return Err(Usage(format!("--lan {lan} is given twice")));
        }
        if let Some(prefix) = run.lan_prefix6
            && (prefix.len() > 96 || lan_map(*lan, prefix).is_none())
        {
            let line =
                format!("--lan-prefix6 {prefix} has no room for IPv4 addresses; 96 bits at most");
            return Err(Usage(line));
        }
    }
    if let (Some(prefix), Some(pref64)) = (run.lan_prefix6, run.prefix)
        && pref64.prefix().overlaps(&prefix)
    {
        return Err(Usage(format!(
            "--lan-prefix6 {prefix} lies in the NAT64 prefix {pref64}"
        )));
    }
    if run.flags.no_host_setup && !run.lan.is_empty() && run.lan_prefix6.is_none() {
        let line = "--lan without --lan-prefix6 takes an nftables rule: --no-host-setup makes none";
        return Err(Usage(line.into()));
    }
    Ok(())
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

fn check_ipv6(ipv6: Ipv6Addr, pref64: Option<Pref64>) -> Result<(), Usage> {
    if let Some(pref64) = pref64
        && pref64.contains(ipv6)
    {
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
        let side = |flags: &[&str], taken: &[[u8; 4]]| {
            let taken: Vec<Ipv4Addr> = taken.iter().map(|one| (*one).into()).collect();
            let side = settings(flags).unwrap().side4(&taken, |_| true)?;
            Ok::<_, Usage>((side.host.octets()[3], side.hop.octets()[3], side.metric))
        };
        assert_eq!(side(&[], &[]), Ok((1, 2, 2048)));
        assert_eq!(side(&["--ipv4=192.0.0.2"], &[]), Ok((2, 1, 2048)));
        assert_eq!(side(&[], &[[192, 0, 0, 1]]), Ok((3, 4, 2049)));
        assert_eq!(side(&["--metric=7"], &[[192, 0, 0, 2]]), Ok((3, 4, 7)));
        let all = [[192, 0, 0, 1], [192, 0, 0, 3], [192, 0, 0, 5]];
        assert!(side(&[], &all).is_err());
        let second = |address: Ipv4Addr| address.octets()[3] != 1;
        let side = settings(&[]).unwrap().side4(&[], second).unwrap();
        assert_eq!((side.host.octets()[3], side.metric), (3, 2049));
    }

    #[test]
    fn cl_16_the_ipv4_side_has_28_bytes_less() {
        assert_eq!(settings(&[]).unwrap().mtu4(1400), 1372);
        assert_eq!(settings(&["--mtu4=1380"]).unwrap().mtu4(1500), 1380);
        assert_eq!(settings(&["--mtu4=1390"]).unwrap().mtu4(1400), 1380);
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
