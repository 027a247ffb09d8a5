//! Fragments through the translator with the stateful mapper: any order, both directions, whole
//! packets (NF of the requirements).
#![allow(clippy::unwrap_used)]

mod world;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use world::{World, embed, sock4, sock6};
use xlat_core::frame::{HEADROOM, TAILROOM};
use xlat_core::identification::Identifications;
use xlat_core::{DropReason, Frame, Instant, Offload, Policy, Translator, Verdict};

const CLIENT: &str = "[2001:db8::7]:5000";
const SERVER: &str = "198.51.100.7:53";
const UDP: u8 = 17;

/// All orders of three.
const ORDERS: [[usize; 3]; 6] = [
    [0, 1, 2],
    [0, 2, 1],
    [1, 0, 2],
    [1, 2, 0],
    [2, 0, 1],
    [2, 1, 0],
];

#[test]
fn nf_01_fragments_cross_to_ipv4_in_any_order() {
    for order in ORDERS {
        let mut lab = Lab::new();
        let pieces = datagram(5000, 53);
        let sent: Vec<Vec<u8>> = order
            .iter()
            .map(|&number| v6_piece(CLIENT, SERVER, 0x0123_4567, number, &pieces))
            .collect();
        let got = lab.pass(&sent);
        assert_eq!(got.len(), 3, "{order:?}");
        let id = &got[0][4..6];
        let mut whole = vec![0; pieces.concat().len()];
        for packet in &got {
            assert_eq!(
                (packet[0], packet[9], &packet[4..6]),
                (0x45, UDP, id),
                "{order:?}"
            );
            assert_eq!(packet[12..20], [192, 0, 2, 1, 198, 51, 100, 7]);
            let place = u16::from_be_bytes([packet[6], packet[7]]);
            let start = usize::from(place & 0x1fff) * 8;
            whole[start..start + packet.len() - 20].copy_from_slice(&packet[20..]);
        }
        // The datagram with its new ports; its checksum covers the other pseudo-header now.
        assert_eq!(whole[..4], [0x0f, 0xa0, 0, 53], "{order:?}");
        assert_eq!(whole[8..], pieces.concat()[8..], "{order:?}");
        assert_eq!(
            v4_udp_sum(&whole, [192, 0, 2, 1], [198, 51, 100, 7]),
            0xffff
        );
    }
}

#[test]
fn nf_01_fragments_cross_to_ipv6_in_any_order() {
    for order in ORDERS {
        let mut lab = Lab::new();
        lab.open(CLIENT);
        let pieces = datagram(53, 4000);
        let sent: Vec<Vec<u8>> = order
            .iter()
            .map(|&number| v4_piece(SERVER, "192.0.2.1:0", 77, number, &pieces))
            .collect();
        let got = lab.pass(&sent);
        assert_eq!(got.len(), 3, "{order:?}");
        let mut whole = vec![0; pieces.concat().len()];
        for packet in &got {
            assert_eq!(
                (packet[0] >> 4, packet[6], packet[40]),
                (6, 44, UDP),
                "{order:?}"
            );
            assert_eq!(packet[8..24], embed(sock4(SERVER)).ip().octets());
            assert_eq!(packet[24..40], sock6(CLIENT).ip().octets());
            assert_eq!(packet[44..48], [0, 0, 0, 77]);
            let start = usize::from(u16::from_be_bytes([packet[42], packet[43]]) & 0xfff8);
            whole[start..start + packet.len() - 48].copy_from_slice(&packet[48..]);
        }
        assert_eq!(whole[..4], [0, 53, 0x13, 0x88], "{order:?}");
        assert_eq!(whole[8..], pieces.concat()[8..], "{order:?}");
    }
}

