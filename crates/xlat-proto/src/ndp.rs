//! The neighbour discovery messages (RFC 4861) by which the host of a CLAT answers for the CLAT's
//! address, which is assigned to no interface.

use std::net::Ipv6Addr;

use pnet_packet::icmpv6::ndp::{
    MutableNeighborAdvertPacket, NdpOption, NdpOptionTypes, NeighborAdvertFlags,
    NeighborSolicitPacket,
};
use pnet_packet::icmpv6::{Icmpv6Code, Icmpv6Types};
use xlat_core::checksum::Sum;
use xlat_core::wire::{IpNextHeaderProtocols, ipv6, version};

use crate::ra::ALL_NODES;

/// Length of a solicitation and of an advertisement without options, in bytes.
pub const MESSAGE_LEN: usize = 24;

/// The multicast group of solicitations for `address` (RFC 4291 section 2.7.1).
pub fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let low = address.to_bits() & 0xff_ffff;
    Ipv6Addr::from_bits(0xff02_0000_0000_0000_0000_0001_ff00_0000 | low)
}

/// A neighbour solicitation: a host on the link asks for the link-layer address of `target`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Solicitation {
    /// Source address; unspecified in duplicate address detection (RFC 4862).
    pub from: Ipv6Addr,
    /// The address to resolve.
    pub target: Ipv6Addr,
}

impl Solicitation {
    /// Parses an IPv6 packet that arrived on a link. `None` if it is not a valid solicitation
    /// (RFC 4861 section 7.1.1), or neither addressed to its target nor to the multicast group of
    /// it.
    pub fn parse(packet: &[u8]) -> Option<Self> {
        /// It was sent on the link itself.
        const UNTOUCHED: u8 = 255;
        let (header, rest) = packet.split_first_chunk()?;
        let ip = ipv6::Header::parse(header);
        let message = rest.get(..usize::from(ip.payload_len))?;
        let is_icmp = version(header[0]) == 6 && ip.next_header == IpNextHeaderProtocols::Icmpv6;
        if !is_icmp || ip.hop_limit != UNTOUCHED || !is_intact(&ip, message) {
            return None;
        }
        let solicitation = Self::parse_message(ip.src, message)?;
        let group = solicited_node(solicitation.target);
        let is_for_it = match ip.src.is_unspecified() {
            true => ip.dst == group,
            false => ip.dst == group || ip.dst == solicitation.target,
        };
        is_for_it.then_some(solicitation)
    }

    /// Parses the ICMPv6 message of a packet from `from`, whose hop limit, checksum and destination
    /// the caller checks.
    pub fn parse_message(from: Ipv6Addr, message: &[u8]) -> Option<Self> {
        let packet = NeighborSolicitPacket::new(message)?;
        if packet.get_icmpv6_type() != Icmpv6Types::NeighborSolicit
            || packet.get_icmpv6_code() != Icmpv6Code(0)
        {
            return None;
        }
        let target = Ipv6Addr::from(packet.get_target_addr().octets());
        let options = Options(message.get(MESSAGE_LEN..)?);
        let mut has_source = false;
        for option in options {
            has_source |= option? == SOURCE_LINK_LAYER;
        }
        if target.is_multicast() || from.is_multicast() || (from.is_unspecified() && has_source) {
            return None;
        }
        Some(Self { from, target })
    }

    /// Destination address of the answer.
    pub fn answer_to(&self) -> Ipv6Addr {
        if self.from.is_unspecified() {
            ALL_NODES
        } else {
            self.from
        }
    }

    /// The answer: an ICMPv6 message with a checksum of zero, which the sender fills in.
    pub fn answer(&self, link_layer: [u8; 6]) -> Vec<u8> {
        advertisement(self.target, link_layer, !self.from.is_unspecified())
    }
}

/// An unsolicited advertisement to all nodes: neighbours that know `target` by another
/// link-layer address take `link_layer` (RFC 4861 section 7.2.6). Its checksum is zero, which the
/// sender fills in.
pub fn announcement(target: Ipv6Addr, link_layer: [u8; 6]) -> Vec<u8> {
    advertisement(target, link_layer, false)
}

