//! IPv6 header to IPv4 header: RFC 7915 section 5.1, row by row.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod support;

use support::*;
use xlat_core::DropReason;
use xlat_core::policy::{Policy, TrafficClass};

fn plain(payload: &[u8]) -> Vec<u8> {
    V6::new(17).packet(&udp(from_node6(17), payload))
}

fn flags(packet: &[u8]) -> u16 {
    word_at(packet, 6)
}

#[test]
fn x6_01_tos_is_the_traffic_class_and_the_flow_label_is_gone() {
    for traffic_class in 0..=255u8 {
        let ip = V6 {
            traffic_class,
            flow_label: 0xf_ffff,
            ..V6::new(17)
        };
        let packet = ip.packet(&udp(from_node6(17), b"x"));
        let out = run(&packet).forwarded();
        assert_eq!(out[..2], [0x45, traffic_class]);
        let fixed = Policy {
            tos: TrafficClass::Fixed(0x10),
            ..policy()
        };
        assert_eq!(run_policy(fixed, &packet).forwarded()[1], 0x10);
    }
}

#[test]
fn x6_02_and_x6_06_extension_headers_are_skipped_and_not_counted() {
    let option = |next: u8| vec![next, 0, 1, 4, 0, 0, 0, 0];
    let routing = |next: u8| {
        vec![
            next, 2, 4, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2,
        ]
    };
    let chains: [(u8, Vec<u8>); 5] = [
        (17, vec![]),
        (60, option(17)),
        (0, [option(60), option(17)].concat()),
        (43, [routing(60), option(17)].concat()),
        (0, [option(60), option(43), routing(17)].concat()),
    ];
    let expected = run(&plain(b"payload")).forwarded();
    for (first, chain) in chains {
        let body = [chain, udp(from_node6(17), b"payload")].concat();
        let out = run(&V6::new(first).packet(&body)).forwarded();
        assert_eq!(out[8..], expected[8..], "{first}");
        assert_eq!(word_at(&out, 2), 35);
        assert_checksums(&out);
    }
    let none = run(&V6::new(59).packet(b"")).forwarded();
    assert_eq!((none.len(), none[9]), (20, 59));
}

#[test]
fn x6_06_and_se_08_every_other_number_is_copied_but_icmpv4_and_igmp() {
    for next in 0..=255u8 {
        let out = run(&V6::new(next).packet(&pattern(32)));
        match next {
            1 | 2 => assert_eq!(out.dropped(), DropReason::ForeignProtocol),
            0 | 6 | 17 | 43 | 44 | 58 | 60 => {}
            _ => {
                let out = out.forwarded();
                assert_eq!((out[9], &out[20..]), (next, &pattern(32)[..]));
            }
        }
    }
}

#[test]
fn x6_03_df_follows_the_length_of_the_result() {
    for (size, df) in [(60, 0), (1280, 0), (1281, DF), (1500, DF)] {
        let out = run(&plain(&pattern(size - 48))).forwarded();
        assert_eq!((out.len(), flags(&out)), (size - 20, df), "{size}");
    }
    // With an extension header it is still the result that counts.
    let body = [
        vec![17, 0, 1, 4, 0, 0, 0, 0],
        udp(from_node6(17), &pattern(1281 - 48)),
    ]
    .concat();
    let out = run(&V6::new(60).packet(&body)).forwarded();
    assert_eq!((out.len(), flags(&out)), (1261, DF));
    let body = [
        vec![17, 0, 1, 4, 0, 0, 0, 0],
        udp(from_node6(17), &pattern(1280 - 48)),
    ]
    .concat();
    assert_eq!(flags(&run(&V6::new(60).packet(&body)).forwarded()), 0);
}

#[test]
fn x6_04_small_packets_get_numbers_that_do_not_repeat() {
    let mut translator = translator(policy());
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..1000 {
        let out = run_with(&mut translator, &plain(b"x"), xlat_core::Offload::NONE).forwarded();
        assert!(seen.insert(word_at(&out, 4)));
    }
}

#[test]
fn x6_05_the_last_hop_is_told_to_the_sender() {
    let with = |hop_limit| {
        let ip = V6 {
            hop_limit,
            ..V6::new(58)
        };
        run(&ip.packet(&icmp6(node6(), host6(), 128, 0, [0, 1, 0, 1], b"ping")))
    };
    assert_eq!(with(2).forwarded()[8], 1);
    for hop_limit in [0, 1] {
        // Echo requests too: this is how a traceroute works (EG-02).
        let (reason, reply) = with(hop_limit).replied();
        assert_eq!(
            (reason, &reply[40..42]),
            (DropReason::HopLimit, &[3, 0][..])
        );
        assert_eq!((v6_at(&reply, 8), v6_at(&reply, 24)), (own6(), node6()));
        assert_checksums(&reply);
    }
}