#[test]
fn nf_05_a_fragmented_ping_and_its_reply_cross_in_any_order() {
    for order in [[0, 1, 2], [2, 0, 1], [1, 2, 0]] {
        let mut lab = Lab::new();
        let pieces = echo(128, 77, &PSEUDO6);
        let sent = order.map(|number| v6_piece_of(58, CLIENT, SERVER, 7, number, &pieces));
        let out = lab.pass(&sent);
        assert_eq!(
            (out.len(), lab.held, lab.dropped.len()),
            (1, 3, 0),
            "{order:?}"
        );
        let [request] = out.try_into().unwrap();
        assert_eq!(request[9], 1);
        // It can be cut again: DF is 0.
        assert_eq!(request[6..8], [0, 0]);
        assert_eq!(sum(&[&request[..20]]), 0xffff);
        assert_eq!(sum(&[&request[20..]]), 0xffff);
        assert_eq!(request[20..22], [8, 0]);
        assert_eq!(request[26..], pieces.concat()[6..]);
        let id = u16::from_be_bytes([request[24], request[25]]);

        let back = echo(0, id, &[]);
        let sent = order.map(|number| v4_piece_of(1, SERVER, "192.0.2.1:0", 9, number, &back));
        let out = lab.pass(&sent);
        let [reply] = out.try_into().unwrap();
        assert_eq!((reply[6], reply[40]), (58, 129));
        let len = (reply.len() - 40) as u8;
        assert_eq!(
            sum(&[&reply[8..40], &[0, 58, 0, len], &reply[40..]]),
            0xffff
        );
        assert_eq!(reply[44..46], 77_u16.to_be_bytes());
        assert_eq!(reply[46..], back.concat()[6..]);
    }
}

#[test]
fn nf_05_a_message_with_a_missing_or_overlapping_piece_never_crosses() {
    let mut lab = Lab::new();
    let pieces = echo(128, 77, &PSEUDO6);
    let piece = |number| v6_piece_of(58, CLIENT, SERVER, 7, number, &pieces);
    assert!(lab.pass(&[piece(0), piece(2)]).is_empty());
    lab.now = lab.now + Duration::from_secs(3);
    assert!(lab.pass(&[piece(1)]).is_empty());
    let longer = [
        [pieces[0].clone(), vec![0; 8]].concat(),
        pieces[1].clone(),
        pieces[2].clone(),
    ];
    let overlap = v6_piece_of(58, CLIENT, SERVER, 8, 0, &longer);
    let other = |number| v6_piece_of(58, CLIENT, SERVER, 8, number, &pieces);
    assert!(
        lab.pass(&[other(1), overlap, other(0), other(2)])
            .is_empty()
    );
}

#[test]
fn nf_02_a_first_fragment_may_come_almost_two_seconds_late() {
    for (wait_ms, expected) in [(1900, 2), (2300, 1)] {
        let mut lab = Lab::new();
        let pieces = datagram(5000, 53);
        let late = v6_piece(CLIENT, SERVER, 9, 0, &pieces);
        assert!(
            lab.pass(&[v6_piece(CLIENT, SERVER, 9, 1, &pieces)])
                .is_empty()
        );
        lab.now = Instant::from_nanos(lab.now.as_nanos() + wait_ms * 1_000_000);
        assert_eq!(lab.pass(&[late]).len(), expected, "{wait_ms}");
    }
}

#[test]
fn nf_06_clients_with_equal_identifications_are_told_apart() {
    let mut lab = Lab::new();
    let pieces = datagram(5000, 53);
    let clients = ["[2001:db8::1]:5000", "[2001:db8::2]:5000"];
    let ids: Vec<Vec<u8>> = clients
        .iter()
        .map(|client| {
            let sent =
                [0, 1, 2].map(|number| v6_piece(client, SERVER, 0x0042_0042, number, &pieces));
            let got = lab.pass(&sent);
            assert_eq!(got.len(), 3);
            assert!(got.iter().all(|packet| packet[4..6] == got[0][4..6]));
            got[0][4..6].to_vec()
        })
        .collect();
    assert_ne!(ids[0], ids[1]);
}

#[test]
fn a_refused_first_fragment_takes_the_others_along() {
    let mut lab = Lab::new();
    let pieces = datagram(53, 4000);
    // Nothing is bound to the port.
    let sent = [1, 0, 2].map(|number| v4_piece(SERVER, "192.0.2.1:0", 77, number, &pieces));
    assert!(lab.pass(&sent).is_empty());
    // The held one is counted when it goes.
    assert_eq!((lab.held, lab.dropped.len()), (1, 3));
    assert_eq!(lab.dropped.pop(), Some(DropReason::FragmentRefused));
}

#[test]
fn fragments_that_could_never_pass_are_not_held() {
    let mut lab = Lab::new();
    let pieces = datagram(5000, 53);
    for (packet, reason) in [
        (
            v6_piece("[2001:db8:64::1:1]:1", SERVER, 9, 1, &pieces),
            DropReason::SourceInPref64,
        ),
        (
            v4_piece(SERVER, "203.0.113.1:0", 9, 1, &pieces),
            DropReason::UnmappedDestination,
        ),
        (
            v4_piece("192.0.2.1:53", "192.0.2.1:0", 9, 1, &pieces),
            DropReason::IllegalSource,
        ),
        (
            v4_piece("127.0.0.1:53", "192.0.2.1:0", 9, 1, &pieces),
            DropReason::IllegalSource,
        ),
    ] {
        assert!(lab.pass(&[packet]).is_empty());
        assert_eq!(lab.dropped.pop(), Some(reason));
    }
    assert_eq!(lab.held, 0);
}