/// True if the checksum of an ICMPv6 message is right.
fn is_intact(ip: &ipv6::Header, message: &[u8]) -> bool {
    let length = u32::from(ip.payload_len);
    let pseudo = Sum::pseudo_v6(ip.src, ip.dst, IpNextHeaderProtocols::Icmpv6, length);
    (pseudo + Sum::of(message)).checksum() == 0
}

const SOURCE_LINK_LAYER: u8 = 1;

/// An advertisement that `target` is at `link_layer`, checksum zero (RFC 4861 section 4.4).
fn advertisement(target: Ipv6Addr, link_layer: [u8; 6], solicited: bool) -> Vec<u8> {
    let mut bytes = vec![0; MESSAGE_LEN + 8];
    if let Some(mut packet) = MutableNeighborAdvertPacket::new(&mut bytes) {
        packet.set_icmpv6_type(Icmpv6Types::NeighborAdvert);
        let solicited = if solicited {
            NeighborAdvertFlags::Solicited
        } else {
            0
        };
        packet.set_flags(NeighborAdvertFlags::Override | solicited);
        packet.set_target_addr(target.octets().into());
        packet.set_options(&[NdpOption {
            option_type: NdpOptionTypes::TargetLLAddr,
            length: 1,
            data: link_layer.to_vec(),
        }]);
    }
    bytes
}

/// The types of the options in a message; `None` for one whose length is invalid.
struct Options<'a>(&'a [u8]);

