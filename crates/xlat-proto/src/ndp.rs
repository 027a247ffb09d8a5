//! The neighbour discovery messages (RFC 4861) by which the host of a CLAT answers for the CLAT's
//! address, which is assigned to no interface.

use std::net::Ipv6Addr;

use pnet_packet::icmpv6::ndp::{
    MutableNeighborAdvertPacket, NdpOption, NdpOptionTypes, NeighborAdvertFlags,
    NeighborSolicitPacket,
};
use pnet_packet::icmpv6::{Icmpv6Code, Icmpv6Types};

/// Length of a solicitation and of an advertisement without options, in bytes.
pub const MESSAGE_LEN: usize = 24;

/// All nodes on a link.
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

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
    /// Parses the ICMPv6 message of a packet from `from`. The caller checks hop limit and checksum.
    /// `None` if it is not a valid solicitation (RFC 4861 section 7.1.1).
    pub fn parse(from: Ipv6Addr, message: &[u8]) -> Option<Self> {
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
        if target.is_multicast() || (from.is_unspecified() && has_source) {
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

    #[test]
    fn cl_08_a_solicitation_is_answered_with_our_link_layer_address() {
        let message = solicitation(&[1, 1, 2, 0, 0, 0, 0, 9]);
        let asked = Solicitation::parse(neighbour(), &message).unwrap();
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

    #[test]
    fn cl_05_who_wants_the_address_for_itself_is_told_before_all_nodes() {
        let asked = Solicitation::parse(Ipv6Addr::UNSPECIFIED, &solicitation(&[])).unwrap();
        assert_eq!(asked.answer_to(), ALL_NODES);
        assert_eq!(
            asked.answer([2, 0, 0, 0, 0, 1])[4],
            0x20,
            "override without solicited"
        );
    }

    #[test]
    fn invalid_solicitations_are_none() {
        let parse = |from, message: &[u8]| Solicitation::parse(from, message);
        let whole = solicitation(&[1, 1, 2, 0, 0, 0, 0, 9]);
        for len in 0..whole.len() {
            assert_eq!(
                parse(neighbour(), &whole[..len]).is_some(),
                len == MESSAGE_LEN,
                "{len}"
            );
        }
        assert_eq!(
            parse(neighbour(), &solicitation(&[1, 0, 0, 0, 0, 0, 0, 0])),
            None
        );
        assert_eq!(
            parse(neighbour(), &solicitation(&[14, 9, 0, 0, 0, 0, 0, 0])),
            None
        );
        assert_eq!(
            parse(Ipv6Addr::UNSPECIFIED, &whole),
            None,
            "a source address from nobody"
        );
        let mut advert = solicitation(&[]);
        advert[0] = 136;
        assert_eq!(parse(neighbour(), &advert), None);
        let mut group = solicitation(&[]);
        group[8] = 0xff;
        assert_eq!(parse(neighbour(), &group), None);
    }

    #[test]
    fn the_group_has_the_low_24_bits() {
        let expected: Ipv6Addr = "ff02::1:ffbb:ccdd".parse().unwrap();
        assert_eq!(solicited_node(Ipv6Addr::from(TARGET)), expected);
    }
}
