//! The part of the host's state that a CLAT depends on.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use xlat_core::addr::{Ipv4Prefix, Ipv6Prefix, Pref64};

use super::address::Candidate;

/// A snapshot of the host's state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// The interface of the IPv6 default route, or that which was given.
    pub uplink: Option<Uplink>,
    /// The host has an IPv4 default route that is not of a CLAT.
    pub native_ipv4: bool,
    /// Another CLAT, or a tunnel over IPv6, brings this host IPv4.
    pub other_clat: Option<OtherClat>,
    /// The uplink that the administrator asked for cannot be used now.
    pub missing_uplink: Option<MissingUplink>,
    /// Unused /64 prefixes that are routed to this host.
    pub delegated: Vec<Ipv6Prefix>,
    /// A network of `--lan-network` in which no interface has an address.
    pub missing_lan: Option<Ipv4Prefix>,
    /// Networks on the host's links, and its addresses.
    pub local: Vec<Ipv6Prefix>,
    /// The routers of the uplink's IPv6 default routes, the one that is used first.
    pub routers: Vec<Ipv6Addr>,
}

/// What is known of the network's NAT64 prefix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Prefix {
    /// It is this one.
    Known(Pref64),
    /// Routers and DNS servers are being asked.
    Asking,
    /// Neither routers nor DNS servers tell one.
    #[default]
    Unknown,
}

impl From<Option<Pref64>> for Prefix {
    fn from(known: Option<Pref64>) -> Self {
        known.map_or(Self::Unknown, Self::Known)
    }
}

impl View {
    /// True if the host has IPv4 by another way.
    pub fn has_ipv4(&self) -> bool {
        self.native_ipv4 || self.other_clat.is_some()
    }
}

/// Another program that brings IPv4 over IPv6 (RFC 6877, RFC 6333).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherClat {
    /// Name of the interface of its IPv4 default route.
    pub dev: String,
    /// The host's address there.
    pub address: Ipv4Addr,
}

/// An uplink that was asked for and cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingUplink {
    /// Its name.
    pub name: String,
    /// What it lacks.
    pub lack: Lack,
}

/// Why an interface cannot be the uplink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// There is no interface of this name.
    Interface,
    /// It is administratively down.
    Up,
    /// It has no carrier.
    Carrier,
}

impl fmt::Display for MissingUplink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match self.lack {
            Lack::Interface => write!(f, "there is no interface {name} (--uplink)"),
            Lack::Up => write!(f, "{name} (--uplink) is down"),
            Lack::Carrier => write!(f, "{name} (--uplink) has no carrier"),
        }
    }
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
    /// Name of the interface to which the host's own routes lead, if that is another one.
    pub elsewhere: Option<String>,
}

/// How packets to the NAT64 prefix are routed to the uplink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lead {
    /// By the host's routes.
    #[default]
    Ordinary,
    /// The host's routes lead to another interface or router. The CLAT's packets need a route of
    /// their own to this router or, without one, onto the link (RFC 8781 section 5: a prefix belongs
    /// to the interface on which it was received).
    Own(Option<Ipv6Addr>),
    /// The uplink has no route to it.
    Nowhere,
}
