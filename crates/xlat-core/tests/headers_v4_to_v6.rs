//! IPv4 header to IPv6 header: RFC 7915 section 4.1, row by row.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod support;

use support::*;
use xlat_core::DropReason;
use xlat_core::policy::{Policy, TrafficClass};

fn plain(payload: &[u8]) -> Vec<u8> {
    V4::new(17).packet(&udp(from_host4(17), payload))
}

#[test]
fn x4_01_traffic_class_is_the_tos_byte_and_the_flow_label_is_zero() {
    for tos in 0..=255u8 {
        let packet = V4 { tos, ..V4::new(17) }.packet(&udp(from_host4(17), b"x"));
        let out = run(&packet).forwarded();
        let first = u32::from_be_bytes(out[..4].try_into().unwrap());
        assert_eq!(first, 6 << 28 | u32::from(tos) << 20);
        let fixed = Policy {
            traffic_class: TrafficClass::Fixed(0x28),
            ..policy()
        };
        let out = run_policy(fixed, &packet).forwarded();
        assert_eq!(out[..4], [0x62, 0x80, 0, 0]);
    }
}

#[test]
fn x4_02_payload_length_leaves_out_header_and_options() {
    for words in 0..=10usize {
        let ip = V4 {
            options: vec![1; words * 4],
            ..V4::new(17)
        };
        let out = run(&ip.packet(&udp(from_host4(17), b"12345"))).forwarded();
        assert_eq!(word_at(&out, 4), 13);
        assert_eq!(out.len(), 53);
        assert_checksums(&out);
    }
}

#[test]
fn x4_03_l4_07_and_se_08_every_protocol_number_passes_or_is_refused_by_name() {
    for protocol in 0..=255u8 {
        let payload = pattern(32);
        let out = run(&V4::new(protocol).packet(&payload));
        match protocol {
            0 | 43 | 44 | 58 | 60 | 135 | 139 | 140 => {
                assert_eq!(out.dropped(), DropReason::ForeignProtocol, "{protocol}");
            }
            2 => assert_eq!(out.dropped(), DropReason::Igmp),
            1 | 6 | 17 => {}
            _ => {
                let out = out.forwarded();
                assert_eq!(out[6], protocol);
                assert_eq!(out[40..], payload, "untouched");
            }
        }
    }
}

#[test]
fn x4_03_addresses_and_numbers_of_a_plain_packet_byte_for_byte() {
    let mut packet = vec![
        0x45, 0x00, 0x00, 0x20, 0xab, 0xcd, 0x40, 0x00, 0x40, 0x11, 0, 0, 198, 51, 100, 7, 192, 0,
        2, 9, // UDP 4000 -> 53
        0x0f, 0xa0, 0x00, 0x35, 0x00, 0x0c, 0x00, 0x00, 0xde, 0xad, 0xbe, 0xef,
    ];
    fix_v4(&mut packet);
    let checksum = naive_checksum(&[&pseudo_v4(HOST4, NODE4, 17, 12), &packet[20..]]);
    packet[26..28].copy_from_slice(&checksum.to_be_bytes());
    let mut expected = vec![
        0x60, 0, 0, 0, 0x00, 0x0c, 17, 63, // 2001:db8:64::198.51.100.7
        0x20, 0x01, 0x0d, 0xb8, 0x00, 0x64, 0, 0, 0, 0, 0, 0, 198, 51, 100, 7, //
        0x20, 0x01, 0x0d, 0xb8, 0x00, 0x01, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, //
        0x0f, 0xa0, 0x00, 0x35, 0x00, 0x0c, 0x00, 0x00, 0xde, 0xad, 0xbe, 0xef,
    ];
    let checksum = naive_checksum(&[&pseudo_v6(host6(), node6(), 17, 12), &expected[40..]]);
    expected[46..48].copy_from_slice(&checksum.to_be_bytes());
    assert_eq!(run(&packet).forwarded(), expected);
}

#[test]
fn x4_04_eg_08_the_last_hop_is_told_to_the_sender() {
    let with_ttl = |ttl| run(&V4 { ttl, ..V4::new(17) }.packet(&udp(from_host4(17), b"x")));
    assert_eq!(with_ttl(2).forwarded()[7], 1);
    for ttl in [0, 1] {
        let (reason, reply) = with_ttl(ttl).replied();
        assert_eq!(reason, DropReason::HopLimit);
        assert_eq!(reply[20..22], [11, 0]);
        assert_eq!((v4_at(&reply, 12), v4_at(&reply, 16)), (OWN4, HOST4));
        assert_checksums(&reply);
    }
}

