//! Checksums, ports and payloads (RFC 7915 sections 4.5 and 5.5, RFC 1624), and super-packets.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod support;

use support::*;
use xlat_core::offload::{Checksum, Gso, GsoKind, PartialChecksum};
use xlat_core::policy::{MssClamp, Policy, UdpZeroChecksum};
use xlat_core::{DropReason, Offload};

const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

fn tcp4(flags: u8, options: &[u8], payload: &[u8]) -> Vec<u8> {
    V4::new(6).packet(&tcp(from_host4(6), flags, options, payload))
}

fn tcp6(flags: u8, options: &[u8], payload: &[u8]) -> Vec<u8> {
    V6::new(6).packet(&tcp(from_node6(6), flags, options, payload))
}

#[test]
fn l4_01_se_27_checksums_follow_and_the_payload_stays() {
    for len in [0, 1, 2, 3, 500, 1199] {
        let out = run(&tcp4(ACK, &[1, 1, 1, 0], &pattern(len))).forwarded();
        assert_checksums(&out);
        assert_eq!(out[64..], pattern(len));
        let out = run(&tcp6(ACK, &[1, 1, 1, 0], &pattern(len))).forwarded();
        assert_checksums(&out);
        assert_eq!(out[44..], pattern(len));
    }
}

/// A datagram whose checksum over `pseudo` is `wanted`, by its last two bytes.
fn udp_with_sum(pseudo: &[u8], wanted: u16) -> Vec<u8> {
    let mut bytes = vec![0x0f, 0xa0, 0, 0x35, 0, 12, 0, 0, 0xaa, 0xbb, 0, 0];
    let sum = naive_checksum(&[pseudo, &bytes]);
    // The field holds the complement of the sum of all else.
    let last = (u32::from(!wanted) + 0xffff - u32::from(!sum)) % 0xffff;
    bytes[10..12].copy_from_slice(&(last as u16).to_be_bytes());
    bytes
}

#[test]
fn l4_02_a_computed_udp_checksum_of_zero_is_sent_as_ffff() {
    // To IPv6: the datagram whose IPv6 checksum would be zero.
    let mut datagram = udp_with_sum(&pseudo_v6(host6(), node6(), 17, 12), 0);
    let sum = naive_checksum(&[&pseudo_v4(HOST4, NODE4, 17, 12), &datagram]);
    datagram[6..8].copy_from_slice(&sum.to_be_bytes());
    let out = run(&V4::new(17).packet(&datagram)).forwarded();
    assert_eq!(word_at(&out, 46), 0xffff);
    // To IPv4.
    let mut datagram = udp_with_sum(&pseudo_v4(NODE4, HOST4, 17, 12), 0);
    let sum = naive_checksum(&[&pseudo_v6(node6(), host6(), 17, 12), &datagram]);
    datagram[6..8].copy_from_slice(&sum.to_be_bytes());
    let out = run(&V6::new(17).packet(&datagram)).forwarded();
    assert_eq!(word_at(&out, 26), 0xffff);
    // TCP has no such rule: 0 stays 0.
    let mut segment = tcp(from_host4(6), ACK, &[], &[0, 0]);
    segment[16..18].fill(0);
    let sum = naive_checksum(&[&pseudo_v6(host6(), node6(), 6, 22), &segment]);
    segment[20..22].copy_from_slice(&sum.to_be_bytes());
    let sum = naive_checksum(&[&pseudo_v4(HOST4, NODE4, 6, 22), &segment]);
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    let out = run(&V4::new(6).packet(&segment)).forwarded();
    assert_eq!(word_at(&out, 56), 0);
}

#[test]
fn l4_03_a_wrong_checksum_stays_wrong() {
    for bit in 0..16 {
        let mut packet = tcp4(ACK, &[], &pattern(40));
        packet[36 + bit / 8] ^= 1 << (bit % 8);
        let out = run(&packet).forwarded();
        let pseudo = pseudo_v6(host6(), node6(), 6, 60);
        assert_ne!(naive_checksum(&[&pseudo, &out[40..]]), 0, "bit {bit}");
        let mut packet = tcp6(ACK, &[], &pattern(40));
        packet[56 + bit / 8] ^= 1 << (bit % 8);
        let out = run(&packet).forwarded();
        let pseudo = pseudo_v4(NODE4, HOST4, 6, 60);
        assert_ne!(naive_checksum(&[&pseudo, &out[20..]]), 0, "bit {bit}");
    }
}