#[test]
fn se_11_a_second_first_fragment_with_other_ports_ends_the_datagram() {
    let mut lab = Lab::new();
    let pieces = datagram(5000, 53);
    let other = datagram(5001, 53);
    assert_eq!(
        lab.pass(&[v6_piece(CLIENT, SERVER, 9, 0, &pieces)]).len(),
        1
    );
    assert_eq!(
        lab.pass(&[v6_piece(CLIENT, SERVER, 9, 0, &pieces)]).len(),
        1
    );
    assert!(
        lab.pass(&[v6_piece(CLIENT, SERVER, 9, 0, &other)])
            .is_empty()
    );
}

#[test]
fn se_11_se_12_overlapping_fragments_end_the_datagram_both_ways() {
    let pieces = datagram(5000, 53);
    let mut lab = Lab::new();
    let mut longer = pieces.clone();
    longer[1].extend([0; 8]);
    let sent = [
        v6_piece(CLIENT, SERVER, 9, 0, &pieces),
        v6_piece(CLIENT, SERVER, 9, 2, &pieces),
        v6_piece(CLIENT, SERVER, 9, 1, &longer),
        v6_piece(CLIENT, SERVER, 9, 1, &pieces),
    ];
    assert_eq!(lab.pass(&sent).len(), 2);

    let pieces = datagram(53, 4000);
    let mut lab = Lab::new();
    lab.open(CLIENT);
    let mut longer = pieces.clone();
    longer[1].extend([0; 8]);
    let sent = [
        v4_piece(SERVER, "192.0.2.1:0", 77, 2, &pieces),
        v4_piece(SERVER, "192.0.2.1:0", 77, 1, &longer),
        v4_piece(SERVER, "192.0.2.1:0", 77, 0, &pieces),
    ];
    assert!(lab.pass(&sent).is_empty());
}

#[test]
fn l4_05_a_fragmented_datagram_without_checksum_gets_one() {
    for order in ORDERS {
        let mut lab = Lab::new();
        lab.open(CLIENT);
        let mut pieces = datagram(53, 4000);
        pieces[0][6..8].fill(0);
        let sent = order.map(|number| v4_piece(SERVER, "192.0.2.1:0", 77, number, &pieces));
        let got = lab.pass(&sent);
        assert_eq!(
            (got.len(), lab.held),
            (1, 3),
            "{order:?}: {:?}",
            lab.dropped
        );
        let got = &got[0];
        assert_eq!((got[0] >> 4, got[6], got.len()), (6, UDP, 40 + 43));
        assert_eq!(got[24..40], sock6(CLIENT).ip().octets());
        assert_eq!(got[40..44], [0, 53, 0x13, 0x88]);
        assert_eq!(got[48..], pieces.concat()[8..]);
        let whole = sum(&[&got[8..40], &[0, UDP, 0, 43], &got[40..]]);
        assert_eq!(whole, 0xffff, "{order:?}");
    }
}

#[test]
fn l4_05_a_datagram_with_and_without_checksum_is_nobodys() {
    let mut lab = Lab::new();
    lab.open(CLIENT);
    let pieces = datagram(53, 4000);
    let mut bare = pieces.clone();
    bare[0][6..8].fill(0);
    let piece = |number, pieces: &[Vec<u8>]| v4_piece(SERVER, "192.0.2.1:0", 77, number, pieces);
    let sent = [
        piece(0, &bare),
        piece(0, &pieces),
        piece(1, &pieces),
        piece(2, &pieces),
    ];
    assert!(lab.pass(&sent).is_empty());
    lab.now = lab.now + Duration::from_secs(1);
    assert!(lab.pass(&[]).is_empty());
    assert_eq!(lab.dropped, [DropReason::FragmentRefused; 4]);
}