#[test]
fn x6_07_segments_left_is_answered_with_its_place() {
    for kind in [0, 2, 4] {
        let routing = [17, 0, kind, 1, 0, 0, 0, 0];
        let alone = [&routing[..], &udp(from_node6(17), b"x")].concat();
        let (reason, reply) = run(&V6::new(43).packet(&alone)).replied();
        assert_eq!(
            (reason, &reply[40..42]),
            (DropReason::Ipv6SegmentsLeft, &[4, 0][..])
        );
        assert_eq!(reply[44..48], [0, 0, 0, 43]);
        let behind = [&[43, 0, 1, 4, 0, 0, 0, 0][..], &alone].concat();
        let (_, reply) = run(&V6::new(0).packet(&behind)).replied();
        assert_eq!(reply[44..48], [0, 0, 0, 51]);
    }
}

#[test]
fn x6_08_a_fragment_keeps_its_place_and_the_low_half_of_its_number() {
    let datagram = udp(from_node6(17), &pattern(56));
    for (offset, more) in [(0, true), (7, true), (9, false)] {
        let body = [fragment(17, offset, more, 0x0102_0304), datagram.clone()].concat();
        let out = run(&V6::new(44).packet(&body)).forwarded();
        assert_eq!(word_at(&out, 2), 84);
        assert_eq!(word_at(&out, 4), 0x0304);
        assert_eq!(flags(&out), if more { MF } else { 0 } | offset);
        assert_eq!(out[9], 17);
        if offset != 0 {
            assert_eq!(
                out[20..],
                datagram,
                "later fragments have no transport header"
            );
        }
    }
}

#[test]
fn x6_09_x6_11_headers_behind_a_fragment_header_are_refused() {
    for next in [0, 43, 60, 135, 139, 140, 51] {
        let body = [
            fragment(next, 0, true, 1),
            vec![17, 0, 1, 4, 0, 0, 0, 0],
            pattern(64),
        ]
        .concat();
        let reason = run(&V6::new(44).packet(&body)).refused();
        let misplaced = [
            DropReason::Ipv6ExtensionAfterFragment,
            DropReason::Ipv6MisplacedHopByHop,
        ];
        assert!(misplaced.contains(&reason), "{next}: {reason:?}");
    }
    let esp = [fragment(50, 0, true, 1), pattern(64)].concat();
    assert_eq!(run(&V6::new(44).packet(&esp)).forwarded()[9], 50);
    let twice = [
        fragment(44, 0, true, 1),
        fragment(17, 0, true, 1),
        pattern(64),
    ]
    .concat();
    let reason = run(&V6::new(44).packet(&twice)).dropped();
    assert_eq!(reason, DropReason::Ipv6SecondFragmentHeader);
}

#[test]
fn x6_10_an_atomic_fragment_is_a_whole_packet() {
    let body = [
        fragment(17, 0, false, 0x0506_0708),
        udp(from_node6(17), b"x"),
    ]
    .concat();
    let out = run(&V6::new(44).packet(&body)).forwarded();
    assert_eq!((flags(&out), word_at(&out, 4)), (0, 0x0708));
    assert_checksums(&out);
    let echo = icmp6(node6(), host6(), 128, 0, [0, 1, 0, 1], b"ping");
    let body = [fragment(58, 0, false, 7), echo].concat();
    assert_checksums(&run(&V6::new(44).packet(&body)).forwarded());
}

#[test]
fn x6_12_a_small_packet_for_a_smaller_link_is_cut_by_the_translator() {
    let policy = Policy {
        mtu4: 576,
        ..policy()
    };
    let packet = plain(&pattern(1280 - 48));
    let pieces = run_policy(policy, &packet).pieces();
    assert_eq!(pieces.len(), 3);
    let mut whole = Vec::new();
    for (number, piece) in pieces.iter().enumerate() {
        let last = number == 2;
        assert!(piece.len() <= 576);
        assert_eq!(naive_checksum(&[&piece[..20]]), 0);
        assert_eq!(word_at(piece, 4), word_at(&pieces[0], 4), "one number");
        let place = (whole.len() / 8) as u16;
        assert_eq!(flags(piece), if last { 0 } else { MF } | place);
        whole.extend(&piece[20..]);
    }
    assert_eq!(whole.len(), 1240);
    assert_eq!(
        naive_checksum(&[&pseudo_v4(NODE4, HOST4, 17, 1240), &whole]),
        0
    );
}

#[test]
fn x6_13_a_large_packet_for_a_smaller_link_is_answered() {
    let policy = Policy {
        mtu4: 1400,
        ..policy()
    };
    assert_eq!(
        run_policy(policy.clone(), &plain(&pattern(1420 - 48)))
            .forwarded()
            .len(),
        1400
    );
    let (reason, reply) = run_policy(policy, &plain(&pattern(1421 - 48))).replied();
    assert_eq!((reason, &reply[40..42]), (DropReason::TooBig, &[2, 0][..]));
    assert_eq!(reply[44..48], 1420u32.to_be_bytes());
    assert_eq!(reply.len(), 1280);
    assert_checksums(&reply);
    let tiny = Policy {
        mtu4: 576,
        ..support::policy()
    };
    let (_, reply) = run_policy(tiny, &plain(&pattern(1421 - 48))).replied();
    assert_eq!(
        reply[44..48],
        1280u32.to_be_bytes(),
        "no lower than IPv6 allows"
    );
}

