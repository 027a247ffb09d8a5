//! ICMP errors of the translator's own (RFC 7915 sections 4.4 and 5.4), and hairpinning (RFC 7757
//! section 4).

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod support;

use std::net::Ipv4Addr;

use support::*;
use xlat_core::addr::Pref64s;
use xlat_core::identification::Identifications;
use xlat_core::mappers::{Guarded, Hairpin};
use xlat_core::policy::{ErrorRate, Policy};
use xlat_core::{DropReason, Frame, Instant, Offload, Translator, Verdict};

/// A packet that would be answered (its TTL is used up), with one thing changed.
fn expired4(ip: V4, body: &[u8]) -> Out {
    run(&V4 { ttl: 1, ..ip }.packet(body))
}

#[test]
fn eg_03_no_icmpv4_error_where_none_may_be_sent() {
    let datagram = udp(from_host4(17), &pattern(64));
    expired4(V4::new(17), &datagram).replied();
    for (src, dst) in [
        ("198.51.100.7", "224.0.0.1"),
        ("198.51.100.7", "255.255.255.255"),
        ("0.1.2.3", "192.0.2.9"),
        ("127.0.0.1", "192.0.2.9"),
        ("224.0.0.1", "192.0.2.9"),
        ("240.0.0.1", "192.0.2.9"),
        ("255.255.255.255", "192.0.2.9"),
    ] {
        let ip = V4 {
            src: src.parse().unwrap(),
            dst: dst.parse().unwrap(),
            ..V4::new(17)
        };
        assert_eq!(
            expired4(ip, &datagram).dropped(),
            DropReason::HopLimit,
            "{src} {dst}"
        );
    }
    let later = V4 {
        flags: 4,
        ..V4::new(17)
    };
    assert_eq!(expired4(later, &datagram).dropped(), DropReason::HopLimit);
    for kind in [3, 4, 5, 11, 12] {
        let error = icmp4(kind, 0, [0; 4], &quoted4(b"x"));
        assert_eq!(
            expired4(V4::new(1), &error).dropped(),
            DropReason::HopLimit,
            "{kind}"
        );
    }
    expired4(V4::new(1), &icmp4(8, 0, [0; 4], b"ping")).replied();
}

#[test]
fn eg_03_no_icmpv6_error_where_none_may_be_sent() {
    let expired = |ip: V6, body: &[u8]| run(&V6 { hop_limit: 1, ..ip }.packet(body));
    expired(V6::new(17), &udp(from_node6(17), b"x")).replied();
    expired(
        V6::new(58),
        &icmp6(node6(), host6(), 128, 0, [0; 4], b"ping"),
    )
    .replied();
    for kind in [1, 2, 3, 4, 100, 127, 137] {
        let error = icmp6(node6(), host6(), kind, 0, [0; 4], &quoted6(b"x"));
        assert_eq!(
            expired(V6::new(58), &error).dropped(),
            DropReason::HopLimit,
            "{kind}"
        );
    }
    // Multicast, unspecified and the like are dropped before anything could answer them.
    for (src, dst) in [
        ("::", "2001:db8:64::1"),
        ("ff02::1", "2001:db8:64::1"),
        ("2001:db8:1::9", "ff02::1"),
    ] {
        let ip = V6 {
            src: src.parse().unwrap(),
            dst: dst.parse().unwrap(),
            ..V6::new(17)
        };
        expired(ip, &udp(from_node6(17), b"x")).dropped();
    }
}

