//! The configuration of the advertisements.

use std::net::Ipv6Addr;
use std::time::Duration;

use xlat_core::addr::{Ipv6Prefix, Pref64};

use crate::ra::Preference;

/// The configuration, which is the same on all links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Maximum time between two advertisements, in seconds: 4 to 1800.
    pub interval: u16,
    /// Router lifetime in seconds; 0 if this host is not a default router.
    pub lifetime: u16,
    /// Preference of this router, and of its routes.
    pub preference: Preference,
    /// Hosts obtain addresses by DHCPv6 (M).
    pub managed: bool,
    /// Hosts obtain other configuration by DHCPv6 (O).
    pub other: bool,
    /// Hop limit for hosts; 0 for unspecified.
    pub hop_limit: u8,
    /// Reachable time of a neighbour in milliseconds; 0 for unspecified.
    pub reachable: u32,
    /// Time between two solicitations of a neighbour in milliseconds; 0 for unspecified.
    pub retransmit: u32,
    /// MTU of the network in bytes, if it is announced.
    pub mtu: Option<u32>,
    /// Addresses in the prefixes are on the link (L).
    pub on_link: bool,
    /// Hosts configure addresses in the prefixes by themselves (A, RFC 4862).
    pub autonomous: bool,
    /// The router's whole address is given in each prefix (R, RFC 6275 section 7.2).
    pub router_address: bool,
    /// Maximum valid lifetime of the prefixes, in seconds.
    pub prefix_valid: u32,
    /// Maximum preferred lifetime of the prefixes, in seconds.
    pub prefix_preferred: u32,
    /// Routes through this router (RFC 4191).
    pub routes: Vec<Ipv6Prefix>,
    /// DNS servers (RFC 8106).
    pub dns_servers: Vec<Ipv6Addr>,
    /// Domains to search (RFC 8106), in letters, without a dot at the end.
    pub search: Vec<String>,
    /// NAT64 prefixes (RFC 8781).
    pub pref64s: Vec<Pref64>,
}

impl Config {
    /// Longest time between two advertisements.
    pub fn longest_interval(&self) -> Duration {
        Duration::from_secs(self.interval.into())
    }

    /// Lifetime of options without one in the configuration, in seconds: three intervals.
    pub(super) fn option_lifetime(&self) -> u32 {
        3 * u32::from(self.interval)
    }
}

impl Default for Config {
    /// A default router that announces its prefixes and nothing else.
    fn default() -> Self {
        Self {
            interval: 600,
            lifetime: 1800,
            preference: Preference::Medium,
            managed: false,
            other: false,
            hop_limit: 64,
            reachable: 0,
            retransmit: 0,
            mtu: None,
            on_link: true,
            autonomous: true,
            router_address: false,
            prefix_valid: 2_592_000,
            prefix_preferred: 604_800,
            routes: Vec::new(),
            dns_servers: Vec::new(),
            search: Vec::new(),
            pref64s: Vec::new(),
        }
    }
}
