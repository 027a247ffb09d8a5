//! What a packet still says after it crossed there and back: headers of every kind, fragments and
//! unknown protocols, read with `etherparse`, and the sums at which one's complement arithmetic is
//! easy to get wrong, computed from nothing.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod support;

use etherparse::{IpHeaders, IpPayloadSlice, Ipv4Header, Ipv6Header};
use proptest::prelude::*;
use support::*;
use xlat_core::identification::Identifications;
use xlat_core::mappers::Hairpin;
use xlat_core::{Offload, Translator};

/// Translates with hairpins off, so that what came from IPv4 may go back there.
fn cross(packet: &[u8]) -> Vec<u8> {
    let ids = Identifications::new([7, 13], 0, 1);
    let mut translator = Translator::new(siit(Hairpin::Off), policy(), ids).unwrap();
    run_with(&mut translator, packet, Offload::NONE).forwarded()
}

#[track_caller]
fn read(packet: &[u8]) -> (IpHeaders, IpPayloadSlice<'_>) {
    IpHeaders::from_slice(packet).unwrap()
}

#[track_caller]
fn read4(packet: &[u8]) -> (Ipv4Header, Vec<u8>) {
    match read(packet) {
        (IpHeaders::Ipv4(ip, _), payload) => (ip, payload.payload.to_vec()),
        other => panic!("not IPv4: {other:?}"),
    }
}

/// The fixed header, offset, more flag and number of a Fragment header, protocol, payload.
type Read6 = (Ipv6Header, Option<(u16, bool, u32)>, u8, Vec<u8>);

#[track_caller]
fn read6(packet: &[u8]) -> Read6 {
    let (IpHeaders::Ipv6(ip, extensions), payload) = read(packet) else {
        panic!("not IPv6: {packet:x?}");
    };
    let fragment = extensions.fragment.map(|header| {
        let offset = header.fragment_offset.value();
        (offset, header.more_fragments, header.identification)
    });
    (ip, fragment, payload.ip_number.0, payload.payload.to_vec())
}

/// A transport message for one side, and where its checksum stands.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Tcp,
    Udp,
    Echo,
    Reply,
}

const KINDS: [Kind; 4] = [Kind::Tcp, Kind::Udp, Kind::Echo, Kind::Reply];

impl Kind {
    fn protocol4(self) -> u8 {
        [6, 17, 1, 1][self as usize]
    }

    fn protocol6(self) -> u8 {
        [6, 17, 58, 58][self as usize]
    }

    fn checksum_at(self) -> usize {
        [16, 6, 2, 2][self as usize]
    }

    fn sent_by_host4(self, payload: &[u8]) -> Vec<u8> {
        let protocol = self.protocol4();
        match self {
            Self::Tcp => tcp(from_host4(protocol), 0x10, &[1, 1, 1, 0], payload),
            Self::Udp => udp(from_host4(protocol), payload),
            Self::Echo => icmp4(8, 0, [1, 2, 3, 4], payload),
            Self::Reply => icmp4(0, 0, [1, 2, 3, 4], payload),
        }
    }

    fn sent_by_node6(self, payload: &[u8]) -> Vec<u8> {
        let (src, dst) = (node6(), host6());
        match self {
            Self::Tcp => tcp(from_node6(6), 0x10, &[1, 1, 1, 0], payload),
            Self::Udp => udp(from_node6(17), payload),
            Self::Echo => icmp6(src, dst, 128, 0, [1, 2, 3, 4], payload),
            Self::Reply => icmp6(src, dst, 129, 0, [1, 2, 3, 4], payload),
        }
    }

    /// The IPv4 pseudo-header, which ICMP does not have.
    fn pseudo4(self, src: std::net::Ipv4Addr, dst: std::net::Ipv4Addr, len: usize) -> Vec<u8> {
        match self {
            Self::Echo | Self::Reply => Vec::new(),
            Self::Tcp | Self::Udp => pseudo_v4(src, dst, self.protocol4(), len),
        }
    }
}

/// What the checksum field of `body` must be over `pseudo`, summed from nothing.
fn full_checksum(kind: Kind, pseudo: &[u8], body: &[u8]) -> u16 {
    let mut body = body.to_vec();
    body[kind.checksum_at()..kind.checksum_at() + 2].fill(0);
    match (kind, naive_checksum(&[pseudo, &body])) {
        (Kind::Udp, 0) => 0xffff,
        (_, sum) => sum,
    }
}

fn kind() -> impl Strategy<Value = Kind> {
    proptest::sample::select(&KINDS[..])
}