#[test]
fn x4_05_broken_headers_are_dropped_silently_and_padding_is_cut() {
    let good = plain(b"12345");
    let broken = |change: fn(&mut Vec<u8>)| {
        let mut packet = good.clone();
        change(&mut packet);
        run(&packet).dropped()
    };
    assert_eq!(broken(|p| p[10] ^= 1), DropReason::Ipv4HeaderChecksum);
    assert_eq!(broken(|p| p[0] = 0x55), DropReason::BadVersion);
    assert_eq!(broken(|p| p[0] = 0x44), DropReason::Ipv4HeaderLength);
    assert_eq!(broken(|p| p[3] = 19), DropReason::Ipv4TotalLength);
    assert_eq!(broken(|p| p[3] = 34), DropReason::Ipv4TotalLength);
    assert_eq!(broken(|p| p.truncate(19)), DropReason::Ipv4Truncated);
    assert_eq!(broken(|p| p.clear()), DropReason::BadVersion);

    let padded = [&good[..], &[0xee; 13]].concat();
    assert_eq!(run(&padded).forwarded(), run(&good).forwarded());
}

#[test]
fn x4_06_options_are_removed() {
    let kinds: [&[u8]; 4] = [
        &[7, 7, 4, 0, 0, 0, 0, 0],
        &[68, 8, 5, 0, 0, 0, 0, 0],
        &[130, 11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &[1, 1, 0, 99],
    ];
    for options in kinds {
        let ip = V4 {
            options: options.to_vec(),
            ..V4::new(17)
        };
        let out = run(&ip.packet(&udp(from_host4(17), b"x"))).forwarded();
        assert_eq!(out, run(&plain(b"x")).forwarded());
    }
}

#[test]
fn x4_07_an_unexpired_source_route_is_refused_and_a_used_up_one_is_not() {
    for kind in [131, 137] {
        for (pointer, refused) in [(4, true), (8, true), (11, true), (12, false)] {
            let mut options = vec![kind, 11, pointer];
            options.extend([192, 0, 2, 1, 192, 0, 2, 2, 0]);
            let ip = V4 {
                options,
                ..V4::new(17)
            };
            let out = run(&ip.packet(&udp(from_host4(17), b"x")));
            if refused {
                let (reason, reply) = out.replied();
                assert_eq!(
                    (reason, &reply[20..22]),
                    (DropReason::Ipv4SourceRoute, &[3, 5][..])
                );
            } else {
                out.forwarded();
            }
        }
    }
}

#[test]
fn x4_08_options_that_lie_about_their_length_end_in_a_drop() {
    for options in [
        [7, 0, 0, 0],
        [7, 1, 0, 0],
        [7, 5, 0, 0],
        [1, 1, 1, 7],
        [131, 2, 1, 1],
    ] {
        let ip = V4 {
            options: options.to_vec(),
            ..V4::new(17)
        };
        let out = run(&ip.packet(&udp(from_host4(17), b"x")));
        assert_eq!(out.dropped(), DropReason::Ipv4BadOption, "{options:?}");
    }
}

#[test]
fn x4_09_illegal_sources_are_dropped_silently_but_for_icmp_errors() {
    for src in [
        "0.0.0.1",
        "127.0.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
    ] {
        let src = src.parse().unwrap();
        let datagram = udp(|len| pseudo_v4(src, NODE4, 17, len), b"x");
        let packet = V4 { src, ..V4::new(17) }.packet(&datagram);
        assert_eq!(run(&packet).dropped(), DropReason::IllegalSource, "{src}");

        let error = V4 { src, ..V4::new(1) }.packet(&icmp4(3, 1, [0; 4], &quoted4(b"x")));
        let out = run(&error).forwarded();
        assert_eq!(v6_at(&out, 8), pref64().embed(src));
    }
}

#[test]
fn x4_10_df_set_and_too_big_gets_fragmentation_needed() {
    let policy = Policy {
        mtu6: 1280,
        ..policy()
    };
    let packet = |size: usize| {
        V4 {
            flags: DF,
            ..V4::new(17)
        }
        .packet(&udp(from_host4(17), &pattern(size - 28)))
    };
    assert_eq!(
        run_policy(policy.clone(), &packet(1260)).forwarded().len(),
        1280
    );
    let (reason, reply) = run_policy(policy, &packet(1261)).replied();
    assert_eq!((reason, &reply[20..22]), (DropReason::TooBig, &[3, 4][..]));
    assert_eq!(word_at(&reply, 26), 1260);
    assert_checksums(&reply);
}

#[test]
fn x4_11_a_fragment_with_df_costs_28_bytes_and_is_never_cut() {
    let policy = Policy {
        mtu6: 1280,
        ..policy()
    };
    // The last fragment of a datagram may have any length.
    let packet = |size: usize| {
        V4 {
            flags: DF | 2,
            ..V4::new(17)
        }
        .packet(&pattern(size - 20))
    };
    assert_eq!(
        run_policy(policy.clone(), &packet(1252)).forwarded().len(),
        1280
    );
    assert_eq!(
        run_policy(policy.clone(), &packet(1253)).dropped(),
        DropReason::TooBig
    );
    let first = V4 {
        flags: DF | MF,
        ..V4::new(17)
    };
    let body = udp(from_host4(17), &pattern(1240 - 8));
    let (reason, reply) = run_policy(policy, &first.packet(&body)).replied();
    assert_eq!((reason, word_at(&reply, 26)), (DropReason::TooBig, 1252));
}

#[test]
fn x4_12_without_df_the_packet_is_cut_to_the_lowest_mtu() {
    let packet = |size: usize| plain(&pattern(size - 28));
    assert_eq!(run(&packet(1260)).forwarded().len(), 1280);
    let pieces = run(&packet(1261)).pieces();
    assert_eq!(pieces.iter().map(Vec::len).collect::<Vec<_>>(), [1280, 57]);

    let larger = Policy {
        lowest_ipv6_mtu: 1500,
        ..policy()
    };
    assert_eq!(
        run_policy(larger.clone(), &packet(1480)).forwarded().len(),
        1500
    );
    assert_eq!(run_policy(larger, &packet(1481)).pieces().len(), 2);
    let capped = Policy {
        lowest_ipv6_mtu: 1500,
        mtu6: 1400,
        ..policy()
    };
    assert_eq!(run_policy(capped, &packet(1400)).pieces()[0].len(), 1400);
    assert!(
        Policy {
            lowest_ipv6_mtu: 1279,
            ..policy()
        }
        .validate()
        .is_err()
    );
    assert!(
        Policy {
            mtu6: 1279,
            ..policy()
        }
        .validate()
        .is_err()
    );
}

#[test]
fn x4_13_a_packet_that_fits_gets_no_fragment_header() {
    let out = run(&plain(&pattern(1260 - 28))).forwarded();
    assert_eq!((out.len(), out[6]), (1280, 17));
}

#[test]
fn x4_14_and_x4_15_a_fragment_gets_a_fragment_header_whatever_df_says() {
    let datagram = udp(from_host4(17), &pattern(56));
    let cases = [
        (MF, 0, true, &datagram[..]),
        (MF | 5, 5, true, &datagram),
        (9, 9, false, &datagram),
    ];
    for df in [0, DF] {
        for (flags, offset, more, body) in cases {
            let out = run(&V4 {
                flags: flags | df,
                ..V4::new(17)
            }
            .packet(body))
            .forwarded();
            assert_eq!(out[6], 44);
            assert_eq!(out[40..48], fragment(17, offset, more, 0xabcd));
            assert_eq!(word_at(&out, 4) as usize, 8 + body.len());
            if offset != 0 {
                assert_eq!(out[48..], *body, "later fragments have no transport header");
            }
        }
    }
}

#[test]
fn x4_16_pieces_share_the_number_and_keep_their_place() {
    let body = pattern(2000);
    for (flags, offset, more) in [(0, 0u16, false), (MF | 100, 100, true), (100, 100, false)] {
        let datagram = if offset == 0 {
            udp(from_host4(17), &body)
        } else {
            body.clone()
        };
        let pieces = run(&V4 {
            flags,
            ..V4::new(17)
        }
        .packet(&datagram))
        .pieces();
        let mut at = usize::from(offset) * 8;
        let mut whole = Vec::new();
        for (number, piece) in pieces.iter().enumerate() {
            let last = number + 1 == pieces.len();
            let payload = &piece[48..];
            assert!(piece.len() <= 1280 && (last || payload.len() % 8 == 0));
            let expected = fragment(17, (at / 8) as u16, !last || more, 0xabcd);
            assert_eq!(piece[40..48], expected);
            assert_eq!(word_at(piece, 4) as usize, piece.len() - 40);
            at += payload.len();
            whole.extend(payload);
        }
        assert_eq!(whole.len(), datagram.len());
        let transport = if offset == 0 { 8 } else { 0 };
        assert_eq!(whole[transport..], datagram[transport..]);
        if offset == 0 {
            let pseudo = pseudo_v6(host6(), node6(), 17, whole.len());
            assert_eq!(naive_checksum(&[&pseudo, &whole]), 0);
        }
    }
}

#[test]
fn x4_17_fragmented_icmp_is_dropped() {
    for flags in [MF, 3, MF | 3] {
        let packet = V4 {
            flags,
            ..V4::new(1)
        }
        .packet(&icmp4(8, 0, [0; 4], &pattern(56)));
        assert_eq!(run(&packet).refused(), DropReason::FragmentedIcmp);
    }
}

#[test]
fn se_12_and_se_13_fragments_that_cannot_be_honest_are_dropped() {
    let tcp_tiny = V4 {
        flags: MF,
        ..V4::new(6)
    }
    .packet(&pattern(16));
    assert_eq!(run(&tcp_tiny).dropped(), DropReason::FragmentTiny);
    let tcp_at_1 = V4 {
        flags: 1,
        ..V4::new(6)
    }
    .packet(&pattern(64));
    assert_eq!(run(&tcp_at_1).dropped(), DropReason::FragmentTiny);
    let odd = V4 {
        flags: MF | 3,
        ..V4::new(17)
    }
    .packet(&pattern(63));
    assert_eq!(run(&odd).dropped(), DropReason::FragmentLength);
    let too_long = V4 {
        flags: 0x1fff,
        ..V4::new(17)
    }
    .packet(&pattern(9));
    assert_eq!(run(&too_long).dropped(), DropReason::FragmentTooLong);
}
