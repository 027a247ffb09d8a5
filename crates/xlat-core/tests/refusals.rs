//! Packets that hosts and routers send although no RFC wants them: what their senders learn, and what
//! ICMP errors may quote.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod support;

use support::*;
use xlat_core::policy::{Policy, UdpZeroChecksum};
use xlat_core::{DropReason, Offload};

/// Type, code and the word behind the checksum of an ICMPv6 message.
fn told6(packet: &[u8]) -> ([u8; 2], u32) {
    assert_checksums(packet);
    assert_eq!((packet[6], v6_at(packet, 8)), (58, own6()));
    let word = u32::from_be_bytes(packet[44..48].try_into().unwrap());
    ([packet[40], packet[41]], word)
}

fn told4(packet: &[u8]) -> [u8; 2] {
    assert_checksums(packet);
    assert_eq!((packet[9], v4_at(packet, 12)), (1, OWN4));
    [packet[20], packet[21]]
}

#[test]
fn x6_08_x6_10_an_error_in_an_atomic_fragment_keeps_the_identification() {
    let error = icmp6(node6(), host6(), 1, 4, [0; 4], &quoted6(&pattern(40)));
    let body = [fragment(58, 0, false, 0x0506_0708), error].concat();
    let out = run(&V6::new(44).packet(&body)).forwarded();
    // Identification 0x0708, no flags, no offset.
    assert_eq!(out[4..8], [0x07, 0x08, 0, 0]);
    assert_checksums(&out);
}

#[test]
fn x6_08_an_error_in_an_atomic_fragment_never_has_df() {
    let error = icmp6(node6(), host6(), 1, 4, [0; 4], &quoted6(&pattern(1400)));
    let body = [fragment(58, 0, false, 0x0506_0708), error.clone()].concat();
    let long = Policy {
        icmpv4_error_size: 1500,
        ..policy()
    };
    let out = run_policy(long.clone(), &V6::new(44).packet(&body)).forwarded();
    assert!(word_at(&out, 2) > 1260);
    assert_eq!(out[4..8], [0x07, 0x08, 0, 0]);
    let out = run_policy(long, &V6::new(58).packet(&error)).forwarded();
    assert_eq!(out[6..8], [0x40, 0], "without a Fragment header it has");
}

#[test]
fn x6_09_eg_02_headers_behind_a_fragment_header_are_refused_aloud() {
    for next in [43, 60, 135, 139, 140] {
        let body = [
            fragment(next, 0, true, 1),
            vec![17, 0, 1, 0, 0, 0, 0, 0],
            pattern(64),
        ]
        .concat();
        let packet = V6::new(44).packet(&body);
        let (reason, reply) = run(&packet).replied();
        assert_eq!(reason, DropReason::Ipv6ExtensionAfterFragment);
        assert_eq!(told6(&reply), ([1, 1], 0), "{next}");
        assert_eq!(v6_at(&reply, 24), node6());
        assert_eq!(reply[48..], packet, "the packet as it came");
    }
    // AH counts its length in other units (RFC 4302 section 2.2).
    let ah = [&[17, 4, 0, 0][..], &[0; 20], &pattern(64)].concat();
    let body = [fragment(51, 0, true, 1), ah].concat();
    let (_, reply) = run(&V6::new(44).packet(&body)).replied();
    assert_eq!(told6(&reply).0, [1, 1]);
}

/// RFC 4443 section 2.4e: what may be an ICMPv6 error is not answered, nor an informational message
/// with a refusal (RFC 7915 section 5.4).
#[test]
fn x6_09_eg_03_what_may_be_an_icmpv6_message_is_refused_in_silence() {
    let error = icmp6(node6(), host6(), 1, 4, [0; 4], &quoted6(b"x"));
    let echo = icmp6(node6(), host6(), 128, 0, [0; 4], &pattern(40));
    let options = [58, 0, 1, 4, 0, 0, 0, 0];
    for message in [&error[..], &echo, &[]] {
        let message = &message[..message.len() / 8 * 8];
        let body = [&fragment(60, 0, true, 1)[..], &options, message].concat();
        let reason = run(&V6::new(44).packet(&body)).dropped();
        assert_eq!(reason, DropReason::Ipv6ExtensionAfterFragment);
    }
    // The protocol of a later fragment is in the first one alone.
    let later = [fragment(60, 9, true, 1), pattern(64)].concat();
    let reason = run(&V6::new(44).packet(&later)).dropped();
    assert_eq!(reason, DropReason::Ipv6ExtensionAfterFragment);
}