#[test]
fn l4_04_udp_without_checksum_to_ipv6_by_policy_and_never_as_a_fragment() {
    let mut datagram = udp(from_host4(17), &pattern(101));
    datagram[6..8].fill(0);
    let packet = V4::new(17).packet(&datagram);
    let with = |way| Policy {
        udp_zero_checksum: way,
        ..policy()
    };
    assert_checksums(&run(&packet).forwarded());
    let dropped = run_policy(with(UdpZeroChecksum::Drop), &packet).refused();
    assert_eq!(dropped, DropReason::UdpZeroChecksum);
    let forwarded = run_policy(with(UdpZeroChecksum::Forward), &packet).forwarded();
    assert_eq!(word_at(&forwarded, 46), 0);
    let first = V4 {
        flags: MF,
        ..V4::new(17)
    }
    .packet(&datagram[..104]);
    for way in [
        UdpZeroChecksum::Compute,
        UdpZeroChecksum::Drop,
        UdpZeroChecksum::Forward,
    ] {
        let dropped = run_policy(with(way), &first).refused();
        assert_eq!(dropped, DropReason::UdpZeroChecksum);
    }
}

#[test]
fn l4_04_a_large_datagram_without_checksum_gets_one_before_it_is_cut() {
    let mut datagram = udp(from_host4(17), &pattern(2000));
    datagram[6..8].fill(0);
    let pieces = run(&V4::new(17).packet(&datagram)).pieces();
    let whole: Vec<u8> = pieces
        .iter()
        .flat_map(|piece| piece[48..].to_vec())
        .collect();
    assert_eq!(
        naive_checksum(&[&pseudo_v6(host6(), node6(), 17, 2008), &whole]),
        0
    );
}

#[test]
fn l4_06_udp_without_checksum_to_ipv4_is_dropped_unless_allowed() {
    let mut datagram = udp(from_node6(17), b"payload");
    datagram[6..8].fill(0);
    let packet = V6::new(17).packet(&datagram);
    assert_eq!(run(&packet).refused(), DropReason::UdpZeroChecksum);
    let allowed = Policy {
        udp_zero_checksum: UdpZeroChecksum::Forward,
        ..policy()
    };
    assert_eq!(word_at(&run_policy(allowed, &packet).forwarded(), 26), 0);
}

#[test]
fn l4_09_later_fragments_are_not_touched() {
    for len in [8, 16, 24] {
        let packet = V4 {
            flags: MF | 2,
            ..V4::new(6)
        }
        .packet(&pattern(len));
        assert_eq!(run(&packet).forwarded()[48..], pattern(len));
        let body = [fragment(6, 2, true, 1), pattern(len)].concat();
        assert_eq!(
            run(&V6::new(44).packet(&body)).forwarded()[20..],
            pattern(len)
        );
    }
    for len in [8, 16] {
        let packet = V4 {
            flags: MF,
            ..V4::new(6)
        }
        .packet(&pattern(len));
        assert_eq!(
            run(&packet).dropped(),
            DropReason::FragmentTiny,
            "no checksum inside"
        );
    }
}