#[test]
fn eg_01_eg_02_what_cannot_be_mapped_is_prohibited() {
    let stranger = "203.0.113.99".parse().unwrap();
    let maps_only = {
        let mapper = xlat_core::mappers::Siit::new(
            siit(Hairpin::Off).eams().clone(),
            xlat_core::addr::Pref64s::new([], true),
            Hairpin::Off,
        );
        move || {
            Translator::new(mapper.clone(), policy(), Identifications::new([1, 2], 0, 1)).unwrap()
        }
    };
    let packet = V4 {
        src: stranger,
        ..V4::new(17)
    }
    .packet(&udp(|len| pseudo_v4(stranger, NODE4, 17, len), b"x"));
    let (reason, reply) = run_with(&mut maps_only(), &packet, Offload::NONE).replied();
    assert_eq!(
        (reason, &reply[20..22]),
        (DropReason::UnmappedSource, &[3, 13][..])
    );
    assert_checksums(&reply);
    let packet = V6::new(17).packet(&udp(from_node6(17), b"x"));
    let (reason, reply) = run_with(&mut maps_only(), &packet, Offload::NONE).replied();
    assert_eq!(
        (reason, &reply[40..42]),
        (DropReason::UnmappedDestination, &[1, 1][..])
    );
    assert_checksums(&reply);
}

#[test]
fn eg_04_errors_can_be_switched_off_for_each_family() {
    let expired4 = V4 {
        ttl: 1,
        ..V4::new(17)
    }
    .packet(&udp(from_host4(17), b"x"));
    let expired6 = V6 {
        hop_limit: 1,
        ..V6::new(17)
    }
    .packet(&udp(from_node6(17), b"x"));
    let off4 = Policy {
        icmpv4_errors: ErrorRate::Off,
        ..policy()
    };
    run_policy(off4.clone(), &expired4).dropped();
    run_policy(off4, &expired6).replied();
    let off6 = Policy {
        icmpv6_errors: ErrorRate::Off,
        ..policy()
    };
    run_policy(off6.clone(), &expired4).replied();
    run_policy(off6, &expired6).dropped();
}

#[test]
fn eg_05_se_17_errors_keep_to_their_rate_and_do_not_starve_path_mtu_discovery() {
    let limited = ErrorRate::Limited {
        per_second: 10,
        burst: 5,
    };
    let policy = Policy {
        icmpv4_errors: limited,
        mtu6: 1280,
        ..policy()
    };
    let mut translator = translator(policy);
    let source = |number: u64| Ipv4Addr::from_bits(HOST4.to_bits() + number as u32);
    let expired = |number| {
        let src = source(number);
        let ip = V4 {
            ttl: 1,
            src,
            ..V4::new(17)
        };
        ip.packet(&udp(|len| pseudo_v4(src, NODE4, 17, len), b"x"))
    };
    let too_big = |number| {
        let src = source(number);
        let ip = V4 {
            flags: DF,
            src,
            ..V4::new(17)
        };
        ip.packet(&udp(|len| pseudo_v4(src, NODE4, 17, len), &pattern(1400)))
    };
    let mut count = |packet: &[u8], millis: u64| {
        let mut buffer = [vec![0; 128], packet.to_vec(), vec![0; 256]].concat();
        let mut frame = Frame::new(&mut buffer, 128, packet.len(), Offload::NONE).unwrap();
        let now = Instant::from_millis(millis);
        usize::from(matches!(
            translator.translate(&mut frame, now),
            Verdict::Reply(_)
        ))
    };
    let of_one: usize = (0..1000).map(|ms| count(&expired(0), ms)).sum();
    assert!((4..=5).contains(&of_one), "its share, a quarter: {of_one}");
    let of_all: usize = (1000..2000).map(|ms| count(&expired(ms), ms)).sum();
    assert!((14..=15).contains(&of_all), "{of_all}");
    let too_big: usize = (2000..2010).map(|ms| count(&too_big(ms), ms)).sum();
    assert_eq!(too_big, 5, "a bucket of its own, still full");
}

#[test]
fn eg_06_the_quote_is_the_packet_as_it_came_as_much_as_fits() {
    let body = pattern(1300);
    let packet = V4 {
        ttl: 1,
        options: vec![1; 4],
        ..V4::new(17)
    }
    .packet(&udp(from_host4(17), &body));
    let (_, reply) = run(&packet).replied();
    assert_eq!(reply.len(), 576);
    assert_eq!(reply[28..], packet[..548]);
    assert_checksums(&reply);
    let packet = V6 {
        hop_limit: 1,
        ..V6::new(17)
    }
    .packet(&udp(from_node6(17), &body));
    let (_, reply) = run(&packet).replied();
    assert_eq!(reply.len(), 1280);
    assert_eq!(reply[48..], packet[..1232]);
    assert_checksums(&reply);
    let short = V6 {
        hop_limit: 1,
        ..V6::new(17)
    }
    .packet(&udp(from_node6(17), b"x"));
    assert_eq!(run(&short).replied().1[48..], short);
}

