//! The part of the host's state that a CLAT depends on.

use std::net::Ipv6Addr;

use xlat_core::addr::{Ipv4Prefix, Ipv6Prefix};

use super::address::Candidate;

/// A snapshot of the host's state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// The interface of the route to the NAT64 prefix or, while none is known, of the IPv6 default
    /// route.
    pub uplink: Option<Uplink>,
    /// The host has an IPv4 default route that is not of a CLAT.
    pub native_ipv4: bool,
    /// Unused /64 prefixes that are routed to this host.
    pub delegated: Vec<Ipv6Prefix>,
    /// A network of `--lan` in which no interface has an address.
    pub missing_lan: Option<Ipv4Prefix>,
}

/// The interface that leads to the IPv6-only network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uplink {
    /// Its interface index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// MTU for IPv6 in bytes: the least of those of the link, the router and the route.
    pub mtu: u16,
    /// Its addresses.
    pub addresses: Vec<Candidate>,
    /// How packets to the NAT64 prefix reach it.
    pub lead: Lead,
}

/// How packets to the NAT64 prefix are routed to the uplink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lead {
    /// By the host's routes.
    #[default]
    Ordinary,
    /// The host's routes lead to another interface. The CLAT's packets need a route of their own to
    /// this router or, without one, onto the link (RFC 8781 section 5: a prefix belongs to the
    /// interface on which it was received).
    Own(Option<Ipv6Addr>),
    /// The uplink has no route to it.
    Nowhere,
}
