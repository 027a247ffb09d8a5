//! Socket filters (classic BPF): programs by which the kernel picks the messages for a socket.

use std::net::Ipv6Addr;

use pnet_packet::icmpv6::{Icmpv6Type, Icmpv6Types};
use socket2::SockFilter;

use super::HOP_LIMIT;

/// The origin of a message, by its hop limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hops {
    /// 255: it was sent on the link itself.
    Untouched,
    /// Less than 255: a router forwarded it.
    Forwarded,
    /// Any hop limit.
    Any,
}

/// For a raw ICMPv6 socket: passes messages of type `kind` with a hop limit that matches `hops`.
/// Offsets are counted from the ICMPv6 header.
pub(super) fn by_type(kind: Icmpv6Type, hops: Hops) -> Vec<SockFilter> {
    /// Base of offsets that are counted from the IP header (`SKF_NET_OFF`).
    const IP_HEADER: u32 = 0xfff0_0000;

    let mut checks = vec![Check::byte(0, kind.0)];
    match hops {
        Hops::Untouched => checks.push(Check::byte(IP_HEADER + HOPS_AT, HOP_LIMIT)),
        Hops::Forwarded => checks.push(Check::byte(IP_HEADER + HOPS_AT, HOP_LIMIT).fails()),
        Hops::Any => {}
    }
    program(&checks)
}

/// For a raw ICMPv6 socket: passes messages of type `kind` from `source` that no router has
/// forwarded.
pub(super) fn by_source(kind: Icmpv6Type, source: Ipv6Addr) -> Vec<SockFilter> {
    /// Base of offsets that are counted from the IP header (`SKF_NET_OFF`).
    const IP_HEADER: u32 = 0xfff0_0000;
    const SOURCE_AT: u32 = IP_HEADER + 8;

    let mut checks = vec![
        Check::byte(0, kind.0),
        Check::byte(IP_HEADER + HOPS_AT, HOP_LIMIT),
    ];
    let octets = source.octets();
    let words = octets.as_chunks::<4>().0.iter();
    checks.extend(
        (SOURCE_AT..)
            .step_by(4)
            .zip(words)
            .map(|(at, word)| Check::word(at, u32::from_be_bytes(*word))),
    );
    program(&checks)
}

/// For a packet socket that receives IPv6 packets: passes neighbour solicitations for `target` that
/// are addressed to this host, and that no router has forwarded. Offsets are counted from the IPv6
/// header.
pub(super) fn solicitations(target: Ipv6Addr) -> Vec<SockFilter> {
    const MESSAGE_AT: u32 = 40;
    const TARGET_AT: u32 = MESSAGE_AT + 8;
    const ICMPV6: u8 = 58;

    // Nearly all packets fail the first check.
    let mut checks = vec![
        Check::byte(NEXT_HEADER_AT, ICMPV6),
        Check::byte(MESSAGE_AT, Icmpv6Types::NeighborSolicit.0),
        Check::byte(HOPS_AT, HOP_LIMIT),
        Check::word(PACKET_TYPE, FOR_OTHERS).fails(),
    ];
    let octets = target.octets();
    let words = octets.as_chunks::<4>().0.iter();
    checks.extend(
        (TARGET_AT..)
            .step_by(4)
            .zip(words)
            .map(|(at, word)| Check::word(at, u32::from_be_bytes(*word))),
    );
    program(&checks)
}

/// For a packet socket that receives IPv6 packets: passes UDP datagrams between these ports that are
/// addressed to this host. Offsets are counted from the IPv6 header.
pub(super) fn responses(from_port: u16, to_port: u16) -> Vec<SockFilter> {
    const PORTS_AT: u32 = 40;
    const UDP: u8 = 17;

    let ports = u32::from(from_port) << 16 | u32::from(to_port);
    program(&[
        Check::byte(NEXT_HEADER_AT, UDP),
        Check::word(PORTS_AT, ports),
        Check::word(PACKET_TYPE, FOR_OTHERS).fails(),
    ])
}

/// For a socket that only sends.
pub(super) fn nothing() -> [SockFilter; 1] {
    [SockFilter::new(RETURN, 0, 0, 0)]
}

const RETURN: u16 = 0x06;

/// Offset that stands for the kind of packet (`SKF_AD_OFF + SKF_AD_PKTTYPE`).
const PACKET_TYPE: u32 = 0xffff_f000 + 4;
/// To another host (`PACKET_OTHERHOST`), as promiscuous interfaces receive.
const FOR_OTHERS: u32 = 3;
/// Offset of the next header in an IPv6 header.
const NEXT_HEADER_AT: u32 = 6;

/// Offset of the hop limit in an IPv6 header.
const HOPS_AT: u32 = 7;

/// A comparison of a value in the packet.
#[derive(Clone, Copy)]
struct Check {
    load: u16,
    at: u32,
    value: u32,
    is_equal: bool,
}

impl Check {
    /// Passes if the byte at this offset has this value.
    fn byte(at: u32, value: impl Into<u32>) -> Self {
        const LOAD_BYTE: u16 = 0x30;
        Self::new(LOAD_BYTE, at, value.into())
    }

    /// Passes if the four bytes at this offset have this value.
    fn word(at: u32, value: u32) -> Self {
        const LOAD_WORD: u16 = 0x20;
        Self::new(LOAD_WORD, at, value)
    }

    fn new(load: u16, at: u32, value: u32) -> Self {
        Self {
            load,
            at,
            value,
            is_equal: true,
        }
    }

    /// Passes if the value is another one.
    fn fails(self) -> Self {
        Self {
            is_equal: !self.is_equal,
            ..self
        }
    }
}

/// The program that passes what passes all `checks`.
fn program(checks: &[Check]) -> Vec<SockFilter> {
    const JUMP_IF_EQUAL: u16 = 0x15;

    let mut program = Vec::new();
    for (number, check) in checks.iter().enumerate() {
        // Jumps over the remaining checks and the acceptance.
        let reject = (2 * (checks.len() - number - 1) + 1) as u8;
        let (equal, other) = match check.is_equal {
            true => (0, reject),
            false => (reject, 0),
        };
        program.push(SockFilter::new(check.load, 0, 0, check.at));
        program.push(SockFilter::new(JUMP_IF_EQUAL, equal, other, check.value));
    }
    program.push(SockFilter::new(RETURN, 0, 0, u32::MAX));
    program.push(SockFilter::new(RETURN, 0, 0, 0));
    program
}
