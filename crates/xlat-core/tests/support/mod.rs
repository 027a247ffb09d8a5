//! A translator between two known networks, packets written out by hand, and checksums computed
//! the slow way: nothing here uses the code under test to say what is right.
//!
//! IPv6 nodes are 2001:db8:1::N and have the IPv4 addresses 192.0.2.N (an explicit mapping); IPv4
//! hosts are in 2001:db8:64::/96.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "every test target uses its part of it"
)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

pub mod super_packet;

use std::net::{Ipv4Addr, Ipv6Addr};

use xlat_core::addr::{Eam, EamTable, Pref64, Pref64s};
use xlat_core::frame::{HEADROOM, TAILROOM};
use xlat_core::identification::Identifications;
use xlat_core::mapper::{PacketHolder, Prefetch};
use xlat_core::mappers::{Hairpin, Siit};
use xlat_core::{DropReason, Frame, Instant, Mapper, Offload, Policy, Translator, Verdict};

pub const HOST4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
pub const NODE4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 9);
pub const OWN4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);

pub fn host6() -> Ipv6Addr {
    "2001:db8:64::198.51.100.7".parse().unwrap()
}

pub fn node6() -> Ipv6Addr {
    "2001:db8:1::9".parse().unwrap()
}

pub fn own6() -> Ipv6Addr {
    "2001:db8:64::203.0.113.1".parse().unwrap()
}

/// What came out.
#[derive(Debug)]
pub enum Out {
    Forward(Vec<u8>, Offload),
    Split(Vec<Vec<u8>>),
    Reply(DropReason, Vec<u8>),
    Drop(DropReason),
}

impl Out {
    #[track_caller]
    pub fn forwarded(self) -> Vec<u8> {
        match self {
            Self::Forward(packet, _) => packet,
            other => panic!("not forwarded: {other:?}"),
        }
    }

    #[track_caller]
    pub fn dropped(self) -> DropReason {
        match self {
            Self::Drop(reason) => reason,
            other => panic!("not dropped: {other:?}"),
        }
    }

    /// Not translated, whatever its sender learns.
    #[track_caller]
    pub fn refused(self) -> DropReason {
        match self {
            Self::Drop(reason) | Self::Reply(reason, _) => reason,
            other => panic!("translated: {other:?}"),
        }
    }

    #[track_caller]
    pub fn replied(self) -> (DropReason, Vec<u8>) {
        match self {
            Self::Reply(reason, packet) => (reason, packet),
            other => panic!("not answered: {other:?}"),
        }
    }

    #[track_caller]
    pub fn pieces(self) -> Vec<Vec<u8>> {
        match self {
            Self::Split(pieces) => pieces,
            other => panic!("not split: {other:?}"),
        }
    }
}

pub fn pref64() -> Pref64 {
    "2001:db8:64::/96".parse().unwrap()
}

pub fn siit(hairpin: Hairpin) -> Siit {
    let eam: Eam = "192.0.2.0/24=2001:db8:1::/120".parse().unwrap();
    Siit::new(
        EamTable::new([eam]).unwrap(),
        Pref64s::single(pref64()),
        hairpin,
    )
}

pub fn policy() -> Policy {
    let unlimited = xlat_core::policy::ErrorRate::Unlimited;
    Policy {
        icmpv4_errors: unlimited,
        icmpv6_errors: unlimited,
        ..Policy::new(OWN4, own6())
    }
}

pub fn translator(policy: Policy) -> Translator<Siit> {
    let ids = Identifications::new([7, 13], 0, 1);
    Translator::new(siit(Hairpin::Intrinsic), policy, ids).unwrap()
}

/// Translates one packet with the default policy.
pub fn run(packet: &[u8]) -> Out {
    run_with(&mut translator(policy()), packet, Offload::NONE)
}

/// Translates one packet with another policy.
pub fn run_policy(policy: Policy, packet: &[u8]) -> Out {
    run_with(&mut translator(policy), packet, Offload::NONE)
}

pub fn run_with<M: Mapper + PacketHolder + Prefetch>(
    translator: &mut Translator<M>,
    packet: &[u8],
    offload: Offload,
) -> Out {
    // Room that was never written must not matter, so it is filled with rubbish.
    let mut buffer = vec![0xa5; HEADROOM + packet.len() + TAILROOM];
    buffer[HEADROOM..HEADROOM + packet.len()].copy_from_slice(packet);
    let mut frame = Frame::new(&mut buffer, HEADROOM, packet.len(), offload).unwrap();
    match translator.translate(&mut frame, Instant::ZERO) {
        Verdict::Forward => Out::Forward(frame.packet().to_vec(), frame.offload),
        Verdict::Split(mut split) => {
            let mut pieces = Vec::new();
            while let Some(piece) = split.next(&mut frame) {
                pieces.push(piece.packet().to_vec());
            }
            Out::Split(pieces)
        }
        Verdict::Reply(reason) => Out::Reply(reason, frame.packet().to_vec()),
        Verdict::Drop(reason) => Out::Drop(reason),
        Verdict::Held => panic!("a stateless mapper holds nothing"),
    }
}

