//! Super-packets as the kernel hands them over, and the slow way to cut them into what it would send.

use super::*;
use xlat_core::offload::{Checksum, Gso, GsoKind, PartialChecksum};

/// The packets that the kernel would cut a super-packet into.
pub fn segments(packet: &[u8], offload: Offload) -> Vec<Vec<u8>> {
    let gso = offload.gso.unwrap();
    let v4 = packet[0] >> 4 == 4;
    let at = if v4 { 20 } else { 40 };
    let is_tcp = gso.kind != GsoKind::Udp;
    let header = at
        + if is_tcp {
            usize::from(packet[at + 12] >> 4) * 4
        } else {
            8
        };
    let parts: Vec<&[u8]> = packet[header..].chunks(usize::from(gso.size)).collect();
    let mut sent = 0u32;
    let mut out = Vec::new();
    for (number, part) in parts.iter().enumerate() {
        let mut segment = [&packet[..header], part].concat();
        let len = segment.len() - at;
        if v4 {
            segment[2..4].copy_from_slice(&((at + len) as u16).to_be_bytes());
            let id = word_at(packet, 4).wrapping_add(number as u16);
            segment[4..6].copy_from_slice(&id.to_be_bytes());
            fix_v4(&mut segment);
        } else {
            segment[4..6].copy_from_slice(&(len as u16).to_be_bytes());
        }
        let place = at + if is_tcp { 16 } else { 6 };
        if is_tcp {
            let sequence = u32::from_be_bytes(packet[at + 4..at + 8].try_into().unwrap());
            segment[at + 4..at + 8].copy_from_slice(&sequence.wrapping_add(sent).to_be_bytes());
            if number + 1 < parts.len() {
                segment[at + 13] &= !0x09;
            }
        } else {
            segment[at + 4..at + 6].copy_from_slice(&(len as u16).to_be_bytes());
        }
        sent += part.len() as u32;
        segment[place..place + 2].fill(0);
        let protocol = if is_tcp { 6 } else { 17 };
        let pseudo = if v4 {
            pseudo_v4(v4_at(packet, 12), v4_at(packet, 16), protocol, len)
        } else {
            pseudo_v6(v6_at(packet, 8), v6_at(packet, 24), protocol, len)
        };
        let mut sum = naive_checksum(&[&pseudo, &segment[at..]]);
        if !is_tcp && sum == 0 {
            sum = 0xffff;
        }
        segment[place..place + 2].copy_from_slice(&sum.to_be_bytes());
        out.push(segment);
    }
    out
}

/// A super-packet of segments of `size` bytes with a put-off checksum. `flags` is for IPv4.
pub fn super_packet(
    v4: bool,
    is_tcp: bool,
    flags: u16,
    size: u16,
    body: &[u8],
) -> (Vec<u8>, Offload) {
    let (at, place) = (if v4 { 20 } else { 40 }, if is_tcp { 16 } else { 6 });
    let mut packet = match (v4, is_tcp) {
        (true, true) => V4 {
            flags,
            ..V4::new(6)
        }
        .packet(&tcp(from_host4(6), 0x18, &[], body)),
        (true, false) => V4 {
            flags,
            ..V4::new(17)
        }
        .packet(&udp(from_host4(17), body)),
        (false, true) => V6::new(6).packet(&tcp(from_node6(6), 0x18, &[], body)),
        (false, false) => V6::new(17).packet(&udp(from_node6(17), body)),
    };
    let protocol = if is_tcp { 6 } else { 17 };
    let len = packet.len() - at;
    let pseudo = if v4 {
        pseudo_v4(HOST4, NODE4, protocol, len)
    } else {
        pseudo_v6(node6(), host6(), protocol, len)
    };
    let sum = !naive_checksum(&[&pseudo]);
    packet[at + place..at + place + 2].copy_from_slice(&sum.to_be_bytes());
    let kind = match (is_tcp, v4) {
        (true, true) => GsoKind::TcpV4,
        (true, false) => GsoKind::TcpV6,
        (false, _) => GsoKind::Udp,
    };
    let partial = PartialChecksum {
        start: at as u16,
        offset: place as u16,
    };
    let gso = Some(Gso {
        kind,
        size,
        ecn: false,
    });
    (
        packet,
        Offload {
            checksum: Checksum::Partial(partial),
            gso,
        },
    )
}
