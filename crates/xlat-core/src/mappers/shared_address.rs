//! An address of a host that clients of a translator on it share.

use alloc::vec::Vec;
use core::net::Ipv4Addr;
use core::ops::RangeInclusive;

use crate::wire::{IpNextHeaderProtocol, IpNextHeaderProtocols};

/// An IPv4 address of the host, and the ports of it that belong to clients. All others are the host's
/// own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedAddress {
    /// The address.
    pub address: Ipv4Addr,
    /// TCP and UDP ports of clients.
    pub ranges: Vec<RangeInclusive<u16>>,
    /// Single ports of clients, of one protocol.
    pub ports: Vec<(IpNextHeaderProtocol, u16)>,
}

impl SharedAddress {
    /// True if a port is one of the clients'.
    pub fn has(&self, protocol: IpNextHeaderProtocol, port: u16) -> bool {
        let has_ports =
            [IpNextHeaderProtocols::Tcp, IpNextHeaderProtocols::Udp].contains(&protocol);
        let is_in_range = self.ranges.iter().any(|range| range.contains(&port));
        has_ports && (is_in_range || self.ports.contains(&(protocol, port)))
    }
}