impl Iterator for Options<'_> {
    type Item = Option<u8>;

    fn next(&mut self) -> Option<Self::Item> {
        let [kind, units, ..] = *self.0 else {
            let rest = std::mem::take(&mut self.0);
            return (!rest.is_empty()).then_some(None);
        };
        match self.0.get(usize::from(units) * 8..) {
            Some(rest) if units > 0 => {
                self.0 = rest;
                Some(Some(kind))
            }
            _ => {
                self.0 = &[];
                Some(None)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: [u8; 16] = [
        0x20, 1, 0x0d, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0xaa, 0xbb, 0xcc, 0xdd,
    ];

    fn solicitation(options: &[u8]) -> Vec<u8> {
        [&[135, 0, 0, 0, 0, 0, 0, 0][..], &TARGET, options].concat()
    }

    fn neighbour() -> Ipv6Addr {
        "fe80::1".parse().unwrap()
    }

    /// The message in an IPv6 packet, with its checksum.
    fn packet(from: Ipv6Addr, to: Ipv6Addr, hop_limit: u8, message: &[u8]) -> Vec<u8> {
        let mut message = message.to_vec();
        let length = message.len() as u16;
        let icmp = IpNextHeaderProtocols::Icmpv6;
        let pseudo = Sum::pseudo_v6(from, to, icmp, u32::from(length));
        let checksum = (pseudo + Sum::of(&message)).checksum();
        message[2..4].copy_from_slice(&checksum.to_be_bytes());
        let [high, low] = length.to_be_bytes();
        let start = [0x60, 0, 0, 0, high, low, 58, hop_limit];
        let addresses = [from, to].map(|address| address.octets());
        [&start[..], &addresses.concat(), &message].concat()
    }

    /// What a neighbour that is looking for the target sends.
    fn multicast(from: Ipv6Addr, message: &[u8]) -> Option<Solicitation> {
        let group = solicited_node(Ipv6Addr::from(TARGET));
        Solicitation::parse(&packet(from, group, 255, message))
    }

    #[test]
    fn cl_08_a_solicitation_is_answered_with_our_link_layer_address() {
        let message = solicitation(&[1, 1, 2, 0, 0, 0, 0, 9]);
        let asked = multicast(neighbour(), &message).unwrap();
        assert_eq!(asked.target, Ipv6Addr::from(TARGET));
        assert_eq!(asked.answer_to(), neighbour());
        let answer = asked.answer([2, 0, 0, 0, 0, 1]);
        let expected = [
            &[136, 0, 0, 0, 0x60, 0, 0, 0][..],
            &TARGET,
            &[2, 1, 2, 0, 0, 0, 0, 1],
        ]
        .concat();
        assert_eq!(answer, expected);
    }

    /// As Linux sent it from a router that had the neighbour in state PROBE.
    #[test]
    fn fc_05_a_routers_unicast_probe_is_a_solicitation() {
        let probe = [
            &[0x60, 0, 0, 0, 0, 32, 58, 255][..],
            &[0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
            &TARGET,
            &[135, 0, 0x2c, 0x72, 0, 0, 0, 0],
            &TARGET,
            &[1, 1, 2, 0, 0, 0, 0, 9],
        ]
        .concat();
        let asked = Solicitation::parse(&probe).unwrap();
        assert_eq!(asked.target, Ipv6Addr::from(TARGET));
        assert_eq!(asked.from, neighbour());
        for len in 0..probe.len() {
            assert_eq!(Solicitation::parse(&probe[..len]), None, "{len}");
        }
        for (at, value) in [(0, 0x40), (6, 17), (7, 254), (42, 0x2d), (23, 2)] {
            let mut other = probe.clone();
            other[at] = value;
            assert_eq!(Solicitation::parse(&other), None, "byte {at}");
        }
    }

    #[test]
    fn fc_04_another_link_layer_address_is_announced_to_all() {
        let announced = announcement(Ipv6Addr::from(TARGET), [2, 0, 0, 0, 0, 7]);
        let expected = [
            &[136, 0, 0, 0, 0x20, 0, 0, 0][..],
            &TARGET,
            &[2, 1, 2, 0, 0, 0, 0, 7],
        ]
        .concat();
        assert_eq!(announced, expected);
    }

    #[test]
    fn cl_05_who_wants_the_address_for_itself_is_told_before_all_nodes() {
        let asked = multicast(Ipv6Addr::UNSPECIFIED, &solicitation(&[])).unwrap();
        assert_eq!(asked.answer_to(), ALL_NODES);
        assert_eq!(
            asked.answer([2, 0, 0, 0, 0, 1])[4],
            0x20,
            "override without solicited"
        );
        let target = Ipv6Addr::from(TARGET);
        let unicast = packet(Ipv6Addr::UNSPECIFIED, target, 255, &solicitation(&[]));
        assert_eq!(Solicitation::parse(&unicast), None);
    }

    #[test]
    fn invalid_solicitations_are_none() {
        let whole = solicitation(&[1, 1, 2, 0, 0, 0, 0, 9]);
        for len in 4..whole.len() {
            let is_valid = multicast(neighbour(), &whole[..len]).is_some();
            assert_eq!(is_valid, len == MESSAGE_LEN, "{len}");
        }
        let no_length = solicitation(&[1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(multicast(neighbour(), &no_length), None);
        let too_long = solicitation(&[14, 9, 0, 0, 0, 0, 0, 0]);
        assert_eq!(multicast(neighbour(), &too_long), None);
        let nobody = multicast(Ipv6Addr::UNSPECIFIED, &whole);
        assert_eq!(nobody, None, "a source address from nobody");
        assert_eq!(multicast(ALL_NODES, &whole), None, "from a group");
        let mut advert = solicitation(&[]);
        advert[0] = 136;
        assert_eq!(multicast(neighbour(), &advert), None);
        let mut group = solicitation(&[]);
        group[8] = 0xff;
        assert_eq!(multicast(neighbour(), &group), None);
        let elsewhere = packet(neighbour(), "2001:db8::9".parse().unwrap(), 255, &whole);
        assert_eq!(Solicitation::parse(&elsewhere), None);
    }

    #[test]
    fn the_group_has_the_low_24_bits() {
        let expected: Ipv6Addr = "ff02::1:ffbb:ccdd".parse().unwrap();
        assert_eq!(solicited_node(Ipv6Addr::from(TARGET)), expected);
    }
}