#[test]
fn se_13_the_sender_of_a_malformed_fragment_learns_which_field_is_wrong() {
    let sent = |next, offset, more, body: Vec<u8>| {
        run(&V6::new(44).packet(&[fragment(next, offset, more, 1), body].concat()))
    };
    // RFC 8200 section 4.5: the Payload Length field, at 4.
    let (reason, reply) = sent(17, 5, true, pattern(15)).replied();
    assert_eq!(
        (reason, told6(&reply)),
        (DropReason::FragmentLength, ([4, 0], 4))
    );
    // And the Fragment Offset field, 2 bytes into the Fragment header.
    let (reason, reply) = sent(17, 0x1fff, false, pattern(9)).replied();
    assert_eq!(
        (reason, told6(&reply)),
        (DropReason::FragmentTooLong, ([4, 0], 42))
    );
    let behind = [
        vec![44, 0, 1, 4, 0, 0, 0, 0],
        fragment(17, 0x1fff, false, 1),
        pattern(9),
    ];
    let (_, reply) = run(&V6::new(0).packet(&behind.concat())).replied();
    assert_eq!(told6(&reply), ([4, 0], 50));
    // IPv4 has no such error.
    let odd = V4 {
        flags: MF | 5,
        ..V4::new(17)
    };
    let reason = run(&odd.packet(&pattern(15))).dropped();
    assert_eq!(reason, DropReason::FragmentLength);
}

/// A frame whose offload was never checked, because its packet was refused before.
#[test]
fn se_01_a_malformed_fragment_with_put_off_work_is_dropped_in_silence() {
    use xlat_core::offload::{Checksum, Gso, GsoKind, PartialChecksum};
    let body = [fragment(17, 5, true, 1), pattern(3)].concat();
    let packet = V6::new(44).packet(&body);
    let partial = Checksum::Partial(PartialChecksum {
        start: 48,
        offset: 6,
    });
    let udp = |gso| Offload {
        checksum: partial,
        gso,
    };
    let gso = Gso {
        kind: GsoKind::Udp,
        size: 1,
        ecn: false,
    };
    for offload in [udp(None), udp(Some(gso))] {
        let mut translator = translator(policy());
        let reason = run_with(&mut translator, &packet, offload).dropped();
        assert_eq!(reason, DropReason::FragmentLength);
    }
}

#[test]
fn l4_04_eg_01_who_sends_without_a_checksum_is_told() {
    let mut datagram = udp(from_host4(17), &pattern(96));
    datagram[6..8].fill(0);
    let first = V4 {
        flags: MF,
        ..V4::new(17)
    };
    let (reason, reply) = run(&first.packet(&datagram)).replied();
    assert_eq!(
        (reason, told4(&reply)),
        (DropReason::UdpZeroChecksum, [3, 13])
    );
    let strict = Policy {
        udp_zero_checksum: UdpZeroChecksum::Drop,
        ..policy()
    };
    let (_, reply) = run_policy(strict, &V4::new(17).packet(&datagram)).replied();
    assert_eq!(told4(&reply), [3, 13]);

    let mut datagram = udp(from_node6(17), b"tunnel");
    datagram[6..8].fill(0);
    let (reason, reply) = run(&V6::new(17).packet(&datagram)).replied();
    assert_eq!(
        (reason, told6(&reply)),
        (DropReason::UdpZeroChecksum, ([1, 1], 0))
    );
}

/// `ping -s 3000` through a stateless translator.
#[test]
fn x4_17_eg_01_the_first_piece_of_a_large_ping_is_refused_aloud() {
    let first = V4 {
        flags: MF,
        ..V4::new(1)
    };
    let (reason, reply) = run(&first.packet(&icmp4(8, 0, [0, 1, 0, 1], &pattern(64)))).replied();
    assert_eq!(
        (reason, told4(&reply)),
        (DropReason::FragmentedIcmp, [3, 13])
    );
    // Neither a piece of an error nor a later piece of anything.
    let error = first.packet(&icmp4(3, 3, [0; 4], &quoted4(&pattern(44))));
    assert_eq!(run(&error).dropped(), DropReason::FragmentedIcmp);
}