#[test]
fn eg_07_eg_09_the_translator_answers_for_itself() {
    let ip = V4 {
        dst: OWN4,
        ttl: 1,
        options: vec![1; 4],
        ..V4::new(1)
    };
    let (reason, reply) = run(&ip.packet(&icmp4(8, 0, [1, 2, 3, 4], b"ping"))).replied();
    assert_eq!(reason, DropReason::EchoToTranslator);
    assert_eq!((v4_at(&reply, 12), v4_at(&reply, 16)), (OWN4, HOST4));
    assert_eq!(reply[20..], icmp4(0, 0, [1, 2, 3, 4], b"ping"));
    assert_checksums(&reply);

    let ip = V6 {
        dst: own6(),
        hop_limit: 1,
        ..V6::new(58)
    };
    let echo = icmp6(node6(), own6(), 128, 0, [1, 2, 3, 4], b"ping");
    let (reason, reply) = run(&ip.packet(&echo)).replied();
    assert_eq!(reason, DropReason::EchoToTranslator);
    assert_eq!(
        reply[40..],
        icmp6(own6(), node6(), 129, 0, [1, 2, 3, 4], b"ping")
    );

    let ip = V4 {
        dst: OWN4,
        ..V4::new(17)
    };
    let (_, reply) = run(&ip.packet(&udp(|len| pseudo_v4(HOST4, OWN4, 17, len), b"x"))).replied();
    assert_eq!(reply[20..22], [3, 3]);
}

#[test]
fn eg_07_an_address_that_is_shared_with_nodes_is_not_answered_but_translated() {
    let shared = Policy {
        answer_v4: false,
        own_v4: NODE4,
        ..policy()
    };
    let echo = icmp4(8, 0, [1, 2, 3, 4], b"ping");
    let out = run_policy(shared, &V4::new(1).packet(&echo)).forwarded();
    assert_eq!(out[40], 128);
    let own = Policy {
        own_v4: NODE4,
        ..policy()
    };
    run_policy(own, &V4::new(1).packet(&echo)).replied();
}

#[test]
fn se_06_hidden_destinations_are_prohibited_from_ipv6_alone() {
    let hidden = vec!["198.51.100.0/29".parse().unwrap()];
    let mapper = Guarded::new(siit(Hairpin::Intrinsic), Pref64s::single(pref64()), hidden);
    let ids = Identifications::new([7, 13], 0, 1);
    let mut translator = Translator::new(mapper, policy(), ids).unwrap();
    let datagram = udp(from_node6(17), b"x");
    let out = run_with(
        &mut translator,
        &V6::new(17).packet(&datagram),
        Offload::NONE,
    );
    let (reason, reply) = out.replied();
    assert_eq!((reason, &reply[40..42]), (DropReason::Denied, &[1, 1][..]));
    let inbound = V4::new(17).packet(&udp(from_host4(17), b"x"));
    run_with(&mut translator, &inbound, Offload::NONE).forwarded();
    translator.mapper_mut().hide(Vec::new());
    run_with(
        &mut translator,
        &V6::new(17).packet(&datagram),
        Offload::NONE,
    )
    .forwarded();
}

/// Another IPv6 node, by its IPv4 address.
const OTHER4: std::net::Ipv4Addr = std::net::Ipv4Addr::new(192, 0, 2, 20);

fn hairpin(mode: Hairpin, packet: &[u8]) -> Out {
    let ids = Identifications::new([7, 13], 0, 1);
    run_with(
        &mut Translator::new(siit(mode), policy(), ids).unwrap(),
        packet,
        Offload::NONE,
    )
}

