//! What must hold for everything that comes out, with checksums computed the slow way.

use std::net::{Ipv4Addr, Ipv6Addr};

use xlat_core::offload::GsoKind;
use xlat_core::{Frame, Offload, Policy};

/// The Internet checksum, one word after the other (RFC 1071).
pub(crate) fn sum(parts: &[&[u8]]) -> u16 {
    let bytes = parts.concat();
    let words = bytes
        .chunks(2)
        .map(|pair| u64::from(pair[0]) << 8 | u64::from(pair.get(1).copied().unwrap_or(0)));
    let mut total: u64 = words.sum();
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    !(total as u16)
}

pub(crate) fn pseudo_v6(src: &[u8], dst: &[u8], next: u8, len: usize) -> Vec<u8> {
    [src, dst, &(len as u32).to_be_bytes(), &[0, 0, 0, next]].concat()
}

/// Sets version-dependent lengths, addresses and the IPv4 header checksum so that a packet gets
/// past the first checks.
pub(crate) fn make_plausible(bytes: &mut [u8], node4: Ipv4Addr, node6: Ipv6Addr) {
    let len = bytes.len().min(65535);
    match bytes.first().map(|first| first >> 4) {
        Some(4) if len >= 20 => {
            bytes[2..4].copy_from_slice(&(len as u16).to_be_bytes());
            bytes[12..16].copy_from_slice(&[198, 51, 100, 7]);
            bytes[16..20].copy_from_slice(&node4.octets());
            let header = usize::from(bytes[0] & 15) * 4;
            if (20..=len).contains(&header) {
                bytes[10..12].fill(0);
                let checksum = sum(&[&bytes[..header]]);
                bytes[10..12].copy_from_slice(&checksum.to_be_bytes());
            }
        }
        Some(6) if len >= 40 => {
            bytes[4..6].copy_from_slice(&((len - 40) as u16).to_be_bytes());
            bytes[8..24].copy_from_slice(&node6.octets());
            let mut host = Ipv6Addr::new(0x2001, 0xdb8, 0x64, 0, 0, 0, 0, 0).octets();
            host[12..].copy_from_slice(&[198, 51, 100, 7]);
            bytes[24..40].copy_from_slice(&host);
        }
        _ => {}
    }
}

/// An ICMPv4 packet with right checksums around `message`.
pub(crate) fn icmp4(src: Ipv4Addr, dst: Ipv4Addr, message: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x45, 0];
    bytes.extend(((20 + message.len()) as u16).to_be_bytes());
    bytes.extend([0, 0, 0, 0, 64, 1, 0, 0]);
    bytes.extend(src.octets());
    bytes.extend(dst.octets());
    let checksum = sum(&[&bytes]);
    bytes[10..12].copy_from_slice(&checksum.to_be_bytes());
    bytes.extend(message);
    bytes[22..24].fill(0);
    let checksum = sum(&[&bytes[20..]]);
    bytes[22..24].copy_from_slice(&checksum.to_be_bytes());
    bytes
}

/// An ICMPv6 packet with a right checksum around `message`.
pub(crate) fn icmp6(src: Ipv6Addr, dst: Ipv6Addr, message: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x60, 0, 0, 0];
    bytes.extend((message.len() as u16).to_be_bytes());
    bytes.extend([58, 64]);
    bytes.extend(src.octets());
    bytes.extend(dst.octets());
    bytes.extend(message);
    bytes[42..44].fill(0);
    let pseudo = pseudo_v6(&src.octets(), &dst.octets(), 58, message.len());
    let checksum = sum(&[&pseudo, &bytes[40..]]);
    bytes[42..44].copy_from_slice(&checksum.to_be_bytes());
    bytes
}

/// A translated packet: of the other family (or the same, after a hairpin), with lengths that
/// fit, and with right checksums where those that came were right.
pub(crate) fn forwarded(before: &[u8], offload: Offload, frame: &Frame<'_>, policy: &Policy) {
    // Work that was put off may have been done on the way.
    let untouched = offload == Offload::NONE;
    let packet = frame.packet();
    well_formed(packet);
    let mtu = if packet[0] >> 4 == 4 {
        policy.mtu4
    } else {
        policy.mtu6
    };
    let segment = segment_len(packet, frame.offload);
    assert!(
        segment <= usize::from(mtu),
        "{segment} bytes for an MTU of {mtu}"
    );
    if untouched && checksum_right(before) == Some(true) {
        assert_ne!(
            checksum_right(packet),
            Some(false),
            "a right checksum has become wrong"
        );
    }
}

