//! Flags of the router advertisements.

use std::net::Ipv6Addr;

use clap::{Args, ValueEnum};
use router_advertiser::{Config, Domain};
use xlat_core::addr::{Ipv6Prefix, Pref64s};
use xlat_host::daemon::flags::{RELOADABLE, Switch, interface_name};
use xlat_proto::ra::Preference;

use super::Advertise;

/// What is advertised, and where.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
#[command(next_help_heading = "Router advertisements")]
pub(crate) struct AdvertiseFlags {
    /// Be the router of this interface's IPv6 network; several times
    ///
    /// It advertises its prefixes, the NAT64 prefix and DNS servers.
    #[arg(long, visible_alias = "ra", value_name = "IFACE", value_parser = interface_name)]
    pub(crate) lan: Vec<String>,
    /// Longest time between two advertisements, in seconds: 4 to 1800
    #[arg(long, group = RELOADABLE, value_name = "SECONDS", default_value_t = 600,
          value_parser = clap::value_parser!(u16).range(4..=1800))]
    pub(crate) ra_interval: u16,
    /// How long this host is a default router, in seconds: 0, or the interval to 9000
    /// [default: three times the interval]
    #[arg(long, group = RELOADABLE, value_name = "SECONDS", value_parser = clap::value_parser!(u16).range(..=9000))]
    pub(crate) ra_lifetime: Option<u16>,
    /// Announce the NAT64 prefixes (PREF64, RFC 8781)
    #[arg(long, group = RELOADABLE, value_enum, value_name = "on|off", default_value_t = Switch::On)]
    pub(crate) ra_pref64: Switch,
    /// DNS server to announce; several times [default: this host's DNS64, if it runs]
    #[arg(long, group = RELOADABLE, value_name = "ADDR")]
    pub(crate) ra_dns: Vec<Ipv6Addr>,
    /// Domain to search; several times
    #[arg(long, group = RELOADABLE, value_name = "DOMAIN")]
    pub(crate) ra_search: Vec<Domain>,
    /// MTU of the network in bytes, from 1280
    #[arg(long, group = RELOADABLE, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1280..=65535))]
    pub(crate) ra_mtu: Option<u32>,
    /// Preference of this router
    #[arg(long, group = RELOADABLE, value_enum, value_name = "HOW", default_value_t = PreferenceFlag::Medium)]
    pub(crate) ra_preference: PreferenceFlag,
    /// Network that this router leads to (RFC 4191); several times
    #[arg(long, group = RELOADABLE, value_name = "PREFIX")]
    pub(crate) ra_route: Vec<Ipv6Prefix>,
    /// Addresses are to be had by DHCPv6
    #[arg(long, group = RELOADABLE)]
    pub(crate) ra_managed: bool,
    /// Other things are to be had by DHCPv6
    #[arg(long, group = RELOADABLE)]
    pub(crate) ra_other: bool,
    /// Hop limit that hosts shall use; 0 leaves it to them
    #[arg(long, group = RELOADABLE, value_name = "N", default_value_t = 64)]
    pub(crate) ra_hop_limit: u8,
    /// How long a neighbour counts as reachable, in milliseconds to an hour; 0 leaves it to the hosts
    #[arg(long, group = RELOADABLE, value_name = "MS", default_value_t = 0,
          value_parser = clap::value_parser!(u32).range(..=3_600_000))]
    pub(crate) ra_reachable: u32,
    /// Time between two solicitations of a neighbour, in milliseconds; 0 leaves it to the hosts
    #[arg(long, group = RELOADABLE, value_name = "MS", default_value_t = 0)]
    pub(crate) ra_retransmit: u32,
    /// Addresses in the prefixes are on the link
    #[arg(long, group = RELOADABLE, value_enum, value_name = "on|off", default_value_t = Switch::On)]
    pub(crate) ra_on_link: Switch,
    /// Hosts make themselves addresses in the prefixes (SLAAC)
    #[arg(long, group = RELOADABLE, value_enum, value_name = "on|off", default_value_t = Switch::On)]
    pub(crate) ra_autonomous: Switch,
    /// Name this host's whole address in each prefix (RFC 6275)
    #[arg(long, group = RELOADABLE)]
    pub(crate) ra_router_address: bool,
    /// How long the prefixes are valid, in seconds; one that was delegated is not announced for
    /// longer than it is ours
    #[arg(long, group = RELOADABLE, value_name = "SECONDS", default_value_t = 2_592_000)]
    pub(crate) ra_prefix_valid: u32,
    /// How long addresses in them are preferred, in seconds
    #[arg(long, group = RELOADABLE, value_name = "SECONDS", default_value_t = 604_800)]
    pub(crate) ra_prefix_preferred: u32,
}

