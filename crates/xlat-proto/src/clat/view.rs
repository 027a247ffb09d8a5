//! The host, as far as a CLAT depends on it.

use std::net::Ipv6Addr;

use xlat_core::addr::{Ipv4Prefix, Ipv6Prefix};

use super::address::Candidate;

/// The host at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// The interface that leads to the prefix, or to IPv6 at all while none is known.
    pub uplink: Option<Uplink>,
    /// Something else than a CLAT gives this host an IPv4 default route.
    pub native_ipv4: bool,
    /// The /64s that are routed to this host and not in use.
    pub delegated: Vec<Ipv6Prefix>,
    /// A network whose router we are to be, and that no interface is in.
    pub missing_lan: Option<Ipv4Prefix>,
}

/// The interface that leads to the IPv6-only network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uplink {
    /// Its interface index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// MTU for IPv6 in bytes, as routers and link have it.
    pub mtu: u16,
    /// Its addresses.
    pub addresses: Vec<Candidate>,
    /// How packets to the NAT64 prefix leave by it.
    pub lead: Lead,
}

/// How packets to the NAT64 prefix come to leave by the uplink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lead {
    /// By themselves: the host's routes lead there.
    #[default]
    Ordinary,
    /// The host's routes lead them to another interface. A route of their own has to lead them here,
    /// to this router or, without one, onto the link (RFC 8781 section 5: a prefix belongs to the
    /// interface that it came by).
    Own(Option<Ipv6Addr>),
    /// The uplink does not lead there.
    Nowhere,
}
