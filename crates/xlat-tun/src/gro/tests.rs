//! Packets are made, and super-packets cut again, with another encoder (`etherparse`).

use std::convert::Infallible;

use etherparse::{
    IpEcn, IpNumber, Ipv4Header, Ipv6Header, NetHeaders, PacketHeaders, TcpHeader, TransportHeader,
    UdpHeader,
};
use proptest::prelude::*;

use super::*;

/// What may be said about a packet; the defaults make a bulk flow.
#[derive(Clone, Debug)]
struct Spec {
    v6: bool,
    tcp: bool,
    /// Tells flows apart.
    port: u16,
    ttl: u8,
    congested: bool,
    /// IPv4 identification, IPv6 flow label.
    id: u16,
    dont_fragment: bool,
    sequence: u32,
    window: u16,
    push: bool,
    fin: bool,
    timestamp: Option<u32>,
    payload: usize,
    checksum: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Whole,
    Wrong,
    Absent,
    Verified,
    Partial,
}

const UDP: Spec = Spec {
    v6: false,
    tcp: false,
    port: 5000,
    ttl: 63,
    congested: false,
    id: 7,
    dont_fragment: false,
    sequence: 1000,
    window: 500,
    push: false,
    fin: false,
    timestamp: None,
    payload: 100,
    checksum: State::Whole,
};
const UDP6: Spec = Spec { v6: true, ..UDP };
const TCP: Spec = Spec { tcp: true, ..UDP };
const TCP6: Spec = Spec { v6: true, ..TCP };

#[test]
fn packets_of_one_flow_leave_as_one() {
    for first in [UDP, UDP6, TCP, TCP6] {
        let flow = continued(&first, 10);
        let written = coalesce(&flow);
        assert_eq!(written.len(), 1, "{first:?}");
        assert_eq!(cut(&written), wire(&flow));
    }
}

#[test]
fn a_joined_packet_has_the_bytes_that_the_kernel_wants() {
    let second = Spec {
        id: 8,
        payload: 60,
        ..UDP
    };
    let [(packet, offload)] = &coalesce(&[UDP, second])[..] else {
        panic!("one packet");
    };
    assert_eq!(packet.len(), 20 + 8 + 160);
    // Total length 188, identification 7, TTL 63, UDP, header sum, 192.0.2.1 to 198.51.100.2.
    let ip = [
        0x45, 0, 0, 188, 0, 7, 0, 0, 63, 17, 0x8e, 0xf3, 192, 0, 2, 1, 198, 51, 100, 2,
    ];
    assert_eq!(packet[..20], ip);
    // Ports, length 168, and the sum of the pseudo-header: 0xc000 + 0x0201 + 0xc633 + 0x6402 + 17
    // + 168 = 0x1ecef, folded.
    assert_eq!(packet[20..28], [0x13, 0x88, 0x13, 0x88, 0, 168, 0xec, 0xf0]);
    let partial = PartialChecksum {
        start: 20,
        offset: 6,
    };
    let gso = Gso {
        kind: GsoKind::Udp,
        size: 100,
        ecn: false,
    };
    let expected = Offload {
        checksum: Checksum::Partial(partial),
        gso: Some(gso),
    };
    assert_eq!(*offload, expected);
}

#[test]
fn a_packet_that_nothing_follows_leaves_as_it_came() {
    for spec in [UDP, UDP6, TCP, TCP6] {
        for checksum in [State::Whole, State::Wrong, State::Verified, State::Partial] {
            let spec = Spec {
                checksum,
                ..spec.clone()
            };
            assert_eq!(
                coalesce(std::slice::from_ref(&spec)),
                [build(&spec)],
                "{spec:?}"
            );
        }
    }
}

#[test]
fn a_shorter_packet_is_the_last_of_its_super_packet() {
    let short = Spec {
        id: 8,
        payload: 40,
        ..UDP
    };
    let after = Spec {
        id: 9,
        payload: 40,
        ..UDP
    };
    not_joined(&[UDP, short, after], &[2, 1]);
}

#[test]
fn a_longer_packet_begins_a_new_super_packet() {
    let long = Spec {
        id: 8,
        payload: 101,
        ..UDP
    };
    let after = Spec {
        id: 9,
        payload: 101,
        ..UDP
    };
    not_joined(&[UDP, long, after], &[1, 2]);
}

