//! Packets for conversations: whole ones with right checksums, answers to them, errors about them,
//! and who is at their ends.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::check::{icmp4, icmp6, pseudo_v6, sum};

const ROUTER4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 200);
const ROUTER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0xfe);

/// A transport's number in a family, and its bytes without a checksum.
pub(crate) type Transport = (u8, Vec<u8>);

/// TCP, UDP or an echo request for a packet of family 4 or 6.
pub(crate) fn transport(
    kind: u8,
    family: u8,
    [src, dst]: [u16; 2],
    flags: u8,
    body: &[u8],
) -> Transport {
    let ports = [src.to_be_bytes(), dst.to_be_bytes()].concat();
    match kind % 3 {
        0 => {
            let fixed = [0, 0, 0, 1, 0, 0, 0, 2, 0x50, flags, 0x20, 0, 0, 0, 0, 0];
            (6, [&ports, &fixed[..], body].concat())
        }
        1 => {
            let len = (8 + body.len() as u16).to_be_bytes();
            (17, [&ports, &len[..], &[0, 0], body].concat())
        }
        _ => {
            let (protocol, request) = if family == 4 { (1, 8) } else { (58, 128) };
            let id = if family == 4 { dst } else { src }.to_be_bytes();
            let fixed = [&[request, 0, 0, 0], &id[..], &[0, 1]].concat();
            (protocol, [&fixed, body].concat())
        }
    }
}

pub(crate) fn packet4(src: Ipv4Addr, dst: Ipv4Addr, transport: Transport) -> Vec<u8> {
    let (protocol, body) = transport;
    let mut bytes = vec![0x45, 0];
    bytes.extend(((20 + body.len()) as u16).to_be_bytes());
    bytes.extend([0, 0, 0, 0, 64, protocol, 0, 0]);
    bytes.extend(src.octets());
    bytes.extend(dst.octets());
    bytes.extend(body);
    seal(&mut bytes);
    bytes
}

pub(crate) fn packet6(src: Ipv6Addr, dst: Ipv6Addr, transport: Transport) -> Vec<u8> {
    let (next, body) = transport;
    let mut bytes = vec![0x60, 0, 0, 0];
    bytes.extend((body.len() as u16).to_be_bytes());
    bytes.extend([next, 64]);
    bytes.extend(src.octets());
    bytes.extend(dst.octets());
    bytes.extend(body);
    seal(&mut bytes);
    bytes
}

/// Sets all checksums of a whole packet.
fn seal(packet: &mut [u8]) {
    let at = transport_at(packet);
    let protocol = protocol(packet);
    let len = packet.len() - at;
    let pseudo = if at == 40 {
        pseudo_v6(&packet[8..24], &packet[24..40], protocol, len)
    } else {
        packet[10..12].fill(0);
        let checksum = sum(&[&packet[..20]]);
        packet[10..12].copy_from_slice(&checksum.to_be_bytes());
        let tail = [&[0, protocol], &(len as u16).to_be_bytes()[..]].concat();
        let pseudo = [&packet[12..20], &tail].concat();
        if protocol == 1 { Vec::new() } else { pseudo }
    };
    let place = at
        + match protocol {
            6 => 16,
            17 => 6,
            _ => 2,
        };
    packet[place..place + 2].fill(0);
    let checksum = match (protocol, sum(&[&pseudo, &packet[at..]])) {
        (17, 0) => 0xffff,
        (_, checksum) => checksum,
    };
    packet[place..place + 2].copy_from_slice(&checksum.to_be_bytes());
}

/// The answer to a packet of TCP, UDP or an echo request.
pub(crate) fn turned(packet: &[u8]) -> Option<Vec<u8>> {
    let at = transport_at(packet);
    let mut answer = packet.to_vec();
    if at == 40 {
        answer[7] = 64;
        answer[8..40].rotate_left(16);
    } else {
        answer[8] = 64;
        answer[12..20].rotate_left(4);
    }
    match (protocol(packet), packet[at]) {
        (6 | 17, _) => answer[at..at + 4].rotate_left(2),
        (1, 8) => answer[at] = 0,
        (58, 128) => answer[at] = 129,
        _ => return None,
    }
    seal(&mut answer);
    Some(answer)
}

/// Source and destination of a packet with its ports, or its identifier twice.
pub(crate) fn ends(packet: &[u8]) -> (IpAddr, u16, IpAddr, u16) {
    let at = transport_at(packet);
    let word = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
    let address = |from: usize, to: usize| match <[u8; 4]>::try_from(&packet[from..to]) {
        Ok(octets) => IpAddr::from(octets),
        Err(_) => <[u8; 16]>::try_from(&packet[from..to])
            .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::from),
    };
    let (src, dst) = if at == 40 {
        (address(8, 24), address(24, 40))
    } else {
        (address(12, 16), address(16, 20))
    };
    let (from, to) = match protocol(packet) {
        1 | 58 => (word(at + 4), word(at + 4)),
        _ => (word(at), word(at + 2)),
    };
    (src, from, dst, to)
}

pub(crate) fn is_udp(packet: &[u8]) -> bool {
    protocol(packet) == 17
}

/// An error of a router on the way of `packet`; none about ICMP other than echo.
pub(crate) fn error_about(packet: &[u8], kind: u8, code: u8) -> Option<Vec<u8>> {
    let at = transport_at(packet);
    if matches!((protocol(packet), packet[at]), (1, 1..=7 | 9..) | (58, 0..=127)) {
        return None;
    }
    let head = |kind, code| [kind, code, 0, 0, 0, 0, 5, 0];
    match ends(packet).0 {
        IpAddr::V4(sender) => {
            let head = head([3, 11, 12, 4][usize::from(kind & 3)], code & 15);
            Some(icmp4(ROUTER4, sender, &[&head, packet].concat()))
        }
        IpAddr::V6(sender) => {
            let head = head(1 + (kind & 3), code & 7);
            Some(icmp6(ROUTER6, sender, &[&head, packet].concat()))
        }
    }
}

/// Two fragments of an IPv6 packet, cut behind the first 16 bytes of its transport.
pub(crate) fn cut6(packet: &[u8], id: u32) -> [Vec<u8>; 2] {
    let (header, body) = packet.split_at(40);
    let (first, second) = body.split_at(16);
    [(first, 1u16), (second, 2 << 3)].map(|(part, place)| {
        let mut piece = header.to_vec();
        piece[4..6].copy_from_slice(&(8 + part.len() as u16).to_be_bytes());
        piece[6] = 44;
        piece.extend([header[6], 0]);
        piece.extend(place.to_be_bytes());
        piece.extend(id.to_be_bytes());
        piece.extend(part);
        piece
    })
}

fn transport_at(packet: &[u8]) -> usize {
    if packet[0] >> 4 == 4 { 20 } else { 40 }
}

fn protocol(packet: &[u8]) -> u8 {
    packet[if packet[0] >> 4 == 4 { 9 } else { 6 }]
}
