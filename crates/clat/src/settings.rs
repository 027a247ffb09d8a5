//! Settings: the flags, checked against each other.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use clat_host::{HostConfig, Wanted, lan_map};
use pref64_discovery::Trust;
use xlat_core::Policy;
use xlat_core::addr::{Ipv4Prefix, Ipv6Prefix, Pref64, special};
use xlat_host::daemon::exit::Usage;
use xlat_host::daemon::flags::StatusGroup;
use xlat_proto::clat::Side4;

use crate::cli::{Forwarding, Run};

/// The well-known IPv4 prefix for hosts behind a CLAT (RFC 7335).
const SERVICE_CONTINUITY: Ipv4Prefix = Ipv4Prefix::containing(Ipv4Addr::new(192, 0, 0, 0), 29);

/// Settings that make sense together.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The NAT64 prefix; `None` to discover it.
    pub(crate) prefix: Option<Pref64>,
    /// Which discovered prefixes to use.
    pub(crate) trust: Trust,
    /// Name of the uplink; `None` for the interface that leads to the IPv6-only network.
    pub(crate) uplink: Option<String>,
    /// Whether to translate while this host has native IPv4, too.
    pub(crate) always: bool,
    /// The CLAT's IPv6 address; `None` to choose one.
    pub(crate) ipv6: Option<Ipv6Addr>,
    pub(crate) checksum_neutral: bool,
    /// MTU towards the IPv6-only network, in bytes; `None` for the uplink's.
    pub(crate) mtu: Option<u16>,
    /// Who gives ports to hosts that ask.
    pub(crate) pcp: Pcp,
    pub(crate) instance: Instance,
    /// Where Prometheus is served.
    pub(crate) metrics: Option<SocketAddr>,
    pub(crate) no_host_setup: bool,
    pub(crate) dry_run: bool,
    /// Print the dry run as JSON.
    pub(crate) json: bool,
    /// This host's IPv4 address; [`Settings::side4`] chooses one if it is `None`.
    ipv4: Option<Ipv4Addr>,
    /// Metric of the IPv4 default route; [`Settings::side4`] chooses one if it is `None`.
    metric: Option<u32>,
    /// MTU of the IPv4 side, in bytes.
    mtu4: Option<u16>,
    lan: Vec<Ipv4Prefix>,
    lan_prefix6: Option<Ipv6Prefix>,
    shared_ports: RangeInclusive<u16>,
    prefer_interface_forwarding: bool,
    tun: xlat_tun::Options,
    /// Its MTUs and own addresses say nothing: the data path replaces them by those of the CLAT.
    policy: Policy,
}

/// Who gives external ports to IPv4 hosts that ask for them (RFC 6887, RFC 6886).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Pcp {
    /// The default routers.
    Auto,
    /// No one: hosts cannot ask.
    Off,
    /// These servers, the first one first.
    Servers(Vec<Ipv6Addr>),
}

impl FromStr for Pcp {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let server = |text: &str| match text.parse::<Ipv6Addr>() {
            Ok(address) if !address.is_unspecified() && !address.is_multicast() => Ok(address),
            _ => Err(format!("auto, off or IPv6 addresses, not {text}")),
        };
        match text {
            "auto" => Ok(Self::Auto),
            "off" => Ok(Self::Off),
            _ => text
                .split(',')
                .map(server)
                .collect::<Result<_, _>>()
                .map(Self::Servers),
        }
    }
}

/// What keeps this instance apart from others on the host.
#[derive(Clone, Debug)]
pub(crate) struct Instance {
    /// Name of the TUN interface.
    pub(crate) tun: String,
    pub(crate) run_dir: PathBuf,
    pub(crate) state_dir: PathBuf,
    /// The group that may ask for the status.
    pub(crate) status_group: Option<StatusGroup>,
}