#[test]
fn differences_between_packets_keep_them_apart() {
    let next = continued(&UDP, 2)[1].clone();
    for other in [
        Spec {
            ttl: 62,
            ..next.clone()
        },
        Spec {
            congested: true,
            ..next.clone()
        },
        Spec {
            id: 9,
            ..next.clone()
        },
        Spec {
            dont_fragment: true,
            ..next.clone()
        },
        Spec {
            checksum: State::Wrong,
            ..next.clone()
        },
        Spec {
            checksum: State::Absent,
            ..next.clone()
        },
        Spec {
            payload: 0,
            ..next.clone()
        },
    ] {
        not_joined(&[UDP, other], &[1, 1]);
    }
    let wrong = Spec {
        checksum: State::Wrong,
        ..UDP
    };
    not_joined(&[wrong, next], &[1, 1]);
    let label = Spec { id: 9, ..UDP6 };
    not_joined(&[UDP6, label], &[1, 1]);
}

#[test]
fn differences_between_tcp_segments_keep_them_apart() {
    let next = continued(&TCP, 2)[1].clone();
    for other in [
        Spec {
            sequence: next.sequence + 1,
            ..next.clone()
        },
        Spec {
            sequence: TCP.sequence,
            ..next.clone()
        },
        Spec {
            window: 501,
            ..next.clone()
        },
        Spec {
            timestamp: Some(1),
            ..next.clone()
        },
        Spec {
            fin: true,
            ..next.clone()
        },
        Spec {
            payload: 0,
            ..next.clone()
        },
    ] {
        not_joined(&[TCP, other], &[1, 1]);
    }
    let stamped = |timestamp| Spec {
        timestamp: Some(timestamp),
        ..TCP
    };
    let later = Spec {
        sequence: next.sequence,
        id: next.id,
        ..stamped(2)
    };
    not_joined(&[stamped(1), later], &[1, 1]);
}

#[test]
fn no_header_field_of_a_tcp_segment_is_lost() {
    const TOS: usize = 1;
    let edits: &[(&str, usize, u8)] = &[
        ("ACK number", 20 + 11, 1),
        ("reserved bits", 20 + 12, 0x02),
        ("FIN", 20 + 13, 0x01),
        ("SYN", 20 + 13, 0x02),
        ("RST", 20 + 13, 0x04),
        ("no ACK", 20 + 13, 0x10),
        ("URG", 20 + 13, 0x20),
        ("ECE", 20 + 13, 0x40),
        ("CWR", 20 + 13, 0x80),
        ("urgent pointer", 20 + 19, 1),
        ("DSCP", TOS, 0x28),
        ("ECN", TOS, 0x01),
        ("TTL", 8, 1),
        ("evil bit", 6, 0x80),
    ];
    for (what, at, bits) in edits {
        apart(&TCP, what, *at, *bits);
    }
    for (what, at, bits) in [
        ("traffic class", 0, 0x01),
        ("ECN", 1, 0x10),
        ("flow label", 3, 0x01),
        ("hop limit", 7, 0x01),
        ("CWR", 40 + 13, 0x80),
        ("urgent pointer", 40 + 19, 1),
    ] {
        apart(&TCP6, what, at, bits);
    }
}