/// The Internet checksum, one word after the other (RFC 1071).
pub fn naive_checksum(parts: &[&[u8]]) -> u16 {
    let bytes: Vec<u8> = parts.concat();
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        if sum > 0xffff {
            sum -= 0xffff;
        }
    }
    !(sum as u16)
}

/// Fields of an IPv4 header that tests vary.
#[derive(Clone, Debug)]
pub struct V4 {
    pub tos: u8,
    pub id: u16,
    /// Flags and offset as they stand in the header.
    pub flags: u16,
    pub ttl: u8,
    pub protocol: u8,
    pub src: Ipv4Addr,
    pub dst: Ipv4Addr,
    pub options: Vec<u8>,
}

pub const DF: u16 = 0x4000;
pub const MF: u16 = 0x2000;

impl V4 {
    /// From the IPv4 host to the IPv6 node, may be cut.
    pub fn new(protocol: u8) -> Self {
        Self {
            tos: 0,
            id: 0xabcd,
            flags: 0,
            ttl: 64,
            protocol,
            src: HOST4,
            dst: NODE4,
            options: Vec::new(),
        }
    }

    pub fn packet(&self, payload: &[u8]) -> Vec<u8> {
        let header_len = 20 + self.options.len();
        let mut bytes = vec![0x40 | (header_len / 4) as u8, self.tos];
        bytes.extend(((header_len + payload.len()) as u16).to_be_bytes());
        bytes.extend(self.id.to_be_bytes());
        bytes.extend(self.flags.to_be_bytes());
        bytes.extend([self.ttl, self.protocol, 0, 0]);
        bytes.extend(self.src.octets());
        bytes.extend(self.dst.octets());
        bytes.extend(&self.options);
        fix_v4(&mut bytes);
        bytes.extend(payload);
        bytes
    }
}

/// Sets the header checksum right.
pub fn fix_v4(packet: &mut [u8]) {
    let header_len = usize::from(packet[0] & 15) * 4;
    packet[10..12].fill(0);
    let checksum = naive_checksum(&[&packet[..header_len.min(packet.len())]]);
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
}

/// Fields of an IPv6 header that tests vary.
#[derive(Clone, Debug)]
pub struct V6 {
    pub traffic_class: u8,
    pub flow_label: u32,
    pub hop_limit: u8,
    pub next_header: u8,
    pub src: Ipv6Addr,
    pub dst: Ipv6Addr,
}

impl V6 {
    /// From the IPv6 node to the IPv4 host.
    pub fn new(next_header: u8) -> Self {
        Self {
            traffic_class: 0,
            flow_label: 0,
            hop_limit: 64,
            next_header,
            src: node6(),
            dst: host6(),
        }
    }

    pub fn packet(&self, payload: &[u8]) -> Vec<u8> {
        let first = 6u32 << 28 | u32::from(self.traffic_class) << 20 | self.flow_label;
        let mut bytes = first.to_be_bytes().to_vec();
        bytes.extend((payload.len() as u16).to_be_bytes());
        bytes.extend([self.next_header, self.hop_limit]);
        bytes.extend(self.src.octets());
        bytes.extend(self.dst.octets());
        bytes.extend(payload);
        bytes
    }
}

/// A Fragment header.
pub fn fragment(next: u8, offset: u16, more: bool, id: u32) -> Vec<u8> {
    let place = (offset << 3 | u16::from(more)).to_be_bytes();
    [&[next, 0], &place[..], &id.to_be_bytes()].concat()
}

pub fn pseudo_v4(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, len: usize) -> Vec<u8> {
    let tail = [&[0, protocol], &(len as u16).to_be_bytes()[..]].concat();
    [&src.octets()[..], &dst.octets(), &tail].concat()
}

pub fn pseudo_v6(src: Ipv6Addr, dst: Ipv6Addr, next: u8, len: usize) -> Vec<u8> {
    let tail = [&(len as u32).to_be_bytes()[..], &[0, 0, 0, next]].concat();
    [&src.octets()[..], &dst.octets(), &tail].concat()
}

/// A UDP datagram with its checksum over `pseudo`, made for its own length.
pub fn udp(pseudo: impl Fn(usize) -> Vec<u8>, payload: &[u8]) -> Vec<u8> {
    let len = 8 + payload.len();
    let mut bytes = vec![0x0f, 0xa0, 0x00, 0x35];
    bytes.extend((len as u16).to_be_bytes());
    bytes.extend([0, 0]);
    bytes.extend(payload);
    let checksum = match naive_checksum(&[&pseudo(len), &bytes]) {
        0 => 0xffff,
        sum => sum,
    };
    bytes[6..8].copy_from_slice(&checksum.to_be_bytes());
    bytes
}

