//! ICMP in both directions: RFC 7915 sections 4.2, 4.3, 5.2 and 5.3, RFC 4884, row by row. The
//! tables are written out again here, from the RFC, and every number is tried.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod support;

use std::net::Ipv4Addr;

use support::*;
use xlat_core::policy::{Policy, UnmappedSource};
use xlat_core::{DropReason, Offload};

/// What an ICMPv4 type and code become, with the four bytes behind the checksum.
fn expected_v6(kind: u8, code: u8, pointer: u8) -> Option<(u8, u8, u8)> {
    Some(match (kind, code) {
        (3, 0 | 1 | 5 | 6 | 7 | 8 | 11 | 12) => (1, 0, 0),
        (3, 2) => (4, 1, 6),
        (3, 3) => (1, 4, 0),
        (3, 4) => (2, 0, 0),
        (3, 9 | 10 | 13 | 15) => (1, 1, 0),
        (11, 0 | 1) => (3, code, 0),
        (12, 0 | 2) => {
            let pointer = match pointer {
                0 | 1 => pointer,
                2 | 3 => 4,
                8 => 7,
                9 => 6,
                12..=15 => 8,
                16..=19 => 24,
                _ => return None,
            };
            (4, 0, pointer)
        }
        _ => return None,
    })
}

#[test]
fn i4_01_i4_02_echo_keeps_identifier_sequence_and_data() {
    for (kind, becomes) in [(8, 128), (0, 129)] {
        for len in [0, 1, 2, 55, 56] {
            let message = icmp4(kind, 0, [0x12, 0x34, 0x56, 0x78], &pattern(len));
            let out = run(&V4::new(1).packet(&message)).forwarded();
            assert_eq!((out[6], &out[40..42]), (58, &[becomes, 0][..]));
            assert_eq!(out[44..], message[4..]);
            assert_checksums(&out);
        }
    }
}

#[test]
fn i4_03_i4_04_i4_08_every_type_and_code_has_its_counterpart_or_none() {
    for kind in 0..=255u8 {
        for code in 0..=255u8 {
            if matches!(kind, 0 | 8) {
                continue;
            }
            let packet = error4(kind, code, [0; 4], &quoted4(b"x"));
            match (run(&packet), expected_v6(kind, code, 0)) {
                (Out::Drop(_), None) => {}
                (out, Some((becomes, code, _))) => {
                    assert_eq!(out.forwarded()[40..42], [becomes, code]);
                }
                (out, None) => panic!("{kind}/{code}: {out:?}"),
            }
        }
    }
}

#[test]
fn i4_05_an_unknown_protocol_points_at_the_next_header_field() {
    let out = run(&error4(3, 2, [0; 4], &quoted4(b"x"))).forwarded();
    assert_eq!(
        (&out[40..42], &out[44..48]),
        (&[4, 1][..], &[0, 0, 0, 6][..])
    );
    assert_checksums(&out);
}

#[test]
fn i4_06_the_mtu_grows_by_20_between_its_bounds() {
    let mtu = |policy: Policy, mtu: u16| {
        let [high, low] = mtu.to_be_bytes();
        let out = run_policy(policy, &error4(3, 4, [0, 0, high, low], &quoted4(b"x"))).forwarded();
        u32::from_be_bytes(out[44..48].try_into().unwrap())
    };
    assert_eq!(mtu(policy(), 1261), 1281);
    assert_eq!(mtu(policy(), 1260), 1280);
    assert_eq!(mtu(policy(), 576), 1280);
    assert_eq!(
        mtu(policy(), 9000),
        1500,
        "no more than the IPv6 side carries"
    );
    assert_eq!(
        mtu(
            Policy {
                mtu6: 9000,
                mtu4: 1300,
                ..policy()
            },
            9000
        ),
        1320
    );
}