#[test]
fn options_and_extension_headers_keep_packets_apart() {
    // IPv4 options: one word of padding behind the fixed header.
    let with_options = |spec: &Spec| {
        let (mut packet, offload) = build(spec);
        packet.splice(20..20, [1, 1, 1, 0]);
        packet[0] = 0x46;
        packet[3] += 4;
        packet[10..12].fill(0);
        let sum = checksum_by_hand(&packet[..24]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        (packet, offload)
    };
    // Destination options with padding behind the fixed header.
    let with_extension = |spec: &Spec| {
        let (mut packet, offload) = build(spec);
        let protocol = packet[6];
        packet.splice(40..40, [protocol, 0, 1, 4, 0, 0, 0, 0]);
        packet[6] = 60;
        packet[5] += 8;
        (packet, offload)
    };
    for first in [UDP, TCP] {
        let packets: Vec<_> = continued(&first, 3).iter().map(with_options).collect();
        assert_eq!(push_all(packets.clone()), packets);
    }
    for first in [UDP6, TCP6] {
        let packets: Vec<_> = continued(&first, 3).iter().map(with_extension).collect();
        assert_eq!(push_all(packets.clone()), packets);
    }
}

#[test]
fn a_push_ends_a_super_packet_and_stays_on_its_last_segment() {
    let mut flow = continued(&TCP, 4);
    flow[2].push = true;
    not_joined(&flow, &[3, 1]);
    not_joined(
        &[Spec { push: true, ..TCP }, continued(&TCP, 2)[1].clone()],
        &[1, 1],
    );
}

#[test]
fn the_identification_of_a_packet_that_must_not_be_fragmented_means_nothing() {
    let first = Spec {
        dont_fragment: true,
        id: 0,
        ..UDP
    };
    assert_eq!(coalesce(&[first.clone(), first]).len(), 1);
}

#[test]
fn flows_are_joined_side_by_side() {
    let flows: Vec<_> = (0..16)
        .map(|port| continued(&Spec { port, ..UDP }, 5))
        .collect();
    let mixed: Vec<_> = (0..5)
        .flat_map(|at| flows.iter().map(move |flow| flow[at].clone()))
        .collect();
    assert_eq!(coalesce(&mixed).len(), 16);
}

#[test]
fn more_flows_than_lanes_lose_nothing() {
    let mixed: Vec<_> = (0..40_u16)
        .map(|number| Spec {
            port: number % 20,
            id: number,
            ..UDP
        })
        .collect();
    let written = coalesce(&mixed);
    assert_eq!(written.len(), 40);
}

#[test]
fn a_super_packet_has_no_more_than_64_packets() {
    let written = coalesce(&continued(&UDP, 130));
    let lengths: Vec<_> = written.iter().map(|(packet, _)| packet.len()).collect();
    assert_eq!(lengths, [28 + 6400, 28 + 6400, 28 + 200]);
}

#[test]
fn a_super_packet_is_no_longer_than_an_ipv4_header_can_say() {
    let long = Spec {
        payload: 1472,
        ..UDP
    };
    let flow = continued(&long, 64);
    let written = coalesce(&flow);
    assert_eq!(written[0].0.len(), 28 + 44 * 1472);
    assert_eq!(cut(&written), wire(&flow));
}

#[test]
fn a_fragment_lets_everything_before_it_go_first() {
    let mut fragment = build(&Spec { port: 9, ..UDP });
    fragment.0[6] |= 0x20;
    let packets = [build(&UDP), build(&TCP6), fragment.clone()].to_vec();
    assert_eq!(push_all(packets)[2], fragment);
}

#[test]
fn a_kernel_without_an_offload_gets_no_super_packets_of_it() {
    let joined = |offloads, first: &Spec| {
        let mut coalescer = Coalescer::new(offloads);
        let packets = continued(first, 4).iter().map(build).collect();
        push_through(&mut coalescer, packets).len() == 1
    };
    assert!(joined(Offloads::ALL, &UDP) && joined(Offloads::ALL, &TCP));
    assert!(!joined(Offloads::CHECKSUM, &UDP) && joined(Offloads::CHECKSUM, &TCP));
    assert!(!joined(Offloads::NONE, &UDP) && !joined(Offloads::NONE, &TCP));
}

proptest! {
    #[test]
    fn cutting_gives_back_the_same_packets_in_the_same_order(stream in stream()) {
        let written = coalesce(&stream);
        let (cut, wire) = (cut(&written), wire(&stream));
        prop_assert_eq!(cut.len(), wire.len());
        for port in 0..3 {
            prop_assert_eq!(of_flow(&cut, port), of_flow(&wire, port));
        }
    }

    #[test]
    fn no_bytes_make_it_panic_or_lose_a_packet(
        packets in prop::collection::vec(garbage(), 0..20)
    ) {
        let packets: Vec<_> = packets.into_iter().map(|p| (p, Offload::NONE)).collect();
        let count = packets.len();
        let mut coalescer = Coalescer::new(Offloads::ALL);
        let written = push_through(&mut coalescer, packets);
        prop_assert_eq!(written.len() + coalescer.take_joined() as usize, count);
    }
}

/// `count` packets of a flow that begins with `first`.
fn continued(first: &Spec, count: u16) -> Vec<Spec> {
    let next = |number: u16| Spec {
        id: if first.v6 {
            first.id
        } else {
            first.id + number
        },
        sequence: first.sequence + u32::from(number) * first.payload as u32,
        ..first.clone()
    };
    (0..count).map(next).collect()
}

/// Flows that mostly go on, with everything that may come in between.
fn stream() -> impl Strategy<Value = Vec<Spec>> {
    let seldom = || prop::bool::weighted(0.04);
    let packet = (
        0..3_u16,
        prop_oneof![8 => Just(50_usize), 1 => 0..80_usize],
        (
            seldom(),
            seldom(),
            seldom(),
            seldom(),
            seldom(),
            seldom(),
            seldom(),
        ),
        prop_oneof![
            20 => Just(State::Whole),
            8 => Just(State::Partial),
            8 => Just(State::Verified),
            1 => Just(State::Wrong),
            1 => Just(State::Absent)
        ],
    );
    let flows = prop::collection::vec((any::<bool>(), any::<bool>()), 3);
    (flows, prop::collection::vec(packet, 0..120)).prop_map(|(kinds, packets)| {
        let mut flows: Vec<Spec> = kinds
            .iter()
            .zip(0..)
            .map(|((v6, tcp), port)| Spec {
                v6: *v6,
                tcp: *tcp,
                port,
                ..UDP
            })
            .collect();
        let mut stream = Vec::new();
        for (port, payload, odd, checksum) in packets {
            let (ttl, congested, id, gap, window, push, fin) = odd;
            let flow = &mut flows[usize::from(port)];
            flow.id = flow.id.wrapping_add(if flow.v6 {
                id.into()
            } else {
                1 + u16::from(id)
            });
            flow.sequence = flow.sequence.wrapping_add(gap.into());
            stream.push(Spec {
                ttl: 63 - u8::from(ttl),
                congested,
                window: 500 + u16::from(window),
                push,
                fin,
                payload,
                checksum,
                ..flow.clone()
            });
            flow.sequence = flow.sequence.wrapping_add(payload as u32);
        }
        stream
    })
}

/// Bytes that look like the beginning of a packet often enough.
fn garbage() -> impl Strategy<Value = Vec<u8>> {
    let any_bytes = prop::collection::vec(any::<u8>(), 0..80);
    let spec = prop_oneof![Just(UDP), Just(UDP6), Just(TCP), Just(TCP6)];
    let damaged = (spec, any::<(prop::sample::Index, u8)>(), 0..120_usize).prop_map(
        |(spec, (at, byte), cut)| {
            let (mut packet, _) = build(&spec);
            let at = at.index(packet.len());
            packet[at] = byte;
            packet.truncate(packet.len() - cut.min(packet.len()));
            packet
        },
    );
    prop_oneof![any_bytes, damaged]
}

type Packet = (Vec<u8>, Offload);

fn coalesce(stream: &[Spec]) -> Vec<Packet> {
    push_all(stream.iter().map(build).collect())
}

fn push_all(packets: Vec<Packet>) -> Vec<Packet> {
    push_through(&mut Coalescer::new(Offloads::ALL), packets)
}

fn push_through(coalescer: &mut Coalescer, packets: Vec<Packet>) -> Vec<Packet> {
    let mut written = Vec::new();
    let mut write = |frame: &mut Frame<'_>, count| {
        let packet = (frame.packet().to_vec(), frame.offload);
        assert_eq!(cut_one(&packet).len(), usize::from(count));
        written.push(packet);
        Ok::<_, Infallible>(())
    };
    let mut slot = Slot::new();
    for (packet, offload) in packets {
        // Each at another place, with old bytes around it.
        let start = 128 + packet.len() % 40;
        slot.0[..4096].fill(0xa5);
        slot.0[start..start + packet.len()].copy_from_slice(&packet);
        let span = PacketSpan {
            start,
            len: packet.len(),
            offload,
        };
        let Ok(()) = coalescer.push(&mut slot, span, &mut write);
    }
    let Ok(()) = coalescer.flush(&mut write);
    written
}