#[test]
fn l4_10_the_segment_size_of_a_syn_is_clamped_wherever_it_stands() {
    let clamp = |mss_clamp| Policy {
        mss_clamp,
        ..policy()
    };
    for lead in [&[][..], &[1], &[1, 1, 1]] {
        let mut options = [lead, &[2, 4, 0x05, 0xb4][..]].concat();
        options.resize(8, 0);
        let at = lead.len() + 2;
        for flags in [SYN, SYN | ACK] {
            let packet = tcp4(flags, &options, b"");
            let out = run_policy(clamp(MssClamp::To(1200)), &packet).forwarded();
            assert_eq!(word_at(&out, 60 + at), 1200);
            assert_checksums(&out);
            let out = run_policy(clamp(MssClamp::Auto), &tcp6(flags, &options, b"")).forwarded();
            assert_eq!(word_at(&out, 40 + at), 1440);
            assert_checksums(&out);
            let out = run_policy(clamp(MssClamp::To(9000)), &packet).forwarded();
            assert_eq!(word_at(&out, 60 + at), 1460, "never raised");
        }
        let out = run_policy(clamp(MssClamp::To(1200)), &tcp4(ACK, &options, b"")).forwarded();
        assert_eq!(word_at(&out, 60 + at), 1460, "not a SYN");
    }
    for broken in [
        [2, 3, 5, 180],
        [2, 40, 5, 180],
        [3, 0, 0, 0],
        [2, 1, 5, 180],
    ] {
        let out = run_policy(clamp(MssClamp::To(9)), &tcp4(SYN, &broken, b"")).forwarded();
        assert_eq!(out[60..64], broken);
    }
}

fn partial(start: u16, offset: u16) -> Checksum {
    Checksum::Partial(PartialChecksum { start, offset })
}

fn gso(kind: GsoKind, size: u16) -> Option<Gso> {
    Some(Gso {
        kind,
        size,
        ecn: false,
    })
}

/// Puts the folded pseudo-header sum in the place of the checksum, as a stack does that leaves the
/// rest to the network card.
fn put_off(packet: &mut [u8], at: usize, place: usize, pseudo: &[u8]) {
    let sum = !naive_checksum(&[pseudo]);
    packet[at + place..at + place + 2].copy_from_slice(&sum.to_be_bytes());
}

#[test]
fn l4_11_a_partial_checksum_stays_partial() {
    let mut packet = tcp4(ACK, &[], &pattern(100));
    put_off(&mut packet, 20, 16, &pseudo_v4(HOST4, NODE4, 6, 120));
    let offload = Offload {
        checksum: partial(20, 16),
        gso: None,
    };
    let Out::Forward(out, offload) = run_with(&mut translator(policy()), &packet, offload) else {
        panic!("forwarded");
    };
    assert_eq!(offload.checksum, partial(40, 16));
    assert_eq!(
        word_at(&out, 56),
        !naive_checksum(&[&pseudo_v6(host6(), node6(), 6, 120)])
    );

    let mut packet = V6::new(17).packet(&udp(from_node6(17), &pattern(100)));
    put_off(&mut packet, 40, 6, &pseudo_v6(node6(), host6(), 17, 108));
    let offload = Offload {
        checksum: partial(40, 6),
        gso: None,
    };
    let Out::Forward(out, offload) = run_with(&mut translator(policy()), &packet, offload) else {
        panic!("forwarded");
    };
    assert_eq!(offload.checksum, partial(20, 6));
    assert_eq!(
        word_at(&out, 26),
        !naive_checksum(&[&pseudo_v4(NODE4, HOST4, 17, 108)])
    );
}

#[test]
fn l4_11_a_partial_checksum_is_completed_before_a_packet_is_cut() {
    let mut packet = V4::new(17).packet(&udp(from_host4(17), &pattern(2000)));
    put_off(&mut packet, 20, 6, &pseudo_v4(HOST4, NODE4, 17, 2008));
    let offload = Offload {
        checksum: partial(20, 6),
        gso: None,
    };
    let pieces = run_with(&mut translator(policy()), &packet, offload).pieces();
    let whole: Vec<u8> = pieces
        .iter()
        .flat_map(|piece| piece[48..].to_vec())
        .collect();
    assert_eq!(
        naive_checksum(&[&pseudo_v6(host6(), node6(), 17, 2008), &whole]),
        0
    );
}

#[test]
fn l4_11_a_partial_checksum_of_another_protocol_is_completed() {
    let mut packet = V6::new(58).packet(&icmp6(node6(), host6(), 128, 0, [0, 1, 0, 1], b"ping"));
    put_off(&mut packet, 40, 2, &pseudo_v6(node6(), host6(), 58, 12));
    let offload = Offload {
        checksum: partial(40, 2),
        gso: None,
    };
    let Out::Forward(out, offload) = run_with(&mut translator(policy()), &packet, offload) else {
        panic!("forwarded");
    };
    assert_eq!(offload.checksum, Checksum::Whole);
    assert_checksums(&out);
}