fn bytes(max: usize) -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..=max)
}

/// Options without a source route: padding, Record Route and unknown ones.
fn options() -> impl Strategy<Value = Vec<u8>> {
    let one = prop_oneof![
        Just(vec![1]),
        Just(vec![7, 7, 4, 0, 0, 0, 0]),
        Just(vec![148, 4, 0, 0]),
        (2usize..9).prop_map(|len| [&[30, len as u8][..], &vec![0xee; len - 2]].concat()),
    ];
    proptest::collection::vec(one, 0..4).prop_map(|options| {
        let mut options = options.concat();
        options.resize(options.len().next_multiple_of(4), 0);
        options
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn from_ipv4_and_back_a_packet_keeps_what_the_rfc_keeps(
        kind in kind(), payload in bytes(1400), options in options(), tos: u8, ttl in 3u8..,
        id: u16, df: bool,
    ) {
        let payload = if df { payload } else { payload[..payload.len().min(1216)].to_vec() };
        let body = kind.sent_by_host4(&payload);
        let ip = V4 { tos, ttl, id, flags: if df { DF } else { 0 }, options, ..V4::new(kind.protocol4()) };
        let there = cross(&ip.packet(&body));
        let (six, fragment, protocol, middle) = read6(&there);
        prop_assert_eq!((six.traffic_class, six.flow_label.value()), (tos, 0));
        prop_assert_eq!((six.hop_limit, protocol, fragment), (ttl - 1, kind.protocol6(), None));
        prop_assert_eq!((six.source_addr(), six.destination_addr()), (host6(), node6()));
        prop_assert_eq!(&middle[middle.len() - payload.len()..], &payload[..]);

        let (four, again) = read4(&cross(&there));
        prop_assert_eq!(four.dscp.value() << 2 | four.ecn.value(), tos);
        prop_assert_eq!((four.time_to_live, four.protocol.0), (ttl - 2, kind.protocol4()));
        prop_assert_eq!((four.source, four.destination), (HOST4.octets(), NODE4.octets()));
        // RFC 7915 section 5.1: DF says whether the packet is longer than 1260 bytes.
        prop_assert_eq!(four.dont_fragment, body.len() + 20 > 1260);
        prop_assert!(!four.more_fragments && four.fragment_offset.value() == 0);
        prop_assert_eq!(four.options.len(), 0);
        prop_assert_eq!(four.header_checksum, four.calc_header_checksum());
        prop_assert_eq!(again, body, "the transport, with its checksum, to the bit");
    }

    #[test]
    fn from_ipv6_and_back_a_packet_keeps_what_the_rfc_keeps(
        kind in kind(), payload in bytes(1400), traffic_class: u8, flow_label in 0u32..1 << 20,
        hop_limit in 3u8..,
    ) {
        let body = kind.sent_by_node6(&payload);
        let ip = V6 { traffic_class, flow_label, hop_limit, ..V6::new(kind.protocol6()) };
        let there = cross(&ip.packet(&body));
        let (four, middle) = read4(&there);
        prop_assert_eq!(four.dscp.value() << 2 | four.ecn.value(), traffic_class);
        prop_assert_eq!((four.time_to_live, four.protocol.0), (hop_limit - 1, kind.protocol4()));
        prop_assert_eq!((four.source, four.destination), (NODE4.octets(), HOST4.octets()));
        prop_assert_eq!(four.dont_fragment, body.len() + 20 > 1260);
        prop_assert_eq!(four.header_checksum, four.calc_header_checksum());
        prop_assert_eq!(&middle[middle.len() - payload.len()..], &payload[..]);

        let (six, fragment, protocol, again) = read6(&cross(&there));
        prop_assert_eq!((six.traffic_class, six.flow_label.value()), (traffic_class, 0));
        prop_assert_eq!((six.hop_limit, protocol, fragment), (hop_limit - 2, kind.protocol6(), None));
        prop_assert_eq!((six.source_addr(), six.destination_addr()), (node6(), host6()));
        prop_assert_eq!(again, body, "the transport, with its checksum, to the bit");
    }

    #[test]
    fn fragments_keep_number_place_and_bytes_both_ways(
        protocol in proptest::sample::select(&[6u8, 17, 47, 50, 132][..]), tos: u8, id: u16,
        high: u16, units in 1usize..150, offset in 2u16..8000, more: bool, rest in 0usize..8,
        df: bool, fill: u8,
    ) {
        let len = if more { units * 8 } else { units * 8 + rest };
        let payload: Vec<u8> = (0..len).map(|at| fill.wrapping_add(at as u8)).collect();
        let flags = offset | if more { MF } else { 0 } | if df { DF } else { 0 };
        let there = cross(&V4 { tos, id, flags, ..V4::new(protocol) }.packet(&payload));
        let (_, fragment, next, bytes) = read6(&there);
        prop_assert_eq!(fragment, Some((offset, more, u32::from(id))));
        prop_assert_eq!((next, &bytes), (protocol, &payload));
        let (four, bytes) = read4(&cross(&there));
        prop_assert_eq!((four.identification, four.fragment_offset.value()), (id, offset));
        prop_assert_eq!((four.more_fragments, four.dont_fragment), (more, false));
        prop_assert_eq!(&bytes, &payload);

        let number = u32::from(high) << 16 | u32::from(id);
        let body = [support::fragment(protocol, offset, more, number), payload.clone()].concat();
        let there = cross(&V6::new(44).packet(&body));
        let (four, bytes) = read4(&there);
        prop_assert_eq!((four.identification, four.fragment_offset.value()), (id, offset));
        prop_assert_eq!((four.more_fragments, four.dont_fragment), (more, false));
        prop_assert_eq!(&bytes, &payload);
        let (_, fragment, next, bytes) = read6(&cross(&there));
        prop_assert_eq!(fragment, Some((offset, more, u32::from(id))), "the low half of the number");
        prop_assert_eq!((next, &bytes), (protocol, &payload));
    }

    #[test]
    fn protocols_nobody_knows_cross_untouched(
        protocol in (0u8..=255).prop_filter("has rules of its own", |number| {
            ![0, 1, 2, 6, 17, 43, 44, 58, 60, 51, 135, 139, 140].contains(number)
        }),
        payload in bytes(1200),
    ) {
        let there = cross(&V4::new(protocol).packet(&payload));
        prop_assert_eq!((there[6], &there[40..]), (protocol, &payload[..]));
        let back = cross(&there);
        prop_assert_eq!((back[9], &back[20..]), (protocol, &payload[..]));
    }
}

/// Ends `body` in the two bytes that make its full checksum over `pseudo` come to `wanted`.
fn force(kind: Kind, pseudo: &[u8], body: &mut [u8], wanted: u16) {
    let at = body.len() - 2;
    body[at..].fill(0);
    let field = kind.checksum_at();
    body[field..field + 2].fill(0);
    let sum = u32::from(!naive_checksum(&[pseudo, body]));
    let last = (u32::from(!wanted) + 0xffff - sum) % 0xffff;
    body[at..].copy_from_slice(&(last as u16).to_be_bytes());
}

/// Sums at which one's complement arithmetic is easy to get wrong, and any others.
fn sum() -> impl Strategy<Value = u16> {
    prop_oneof![
        2 => Just(0),
        2 => Just(0xffff),
        1 => Just(1),
        1 => Just(0xfffe),
        4 => any::<u16>(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2048) })]

    #[test]
    fn l4_01_the_changed_checksum_is_the_full_one(
        kind in kind(), half in bytes(90), odd: bool, wanted in sum(), before: bool,
    ) {
        // An even number of bytes ends in the two that force the sum; odd ones are left to chance.
        let mut payload = [&half[..], &half, &[0, 0]].concat();
        if odd {
            payload.push(0x5a);
        }
        let len = kind.sent_by_host4(&payload).len();
        let (four, six) = (
            kind.pseudo4(HOST4, NODE4, len),
            pseudo_v6(host6(), node6(), kind.protocol6(), len),
        );
        let mut body = kind.sent_by_host4(&payload);
        if !odd {
            let request = body[0];
            if let Kind::Echo | Kind::Reply = kind && !before {
                body[0] = if request == 8 { 128 } else { 129 };
            }
            force(kind, if before { &four } else { &six }, &mut body, wanted);
            if let Kind::Echo | Kind::Reply = kind {
                body[0] = request;
            }
        }
        let field = kind.checksum_at();
        let full = full_checksum(kind, &four, &body);
        body[field..field + 2].copy_from_slice(&full.to_be_bytes());
        let there = cross(&V4::new(kind.protocol4()).packet(&body));
        prop_assert_eq!(word_at(&there, 40 + field), full_checksum(kind, &six, &there[40..]));
        let back = cross(&there);
        prop_assert_eq!(word_at(&back, 20 + field), full);
        prop_assert_eq!(&back[20..], &body[..]);
    }
}