#[test]
fn i4_07_a_missing_mtu_is_the_plateau_below_the_quoted_length() {
    let mtu = |len: usize, mtu6: u16| {
        let mut quoted = quoted4(b"x");
        quoted[2..4].copy_from_slice(&(len as u16).to_be_bytes());
        fix_v4(&mut quoted);
        let policy = Policy {
            mtu6,
            mtu4: 65535,
            ..policy()
        };
        let out = run_policy(policy, &error4(3, 4, [0; 4], &quoted)).forwarded();
        u32::from_be_bytes(out[44..48].try_into().unwrap())
    };
    assert_eq!(mtu(1500, 9000), 1512);
    assert_eq!(mtu(1500, 1500), 1500);
    assert_eq!(mtu(1300, 9000), 1280);
    assert_eq!(mtu(1492, 9000), 1280, "smaller than, not equal");
    assert_eq!(mtu(9000, 65535), 8186);
}

#[test]
fn i4_09_every_pointer_has_its_field_or_none() {
    for code in [0, 2] {
        for pointer in 0..=255u8 {
            let packet = error4(12, code, [pointer, 0, 0, 0], &quoted4(b"x"));
            match expected_v6(12, code, pointer) {
                Some((_, _, becomes)) => {
                    let out = run(&packet).forwarded();
                    assert_eq!(out[40..42], [4, 0]);
                    assert_eq!(out[44..48], [0, 0, 0, becomes], "{pointer}");
                }
                None => assert_eq!(run(&packet).dropped(), DropReason::IcmpPointer),
            }
        }
    }
    for code in [1, 3] {
        let packet = error4(12, code, [0; 4], &quoted4(b"x"));
        assert_eq!(run(&packet).dropped(), DropReason::IcmpCode);
    }
}

#[test]
fn i4_10_i6_09_a_corrupt_error_does_not_become_a_valid_one() {
    for at in [22, 24, 30, 50] {
        let mut packet = error4(3, 3, [0; 4], &quoted4(b"x"));
        packet[at] ^= 0x10;
        assert_eq!(run(&packet).dropped(), DropReason::IcmpChecksum, "{at}");
    }
    for at in [42, 50, 70, 90] {
        let mut packet = error6(1, 4, [0; 4], &quoted6(b"x"));
        packet[at] ^= 0x10;
        assert_eq!(run(&packet).dropped(), DropReason::IcmpChecksum, "{at}");
    }
}

#[test]
fn i4_11_messages_that_are_cut_off_are_dropped() {
    for len in 0..8 {
        let packet = V4::new(1).packet(&icmp4(3, 3, [0; 4], b"")[..len]);
        assert_eq!(run(&packet).dropped(), DropReason::IcmpTruncated);
    }
    for len in 0..20 {
        let packet = error4(3, 3, [0; 4], &quoted4(b"x")[..len]);
        assert_eq!(run(&packet).dropped(), DropReason::QuotedTruncated);
    }
}

/// What an ICMPv6 type and code become.
fn expected_v4(kind: u8, code: u8, pointer: u32) -> Option<(u8, u8, u8)> {
    Some(match (kind, code) {
        (1, 0 | 2 | 3) => (3, 1, 0),
        (1, 1) => (3, 10, 0),
        (1, 4) => (3, 3, 0),
        // RFC 4443 section 3.2: the receiver ignores the code.
        (2, _) => (3, 4, 0),
        (3, 0 | 1) => (11, code, 0),
        (4, 0) => {
            let pointer = match pointer {
                0 | 1 => pointer as u8,
                4 | 5 => 2,
                6 => 9,
                7 => 8,
                8..=23 => 12,
                24..=39 => 16,
                _ => return None,
            };
            (12, 0, pointer)
        }
        (4, 1) => (3, 2, 0),
        _ => return None,
    })
}

#[test]
fn i6_01_echo_keeps_identifier_sequence_and_data() {
    for (kind, becomes) in [(128, 8), (129, 0)] {
        for len in [0, 1, 2, 55, 56] {
            let message = icmp6(
                node6(),
                host6(),
                kind,
                0,
                [0x12, 0x34, 0x56, 0x78],
                &pattern(len),
            );
            let out = run(&V6::new(58).packet(&message)).forwarded();
            assert_eq!((out[9], &out[20..22]), (1, &[becomes, 0][..]));
            assert_eq!(out[24..], message[4..]);
            assert_checksums(&out);
        }
    }
}

