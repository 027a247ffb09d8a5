//! What lies in the maps: the same bytes for this process and for the program (`bpf/maps.h`).
//!
//! Addresses and ports are in network byte order; all other numbers are the machine's.

use std::net::{Ipv4Addr, Ipv6Addr};

use xlat_core::addr::Eam;
use xlat_core::mapper::Ports;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// A type that lies in a map.
macro_rules! in_maps {
    ($(#[$meta:meta])* $visibility:vis struct $name:ident { $($fields:tt)* }) => {
        $(#[$meta])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
        )]
        #[repr(C)]
        $visibility struct $name { $($fields)* }
    };
}

in_maps! {
    /// Source and destination port in network byte order.
    #[derive(Default)]
    pub struct PortPair {
        src: [u8; 2],
        dst: [u8; 2],
    }
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

in_maps! {
    /// A flow as its packets come from IPv6.
    pub struct KeyV6 {
        src: [u8; 16],
        dst: [u8; 16],
        ports: PortPair,
        protocol: u8,
        zero: [u8; 3],
    }
}

impl KeyV6 {
    /// The flow of this protocol (6, 17 or 58) between two addresses and ports. An echo has its
    /// identifier for the source port, and zero for the other.
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

    /// Protocol number.
    pub fn protocol(&self) -> u8 {
        self.protocol
    }
}

in_maps! {
    /// A flow as its packets come from IPv4.
    pub struct KeyV4 {
        src: [u8; 4],
        dst: [u8; 4],
        ports: PortPair,
        protocol: u8,
        zero: [u8; 3],
    }
}

impl KeyV4 {
    /// The flow of this protocol (6, 17 or 1) between two addresses and ports. An echo has its
    /// identifier for the destination port, and zero for the other.
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

    /// Protocol number.
    pub fn protocol(&self) -> u8 {
        self.protocol
    }
}

in_maps! {
    /// What a packet from IPv6 becomes.
    pub struct ToV4 {
        src: [u8; 4],
        dst: [u8; 4],
        ports: PortPair,
    }
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

in_maps! {
    /// What a packet from IPv4 becomes.
    pub struct ToV6 {
        src: [u8; 16],
        dst: [u8; 16],
        ports: PortPair,
    }
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

in_maps! {
    /// What the program counts in an entry.
    #[derive(Default)]
    pub(crate) struct UsageCells {
        pub(crate) last_used: u64,
        pub(crate) packets: u64,
        pub(crate) bytes: u64,
    }
}

in_maps! {
    /// An explicit mapping (`struct row`).
    #[derive(Default)]
    pub(crate) struct Row {
        pub(crate) hi: u64,
        pub(crate) lo: u64,
        pub(crate) v4: u32,
        pub(crate) len4: u32,
        pub(crate) len6: u32,
        zero: u32,
    }
}

in_maps! {
    /// What finds a row by its IPv4 side.
    pub(crate) struct Row4Key {
        generation: u32,
        len: u32,
        address: u32,
    }
}

in_maps! {
    /// What finds a row by its IPv6 side.
    pub(crate) struct Row6Key {
        generation: u32,
        len: u32,
        hi: u64,
        lo: u64,
    }
}

impl From<&Eam> for Row {
    fn from(eam: &Eam) -> Self {
        let (hi, lo) = halves(eam.v6().address());
        Self {
            hi,
            lo,
            v4: eam.v4().address().to_bits(),
            len4: eam.v4().len().into(),
            len6: eam.v6().len().into(),
            zero: 0,
        }
    }
}

impl Row {
    /// What finds the row as part of a mapping.
    pub(crate) fn keys(&self, generation: u32) -> (Row6Key, Row4Key) {
        let &Self {
            hi,
            lo,
            v4,
            len4,
            len6,
            ..
        } = self;
        let by_v6 = Row6Key {
            generation,
            len: len6,
            hi,
            lo,
        };
        let by_v4 = Row4Key {
            generation,
            len: len4,
            address: v4,
        };
        (by_v6, by_v4)
    }
}

/// The two halves of an IPv6 address.
pub(crate) fn halves(address: Ipv6Addr) -> (u64, u64) {
    let bits = address.to_bits();
    ((bits >> 64) as u64, bits as u64)
}

in_maps! {
    /// A prefix length on the IPv4 side.
    #[derive(Default)]
    pub(crate) struct Level4 {
        pub(crate) len: u32,
        pub(crate) mask: u32,
    }
}

in_maps! {
    /// A prefix length on the IPv6 side.
    #[derive(Default)]
    pub(crate) struct Level6 {
        pub(crate) mask_hi: u64,
        pub(crate) mask_lo: u64,
        pub(crate) len: u32,
        pub(crate) zero: u32,
    }
}

in_maps! {
    /// A NAT64 prefix.
    #[derive(Default)]
    pub(crate) struct Prefix {
        pub(crate) hi: u64,
        pub(crate) lo: u64,
        pub(crate) len: u32,
        pub(crate) strict: u32,
    }
}

in_maps! {
    /// An IPv4 network.
    #[derive(Default)]
    pub(crate) struct Network4 {
        pub(crate) address: u32,
        pub(crate) mask: u32,
    }
}

/// Prefix lengths on each side.
pub(crate) const LEVELS: usize = 8;
/// NAT64 prefixes.
pub(crate) const PREFIXES: usize = 4;
/// Hidden networks.
pub(crate) const HIDDEN: usize = 16;

in_maps! {
    /// Everything that the program knows but flows and rows.
    pub(crate) struct Config {
        id_key: [u64; 2],
        pub(crate) own6: [u64; 2],
        pub(crate) first: Row,
        pub(crate) prefixes: [Prefix; PREFIXES],
        pub(crate) levels6: [Level6; LEVELS],
        pub(crate) levels4: [Level4; LEVELS],
        pub(crate) hidden: [Network4; HIDDEN],
        pub(crate) prefix_count: u32,
        pub(crate) level6_count: u32,
        pub(crate) level4_count: u32,
        pub(crate) hidden_count: u32,
        pub(crate) first_mask4: u32,
        pub(crate) generation: u32,
        pub(crate) first_mask6: [u64; 2],
        pub(crate) own4: u32,
        pub(crate) flags: u32,
        pub(crate) mtu4: u32,
        pub(crate) mtu6: u32,
        pub(crate) cut6: u32,
        pub(crate) tos: u32,
        pub(crate) traffic_class: u32,
        id_lane: u32,
        id_mask: u32,
        zero: u32,
    }
}

impl Config {
    pub(crate) const MAPPED: u32 = 0x001;
    pub(crate) const GATEWAY: u32 = 0x002;
    pub(crate) const FLOWS: u32 = 0x004;
    pub(crate) const TOS: u32 = 0x008;
    pub(crate) const TRAFFIC_CLASS: u32 = 0x010;
    pub(crate) const OWN4: u32 = 0x020;
    pub(crate) const OWN6: u32 = 0x040;
    pub(crate) const CLAMP: u32 = 0x080;
    pub(crate) const FIRST: u32 = 0x100;

    /// Nothing is known, and so nothing fits: the MTUs are zero.
    pub(crate) fn new(seed: [u64; 2], lane: u16, lanes: u16) -> Self {
        let lanes = lanes.clamp(1, 1 << 12).next_power_of_two();
        let counting = u16::BITS - lanes.trailing_zeros();
        let mut config = Self::new_zeroed();
        config.id_key = seed;
        config.id_lane = u32::from(lane % lanes) << counting & 0xffff;
        config.id_mask = (1 << counting) - 1;
        config
    }

    pub(crate) fn set_flag(&mut self, flag: u32, set: bool) {
        self.flags = if set {
            self.flags | flag
        } else {
            self.flags & !flag
        };
    }

    /// Leaves the mapping out, and lets the rows of the next one be told from those before.
    pub(crate) fn forget_mapping(&mut self) {
        self.flags &= !(Self::MAPPED | Self::GATEWAY | Self::FIRST);
        self.prefix_count = 0;
        self.level6_count = 0;
        self.level4_count = 0;
        self.hidden_count = 0;
        self.generation = self.generation.wrapping_add(1);
    }
}

in_maps! {
    /// Which configuration is in force (`struct state`). Written as one word.
    #[derive(Default)]
    pub(crate) struct State {
        pub(crate) slot: u32,
        pub(crate) paused: u32,
    }
}

in_maps! {
    /// A counter of one processor.
    #[derive(Default)]
    pub(crate) struct TrafficCells {
        pub(crate) packets: u64,
        pub(crate) bytes: u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::size_of;

    const PORTS: Ports = Ports {
        src: 0x1234,
        dst: 0x0035,
    };

    #[test]
    fn keys_and_values_have_the_layout_that_the_program_reads() {
        assert_eq!((size_of::<KeyV6>(), size_of::<KeyV4>()), (40, 16));
        assert_eq!((size_of::<ToV4>(), size_of::<ToV6>()), (12, 36));
        assert_eq!(size_of::<UsageCells>(), 24);
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
