//! What lies in the maps: the same bytes for this process and for the program (`bpf/maps.h`).
//!
//! Addresses and ports are in network byte order; all other numbers are the machine's.

use std::net::{Ipv4Addr, Ipv6Addr};

use xlat_core::mapper::Ports;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Source and destination port in network byte order.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct PortPair {
    src: [u8; 2],
    dst: [u8; 2],
}

impl From<Ports> for PortPair {
    fn from(ports: Ports) -> Self {
        Self {
            src: ports.src.to_be_bytes(),
            dst: ports.dst.to_be_bytes(),
        }
    }
}

impl From<PortPair> for Ports {
    fn from(ports: PortPair) -> Self {
        Self {
            src: u16::from_be_bytes(ports.src),
            dst: u16::from_be_bytes(ports.dst),
        }
    }
}

/// A flow as its packets come from IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct KeyV6 {
    src: [u8; 16],
    dst: [u8; 16],
    ports: PortPair,
    protocol: u8,
    zero: [u8; 3],
}

impl KeyV6 {
    /// The flow of this protocol (6 or 17) between two addresses and ports.
    pub fn new(src: Ipv6Addr, dst: Ipv6Addr, ports: Ports, protocol: u8) -> Self {
        Self {
            src: src.octets(),
            dst: dst.octets(),
            ports: ports.into(),
            protocol,
            zero: [0; 3],
        }
    }

    /// Source address.
    pub fn src(&self) -> Ipv6Addr {
        self.src.into()
    }

    /// Destination address.
    pub fn dst(&self) -> Ipv6Addr {
        self.dst.into()
    }

    /// Ports.
    pub fn ports(&self) -> Ports {
        self.ports.into()
    }

    /// Protocol number: 6 (TCP) or 17 (UDP).
    pub fn protocol(&self) -> u8 {
        self.protocol
    }
}

/// A flow as its packets come from IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct KeyV4 {
    src: [u8; 4],
    dst: [u8; 4],
    ports: PortPair,
    protocol: u8,
    zero: [u8; 3],
}

impl KeyV4 {
    /// The flow of this protocol (6 or 17) between two addresses and ports.
    pub fn new(src: Ipv4Addr, dst: Ipv4Addr, ports: Ports, protocol: u8) -> Self {
        Self {
            src: src.octets(),
            dst: dst.octets(),
            ports: ports.into(),
            protocol,
            zero: [0; 3],
        }
    }

    /// Source address.
    pub fn src(&self) -> Ipv4Addr {
        self.src.into()
    }

    /// Destination address.
    pub fn dst(&self) -> Ipv4Addr {
        self.dst.into()
    }

    /// Ports.
    pub fn ports(&self) -> Ports {
        self.ports.into()
    }

    /// Protocol number: 6 (TCP) or 17 (UDP).
    pub fn protocol(&self) -> u8 {
        self.protocol
    }
}

/// What a packet from IPv6 becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ToV4 {
    src: [u8; 4],
    dst: [u8; 4],
    ports: PortPair,
}

impl ToV4 {
    /// New addresses and ports.
    pub fn new(src: Ipv4Addr, dst: Ipv4Addr, ports: Ports) -> Self {
        Self {
            src: src.octets(),
            dst: dst.octets(),
            ports: ports.into(),
        }
    }
}

/// What a packet from IPv4 becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ToV6 {
    src: [u8; 16],
    dst: [u8; 16],
    ports: PortPair,
}

impl ToV6 {
    /// New addresses and ports.
    pub fn new(src: Ipv6Addr, dst: Ipv6Addr, ports: Ports) -> Self {
        Self {
            src: src.octets(),
            dst: dst.octets(),
            ports: ports.into(),
        }
    }
}

/// What the program counts in an entry.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub(crate) struct UsageCells {
    pub(crate) last_used: u64,
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
}

/// The value of an entry for packets from IPv6.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct ValueV6 {
    pub(crate) usage: UsageCells,
    pub(crate) to: ToV4,
    pub(crate) epoch: u32,
}

/// The value of an entry for packets from IPv4.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct ValueV4 {
    pub(crate) usage: UsageCells,
    pub(crate) to: ToV6,
    pub(crate) epoch: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::{offset_of, size_of};

    const PORTS: Ports = Ports {
        src: 0x1234,
        dst: 0x0035,
    };

    #[test]
    fn keys_and_values_have_the_layout_that_the_program_reads() {
        assert_eq!((size_of::<KeyV6>(), size_of::<KeyV4>()), (40, 16));
        assert_eq!((size_of::<ValueV6>(), size_of::<ValueV4>()), (40, 64));
        assert_eq!(offset_of!(ValueV6, to), 24);
        assert_eq!(
            (offset_of!(ValueV6, epoch), offset_of!(ValueV4, epoch)),
            (36, 60)
        );
    }

    #[test]
    fn a_key_is_addresses_and_ports_in_network_byte_order() {
        let key = KeyV4::new([192, 0, 2, 1].into(), [198, 51, 100, 2].into(), PORTS, 17);
        let bytes = [
            192, 0, 2, 1, 198, 51, 100, 2, 0x12, 0x34, 0, 0x35, 17, 0, 0, 0,
        ];
        assert_eq!(key.as_bytes(), bytes);
        assert_eq!((key.ports(), key.protocol()), (PORTS, 17));
        let (src, dst) = ([0x20; 16].into(), [0x64; 16].into());
        let key = KeyV6::new(src, dst, PORTS, 6);
        assert_eq!(key.as_bytes()[..16], [0x20; 16]);
        assert_eq!(key.as_bytes()[32..], [0x12, 0x34, 0, 0x35, 6, 0, 0, 0]);
        assert_eq!((key.src(), key.dst()), (src, dst));
    }
}
