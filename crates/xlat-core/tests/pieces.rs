//! What comes out in pieces, or stands for several packets, is what whole packets would have
//! become: fragments that are cut further, super-packets that are taken apart, get smaller segments
//! or are refused, and checksums that somebody else completes.
//!
//! Not compared: the identification of an IPv4 packet with DF, which nobody reads (RFC 6864), and
//! where TCP segments get smaller instead of being cut, anything but the stream of bytes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod support;

use etherparse::IpHeaders;
use proptest::collection::vec;
use proptest::prelude::*;
use support::super_packet::{segments, super_packet};
use support::*;
use xlat_core::Offload;
use xlat_core::offload::{Gso, GsoKind};
use xlat_core::policy::Policy;

/// A datagram, or a piece of one.
#[derive(Debug, PartialEq)]
struct Piece {
    id: u32,
    offset: u16,
    more: bool,
    bytes: Vec<u8>,
}

#[track_caller]
fn read(packet: &[u8]) -> Piece {
    let (headers, payload) = IpHeaders::from_slice(packet).unwrap();
    let (id, offset, more) = match headers {
        IpHeaders::Ipv4(ip, _) => {
            assert_eq!(ip.header_checksum, ip.calc_header_checksum());
            let offset = ip.fragment_offset.value();
            (u32::from(ip.identification), offset, ip.more_fragments)
        }
        IpHeaders::Ipv6(_, extensions) => match extensions.fragment {
            Some(fragment) => (
                fragment.identification,
                fragment.fragment_offset.value(),
                fragment.more_fragments,
            ),
            None => (0, 0, false),
        },
    };
    let bytes = payload.payload.to_vec();
    Piece {
        id,
        offset,
        more,
        bytes,
    }
}

/// Joins pieces of one datagram, sent in order, to the one piece that was cut.
#[track_caller]
fn join(packets: &[Vec<u8>], limit: u16) -> Piece {
    let mut pieces = packets.iter().map(|packet| {
        assert!(packet.len() <= usize::from(limit), "{} bytes", packet.len());
        read(packet)
    });
    let mut whole = pieces.next().unwrap();
    for piece in pieces {
        assert!(whole.more, "a piece behind the last one");
        assert_eq!(piece.id, whole.id);
        assert_eq!(
            usize::from(piece.offset),
            usize::from(whole.offset) + whole.bytes.len() / 8
        );
        assert_eq!(whole.bytes.len() % 8, 0);
        whole.bytes.extend(piece.bytes);
        whole.more = piece.more;
    }
    whole
}

#[track_caller]
fn packets(out: Out) -> Vec<Vec<u8>> {
    match out {
        Out::Split(pieces) => pieces,
        Out::Forward(packet, offload) if offload.gso.is_none() => vec![packet],
        Out::Forward(packet, offload) => segments(&packet, offload),
        other => panic!("not sent: {other:?}"),
    }
}

/// IPv4 packets with DF without their identification, which nobody reads.
fn comparable(mut packets: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    for packet in &mut packets {
        if packet[0] >> 4 == 4 && packet[6] & 0x40 != 0 {
            packet[4..6].fill(0);
            fix_v4(packet);
        }
    }
    packets
}