#[test]
fn i6_01_an_echo_reply_of_nothing_but_zeros_has_a_checksum_that_verifies() {
    for len in [0, 1, 56] {
        let message = icmp6(node6(), host6(), 129, 0, [0; 4], &vec![0; len]);
        let out = run(&V6::new(58).packet(&message)).forwarded();
        assert_eq!(word_at(&out, 22), 0xffff);
        // The way back.
        let out = run(&V4::new(1).packet(&out[20..])).forwarded();
        assert_checksums(&out);
    }
}

#[test]
fn i6_02_i6_03_i6_07_every_type_and_code_has_its_counterpart_or_none() {
    for kind in 0..=255u8 {
        for code in 0..=255u8 {
            if matches!(kind, 128 | 129) {
                continue;
            }
            let packet = error6(kind, code, [0; 4], &quoted6(b"x"));
            match (run(&packet), expected_v4(kind, code, 0)) {
                (Out::Drop(_), None) => {}
                (out, Some((becomes, code, _))) => {
                    let out = out.forwarded();
                    assert_eq!(out[20..22], [becomes, code]);
                    assert_checksums(&out);
                }
                (out, None) => panic!("{kind}/{code}: {out:?}"),
            }
        }
    }
}

#[test]
fn i6_04_i6_06_the_mtu_shrinks_by_20_between_its_bounds() {
    let mtu = |policy: Policy, mtu: u32| {
        let packet = error6(2, 0, mtu.to_be_bytes(), &quoted6(b"x"));
        word_at(&run_policy(policy, &packet).forwarded(), 26)
    };
    assert_eq!(mtu(policy(), 1280), 1260);
    assert_eq!(mtu(policy(), 1400), 1380);
    assert_eq!(
        mtu(policy(), 9000),
        1480,
        "no more than the IPv6 side carries"
    );
    assert_eq!(
        mtu(
            Policy {
                mtu4: 1300,
                ..policy()
            },
            1500
        ),
        1300
    );
    assert_eq!(mtu(policy(), 600), 1260, "no less than IPv6 allows");
    assert_eq!(mtu(policy(), 0), 1260);
    let large = Policy {
        mtu4: 65535,
        mtu6: 65535,
        ..policy()
    };
    assert_eq!(mtu(large, 70_000), 65515);
}

#[test]
fn i6_05_a_quoted_fragment_header_counts_too() {
    let fragmented = [fragment(17, 0, true, 7), udp(from_host4(17), &pattern(56))].concat();
    let ip = V6 {
        src: host6(),
        dst: node6(),
        ..V6::new(44)
    };
    let packet = error6(2, 0, 1400u32.to_be_bytes(), &ip.packet(&fragmented));
    assert_eq!(word_at(&run(&packet).forwarded(), 26), 1372);
}

#[test]
fn i6_08_every_pointer_has_its_field_or_none() {
    for pointer in (0..=255).chain([256, 65536 + 6, u32::MAX]) {
        let packet = error6(4, 0, pointer.to_be_bytes(), &quoted6(b"x"));
        match expected_v4(4, 0, pointer) {
            Some((_, _, becomes)) => {
                let out = run(&packet).forwarded();
                assert_eq!(
                    (&out[20..22], &out[24..28]),
                    (&[12, 0][..], &[becomes, 0, 0, 0][..])
                );
            }
            None => assert_eq!(run(&packet).dropped(), DropReason::IcmpPointer, "{pointer}"),
        }
    }
}

/// The quoted packet of the test, as it must stand in the translated error.
fn requoted6(payload: &[u8]) -> Vec<u8> {
    let ip = V6 {
        src: node6(),
        dst: host6(),
        hop_limit: 9,
        ..V6::new(17)
    };
    ip.packet(&udp(|len| pseudo_v6(node6(), host6(), 17, len), payload))
}