impl Settings {
    /// Resolves the flags into what the daemon and the dry run use.
    ///
    /// # Errors
    /// If flags contradict each other.
    pub(crate) fn resolve(run: Run) -> Result<Self, Usage> {
        Self::check(&run)?;
        let (own_v4, own_v6) = (Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED);
        Ok(Self {
            prefix: run.prefix,
            trust: Trust {
                probe: run.probe,
                require_secure: run.require_secure,
            },
            uplink: run.uplink,
            always: run.always,
            ipv6: run.ipv6,
            checksum_neutral: run.checksum_neutral,
            mtu: run.mtu,
            pcp: run.pcp,
            metrics: run.flags.metrics,
            no_host_setup: run.flags.no_host_setup,
            dry_run: run.flags.dry_run,
            json: run.flags.json,
            ipv4: run.ipv4,
            metric: run.metric,
            mtu4: run.mtu4,
            lan: run.lan,
            lan_prefix6: run.lan_prefix6,
            shared_ports: run.shared_ports,
            prefer_interface_forwarding: run.forwarding == Forwarding::Interfaces,
            tun: run.flags.tun(&run.place.tun),
            instance: Instance {
                tun: run.place.tun,
                run_dir: run.place.run_dir,
                state_dir: run.state_dir,
                status_group: run.flags.status_group,
            },
            policy: run.policy.policy(own_v4, own_v6, 1500, 1500),
        })
    }

    fn check(run: &Run) -> Result<(), Usage> {
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
            // These serve to discover the prefix; no host has them (RFC 7050 section 3.2).
            return Err(Usage(format!(
                "--probe {target} answers to nobody; give a host on the Internet that answers pings"
            )));
        }
        check_lan(run)
    }

    /// Chooses the IPv4 side on a host that has the addresses `taken`. `reserve` returns false for an
    /// address that another instance has reserved.
    pub(crate) fn side4(
        &self,
        taken: &[Ipv4Addr],
        reserve: impl Fn(Ipv4Addr) -> bool,
    ) -> Result<Side4, Usage> {
        Side4::choose(self.ipv4, self.metric, taken, reserve).ok_or_else(|| {
            let line = "all addresses of 192.0.0.0/29 are taken on this host; give another one \
                        with --ipv4";
            Usage(line.into())
        })
    }

    /// Which interfaces to look at, and the values given by flags.
    pub(crate) fn wanted(&self) -> Wanted {
        Wanted {
            uplink: self.uplink.clone(),
            prefix: self.prefix,
            discovered: None,
            current: None,
            mtu: self.mtu,
            tun: self.instance.tun.clone(),
            lan: self.lan.clone(),
        }
    }

    /// How to set up the host with this IPv4 side.
    pub(crate) fn host_config(&self, side4: Side4) -> HostConfig {
        HostConfig {
            tun: self.tun.clone(),
            run_dir: self.instance.run_dir.clone(),
            side4,
            mtu4: self.mtu4,
            policy: self.policy.clone(),
            lan: self.lan.clone(),
            lan_prefix6: self.lan_prefix6,
            shared_ports: self.shared_ports.clone(),
            prefer_interface_forwarding: self.prefer_interface_forwarding,
        }
    }
}

fn check_lan(run: &Run) -> Result<(), Usage> {
    for (at, lan) in run.lan.iter().enumerate() {
        if special::is_never_v4(lan.address()) || lan.overlaps(&SERVICE_CONTINUITY) {
            return Err(Usage(format!("--lan-network {lan} is no network of hosts")));
        }
        if run.lan[..at].iter().any(|other| other.overlaps(lan)) {
            return Err(Usage(format!("--lan-network {lan} is given twice")));
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
        let line = "--lan-network without --lan-prefix6 takes an nftables rule: --no-host-setup makes none";
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
        Settings::resolve(Cli::try_parse_from(args).expect("parses").run)
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
        let mtu4 = |flags: &[&str], mtu| {
            let settings = settings(flags).unwrap();
            let side4 = settings.side4(&[], |_| true).unwrap();
            settings.host_config(side4).mtu4(mtu)
        };
        assert_eq!(mtu4(&[], 1400), 1372);
        assert_eq!(mtu4(&["--mtu4=1380"], 1500), 1380);
        assert_eq!(mtu4(&["--mtu4=1390"], 1400), 1380);
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