/// The stream comes out in super-packets of so many packets, and the same when they are cut.
#[track_caller]
fn not_joined(stream: &[Spec], expected: &[usize]) {
    let written = coalesce(stream);
    let counts: Vec<_> = written.iter().map(|packet| cut_one(packet).len()).collect();
    assert_eq!(counts, expected, "{stream:?}");
    assert_eq!(cut(&written), wire(stream));
}

/// The second packet of a flow leaves on its own, as it came, if these bits of it are different.
#[track_caller]
fn apart(first: &Spec, what: &str, at: usize, bits: u8) {
    let flow = continued(first, 3);
    let packets: Vec<_> = flow.iter().map(build).collect();
    assert_eq!(push_all(packets.clone()).len(), 1, "the flow is joined");
    let mut packets = packets;
    let packet = &mut packets[1].0;
    packet[at] ^= bits;
    // All that is checked stays right, so that nothing but the difference keeps them apart.
    let ip = if first.v6 { 40 } else { 20 };
    if !first.v6 {
        packet[10..12].fill(0);
        let sum = checksum_by_hand(&packet[..20]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
    }
    let addresses = if first.v6 { 8..40 } else { 12..20 };
    let length = ((packet.len() - ip) as u16).to_be_bytes();
    packet[ip + 16..ip + 18].fill(0);
    let covered = [&packet[addresses], &[0, 6], &length, &packet[ip..]].concat();
    let sum = checksum_by_hand(&covered).to_be_bytes();
    packet[ip + 16..ip + 18].copy_from_slice(&sum);
    assert_eq!(push_all(packets.clone()), packets, "{what}");
}

/// RFC 1071, word by word.
fn checksum_by_hand(bytes: &[u8]) -> u16 {
    let mut sum: u32 = 0;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn of_flow(packets: &[Vec<u8>], port: u16) -> Vec<&Vec<u8>> {
    let has_port = |packet: &&Vec<u8>| {
        let ip = if packet[0] >> 4 == 4 { 20 } else { 40 };
        packet[ip + 2..ip + 4] == port.to_be_bytes()
    };
    packets.iter().filter(has_port).collect()
}

/// The packets as they would be on the wire: with whole checksums.
fn wire(stream: &[Spec]) -> Vec<Vec<u8>> {
    let complete = |spec: &Spec| match spec.checksum {
        State::Wrong | State::Absent => build(spec).0,
        _ => {
            build(&Spec {
                checksum: State::Whole,
                ..spec.clone()
            })
            .0
        }
    };
    stream.iter().map(complete).collect()
}

fn build(spec: &Spec) -> Packet {
    let payload: Vec<u8> = (0..spec.payload)
        .map(|at| (at as u32).wrapping_add(spec.sequence).wrapping_mul(31) as u8)
        .collect();
    let protocol = if spec.tcp {
        IpNumber::TCP
    } else {
        IpNumber::UDP
    };
    let transport = if spec.tcp {
        let mut tcp = TcpHeader::new(5000, spec.port, spec.sequence, spec.window);
        tcp.ack = true;
        tcp.acknowledgment_number = 77;
        tcp.psh = spec.push;
        tcp.fin = spec.fin;
        if let Some(timestamp) = spec.timestamp {
            let option = etherparse::TcpOptionElement::Timestamp(timestamp, 5);
            tcp.set_options(&[option]).expect("fits");
        }
        TransportHeader::Tcp(tcp)
    } else {
        TransportHeader::Udp(UdpHeader {
            source_port: 5000,
            destination_port: spec.port,
            length: (8 + payload.len()) as u16,
            checksum: 0,
        })
    };
    let length = transport.header_len() + payload.len();
    let ecn = if spec.congested {
        IpEcn::CongestionExperienced
    } else {
        IpEcn::NotEct
    };
    let net = if spec.v6 {
        NetHeaders::Ipv6(
            Ipv6Header {
                traffic_class: ecn.value(),
                flow_label: u32::from(spec.id).try_into().expect("20 bits"),
                payload_length: length as u16,
                next_header: protocol,
                hop_limit: spec.ttl,
                source: [0x20; 16],
                destination: [0x26; 16],
            },
            Default::default(),
        )
    } else {
        let mut ip = Ipv4Header::new(
            length as u16,
            spec.ttl,
            protocol,
            [192, 0, 2, 1],
            [198, 51, 100, 2],
        )
        .expect("fits");
        ip.dont_fragment = spec.dont_fragment;
        ip.identification = spec.id;
        ip.ecn = ecn;
        NetHeaders::Ipv4(ip, Default::default())
    };
    let mut packet = encode(net, transport, &payload);
    let offload = set_checksum(&mut packet, spec);
    (packet, offload)
}

/// Brings the checksum of a whole packet into the state that `spec` wants.
fn set_checksum(packet: &mut [u8], spec: &Spec) -> Offload {
    let ip = if spec.v6 { 40 } else { 20 };
    let offset = if spec.tcp { 16 } else { 6 };
    let field = ip + offset..ip + offset + 2;
    let checksum = match spec.checksum {
        State::Whole => Checksum::Whole,
        State::Verified => Checksum::Verified,
        State::Wrong => {
            packet[field.start] ^= 0x55;
            Checksum::Whole
        }
        State::Absent if spec.tcp => Checksum::Whole,
        State::Absent => {
            packet[field].fill(0);
            Checksum::Whole
        }
        State::Partial => {
            let addresses = if spec.v6 { 8..40 } else { 12..20 };
            let protocol = if spec.tcp { 6 } else { 17 };
            let mut sum = protocol + (packet.len() - ip) as u32;
            for pair in packet[addresses].chunks(2) {
                sum += u32::from(u16::from_be_bytes([pair[0], pair[1]]));
            }
            let folded = (sum & 0xffff) + (sum >> 16);
            let folded = (folded & 0xffff) + (folded >> 16);
            packet[field].copy_from_slice(&(folded as u16).to_be_bytes());
            Checksum::Partial(PartialChecksum {
                start: ip as u16,
                offset: offset as u16,
            })
        }
    };
    Offload {
        checksum,
        gso: None,
    }
}

/// Cuts every super-packet and completes every checksum, as the kernel would.
fn cut(written: &[Packet]) -> Vec<Vec<u8>> {
    written.iter().flat_map(cut_one).collect()
}

fn cut_one((packet, offload): &Packet) -> Vec<Vec<u8>> {
    if offload.gso.is_none() && !offload.is_partial() {
        return vec![packet.clone()];
    }
    let parsed = PacketHeaders::from_ip_slice(packet).expect("a good packet");
    let payload = parsed.payload.slice();
    let size = offload.gso.map_or(payload.len(), |gso| gso.size.into());
    let pieces: Vec<_> = match payload {
        [] => vec![payload],
        _ => payload.chunks(size).collect(),
    };
    let last = pieces.len() - 1;
    let mut packets = Vec::new();
    for (number, piece) in pieces.into_iter().enumerate() {
        let mut transport = parsed.transport.clone().expect("TCP or UDP");
        match &mut transport {
            TransportHeader::Udp(udp) => udp.length = (8 + piece.len()) as u16,
            TransportHeader::Tcp(tcp) => {
                tcp.sequence_number = tcp.sequence_number.wrapping_add((number * size) as u32);
                tcp.psh &= number == last;
            }
            other => panic!("{other:?}"),
        }
        let length = transport.header_len() + piece.len();
        let mut net = parsed.net.clone().expect("IP");
        match &mut net {
            NetHeaders::Ipv4(ip, _) => {
                ip.set_payload_len(length).expect("fits");
                ip.identification = ip.identification.wrapping_add(number as u16);
            }
            NetHeaders::Ipv6(ip, _) => ip.payload_length = length as u16,
            other => panic!("{other:?}"),
        }
        packets.push(encode(net, transport, piece));
    }
    packets
}

/// Writes a packet with all its checksums.
fn encode(net: NetHeaders, mut transport: TransportHeader, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    match &net {
        NetHeaders::Ipv4(ip, _) => {
            transport.update_checksum_ipv4(ip, payload).expect("fits");
            ip.write(&mut bytes).expect("to memory");
        }
        NetHeaders::Ipv6(ip, _) => {
            transport.update_checksum_ipv6(ip, payload).expect("fits");
            ip.write(&mut bytes).expect("to memory");
        }
        other => panic!("{other:?}"),
    }
    transport.write(&mut bytes).expect("to memory");
    bytes.extend_from_slice(payload);
    bytes
}