/// A TCP super-packet with a put-off checksum.
fn super4(df: u16, payload: usize) -> Vec<u8> {
    let ip = V4 {
        flags: df,
        ..V4::new(6)
    };
    let mut packet = ip.packet(&tcp(from_host4(6), ACK, &[], &pattern(payload)));
    put_off(
        &mut packet,
        20,
        16,
        &pseudo_v4(HOST4, NODE4, 6, 20 + payload),
    );
    packet
}

#[test]
fn l4_11_a_super_packet_goes_whole_and_keeps_its_segment_size() {
    let offload = Offload {
        checksum: partial(20, 16),
        gso: gso(GsoKind::TcpV4, 1400),
    };
    let out = run_with(&mut translator(policy()), &super4(DF, 60_000), offload);
    let Out::Forward(out, offload) = out else {
        panic!("{out:?}")
    };
    assert_eq!(out.len(), 60_060);
    assert_eq!(offload.gso, gso(GsoKind::TcpV6, 1400));
    assert_eq!(offload.checksum, partial(40, 16));
    assert_eq!(out[60..], pattern(60_000));
}

#[test]
fn l4_11_the_mtu_is_about_segments_and_the_answer_quotes_the_first() {
    let offload = |size| Offload {
        checksum: partial(20, 16),
        gso: gso(GsoKind::TcpV4, size),
    };
    let fits = run_with(&mut translator(policy()), &super4(DF, 9000), offload(1440));
    assert!(matches!(fits, Out::Forward(..)), "{fits:?}");
    let out = run_with(&mut translator(policy()), &super4(DF, 9000), offload(1441));
    let (reason, reply) = out.replied();
    assert_eq!((reason, word_at(&reply, 26)), (DropReason::TooBig, 1480));
    let quoted = &reply[28..];
    assert_eq!(
        word_at(quoted, 2),
        1481,
        "as long as the segment on the wire"
    );
    assert_eq!(naive_checksum(&[&quoted[..20]]), 0);
    assert_checksums(&reply);
}

#[test]
fn l4_11_segments_without_df_get_smaller_instead_of_cut() {
    let offload = Offload {
        checksum: partial(20, 16),
        gso: gso(GsoKind::TcpV4, 1460),
    };
    let Out::Forward(out, offload) = run_with(&mut translator(policy()), &super4(0, 9000), offload)
    else {
        panic!("forwarded");
    };
    assert_eq!((out.len(), offload.gso), (9060, gso(GsoKind::TcpV6, 1220)));
}

#[test]
fn l4_11_datagrams_without_df_are_taken_apart_and_cut() {
    let body = pattern(3000);
    let mut packet = V4::new(17).packet(&udp(from_host4(17), &body));
    put_off(&mut packet, 20, 6, &pseudo_v4(HOST4, NODE4, 17, 3008));
    let offload = Offload {
        checksum: partial(20, 6),
        gso: gso(GsoKind::Udp, 1400),
    };
    let pieces = run_with(&mut translator(policy()), &packet, offload).pieces();
    // Two datagrams of 1400 bytes in two pieces each, and one of 200 bytes whole.
    let lens: Vec<usize> = pieces.iter().map(Vec::len).collect();
    assert_eq!(lens, [1280, 224, 1280, 224, 248]);
    for (number, part) in body.chunks(1400).enumerate() {
        let whole: Vec<u8> = match number {
            2 => pieces[4][40..].to_vec(),
            at => [&pieces[2 * at][48..], &pieces[2 * at + 1][48..]].concat(),
        };
        assert_eq!(whole[..4], packet[20..24]);
        assert_eq!(word_at(&whole, 4) as usize, whole.len());
        assert_eq!(whole[8..], *part);
        let pseudo = pseudo_v6(host6(), node6(), 17, whole.len());
        assert_eq!(naive_checksum(&[&pseudo, &whole]), 0);
    }
    assert_eq!(
        pieces[0][44..48],
        pieces[1][44..48],
        "one number for a datagram"
    );
    assert_ne!(pieces[0][44..48], pieces[2][44..48], "another for the next");
    assert_eq!(pieces[4][6], 17, "what fits has no Fragment header");
}