#[test]
fn eg_09_the_translators_own_addresses_have_no_other_transport() {
    for (protocol, body) in [
        (132, pattern(16)),
        (47, pattern(16)),
        (
            6,
            tcp(|len| pseudo_v4(HOST4, OWN4, 6, len), 2, &[], b"").clone(),
        ),
    ] {
        let ip = V4 {
            dst: OWN4,
            ..V4::new(protocol)
        };
        let (reason, reply) = run(&ip.packet(&body)).replied();
        assert_eq!((reason, told4(&reply)), (DropReason::ForTranslator, [3, 2]));
        let ip = V6 {
            dst: own6(),
            ..V6::new(protocol)
        };
        let (_, reply) = run(&ip.packet(&body)).replied();
        // The Next Header field of the fixed header.
        assert_eq!(told6(&reply), ([4, 1], 6), "{protocol}");
    }
    // Behind two extension headers the field that names it is the last one's.
    let chain = [
        vec![60, 0, 1, 4, 0, 0, 0, 0],
        vec![132, 0, 1, 4, 0, 0, 0, 0],
        pattern(16),
    ];
    let ip = V6 {
        dst: own6(),
        ..V6::new(0)
    };
    let (_, reply) = run(&ip.packet(&chain.concat())).replied();
    assert_eq!(told6(&reply), ([4, 1], 48));
    // A later fragment does not say what it is a piece of, and a message that is none is nothing.
    let ip = V6 {
        dst: own6(),
        ..V6::new(44)
    };
    let later = [fragment(17, 9, false, 1), pattern(16)].concat();
    assert_eq!(run(&ip.packet(&later)).dropped(), DropReason::ForTranslator);
    let reply = icmp6(node6(), own6(), 129, 0, [0; 4], b"");
    let ip = V6 {
        dst: own6(),
        ..V6::new(58)
    };
    assert_eq!(run(&ip.packet(&reply)).dropped(), DropReason::ForTranslator);
}

/// RFC 4443 section 2.4e.1, wherever in the chain the error stands.
#[test]
fn x6_07_eg_03_an_error_with_segments_left_is_not_answered() {
    let error = icmp6(node6(), host6(), 3, 0, [0; 4], &quoted6(b"x"));
    let routing = [58, 0, 3, 1, 0, 0, 0, 0];
    let alone = [&routing[..], &error].concat();
    let reason = run(&V6::new(43).packet(&alone)).dropped();
    assert_eq!(reason, DropReason::Ipv6SegmentsLeft);
    let options = [58, 0, 1, 4, 0, 0, 0, 0];
    let routing = [60, 0, 3, 1, 0, 0, 0, 0];
    let deep = [&routing[..], &options, &error].concat();
    let reason = run(&V6::new(43).packet(&deep)).dropped();
    assert_eq!(reason, DropReason::Ipv6SegmentsLeft);
    // An echo request is told, as it is of its hop limit.
    let echo = icmp6(node6(), host6(), 128, 0, [0; 4], b"ping");
    let body = [&[58, 0, 3, 1, 0, 0, 0, 0][..], &echo].concat();
    let (_, reply) = run(&V6::new(43).packet(&body)).replied();
    assert_eq!(told6(&reply), ([4, 0], 43));
}

#[test]
fn se_08_an_error_about_a_protocol_that_never_crosses_is_dropped() {
    for protocol in [0, 2, 43, 44, 58, 60, 135, 139, 140] {
        let quoted = V4 {
            src: NODE4,
            dst: HOST4,
            ..V4::new(protocol)
        }
        .packet(&pattern(16));
        let reason = run(&error4(3, 1, [0; 4], &quoted)).dropped();
        assert_eq!(reason, DropReason::QuotedProtocol, "{protocol}");
    }
    for next in [1, 2] {
        let quoted = V6 {
            src: host6(),
            dst: node6(),
            ..V6::new(next)
        }
        .packet(&pattern(16));
        let reason = run(&error6(1, 0, [0; 4], &quoted)).dropped();
        assert_eq!(reason, DropReason::QuotedProtocol, "{next}");
    }
    let sctp = V4 {
        src: NODE4,
        dst: HOST4,
        ..V4::new(132)
    };
    run(&error4(3, 1, [0; 4], &sctp.packet(&pattern(16)))).forwarded();
}