fn requoted4(payload: &[u8]) -> Vec<u8> {
    let ip = V4 {
        src: HOST4,
        dst: NODE4,
        ttl: 9,
        id: 0,
        ..V4::new(17)
    };
    ip.packet(&udp(|len| pseudo_v4(HOST4, NODE4, 17, len), payload))
}

#[test]
fn ix_01_ix_03_ix_07_the_quoted_packet_is_translated_but_for_its_hop_limit() {
    let out = run(&error4(3, 3, [0; 4], &quoted4(&pattern(40)))).forwarded();
    assert_eq!(out[48..], requoted6(&pattern(40)));
    assert_eq!((word_at(&out, 4) as usize, out[7]), (out.len() - 40, 63));
    assert_checksums(&out);
    let out = run(&error6(1, 4, [0; 4], &quoted6(&pattern(40)))).forwarded();
    assert_eq!(out[28..], requoted4(&pattern(40)));
    assert_eq!((word_at(&out, 2) as usize, out[8]), (out.len(), 63));
    assert_checksums(&out);
}

#[test]
fn ix_01_quoted_echo_and_tcp_are_translated_too() {
    let ip = V4 {
        src: NODE4,
        dst: HOST4,
        ..V4::new(1)
    };
    let echo = ip.packet(&icmp4(8, 0, [0, 1, 0, 2], &pattern(30)));
    let out = run(&error4(11, 0, [0; 4], &echo)).forwarded();
    let expected = icmp6(node6(), host6(), 128, 0, [0, 1, 0, 2], &pattern(30));
    assert_eq!((out[48 + 6], &out[88..]), (58, &expected[..]));

    let ip = V6 {
        src: host6(),
        dst: node6(),
        ..V6::new(58)
    };
    let echo = ip.packet(&icmp6(host6(), node6(), 129, 0, [0, 1, 0, 2], &pattern(30)));
    let out = run(&error6(3, 0, [0; 4], &echo)).forwarded();
    assert_eq!(
        (out[28 + 9], &out[48..]),
        (1, &icmp4(0, 0, [0, 1, 0, 2], &pattern(30))[..])
    );

    let ip = V4 {
        src: NODE4,
        dst: HOST4,
        ..V4::new(6)
    };
    let segment = tcp(
        |len| pseudo_v4(NODE4, HOST4, 6, len),
        0x18,
        &[],
        &pattern(30),
    );
    let out = run(&error4(11, 0, [0; 4], &ip.packet(&segment))).forwarded();
    let expected = tcp(
        |len| pseudo_v6(node6(), host6(), 6, len),
        0x18,
        &[],
        &pattern(30),
    );
    assert_eq!(out[88..], expected);
}

#[test]
fn ix_02_an_error_about_an_error_is_dropped() {
    let ip = V4 {
        src: NODE4,
        dst: HOST4,
        ..V4::new(1)
    };
    let inner = ip.packet(&icmp4(3, 3, [0; 4], &quoted4(b"x")));
    assert_eq!(
        run(&error4(3, 3, [0; 4], &inner)).dropped(),
        DropReason::QuotedIcmp
    );
    let ip = V6 {
        src: host6(),
        dst: node6(),
        ..V6::new(58)
    };
    let inner = ip.packet(&icmp6(host6(), node6(), 1, 4, [0; 4], &quoted6(b"x")));
    assert_eq!(
        run(&error6(1, 4, [0; 4], &inner)).dropped(),
        DropReason::QuotedIcmp
    );
}

