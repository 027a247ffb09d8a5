//! The configuration of a gateway's host.

use std::net::Ipv6Addr;

use xlat_core::addr::{Eam, Ipv4Prefix, Pref64s};

use crate::Announced;
use crate::Egress;
use crate::egress::Outer;

/// What a gateway is to its host. All of it follows from the settings.
#[derive(Clone, Debug)]
pub struct HostConfig {
    /// Name of the TUN interface.
    pub tun: String,
    /// MTU of the TUN, in bytes.
    pub mtu: u16,
    /// How packets leave to IPv4.
    pub egress: Egress,
    /// The NAT64 prefixes: packets to them must come to the TUN.
    pub pref64s: Pref64s,
    /// Hosts with IPv4-translatable addresses (RFC 6052 section 2).
    pub translatable: Vec<Eam>,
    /// IPv4 prefixes that belong to the translator and do not overlap: packets to them must come to
    /// the TUN.
    pub ipv4: Vec<Ipv4Prefix>,
    /// Which routes other hosts may learn.
    pub announced: Announced,
    /// Where clients are seen that share an address of this host, if it has one now.
    pub outer: Option<Outer>,
    /// Names of the interfaces whose router this host is.
    pub lans: Vec<String>,
    /// The prefixes of the LANs are announced as on link.
    pub announces_on_link: bool,
}

impl HostConfig {
    /// The name of the nftables tables of this instance.
    pub fn table_name(&self) -> String {
        format!("xlat_{}", self.tun)
    }

    /// True for the address of a host that is IPv4-translatable.
    pub fn is_translatable(&self, address: Ipv6Addr) -> bool {
        let mut hosts = self.translatable.iter();
        hosts.any(|hosts| hosts.v6().contains(address))
    }
}
