//! Datagrams that cannot be translated in pieces: put together, translated as a whole and cut
//! again.
//!
//! The checksum of an ICMP message covers a pseudo-header in ICMPv6 and none in ICMPv4, and with
//! it the length of the message, which no fragment but the last one tells. A UDP datagram from
//! IPv4 without a checksum needs one in IPv6, and that covers all of it (RFC 6146 section 3.4).

use std::net::Ipv4Addr;

use pnet_packet::ip::IpNextHeaderProtocols;
use xlat_core::Instant;
use xlat_core::checksum::{self, Sum};
use xlat_core::mapper::{Fragment, Refusal};
use xlat_core::wire::{ipv4, ipv6, set_word, udp, version};

use super::Worker;
use crate::fragments::DatagramKey;

impl Worker {
    /// Keeps a piece of a datagram that can pass only as a whole.
    pub(super) fn gather(
        &mut self,
        key: DatagramKey,
        fragment: Fragment,
        packet: &[u8],
        now: Instant,
    ) -> Result<(), Refusal> {
        self.hold_piece(key, fragment, true, packet, now)
            .map_err(Refusal::Silent)
    }

    /// All pieces of a datagram are there: it is to be translated.
    pub(super) fn release_whole(&mut self, pieces: &[Box<[u8]>]) {
        let everywhere = Ipv4Addr::UNSPECIFIED;
        let id = self.next_id(everywhere, everywhere, IpNextHeaderProtocols::Icmp);
        self.released.extend(put_together(pieces, id));
    }
}

/// The packet whose pieces these are; `None` if its lengths make no sense. An
/// IPv6 packet keeps its Fragment header, with nothing before and behind it (RFC 6946) and `id` as
/// its identification: that it could be cut is to be seen on the other side too.
fn put_together(packets: &[Box<[u8]>], id: u16) -> Option<Box<[u8]>> {
    let mut pieces = packets
        .iter()
        .map(|packet| Some((piece_bounds(packet)?, packet)))
        .collect::<Option<Vec<_>>>()?;
    pieces.sort_by_key(|(place, _)| place.offset);
    let (first, packet) = pieces.first()?;
    let mut whole = packet.get(..first.payload)?.to_vec();
    for (place, packet) in &pieces {
        whole.extend_from_slice(packet.get(place.payload..)?);
    }
    match version(whole[0]) {
        4 => finish_v4(&mut whole, first.payload)?,
        _ => finish_v6(&mut whole, first.payload, id)?,
    }
    Some(whole.into_boxed_slice())
}

/// Where a fragment's payload begins, and where it belongs in its message; both in bytes.
#[derive(Clone, Copy, Debug)]
struct PieceBounds {
    payload: usize,
    offset: u16,
}

/// The translator has found the packet well-formed.
fn piece_bounds(packet: &[u8]) -> Option<PieceBounds> {
    if version(*packet.first()?) == 4 {
        return Some(PieceBounds {
            payload: ipv4::header_len(packet[0]),
            offset: (word(packet, ipv4::FRAGMENT)? & ipv4::FRAGMENT_OFFSET) * 8,
        });
    }
    let (mut next, mut at) = (*packet.get(ipv6::NEXT_HEADER)?, ipv6::HEADER);
    while next != IpNextHeaderProtocols::Ipv6Frag.0 {
        let header = packet.get(at..at + 2)?;
        next = header[0];
        at += (usize::from(header[1]) + 1) * ipv6::EXTENSION_UNIT;
    }
    Some(PieceBounds {
        payload: at + ipv6::FRAGMENT,
        offset: word(packet, at + ipv6::FRAGMENT_OFFSET)? & !7,
    })
}

fn finish_v4(whole: &mut [u8], header: usize) -> Option<()> {
    let len = u16::try_from(whole.len()).ok()?;
    set_word(whole, ipv4::TOTAL_LEN, len);
    set_word(whole, ipv4::FRAGMENT, 0);
    set_word(whole, ipv4::CHECKSUM, 0);
    let checksum = Sum::of(&whole[..header]).checksum();
    set_word(whole, ipv4::CHECKSUM, checksum);
    match whole[ipv4::PROTOCOL] == IpNextHeaderProtocols::Udp.0 {
        true => complete_udp(whole, header),
        false => Some(()),
    }
}

/// Makes the checksum of a UDP datagram that has none.
fn complete_udp(whole: &mut [u8], header: usize) -> Option<()> {
    let ip = whole.first_chunk()?;
    let (src, dst) = (ipv4::address(ip, ipv4::SRC), ipv4::address(ip, ipv4::DST));
    // The rest of the packet, if there is any, is not covered (RFC 768).
    let len = word(whole, header + udp::LENGTH)?;
    let datagram = whole.get(header..header + usize::from(len))?;
    let pseudo = Sum::pseudo_v4(src, dst, IpNextHeaderProtocols::Udp, u32::from(len));
    let sum = checksum::udp((pseudo + Sum::of(datagram)).checksum());
    let field = header + udp::CHECKSUM;
    whole
        .get_mut(field..field + 2)?
        .copy_from_slice(&sum.to_be_bytes());
    Some(())
}

fn finish_v6(whole: &mut [u8], payload: usize, id: u16) -> Option<()> {
    let len = u16::try_from(whole.len() - ipv6::HEADER).ok()?;
    set_word(whole, ipv6::PAYLOAD_LEN, len);
    let fragment = &mut whole[payload - ipv6::FRAGMENT..payload];
    set_word(fragment, ipv6::FRAGMENT_OFFSET, 0);
    fragment[ipv6::FRAGMENT_ID..].copy_from_slice(&u32::from(id).to_be_bytes());
    Some(())
}

fn word(packet: &[u8], at: usize) -> Option<u16> {
    let bytes = packet.get(at..at + 2)?;
    Some(u16::from_be_bytes([bytes[0], bytes[1]]))
}