#[test]
fn ix_04_ix_05_a_quote_may_end_anywhere_behind_its_ip_header() {
    let whole = quoted4(&pattern(1472));
    let expected = requoted6(&pattern(1472));
    for len in (20..80).chain([548, 1000]) {
        let out = run(&error4(3, 3, [0; 4], &whole[..len])).forwarded();
        let quoted = &out[48..];
        assert_eq!(quoted.len(), len + 20);
        // The checksum lies at 26 of the IPv4 quote; cut in the middle it stays as it is.
        let same = if len == 27 { 46 } else { quoted.len() };
        assert_eq!(quoted[..same], expected[..same], "{len}");
        assert_checksums(&out);
    }
    let whole = quoted6(&pattern(1452));
    let expected = requoted4(&pattern(1452));
    for len in 40..100 {
        let out = run(&error6(1, 4, [0; 4], &whole[..len])).forwarded();
        let quoted = &out[28..];
        let same = if len == 47 { 26 } else { quoted.len() };
        // DF follows the length of the packet that was quoted (X6-03).
        assert_eq!(quoted[6], 0x40);
        assert_eq!(quoted[12..same], expected[12..same], "{len}");
        assert_eq!(word_at(quoted, 2), 1480);
        assert_checksums(&out);
    }
}

#[test]
fn ix_05_a_quoted_udp_checksum_of_zero_stays_zero() {
    let mut quoted = quoted4(b"x");
    quoted[26..28].fill(0);
    let out = run(&error4(3, 3, [0; 4], &quoted)).forwarded();
    assert_eq!(word_at(&out, 94), 0);
}

#[test]
fn ix_06_quoted_fragments_options_and_extension_headers() {
    let ip = V4 {
        src: NODE4,
        dst: HOST4,
        flags: MF | 5,
        options: vec![1; 8],
        ..V4::new(17)
    };
    let out = run(&error4(11, 1, [0; 4], &ip.packet(&pattern(40)))).forwarded();
    assert_eq!(out[54], 44);
    assert_eq!(out[88..96], fragment(17, 5, true, 0xabcd));
    assert_eq!(word_at(&out, 52), 48);
    assert_eq!(out[96..], pattern(40));

    let body = [
        vec![44, 0, 1, 4, 0, 0, 0, 0],
        fragment(17, 5, true, 0x1_abcd),
        pattern(40),
    ]
    .concat();
    let ip = V6 {
        src: host6(),
        dst: node6(),
        ..V6::new(0)
    };
    let out = run(&error6(3, 1, [0; 4], &ip.packet(&body))).forwarded();
    let quoted = &out[28..];
    assert_eq!((word_at(quoted, 4), word_at(quoted, 6)), (0xabcd, MF | 5));
    assert_eq!((word_at(quoted, 2), &quoted[20..]), (60, &pattern(40)[..]));
    assert_eq!(naive_checksum(&[&quoted[..20]]), 0);
}

#[test]
fn ix_07_a_wrong_quoted_header_checksum_is_carried_along_unless_verified() {
    let mut quoted = quoted4(b"x");
    quoted[10] ^= 1;
    let packet = error4(3, 3, [0; 4], &quoted);
    // What is quoted towards IPv6 has no header checksum: the error is as it would be otherwise.
    let sound = run(&error4(3, 3, [0; 4], &quoted4(b"x"))).forwarded();
    assert_eq!(run(&packet).forwarded(), sound);
    let strict = Policy {
        tolerate_quoted_checksum: false,
        ..policy()
    };
    let dropped = run_policy(strict, &packet).dropped();
    assert_eq!(dropped, DropReason::QuotedHeader);
}

#[test]
fn ix_08_errors_are_cut_to_the_size_of_their_family() {
    let out = run(&error4(3, 3, [0; 4], &quoted4(&pattern(1444)))).forwarded();
    assert_eq!((out.len(), word_at(&out, 4)), (1280, 1240));
    assert_checksums(&out);
    let packet = error6(1, 4, [0; 4], &quoted6(&pattern(652)));
    let out = run(&packet).forwarded();
    assert_eq!((out.len(), word_at(&out, 2)), (576, 576));
    assert_checksums(&out);
    let larger = Policy {
        icmpv4_error_size: 1280,
        ..policy()
    };
    assert_eq!(run_policy(larger, &packet).forwarded().len(), 708);
}