#[test]
fn l4_11_a_super_packet_of_datagrams_whose_length_ipv4_cannot_say_is_cut() {
    // 65535 bytes behind the IPv6 header; 20 more do not fit the length of an IPv4 packet.
    let body = pattern(65_535 - 8);
    for (size, fits) in [(1032, true), (1460, true), (1472, true), (1473, false)] {
        let (packet, offload) = super_packet::super_packet(false, false, 0, size, &body);
        let out = run_with(&mut translator(policy()), &packet, offload);
        let Out::Split(pieces) = out else {
            assert!(!fits, "{size}: {out:?}");
            continue;
        };
        assert!(fits, "{size}");
        let size = usize::from(size);
        assert_eq!(pieces.len(), body.len().div_ceil(size));
        let mut payload = Vec::new();
        for (number, piece) in pieces.iter().enumerate() {
            let (packet, datagram) = piece.split_at(20);
            assert_eq!(usize::from(word_at(packet, 2)), piece.len());
            assert_eq!(naive_checksum(&[packet]), 0);
            let pseudo = pseudo_v4(NODE4, HOST4, 17, datagram.len());
            assert_eq!(naive_checksum(&[&pseudo, datagram]), 0);
            let id = word_at(&pieces[0], 4).wrapping_add(number as u16);
            assert_eq!(word_at(packet, 4), id);
            payload.extend_from_slice(&datagram[8..]);
        }
        assert!(payload == body);
    }
    // TCP of that length is no kernel's.
    let (packet, offload) = super_packet::super_packet(false, true, 0, 1000, &pattern(65_500));
    let out = run_with(&mut translator(policy()), &packet, offload);
    assert_eq!(out.dropped(), DropReason::TooLong);
}

#[test]
fn x6_04_a_super_packet_takes_a_number_for_each_of_its_segments() {
    // Segments so small that their headers weigh more than what they carry, and larger ones.
    for (is_tcp, size, body) in [(false, 5, 320), (false, 1000, 60_000), (true, 1000, 44_000)] {
        let (packet, offload) = super_packet::super_packet(false, is_tcp, 0, size, &pattern(body));
        let mut translator = translator(policy());
        let mut id = || match run_with(&mut translator, &packet, offload) {
            Out::Forward(out, _) => word_at(&out, 4),
            other => panic!("{other:?}"),
        };
        let count = body.div_ceil(usize::from(size)) as u16;
        let first = id();
        assert_eq!(id(), first.wrapping_add(count), "{is_tcp} {size}");
    }
}

#[test]
fn l4_11_tcp_is_never_taken_for_datagrams_where_no_segment_fits() {
    let narrow = |mtu4| Policy { mtu4, ..policy() };
    let body = pattern(3000);
    let offer = |mtu4| {
        let (packet, offload) = super_packet::super_packet(false, true, 0, 1000, &body);
        run_with(&mut translator(narrow(mtu4)), &packet, offload)
    };
    let Out::Forward(_, offload) = offer(68) else {
        panic!("28 bytes of payload fit");
    };
    assert_eq!(offload.gso, gso(GsoKind::TcpV4, 28));
    // 48 bytes of TCP header leave nothing.
    let options = [&[1; 28][..]].concat();
    let packet = V6::new(6).packet(&tcp(from_node6(6), ACK, &options, &body));
    let offload = Offload {
        checksum: partial(40, 16),
        gso: gso(GsoKind::TcpV6, 1000),
    };
    let out = run_with(&mut translator(narrow(68)), &packet, offload);
    assert_eq!(out.dropped(), DropReason::BadOffload);
}

