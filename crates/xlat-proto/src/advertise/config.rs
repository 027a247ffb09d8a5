//! What the administrator wants announced.

use std::net::Ipv6Addr;
use std::time::Duration;

use xlat_core::addr::{Ipv6Prefix, Pref64};

use crate::ra::Preference;

/// What is announced on all links alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Longest time between two advertisements, in seconds: 4 to 1800.
    pub interval: u16,
    /// How long this host is a default router, in seconds; 0 if it is none.
    pub lifetime: u16,
    /// Preference of this router, and of its routes.
    pub preference: Preference,
    /// Addresses are to be had by DHCPv6 (M).
    pub managed: bool,
    /// Other configuration is to be had by DHCPv6 (O).
    pub other: bool,
    /// Hop limit that hosts shall use; 0 leaves it to them.
    pub hop_limit: u8,
    /// How long a neighbour counts as reachable, in milliseconds; 0 leaves it to the hosts.
    pub reachable: u32,
    /// Time between two solicitations of a neighbour, in milliseconds; 0 leaves it to the hosts.
    pub retransmit: u32,
    /// MTU of the network in bytes, if it is announced.
    pub mtu: Option<u32>,
    /// Addresses in the prefixes are on the link (L).
    pub on_link: bool,
    /// Hosts configure addresses in the prefixes by themselves (A, RFC 4862).
    pub autonomous: bool,
    /// The router's whole address is given in each prefix (R, RFC 6275 section 7.2).
    pub router_address: bool,
    /// How long the prefixes are valid at most, in seconds.
    pub prefix_valid: u32,
    /// How long addresses in them are preferred at most, in seconds.
    pub prefix_preferred: u32,
    /// Networks that this router leads to (RFC 4191).
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

    /// Lifetime of what has none of its own: three intervals, in seconds.
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