/// An extension structure with one opaque object.
fn extension(len: usize) -> Vec<u8> {
    let mut bytes = vec![0x20, 0, 0, 0];
    bytes.extend(((len - 4) as u16).to_be_bytes());
    bytes.extend([9, 1]);
    bytes.resize(len, 0x77);
    let checksum = naive_checksum(&[&bytes]);
    bytes[2..4].copy_from_slice(&checksum.to_be_bytes());
    bytes
}

#[test]
fn ix_09_the_length_of_the_quote_changes_its_unit() {
    // 19 units of 8 bytes are 152 bytes; 20 less are 33 units of 4.
    let mut quoted = quoted6(&pattern(104));
    assert_eq!(quoted.len(), 152);
    let body = [quoted.clone(), extension(16)].concat();
    for kind in [1, 3] {
        let out = run(&error6(kind, 0, [19, 0, 0, 0], &body)).forwarded();
        assert_eq!(out[25], 33);
        assert_eq!(out[28 + 132..], extension(16));
        assert_checksums(&out);
    }
    // The other way 132 bytes are 33 units, become 152 bytes, and are 19 units.
    let body = [quoted4(&pattern(104)), extension(16)].concat();
    for kind in [3, 11] {
        let out = run(&error4(kind, 1, [0, 33, 0, 0], &body)).forwarded();
        assert_eq!(out[44], 19);
        assert_eq!(out[48 + 152..], extension(16));
        assert_checksums(&out);
    }
    // A short quote is padded to 128 bytes; one that is no multiple of 8 to the next.
    let body = [quoted4(b"12345678"), extension(8)].concat();
    let out = run(&error4(11, 0, [0, 9, 0, 0], &body)).forwarded();
    assert_eq!((out[44], out.len()), (16, 48 + 128 + 8));
    assert_eq!(out[48 + 56..48 + 128], [0; 72]);
    assert_eq!(out[48 + 128..], extension(8));
    quoted.resize(160, 0);
    let body = [quoted4(&pattern(108)), extension(8)].concat();
    let out = run(&error4(11, 0, [0, 34, 0, 0], &body)).forwarded();
    assert_eq!((out[44], out.len()), (20, 48 + 160 + 8));
    assert_checksums(&out);
}

#[test]
fn ix_10_no_extension_where_the_other_family_has_no_length() {
    let body = [quoted4(&pattern(104)), extension(16)].concat();
    for (kind, code, rest) in [
        (3, 2, [0, 33, 0, 0]),
        (3, 4, [0, 33, 5, 220]),
        (12, 0, [0, 33, 0, 0]),
    ] {
        let out = run(&error4(kind, code, rest, &body)).forwarded();
        assert_eq!(out.len(), 48 + 152, "{kind}/{code}");
        assert_checksums(&out);
    }
    let beyond = error4(3, 3, [0, 34, 0, 0], &quoted4(&pattern(104)));
    assert_eq!(run(&beyond).dropped(), DropReason::IcmpExtensionLength);
    let beyond = error6(1, 4, [20, 0, 0, 0], &quoted6(&pattern(104)));
    assert_eq!(run(&beyond).dropped(), DropReason::IcmpExtensionLength);
}

#[test]
fn ix_11_the_quote_gives_way_down_to_128_bytes_then_the_extension_goes_whole() {
    let policy = Policy {
        icmpv4_error_size: 576,
        ..policy()
    };
    let error = |quoted: usize, len: usize| {
        let body = [quoted6(&pattern(quoted - 48)), extension(len)].concat();
        let packet = error6(3, 0, [(quoted / 8) as u8, 0, 0, 0], &body);
        run_policy(policy.clone(), &packet).forwarded()
    };
    // 548 bytes are left behind the ICMP header.
    let out = error(400, 100);
    assert_eq!((out[25], out.len()), (95, 28 + 380 + 100));
    let out = error(600, 100);
    assert_eq!((out[25], out.len()), (112, 28 + 448 + 100));
    assert_eq!(out[28 + 448..], extension(100));
    let out = error(600, 420);
    assert_eq!((out[25], out.len()), (32, 28 + 128 + 420));
    let out = error(600, 424);
    assert_eq!(
        (out[25], out.len()),
        (0, 576),
        "the extension is gone, the quote is back"
    );
    assert_checksums(&out);
}