#[test]
fn x6_14_what_cannot_be_mapped_is_refused_or_dropped_by_its_kind() {
    let stranger = "2001:db8:ffff::1".parse().unwrap();
    let pseudo = |len| pseudo_v6(stranger, host6(), 17, len);
    let packet = V6 {
        src: stranger,
        ..V6::new(17)
    }
    .packet(&udp(pseudo, b"x"));
    let (reason, reply) = run(&packet).replied();
    assert_eq!(
        (reason, &reply[40..42]),
        (DropReason::UnmappedSource, &[1, 1][..])
    );
    let echo = icmp6(stranger, host6(), 128, 0, [0, 1, 0, 1], b"ping");
    let packet = V6 {
        src: stranger,
        ..V6::new(58)
    }
    .packet(&echo);
    assert_eq!(
        run(&packet).dropped(),
        DropReason::UnmappedSource,
        "RFC 7915 section 5.4"
    );
}

#[test]
fn x6_15_lengths_that_lie_are_dropped_and_padding_is_cut() {
    let good = plain(b"12345");
    let mut long = good.clone();
    long[5] += 1;
    assert_eq!(run(&long).dropped(), DropReason::Ipv6PayloadLength);
    let padded = [&good[..], &[0xee; 9]].concat();
    assert_eq!(run(&padded).forwarded()[6..], run(&good).forwarded()[6..]);
    assert_eq!(run(&good[..39]).dropped(), DropReason::Ipv6Truncated);
    let mut jumbo = V6::new(0).packet(&[17, 0, 0xc2, 4, 0, 1, 0, 0]);
    jumbo[4..6].fill(0);
    assert_eq!(run(&jumbo).dropped(), DropReason::Ipv6Jumbogram);
    let overrun = V6::new(60).packet(&[17, 1, 1, 4, 0, 0, 0, 0]);
    assert_eq!(run(&overrun).dropped(), DropReason::Ipv6ExtensionTruncated);
    let late =
        V6::new(60).packet(&[&[0, 0, 1, 4, 0, 0, 0, 0], &[17, 0, 1, 4, 0, 0, 0, 0][..]].concat());
    assert_eq!(run(&late).dropped(), DropReason::Ipv6MisplacedHopByHop);
}

#[test]
fn x6_17_fragmented_icmpv6_is_dropped() {
    let echo = icmp6(node6(), host6(), 128, 0, [0; 4], &pattern(56));
    for (offset, more) in [(0, true), (3, true), (3, false)] {
        let body = [fragment(58, offset, more, 1), echo.clone()].concat();
        assert_eq!(
            run(&V6::new(44).packet(&body)).dropped(),
            DropReason::FragmentedIcmp
        );
    }
}

#[test]
fn se_04_sources_and_destinations_that_never_cross() {
    for src in [
        "::",
        "::1",
        "fe80::1",
        "ff02::1",
        "::ffff:192.0.2.1",
        "::192.0.2.1",
    ] {
        let packet = V6 {
            src: src.parse().unwrap(),
            ..V6::new(59)
        }
        .packet(b"");
        assert_eq!(run(&packet).dropped(), DropReason::IllegalSource, "{src}");
    }
    for dst in ["ff02::1", "fe80::1"] {
        let packet = V6 {
            dst: dst.parse().unwrap(),
            ..V6::new(59)
        }
        .packet(b"");
        assert_eq!(
            run(&packet).dropped(),
            DropReason::IllegalDestination,
            "{dst}"
        );
    }
}

#[test]
fn se_09_a_chain_without_end_is_dropped() {
    let chain = |count: usize| {
        let mut body = [60, 0, 1, 4, 0, 0, 0, 0].repeat(count);
        let last = body.len() - 8;
        body[last] = 17;
        [body, udp(from_node6(17), b"x")].concat()
    };
    run(&V6::new(60).packet(&chain(8))).forwarded();
    assert_eq!(
        run(&V6::new(60).packet(&chain(9))).dropped(),
        DropReason::Ipv6ExtensionLimit
    );
    assert_eq!(
        run(&V6::new(60).packet(&chain(8000))).dropped(),
        DropReason::Ipv6ExtensionLimit
    );
}

#[test]
fn se_10_and_se_13_fragments_that_cannot_be_honest_are_dropped() {
    let packet = |next, offset, more, body: Vec<u8>| {
        run(&V6::new(44).packet(&[fragment(next, offset, more, 1), body].concat())).refused()
    };
    assert_eq!(packet(6, 0, true, pattern(16)), DropReason::FragmentTiny);
    assert_eq!(packet(6, 1, false, pattern(16)), DropReason::FragmentTiny);
    assert_eq!(packet(17, 5, true, pattern(15)), DropReason::FragmentLength);
    assert_eq!(
        packet(17, 0x1fff, false, pattern(9)),
        DropReason::FragmentTooLong
    );
}