#[test]
fn se_13_who_sent_a_message_that_is_never_whole_is_told() {
    let mut lab = Lab::new();
    let pieces = echo(128, 77, &PSEUDO6);
    let first = v6_piece_of(58, CLIENT, SERVER, 7, 0, &pieces);
    let second = v6_piece_of(58, CLIENT, SERVER, 7, 1, &pieces);
    // Without its first fragment nobody is told (RFC 8200 section 4.5).
    let other = v6_piece_of(58, CLIENT, SERVER, 8, 1, &pieces);
    assert!(lab.pass(&[first.clone(), second, other]).is_empty());
    lab.now = lab.now + Duration::from_secs(3);
    assert!(lab.pass(&[]).is_empty());
    assert_eq!(lab.dropped, [DropReason::FragmentTimeout; 3]);
    let [reply] = lab.replies.try_into().unwrap();
    // ICMPv6 3/1, fragment reassembly time exceeded, quoting the fragment.
    assert_eq!(reply[40..42], [3, 1]);
    assert_eq!(reply[24..40], sock6(CLIENT).ip().octets());
    assert_eq!(reply[48..], first);
}

#[test]
fn nf_02_complete_datagrams_are_no_load() {
    let mut lab = Lab::new();
    let pieces = datagram(5000, 53);
    for id in 0..20_000 {
        let sent = [2, 0, 1].map(|number| v6_piece(CLIENT, SERVER, id, number, &pieces));
        assert_eq!(lab.pass(&sent).len(), 3, "datagram {id}");
    }
    assert_eq!(lab.dropped, []);
}

/// A translator over a pool of 192.0.2.1, ports 4000 to 4001, and what became of the packets.
struct Lab {
    translator: Translator<nat64::Worker>,
    now: Instant,
    held: usize,
    dropped: Vec<DropReason>,
    replies: Vec<Vec<u8>>,
}

impl Lab {
    fn new() -> Self {
        let policy = Policy::new("192.0.0.2".parse().unwrap(), "2001:db8::2".parse().unwrap());
        let worker = World::with_pool("192.0.2.1:4000-4001").worker;
        // One port of each parity, so that a client on an even port gets 4000.
        Self {
            translator: Translator::new(worker, policy, Identifications::new([1, 2], 0, 1))
                .unwrap(),
            now: Instant::from_secs(1000),
            held: 0,
            dropped: Vec::new(),
            replies: Vec::new(),
        }
    }

    /// Binds a client to 192.0.2.1 port 4000.
    fn open(&mut self, client: &str) {
        let pieces = [datagram(sock6(client).port(), 53).concat()];
        let whole = v6_piece(client, SERVER, 1, 0, &pieces);
        assert_eq!(self.pass(&[whole]).len(), 1);
    }

    /// Sends packets and returns what comes out, held ones included.
    fn pass(&mut self, packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        for packet in packets {
            let mut buffer = vec![0xa5; HEADROOM + packet.len() + TAILROOM];
            buffer[HEADROOM..HEADROOM + packet.len()].copy_from_slice(packet);
            let mut frame = Frame::new(&mut buffer, HEADROOM, packet.len(), Offload::NONE).unwrap();
            let verdict = self.translator.translate(&mut frame, self.now);
            self.note(verdict, &frame, &mut out);
        }
        loop {
            let mut buffer = vec![0xa5; HEADROOM + 2000 + TAILROOM];
            let mut frame = Frame::new(&mut buffer, HEADROOM, 0, Offload::NONE).unwrap();
            let Some(verdict) = self.translator.poll_packet(&mut frame, self.now) else {
                return out;
            };
            self.note(verdict, &frame, &mut out);
        }
    }

    fn note(&mut self, verdict: Verdict, frame: &Frame<'_>, out: &mut Vec<Vec<u8>>) {
        match verdict {
            Verdict::Forward => out.push(frame.packet().to_vec()),
            Verdict::Held => self.held += 1,
            Verdict::Drop(reason) => self.dropped.push(reason),
            Verdict::Reply(reason) => {
                self.dropped.push(reason);
                self.replies.push(frame.packet().to_vec());
            }
            Verdict::Split(_) => panic!("nothing here is too long"),
        }
    }
}