#[test]
fn ix_12_a_router_without_an_ipv4_address_borrows_one_of_a_pool() {
    let router = "2001:db8:ffff::1".parse().unwrap();
    let message = icmp6(router, host6(), 3, 0, [0; 4], &quoted6(b"x"));
    let packet = V6 {
        src: router,
        ..V6::new(58)
    }
    .packet(&message);
    let pool = "203.0.113.128/29".parse().unwrap();
    let policy = Policy {
        unmapped_source: UnmappedSource::Pool(pool),
        ..policy()
    };
    let mut translator = translator(policy);
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..100 {
        let out = run_with(&mut translator, &packet, Offload::NONE).forwarded();
        assert!(pool.contains(v4_at(&out, 12)));
        assert_checksums(&out);
        seen.insert(v4_at(&out, 12));
    }
    assert!(seen.len() > 4, "picked at random: {seen:?}");
}

#[test]
fn ix_13_a_router_without_an_ipv4_address_is_named_in_an_extension() {
    let router = "2001:db8:ffff::1".parse().unwrap();
    for (kind, code, becomes) in [(1, 0, 3), (3, 0, 11)] {
        let message = icmp6(router, host6(), kind, code, [0; 4], &quoted6(b"x"));
        let out = run(&V6 {
            src: router,
            ..V6::new(58)
        }
        .packet(&message))
        .forwarded();
        assert_eq!(v4_at(&out, 12), Ipv4Addr::new(192, 0, 0, 8));
        assert_eq!((out[20], out[25]), (becomes, 32));
        let object = &out[28 + 128..];
        assert_eq!(object.len(), 28);
        assert_eq!(object[..2], [0x20, 0]);
        assert_eq!(naive_checksum(&[object]), 0);
        // Length 24, class 5, an address; AFI 2.
        assert_eq!(object[4..12], [0, 24, 5, 4, 0, 2, 0, 0]);
        assert_eq!(v6_at(object, 12), router);
        assert_checksums(&out);
    }
    let mapped = run(&error6(3, 0, [0; 4], &quoted6(b"x"))).forwarded();
    assert_eq!(
        (v4_at(&mapped, 12), mapped[25]),
        (NODE4, 0),
        "not where the source has an address"
    );
}

#[test]
fn ix_13_an_extension_that_is_there_gets_the_object_behind_its_own() {
    let router = "2001:db8:ffff::1".parse().unwrap();
    let body = [quoted6(&pattern(104)), extension(16)].concat();
    let message = icmp6(router, host6(), 3, 0, [19, 0, 0, 0], &body);
    let out = run(&V6 {
        src: router,
        ..V6::new(58)
    }
    .packet(&message))
    .forwarded();
    let structure = &out[28 + 132..];
    assert_eq!(structure.len(), 40);
    assert_eq!(structure[4..16], extension(16)[4..]);
    assert_eq!(v6_at(structure, 24), router);
    assert_eq!(naive_checksum(&[structure]), 0);
    assert_checksums(&out);
}

#[test]
fn ix_15_an_error_about_a_packet_of_strangers_is_dropped() {
    let stranger = "2001:db8:ffff::1".parse().unwrap();
    let ip = V6 {
        src: stranger,
        dst: node6(),
        ..V6::new(17)
    };
    let quoted = ip.packet(&udp(|len| pseudo_v6(stranger, node6(), 17, len), b"x"));
    assert_eq!(
        run(&error6(1, 4, [0; 4], &quoted)).dropped(),
        DropReason::QuotedUnmapped
    );
}