impl AdvertiseFlags {
    /// How long this host is a default router, in seconds.
    fn lifetime(&self) -> u16 {
        self.ra_lifetime
            .unwrap_or_else(|| (3 * self.ra_interval).min(9000))
    }

    /// What the flags mean in a network with these NAT64 prefixes.
    pub(crate) fn settings(self, pref64s: &Pref64s) -> Advertise {
        let pref64s = match self.ra_pref64 {
            Switch::On => pref64s.iter().copied().collect(),
            Switch::Off => Vec::new(),
        };
        let config = Config {
            interval: self.ra_interval,
            lifetime: self.lifetime(),
            preference: self.ra_preference.into(),
            managed: self.ra_managed,
            other: self.ra_other,
            hop_limit: self.ra_hop_limit,
            reachable: self.ra_reachable,
            retransmit: self.ra_retransmit,
            mtu: self.ra_mtu,
            on_link: self.ra_on_link == Switch::On,
            autonomous: self.ra_autonomous == Switch::On,
            router_address: self.ra_router_address,
            prefix_valid: self.ra_prefix_valid,
            prefix_preferred: self.ra_prefix_preferred,
            routes: self.ra_route,
            dns_servers: self.ra_dns,
            search: self.ra_search.into_iter().map(Domain::into_name).collect(),
            pref64s,
        };
        Advertise {
            lan: self.lan,
            config,
        }
    }

    /// Checks the values against each other.
    pub(crate) fn check(&self) -> Result<(), String> {
        if let Some(lifetime) = self.ra_lifetime
            && lifetime != 0
            && lifetime < self.ra_interval
        {
            return Err(format!(
                "--ra-lifetime {lifetime} is shorter than --ra-interval {}: hosts would lose their \
                 router again and again",
                self.ra_interval
            ));
        }
        if self.ra_prefix_preferred > self.ra_prefix_valid {
            return Err("--ra-prefix-preferred is longer than --ra-prefix-valid".into());
        }
        Ok(())
    }
}

/// Preference of a router.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PreferenceFlag {
    /// Below others
    Low,
    /// As others
    Medium,
    /// Above others
    High,
}

impl From<PreferenceFlag> for Preference {
    fn from(flag: PreferenceFlag) -> Self {
        match flag {
            PreferenceFlag::Low => Self::Low,
            PreferenceFlag::Medium => Self::Medium,
            PreferenceFlag::High => Self::High,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        flags: AdvertiseFlags,
    }

    fn flags(args: &[&str]) -> AdvertiseFlags {
        Cli::try_parse_from([&["x"], args].concat()).unwrap().flags
    }

    #[test]
    fn ra_09_a_router_lives_three_intervals_unless_told_otherwise() {
        assert_eq!(flags(&[]).lifetime(), 1800);
        assert_eq!(flags(&["--ra-interval=1800"]).lifetime(), 5400);
        assert_eq!(flags(&["--ra-lifetime=0"]).lifetime(), 0);
        assert!(flags(&["--ra-lifetime=0"]).check().is_ok());
        assert!(flags(&["--ra-lifetime=599"]).check().is_err());
        assert!(flags(&["--ra-prefix-valid=1"]).check().is_err());
    }
}