#[test]
fn l4_11_a_super_packet_that_was_joined_on_the_way_in_is_translated() {
    let offload = Offload {
        checksum: Checksum::Verified,
        gso: gso(GsoKind::TcpV4, 1400),
    };
    let packet = V4 {
        flags: DF,
        ..V4::new(6)
    }
    .packet(&tcp(from_host4(6), ACK, &[], &pattern(9000)));
    let out = run_with(&mut translator(policy()), &packet, offload);
    let Out::Forward(out, offload) = out else {
        panic!("{out:?}")
    };
    assert_eq!(offload.checksum, partial(40, 16));
    assert_eq!(
        word_at(&out, 56),
        !naive_checksum(&[&pseudo_v6(host6(), node6(), 6, 9020)])
    );
}

#[test]
fn an_offload_that_does_not_fit_its_packet_is_a_drop() {
    let segment = super4(DF, 3000);
    let bad = |packet: &[u8], checksum, gso| {
        run_with(&mut translator(policy()), packet, Offload { checksum, gso }).dropped()
    };
    let whole = partial(20, 16);
    for (checksum, gso) in [
        (whole, gso(GsoKind::TcpV4, 0)),
        (whole, gso(GsoKind::TcpV6, 1400)),
        (whole, gso(GsoKind::Udp, 1400)),
        (Checksum::Whole, gso(GsoKind::TcpV4, 1400)),
        (partial(19, 16), None),
        (partial(20, 12), None),
        (partial(21, 16), None),
        (partial(20, 3020), None),
        (partial(u16::MAX, u16::MAX), None),
    ] {
        assert_eq!(
            bad(&segment, checksum, gso),
            DropReason::BadOffload,
            "{checksum:?} {gso:?}"
        );
    }
    // A sum that would be written over the length of a UDP datagram.
    let datagram = V4::new(17).packet(&udp(from_host4(17), &pattern(64)));
    assert_eq!(bad(&datagram, partial(20, 4), None), DropReason::BadOffload);
    let fragment = V4 {
        flags: MF | 8,
        ..V4::new(6)
    }
    .packet(&pattern(64));
    assert_eq!(bad(&fragment, whole, None), DropReason::BadOffload);
    let mut lying = super4(DF, 0);
    lying[32] = 0xf0;
    assert_eq!(
        bad(&lying, whole, gso(GsoKind::TcpV4, 1400)),
        DropReason::BadOffload
    );
}

#[test]
fn a_put_off_checksum_has_no_place_in_a_header_but_its_own() {
    let mut datagram = udp(from_host4(17), &pattern(100));
    datagram[6..8].fill(0);
    let udp4 = V4::new(17).packet(&datagram);
    let udp6 = V6::new(17).packet(&udp(from_node6(17), &pattern(100)));
    let echo = V4::new(1).packet(&icmp4(8, 0, [0, 1, 0, 1], &pattern(20)));
    for (packet, start, offset) in [
        (&tcp4(ACK, &[1, 1, 1, 0], &pattern(100)), 20, 12),
        (&tcp4(ACK, &[1, 1, 1, 0], &pattern(100)), 30, 6),
        (&udp4, 20, 4),
        (&udp6, 40, 4),
        (&udp6, 42, 4),
        (&echo, 20, 0),
    ] {
        let offload = Offload {
            checksum: partial(start, offset),
            gso: None,
        };
        let out = run_with(&mut translator(policy()), packet, offload);
        assert_eq!(out.dropped(), DropReason::BadOffload, "{start} {offset}");
    }
}

#[test]
fn a_put_off_checksum_inside_the_payload_is_completed_there() {
    // A tunnel over UDP without a checksum: the one put off is that of the packet inside.
    let allowed = Policy {
        udp_zero_checksum: UdpZeroChecksum::Forward,
        ..policy()
    };
    let mut datagram = udp(from_host4(17), &pattern(100));
    datagram[6..8].fill(0);
    let offload = Offload {
        checksum: partial(50, 16),
        gso: None,
    };
    let packet = V4::new(17).packet(&datagram);
    let out = run_with(&mut translator(allowed), &packet, offload);
    let Out::Forward(out, offload) = out else {
        panic!("{out:?}")
    };
    assert_eq!(offload, Offload::NONE);
    let inside = naive_checksum(&[&packet[50..]]);
    assert_eq!(word_at(&out, 86), inside);
    assert_eq!((&out[40..86], &out[88..]), (&packet[20..66], &packet[68..]));
}
