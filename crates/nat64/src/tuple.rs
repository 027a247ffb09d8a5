//! What a packet and the tables know each other by: protocols, the two sides of a binding, and the
//! tuples of sessions (RFC 6146 section 2). Imports nothing of the crate.

use std::net::Ipv6Addr;

/// The transport protocols that a stateful NAT64 carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Protocol {
    /// UDP, by ports.
    Udp,
    /// TCP, by ports.
    Tcp,
    /// ICMP echo, by identifier.
    Icmp,
}

impl Protocol {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Udp, Self::Tcp, Self::Icmp];

    /// The protocol's name in logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Icmp => "icmp",
        }
    }
}

/// The client's side of a binding: (X', x) of the RFC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Inside {
    pub(crate) protocol: Protocol,
    pub(crate) client: Ipv6Addr,
    pub(crate) port: u16,
}

/// The pool's side of a binding: (T, t) of the RFC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Outside {
    pub(crate) protocol: Protocol,
    pub(crate) external: u32,
    pub(crate) port: u16,
}

/// The tuple of a packet from the IPv6 side; for ICMP both ports are the identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClientTuple {
    pub(crate) protocol: Protocol,
    pub(crate) client: Ipv6Addr,
    pub(crate) client_port: u16,
    pub(crate) remote: u32,
    pub(crate) remote_port: u16,
}

/// The tuple of a packet from the IPv4 side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ExternalTuple {
    pub(crate) protocol: Protocol,
    pub(crate) external: u32,
    pub(crate) external_port: u16,
    pub(crate) remote: u32,
    pub(crate) remote_port: u16,
}

/// What a packet is looked up by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tuple {
    Client(ClientTuple),
    External(ExternalTuple),
}

/// An upcoming packet, and the session that it may belong to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hint {
    pub(crate) tuple: Tuple,
    pub(crate) handle: u32,
}