#[test]
fn ea_07_ea_09_ea_10_a_node_reaches_another_by_its_ipv4_address_and_sees_an_ipv4_host() {
    let other6 = pref64().embed(OTHER4);
    let datagram = udp(|len| pseudo_v6(node6(), other6, 17, len), &pattern(64));
    let packet = V6 {
        dst: other6,
        ..V6::new(17)
    }
    .packet(&datagram);
    let out = hairpin(Hairpin::Intrinsic, &packet).forwarded();
    assert_eq!(
        v6_at(&out, 8),
        pref64().embed(NODE4),
        "its answer comes back here"
    );
    assert_eq!(
        v6_at(&out, 24),
        "2001:db8:1::14".parse::<std::net::Ipv6Addr>().unwrap()
    );
    assert_eq!(out[7], 63, "one hop");
    assert_checksums(&out);
    let out = hairpin(Hairpin::Off, &packet).forwarded();
    assert_eq!((out[0] >> 4, v4_at(&out, 16)), (4, OTHER4));
}

#[test]
fn ea_08_simple_mode_suppresses_the_explicit_source_of_what_comes_from_ipv4() {
    let datagram = udp(|len| pseudo_v4(NODE4, OTHER4, 17, len), b"x");
    let packet = V4 {
        src: NODE4,
        dst: OTHER4,
        ..V4::new(17)
    }
    .packet(&datagram);
    let source = |mode| v6_at(&hairpin(mode, &packet).forwarded(), 8);
    assert_eq!(source(Hairpin::Simple), pref64().embed(NODE4));
    assert_eq!(source(Hairpin::Off), node6());
    assert_eq!(source(Hairpin::Intrinsic), node6());
}

#[test]
fn ea_09_an_error_about_a_hairpinned_packet_finds_its_way() {
    // The node answers what another sent it: the quoted packet came from Pref64(192.0.2.20).
    let other6 = pref64().embed(OTHER4);
    let ip = V6 {
        src: other6,
        dst: node6(),
        ..V6::new(17)
    };
    let quoted = ip.packet(&udp(|len| pseudo_v6(other6, node6(), 17, len), b"x"));
    let message = icmp6(node6(), other6, 1, 4, [0; 4], &quoted);
    let packet = V6 {
        dst: other6,
        ..V6::new(58)
    }
    .packet(&message);
    let out = hairpin(Hairpin::Intrinsic, &packet).forwarded();
    let other = "2001:db8:1::14".parse::<std::net::Ipv6Addr>().unwrap();
    assert_eq!((v6_at(&out, 24), &out[40..42]), (other, &[1, 4][..]));
    assert_eq!(
        (v6_at(&out, 56), v6_at(&out, 72)),
        (other, pref64().embed(NODE4))
    );
    assert_eq!(out[7], 63);
    assert_checksums(&out);
}

#[test]
fn ea_04_ea_05_each_address_is_mapped_on_its_own_explicitly_first() {
    // Source by explicit mapping, destination by RFC 6052, and the other way round.
    let out = run(&V6::new(17).packet(&udp(from_node6(17), b"x"))).forwarded();
    assert_eq!((v4_at(&out, 12), v4_at(&out, 16)), (NODE4, HOST4));
    // An address that has both forms is mapped explicitly.
    let other6 = "2001:db8:1::14".parse().unwrap();
    let datagram = udp(|len| pseudo_v6(node6(), other6, 17, len), b"x");
    let out = run(&V6 {
        dst: other6,
        ..V6::new(17)
    }
    .packet(&datagram))
    .forwarded();
    assert_eq!((v4_at(&out, 12), v4_at(&out, 16)), (NODE4, OTHER4));
}

#[test]
fn ix_14_an_icmpv4_error_from_anybody_is_shown_under_its_own_address() {
    for router in ["10.0.0.1", "169.254.7.7", "192.0.0.2"] {
        let src = router.parse().unwrap();
        let packet = V4 { src, ..V4::new(1) }.packet(&icmp4(11, 0, [0; 4], &quoted4(b"x")));
        let out = run(&packet).forwarded();
        assert_eq!(v6_at(&out, 8), pref64().embed(src));
        assert_checksums(&out);
    }
}