/// A TCP segment (ACK set, so many bytes of options) with its checksum.
pub fn tcp(
    pseudo: impl Fn(usize) -> Vec<u8>,
    flags: u8,
    options: &[u8],
    payload: &[u8],
) -> Vec<u8> {
    let offset = ((20 + options.len()) / 4) as u8;
    let mut bytes = vec![
        0x0f,
        0xa0,
        0x01,
        0xbb,
        1,
        2,
        3,
        4,
        5,
        6,
        7,
        8,
        offset << 4,
        flags,
    ];
    bytes.extend([0x40, 0, 0, 0, 0, 0]);
    bytes.extend(options);
    bytes.extend(payload);
    let checksum = naive_checksum(&[&pseudo(bytes.len()), &bytes]);
    bytes[16..18].copy_from_slice(&checksum.to_be_bytes());
    bytes
}

pub fn from_host4(protocol: u8) -> impl Fn(usize) -> Vec<u8> {
    move |len| pseudo_v4(HOST4, NODE4, protocol, len)
}

pub fn from_node6(next: u8) -> impl Fn(usize) -> Vec<u8> {
    move |len| pseudo_v6(node6(), host6(), next, len)
}

/// An ICMPv4 message with its checksum.
pub fn icmp4(kind: u8, code: u8, rest: [u8; 4], body: &[u8]) -> Vec<u8> {
    let mut bytes = [&[kind, code, 0, 0], &rest[..], body].concat();
    let checksum = naive_checksum(&[&bytes]);
    bytes[2..4].copy_from_slice(&checksum.to_be_bytes());
    bytes
}

/// An ICMPv6 message with its checksum.
pub fn icmp6(
    src: Ipv6Addr,
    dst: Ipv6Addr,
    kind: u8,
    code: u8,
    rest: [u8; 4],
    body: &[u8],
) -> Vec<u8> {
    let mut bytes = [&[kind, code, 0, 0], &rest[..], body].concat();
    let checksum = naive_checksum(&[&pseudo_v6(src, dst, 58, bytes.len()), &bytes]);
    bytes[2..4].copy_from_slice(&checksum.to_be_bytes());
    bytes
}

/// A packet that the IPv6 node sent and that stands in an ICMPv4 error about it.
pub fn quoted4(payload: &[u8]) -> Vec<u8> {
    let ip = V4 {
        src: NODE4,
        dst: HOST4,
        ttl: 9,
        id: 0,
        flags: DF,
        ..V4::new(17)
    };
    ip.packet(&udp(|len| pseudo_v4(NODE4, HOST4, 17, len), payload))
}

/// A packet that the IPv4 host sent and that stands in an ICMPv6 error about it.
pub fn quoted6(payload: &[u8]) -> Vec<u8> {
    let ip = V6 {
        src: host6(),
        dst: node6(),
        hop_limit: 9,
        ..V6::new(17)
    };
    ip.packet(&udp(|len| pseudo_v6(host6(), node6(), 17, len), payload))
}

/// An ICMPv4 error from the IPv4 host to the IPv6 node.
pub fn error4(kind: u8, code: u8, rest: [u8; 4], body: &[u8]) -> Vec<u8> {
    V4::new(1).packet(&icmp4(kind, code, rest, body))
}

/// An ICMPv6 error from the IPv6 node to the IPv4 host.
pub fn error6(kind: u8, code: u8, rest: [u8; 4], body: &[u8]) -> Vec<u8> {
    V6::new(58).packet(&icmp6(node6(), host6(), kind, code, rest, body))
}

/// Bytes 0, 1, 2, ... so that a displaced payload shows.
pub fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| at as u8).collect()
}

/// Checks every checksum of a whole packet the slow way.
#[track_caller]
pub fn assert_checksums(packet: &[u8]) {
    if packet[0] >> 4 == 4 {
        assert_eq!(naive_checksum(&[&packet[..20]]), 0, "IPv4 header checksum");
        let (src, dst) = (v4_at(packet, 12), v4_at(packet, 16));
        let body = &packet[20..];
        let pseudo = match packet[9] {
            1 => Vec::new(),
            protocol => pseudo_v4(src, dst, protocol, body.len()),
        };
        assert_eq!(naive_checksum(&[&pseudo, body]), 0, "transport checksum");
        return;
    }
    let (src, dst) = (v6_at(packet, 8), v6_at(packet, 24));
    let body = &packet[40..];
    let pseudo = pseudo_v6(src, dst, packet[6], body.len());
    assert_eq!(naive_checksum(&[&pseudo, body]), 0, "transport checksum");
}

pub fn v4_at(packet: &[u8], at: usize) -> Ipv4Addr {
    Ipv4Addr::from(<[u8; 4]>::try_from(&packet[at..at + 4]).unwrap())
}

pub fn v6_at(packet: &[u8], at: usize) -> Ipv6Addr {
    Ipv6Addr::from(<[u8; 16]>::try_from(&packet[at..at + 16]).unwrap())
}

pub fn word_at(packet: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([packet[at], packet[at + 1]])
}