/// A UDP datagram in three pieces of 16 bytes and a rest.
fn datagram(src: u16, dst: u16) -> [Vec<u8>; 3] {
    let mut whole = Vec::new();
    for word in [src, dst, 43, 0] {
        whole.extend(word.to_be_bytes());
    }
    whole.extend((0..35).map(|byte: u8| byte.wrapping_mul(37)));
    let (from, to) = match src {
        53 => (
            Ipv4Addr::new(198, 51, 100, 7).octets().to_vec(),
            vec![192, 0, 2, 1],
        ),
        _ => (
            sock6(CLIENT).ip().octets().to_vec(),
            embed(sock4(SERVER)).ip().octets().to_vec(),
        ),
    };
    let checksum = !sum(&[&from, &to, &[0, UDP, 0, 43], &whole]);
    whole[6..8].copy_from_slice(&checksum.to_be_bytes());
    [
        whole[..16].to_vec(),
        whole[16..32].to_vec(),
        whole[32..].to_vec(),
    ]
}

/// Sum of the pseudo-header of the client's echo requests, but for the length.
const PSEUDO6: [&str; 2] = [CLIENT, SERVER];

/// An echo message in three pieces; `ends` are its IPv6 ends, if it has any.
fn echo(kind: u8, id: u16, ends: &[&str]) -> [Vec<u8>; 3] {
    let mut whole = vec![kind, 0, 0, 0];
    whole.extend(id.to_be_bytes());
    whole.extend([0, 1]);
    whole.extend((0..35).map(|byte: u8| byte.wrapping_mul(37)));
    let pseudo = match ends {
        [client, server] => {
            let from = sock6(client).ip().octets();
            let to = embed(sock4(server)).ip().octets();
            [&from[..], &to, &[0, 58, 0, whole.len() as u8]].concat()
        }
        _ => Vec::new(),
    };
    let checksum = !sum(&[&pseudo, &whole]);
    whole[2..4].copy_from_slice(&checksum.to_be_bytes());
    [
        whole[..16].to_vec(),
        whole[16..32].to_vec(),
        whole[32..].to_vec(),
    ]
}

fn v6_piece(client: &str, server: &str, id: u32, number: usize, pieces: &[Vec<u8>]) -> Vec<u8> {
    v6_piece_of(UDP, client, server, id, number, pieces)
}

fn v6_piece_of(
    protocol: u8,
    client: &str,
    server: &str,
    id: u32,
    number: usize,
    pieces: &[Vec<u8>],
) -> Vec<u8> {
    let payload = &pieces[number];
    let is_whole = pieces.len() == 1;
    let len = payload.len() + if is_whole { 0 } else { 8 };
    let next = if is_whole { protocol } else { 44 };
    let mut packet = vec![0x60, 0, 0, 0, 0, len as u8, next, 64];
    let (src, dst): (Ipv6Addr, Ipv6Addr) = (*sock6(client).ip(), *embed(sock4(server)).ip());
    packet.extend(src.octets());
    packet.extend(dst.octets());
    if !is_whole {
        let start: usize = pieces[..number].iter().map(Vec::len).sum();
        let more = u16::from(number + 1 < pieces.len());
        packet.extend([protocol, 0]);
        packet.extend((start as u16 | more).to_be_bytes());
        packet.extend(id.to_be_bytes());
    }
    packet.extend(payload);
    packet
}

fn v4_piece(from: &str, to: &str, id: u16, number: usize, pieces: &[Vec<u8>]) -> Vec<u8> {
    v4_piece_of(UDP, from, to, id, number, pieces)
}

fn v4_piece_of(
    protocol: u8,
    from: &str,
    to: &str,
    id: u16,
    number: usize,
    pieces: &[Vec<u8>],
) -> Vec<u8> {
    let payload = &pieces[number];
    let start: usize = pieces[..number].iter().map(Vec::len).sum();
    let more = u16::from(number + 1 < pieces.len()) << 13;
    let mut packet = vec![0x45, 0, 0, 20 + payload.len() as u8];
    packet.extend(id.to_be_bytes());
    packet.extend((more | (start / 8) as u16).to_be_bytes());
    packet.extend([64, protocol, 0, 0]);
    packet.extend(sock4(from).ip().octets());
    packet.extend(sock4(to).ip().octets());
    let checksum = !sum(&[&packet]);
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    packet.extend(payload);
    packet
}

fn v4_udp_sum(datagram: &[u8], src: [u8; 4], dst: [u8; 4]) -> u16 {
    let len = datagram.len() as u8;
    sum(&[&src, &dst, &[0, UDP, 0, len], datagram])
}

/// Ones' complement sum, the slow way; only the last part may have an odd length.
fn sum(parts: &[&[u8]]) -> u16 {
    let mut total = 0_u32;
    for part in parts {
        for pair in part.chunks(2) {
            total += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
        }
    }
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    total as u16
}
