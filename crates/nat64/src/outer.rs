//! The address by which the IPv4 side knows an address of the pool.
//!
//! Where clients share the address of an interface, the pool is a private address of one host: the
//! kernel's NAT exchanges it for the interface's address and keeps the ports. The tables know the
//! inner address alone, so they stay as they are when the outer one changes; whatever is reported
//! has the outer one.

use std::net::Ipv4Addr;

use xlat_core::mappers::SharedAddress;
use xlat_core::wire::{IpNextHeaderProtocol, IpNextHeaderProtocols};

use crate::config::Config;
use crate::ports::pool_spec::ranges;
use crate::tuple::Protocol;

/// An address of the pool, and the address that the IPv4 side sees in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OuterAddress {
    /// The address of the pool.
    pub inner: Ipv4Addr,
    /// What the IPv4 side sees.
    pub outer: Ipv4Addr,
}

impl OuterAddress {
    /// What the IPv4 side sees of an external address.
    pub(crate) fn seen(this: Option<Self>, external: Ipv4Addr) -> Ipv4Addr {
        match this {
            Some(Self { inner, outer }) if inner == external => outer,
            _ => external,
        }
    }

    /// The external address that the IPv4 side sees as `seen`.
    pub(crate) fn meant(this: Option<Self>, seen: Ipv4Addr) -> Ipv4Addr {
        match this {
            Some(Self { inner, outer }) if outer == seen => inner,
            _ => seen,
        }
    }

    /// The ports of the outer address that belong to clients.
    pub(crate) fn shared(self, config: &Config) -> SharedAddress {
        let forwards = config.bindings.iter();
        let forwards = forwards.filter(|binding| binding.external == self.inner);
        SharedAddress {
            address: self.outer,
            ranges: ranges(&config.pool, self.inner),
            ports: forwards
                .filter_map(|one| Some((number(one.protocol)?, one.external_port)))
                .collect(),
        }
    }
}

const fn number(protocol: Protocol) -> Option<IpNextHeaderProtocol> {
    match protocol {
        Protocol::Udp => Some(IpNextHeaderProtocols::Udp),
        Protocol::Tcp => Some(IpNextHeaderProtocols::Tcp),
        Protocol::Icmp => None,
    }
}