/// `bytes` cut to a length that a fragment may have.
fn fragment_bytes(mut bytes: Vec<u8>, more: bool) -> Vec<u8> {
    if more {
        bytes.truncate(bytes.len() & !7);
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(384) })]

    #[test]
    fn a_fragment_from_ipv4_that_is_cut_further_joins_to_itself(
        bytes in vec(any::<u8>(), 8..6000), offset in 2u16..7000, more: bool, id: u16,
        lowest in 1280u16..3000, mtu6 in 1280u16..3000,
    ) {
        let bytes = fragment_bytes(bytes, more);
        let flags = offset | if more { MF } else { 0 };
        let packet = V4 { id, flags, ..V4::new(17) }.packet(&bytes);
        let policy = Policy { lowest_ipv6_mtu: lowest, mtu6, ..policy() };
        let pieces = packets(run_policy(policy, &packet));
        let id = u32::from(id);
        prop_assert_eq!(join(&pieces, lowest.min(mtu6)), Piece { id, offset, more, bytes });
    }

    #[test]
    fn a_fragment_from_ipv6_that_is_cut_further_joins_to_itself(
        bytes in vec(any::<u8>(), 8..6000), offset in 2u16..7000, more: bool, id: u32,
        mtu4 in 68u16..3000,
    ) {
        let bytes = fragment_bytes(bytes, more);
        let body = [fragment(17, offset, more, id), bytes.clone()].concat();
        let pieces = packets(run_policy(Policy { mtu4, ..policy() }, &V6::new(44).packet(&body)));
        prop_assert!(pieces.iter().all(|piece| piece[6] & 0x40 == 0), "DF on a fragment");
        let id = id & 0xffff;
        prop_assert_eq!(join(&pieces, mtu4), Piece { id, offset, more, bytes });
    }

    #[test]
    fn a_put_off_checksum_completed_late_is_the_one_completed_early(
        v4: bool, is_tcp: bool, body in vec(any::<u8>(), 1..1400),
    ) {
        let whole = body.len() as u16;
        let (packet, offload) = super_packet(v4, is_tcp, DF, whole, &body);
        let alone = Offload { gso: None, ..offload };
        let Out::Forward(out, after) = run_with(&mut translator(policy()), &packet, alone) else {
            panic!("forwarded");
        };
        prop_assert_eq!(after.gso, None);
        let kind = match (is_tcp, v4) {
            (false, _) => GsoKind::Udp,
            (true, true) => GsoKind::TcpV6,
            (true, false) => GsoKind::TcpV4,
        };
        let one = Offload { gso: Some(Gso { kind, size: whole, ecn: false }), ..after };
        let early = run(&segments(&packet, offload)[0]).forwarded();
        prop_assert_eq!(segments(&out, one), [early]);
    }

    #[test]
    fn datagrams_taken_apart_for_ipv6_are_those_translated_one_by_one(
        size in 1200u16..3000, body in vec(any::<u8>(), 3001..9000), lowest in 1280u16..2000,
    ) {
        let policy = Policy { lowest_ipv6_mtu: lowest, mtu6: 9000, ..policy() };
        let (packet, offload) = super_packet(true, false, 0, size, &body);
        let at_once = packets(run_with(&mut translator(policy.clone()), &packet, offload));
        let mut translator = translator(policy);
        let one_by_one: Vec<Vec<u8>> = segments(&packet, offload)
            .iter()
            .flat_map(|datagram| packets(run_with(&mut translator, datagram, Offload::NONE)))
            .collect();
        prop_assert!(at_once.iter().all(|piece| piece.len() <= usize::from(lowest)));
        prop_assert_eq!(at_once, one_by_one);
    }

    #[test]
    fn datagrams_taken_apart_for_ipv4_are_those_translated_one_by_one(
        size in 1u16..=1232, body in vec(any::<u8>(), 1233..9000), mtu4 in 68u16..1400,
    ) {
        let size = size.max(body.len() as u16 / 60);
        let policy = Policy { mtu4, ..policy() };
        let (packet, offload) = super_packet(false, false, 0, size, &body);
        let at_once = packets(run_with(&mut translator(policy.clone()), &packet, offload));
        let mut translator = translator(policy);
        let one_by_one: Vec<Vec<u8>> = segments(&packet, offload)
            .iter()
            .flat_map(|datagram| packets(run_with(&mut translator, datagram, Offload::NONE)))
            .collect();
        prop_assert!(at_once.iter().all(|piece| piece.len() <= usize::from(mtu4)));
        prop_assert_eq!(comparable(at_once), comparable(one_by_one));
    }

    #[test]
    fn segments_that_get_smaller_carry_the_same_stream(
        v4: bool, size in 1usize..9000, body in vec(any::<u8>(), 1..9000), mtu in 68u16..1280,
    ) {
        // To IPv4 only what is sent without DF, which is up to 1260 bytes, may get smaller.
        let size = if v4 { size } else { size.min(1220) }.max(body.len() / 60);
        let policy = Policy { mtu4: mtu, mtu6: 1280 + mtu, ..policy() };
        let limit = if v4 { 1280 } else { mtu };
        let (packet, offload) = super_packet(v4, true, 0, size as u16, &body);
        let out = run_with(&mut translator(policy.clone()), &packet, offload);
        let mut stream = Vec::new();
        let mut sequence = 0x0102_0304u32;
        for segment in packets(out) {
            prop_assert!(segment.len() <= usize::from(limit), "{} bytes", segment.len());
            assert_checksums(&segment);
            let bytes = read(&segment).bytes;
            prop_assert_eq!(&bytes[4..8], sequence.to_be_bytes());
            sequence += bytes.len() as u32 - 20;
            stream.extend_from_slice(&bytes[20..]);
        }
        prop_assert_eq!(stream, body);
    }

    #[test]
    fn a_super_packet_is_too_big_when_its_segments_are(
        v4: bool, is_tcp: bool, size in 1300u16..3000, body in vec(any::<u8>(), 3001..6000),
        mtu4 in 576u16..3000, mtu6 in 1280u16..3000,
    ) {
        let policy = Policy { mtu4, mtu6, ..policy() };
        let (packet, offload) = super_packet(v4, is_tcp, DF, size, &body);
        let at_once = run_with(&mut translator(policy.clone()), &packet, offload);
        let first = run_policy(policy, &segments(&packet, offload)[0]);
        match (at_once, first) {
            (Out::Reply(why, mut answer), Out::Reply(first_why, mut first)) => {
                prop_assert_eq!(why, first_why);
                // The quoted checksum was not there yet, PSH belongs to the last segment, and both
                // are in the sum of the message.
                let (sum, quoted) = if v4 { (22, 48) } else { (42, 88) };
                let at = quoted + if is_tcp { 16 } else { 6 };
                for answer in [&mut answer, &mut first] {
                    assert_checksums(answer);
                    answer[sum..sum + 2].fill(0);
                    answer[at..at + 2].fill(0);
                    if is_tcp {
                        answer[quoted + 13] &= !0x08;
                    }
                }
                prop_assert_eq!(answer, first);
            }
            (Out::Forward(..), Out::Forward(..)) => {}
            other => panic!("{other:?}"),
        }
    }
}