/// Bytes of a packet on the wire: of one segment where it stands for several.
fn segment_len(packet: &[u8], offload: Offload) -> usize {
    let Some(gso) = offload.gso else {
        return packet.len();
    };
    let ip = if packet[0] >> 4 == 4 { 20 } else { 40 };
    let transport = match gso.kind {
        GsoKind::Udp => 8,
        GsoKind::TcpV4 | GsoKind::TcpV6 => usize::from(packet[ip + 12] >> 4) * 4,
    };
    packet.len().min(ip + transport + usize::from(gso.size))
}

/// An answer: no longer than it may be, all checksums right.
pub(crate) fn reply(before: &[u8], packet: &[u8], policy: &Policy) {
    well_formed(packet);
    assert_eq!(
        before[0] >> 4,
        packet[0] >> 4,
        "an answer in another family"
    );
    let echo = packet[0] >> 4 == 4 && packet[20] == 0 || packet[0] >> 4 == 6 && packet[40] == 129;
    let most = if packet[0] >> 4 == 4 {
        policy.icmpv4_error_size
    } else {
        1280
    };
    assert!(echo || packet.len() <= usize::from(most));
    assert_eq!(checksum_right(packet), Some(true));
}

/// A piece of a packet: within the limit, and on a boundary of 8 bytes if more follow.
pub(crate) fn piece(packet: &[u8], policy: &Policy) {
    well_formed(packet);
    if packet[0] >> 4 == 4 {
        assert!(packet.len() <= usize::from(policy.mtu4));
        assert!(packet[6] & 0x20 == 0 || packet.len() % 8 == 20 % 8);
    } else {
        assert!(packet.len() <= usize::from(policy.mtu6.min(policy.lowest_ipv6_mtu)));
        assert!(packet[6] != 44 || packet[43] & 1 == 0 || packet.len().is_multiple_of(8));
    }
}

/// The lengths and the header checksum of a packet are its own.
pub(crate) fn well_formed(packet: &[u8]) {
    if packet[0] >> 4 == 4 {
        assert_eq!(packet[0], 0x45);
        assert_eq!(
            usize::from(u16::from_be_bytes([packet[2], packet[3]])),
            packet.len()
        );
        assert_eq!(sum(&[&packet[..20]]), 0, "header checksum");
    } else {
        assert_eq!(packet[0] >> 4, 6);
        assert_eq!(
            usize::from(u16::from_be_bytes([packet[4], packet[5]])) + 40,
            packet.len()
        );
    }
}

/// Whether the TCP, UDP or ICMP checksum of an unfragmented packet without options or extension
/// headers is right; `None` where that cannot be said.
fn checksum_right(packet: &[u8]) -> Option<bool> {
    if packet.first()? >> 4 == 4 {
        let len = usize::from(u16::from_be_bytes([*packet.get(2)?, *packet.get(3)?]));
        let fragment = u16::from_be_bytes([*packet.get(6)?, *packet.get(7)?]) & 0x3fff;
        if packet[0] != 0x45 || fragment != 0 {
            return None;
        }
        let (protocol, body) = (*packet.get(9)?, packet.get(20..len)?);
        let pseudo = match protocol {
            1 => Vec::new(),
            _ => {
                let tail = [&[0, protocol], &(body.len() as u16).to_be_bytes()[..]].concat();
                [&packet[12..20], &tail].concat()
            }
        };
        return transport_right(protocol, &pseudo, body);
    }
    let len = 40 + usize::from(u16::from_be_bytes([*packet.get(4)?, *packet.get(5)?]));
    let (next, body) = (*packet.get(6)?, packet.get(40..len)?);
    let pseudo = pseudo_v6(packet.get(8..24)?, packet.get(24..40)?, next, body.len());
    transport_right(next, &pseudo, body)
}

fn transport_right(protocol: u8, pseudo: &[u8], body: &[u8]) -> Option<bool> {
    match protocol {
        // The pseudo-header has the datagram's own length, which may be the shorter one.
        17 if u16::from_be_bytes([*body.get(4)?, *body.get(5)?]) as usize != body.len() => None,
        17 if body.get(6..8)? == [0, 0] => None,
        1 | 6 | 17 | 58 => Some(sum(&[pseudo, body]) == 0),
        _ => None,
    }
}
