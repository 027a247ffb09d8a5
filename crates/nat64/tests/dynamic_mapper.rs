//! The dynamic pool as the translator sees it: who is mapped to whom, who is refused and how, and
//! what several workers know of each other.
#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_methods, reason = "workers are threads")]

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nat64::dynamic::{Dynamic, DynamicPool, LEASE, PUBLISH, PoolConfig};
use pnet_packet::ip::{IpNextHeaderProtocol, IpNextHeaderProtocols};
use xlat_core::addr::{EamTable, Pref64s};
use xlat_core::frame::{HEADROOM, TAILROOM};
use xlat_core::identification::Identifications;
use xlat_core::mapper::{ErrorFlow, Flow, Pass, Ports, Refusal, Rewrite, Unreachable};
use xlat_core::mappers::Hairpin;
use xlat_core::{DropReason, Frame, Instant, Mapper, Offload, Policy, Translator, Verdict};

#[test]
fn a_client_speaks_to_a_server_and_the_server_answers() {
    let mut mapper = mapper();
    let out = mapper
        .map_v6(&from_v6("2001:db8::7", SERVER6), secs(0))
        .unwrap();
    assert_eq!(out.dst, v4("198.51.100.7"));
    assert_eq!(out.ports, None);
    let back = mapper
        .map_v4(&from_v4(out.dst, out.src), Pass::First, secs(1))
        .unwrap();
    assert_eq!((back.src, back.dst), (v6(SERVER6), v6("2001:db8::7")));
}

#[test]
fn a_static_map_comes_before_the_pool() {
    let mut mapper = mapper();
    let out = mapper.map_v6(&from_v6(STATIC6, SERVER6), secs(0)).unwrap();
    assert_eq!(out.src, v4(STATIC4));
    let back = mapper
        .map_v4(&from_v4(out.dst, out.src), Pass::First, secs(0))
        .unwrap();
    assert_eq!(back.dst, v6(STATIC6));
    assert_eq!(pool_size(&mapper), 0);
}

#[test]
fn dp_04_exhaustion_and_unassigned_addresses_are_answered() {
    let mut mapper = mapper_of("192.168.64.0/30", Hairpin::Intrinsic);
    for client in ["2001:db8::1", "2001:db8::2"] {
        mapper.map_v6(&from_v6(client, SERVER6), secs(0)).unwrap();
    }
    assert_eq!(
        mapper.map_v6(&from_v6("2001:db8::3", SERVER6), secs(0)),
        Err(Refusal::Answer(
            DropReason::PoolExhausted,
            Unreachable::Address
        ))
    );
    let mut other = mapper_of("192.168.64.0/30", Hairpin::Intrinsic);
    assert_eq!(
        other.map_v4(
            &from_v4(v4("198.51.100.7"), v4("192.168.64.1")),
            Pass::First,
            secs(0)
        ),
        Err(Refusal::Answer(DropReason::NoBinding, Unreachable::Address))
    );
}

#[test]
fn dp_07_a_refused_packet_leaves_the_pool_untouched() {
    let mut mapper = mapper();
    let refused = [
        ("2001:db8:64::c000:207", SERVER6, DropReason::SourceInPref64),
        (
            "2001:db8::7",
            "2001:db8:64::7f00:1",
            DropReason::IllegalDestination,
        ),
        (
            "2001:db8::7",
            "2001:db8:65::1",
            DropReason::UnmappedDestination,
        ),
        ("2001:db9::7", SERVER6, DropReason::Denied),
    ];
    for (src, dst, reason) in refused {
        let refusal = mapper.map_v6(&from_v6(src, dst), secs(0)).unwrap_err();
        let (Refusal::Silent(got) | Refusal::Answer(got, _)) = refusal else {
            panic!("{src} to {dst}: {refusal:?}");
        };
        assert_eq!(got, reason, "{src} to {dst}");
    }
    assert_eq!(pool_size(&mapper), 0);
}

#[test]
fn icmp_errors_make_and_prolong_no_lease() {
    let mut mapper = mapper();
    let quoted = from_v6(SERVER6, "2001:db8::7");
    let error6 = ErrorFlow {
        src: v6("2001:db8::7"),
        dst: v6(SERVER6),
        quoted,
    };
    assert_eq!(
        mapper.map_v6_error(&error6, secs(0)),
        Err(Refusal::Silent(DropReason::QuotedUnmapped))
    );
    assert_eq!(pool_size(&mapper), 0);

    let address = mapper
        .map_v6(&from_v6("2001:db8::7", SERVER6), secs(0))
        .unwrap()
        .src;
    let error4 = ErrorFlow {
        src: v4("203.0.113.1"),
        dst: address,
        quoted: from_v4(address, v4("198.51.100.7")),
    };
    for second in 1..=7440 {
        assert!(mapper.map_v6_error(&error6, secs(second)).is_ok());
        assert!(
            mapper
                .map_v4_error(&error4, Pass::First, secs(second))
                .is_ok()
        );
    }
    let over = secs(0) + LEASE + PUBLISH;
    assert_eq!(
        mapper.map_v4_error(&error4, Pass::First, over),
        Err(Refusal::Silent(DropReason::QuotedUnmapped))
    );
}

#[test]
fn an_icmp_error_shows_the_router_that_sent_it() {
    let mut mapper = mapper();
    let address = mapper
        .map_v6(&from_v6("2001:db8::7", SERVER6), secs(0))
        .unwrap()
        .src;
    let inbound = mapper
        .map_v4_error(
            &ErrorFlow {
                src: v4("203.0.113.1"),
                dst: address,
                quoted: from_v4(address, v4("198.51.100.7")),
            },
            Pass::First,
            secs(0),
        )
        .unwrap();
    assert_eq!(inbound.src, Some(v6("2001:db8:64::203.0.113.1")));
    assert_eq!(inbound.dst, v6("2001:db8::7"));
    assert_eq!(inbound.quoted.src, v6("2001:db8::7"));
    assert_eq!(inbound.quoted.dst, v6(SERVER6));

    let mut outbound = |complainer| {
        let error = ErrorFlow {
            src: v6(complainer),
            dst: v6(SERVER6),
            quoted: from_v6(SERVER6, "2001:db8::7"),
        };
        mapper.map_v6_error(&error, secs(0)).unwrap()
    };
    let from_client = outbound("2001:db8::7");
    assert_eq!(from_client.src, Some(address));
    assert_eq!(from_client.dst, v4("198.51.100.7"));
    assert_eq!(from_client.quoted.dst, address);
    assert_eq!(outbound("2001:db8:ffff::1").src, None);
}

#[test]
fn two_clients_reach_each_other_by_their_ipv4_addresses() {
    for (one, other) in [
        ("2001:db8::1", "2001:db8::2"),
        (STATIC6, "2001:db8::2"),
        ("2001:db8::1", STATIC6),
    ] {
        let mut mapper = mapper();
        let other4 = mapper
            .map_v6(&from_v6(other, SERVER6), secs(0))
            .unwrap()
            .src;
        let to_other = from_v6_to(v6(one), embedded(other4));
        let first = mapper.map_v6(&to_other, secs(0)).unwrap();
        assert!(first.hairpin, "{one} to {other}");
        let second = mapper
            .map_v4(&from_v4(first.src, first.dst), Pass::Hairpin, secs(0))
            .unwrap();
        let expected = Rewrite::new(embedded(first.src), v6(other));
        assert_eq!(second, expected);
    }
}

#[test]
fn only_addresses_of_nodes_are_hairpins() {
    let mut mapper = mapper();
    for (dst, expected) in [
        ("198.51.100.7", false),
        ("192.168.64.0", false),
        ("192.168.64.1", false),
        ("192.168.64.9", true),
        ("192.168.64.255", false),
        (STATIC4, true),
    ] {
        let flow = from_v6_to(v6("2001:db8::1"), embedded(v4(dst)));
        let rewrite = mapper.map_v6(&flow, secs(0)).unwrap();
        assert_eq!(rewrite.hairpin, expected, "{dst}");
    }
    let mut simple = mapper_of("192.168.64.0/24", Hairpin::Simple);
    let flow = from_v6_to(v6("2001:db8::1"), embedded(v4("192.168.64.9")));
    let rewrite = simple.map_v6(&flow, secs(0)).unwrap();
    assert!(!rewrite.hairpin);
}

#[test]
fn packets_through_a_workers_memory_keep_the_lease_alive() {
    let mut mapper = mapper();
    let flow = from_v6("2001:db8::7", SERVER6);
    let address = mapper.map_v6(&flow, secs(0)).unwrap().src;
    let mut now = 0;
    for _ in 0..1000 {
        now += 9;
        mapper.map_v6(&flow, secs(now)).unwrap();
    }
    // The pool may not have heard of the last packets, yet the lease holds from the very last.
    let last = secs(now + 7440);
    assert_eq!(
        mapper.pool().lock().unwrap().peek_client(address, last),
        Some(v6("2001:db8::7"))
    );
}

#[test]
fn a_known_client_needs_no_lock() {
    let mut mapper = mapper();
    let flow = from_v6("2001:db8::7", SERVER6);
    let out = mapper.map_v6(&flow, secs(0)).unwrap();
    let pool = Arc::clone(mapper.pool());
    let held = pool.lock().unwrap();
    let (done, result) = mpsc::channel();
    let worker = std::thread::spawn(move || {
        let there = mapper.map_v6(&flow, secs(9)).unwrap();
        let back = mapper.map_v4(&from_v4(there.dst, there.src), Pass::First, secs(9));
        let _ = done.send((there.src, back.unwrap().dst));
    });
    let got = result.recv_timeout(Duration::from_secs(60));
    drop(held);
    worker.join().unwrap();
    assert_eq!(got, Ok((out.src, v6("2001:db8::7"))));
}

#[test]
fn no_worker_believes_in_a_lease_that_was_given_away() {
    let mut one = mapper_of("192.168.64.0/30", Hairpin::Intrinsic);
    let mut other = one.clone();
    let out = |mapper: &mut Dynamic, client, now| {
        mapper
            .map_v6(&from_v6(client, SERVER6), secs(now))
            .map(|rewrite| rewrite.src)
    };
    let first = out(&mut one, "2001:db8::1", 0).unwrap();
    assert_eq!(out(&mut other, "2001:db8::1", 5), Ok(first));
    let second = out(&mut one, "2001:db8::2", 10).unwrap();
    assert!(out(&mut other, "2001:db8::3", 7454).is_err());
    assert_eq!(out(&mut other, "2001:db8::3", 7455), Ok(first));
    assert_eq!(out(&mut one, "2001:db8::1", 7460), Ok(second));
    let inbound = |mapper: &mut Dynamic, to| {
        mapper
            .map_v4(&from_v4(v4("198.51.100.7"), to), Pass::First, secs(7461))
            .map(|rewrite| rewrite.dst)
    };
    for mapper in [&mut one, &mut other] {
        assert_eq!(inbound(mapper, first), Ok(v6("2001:db8::3")));
        assert_eq!(inbound(mapper, second), Ok(v6("2001:db8::1")));
    }
}

#[test]
fn dp_06_a_protocol_without_ports_passes_unchanged() {
    let mut translator = translator();
    let payload = b"not a transport header";
    let (packet, verdict) = translate(&mut translator, 132, 64, payload);
    assert!(matches!(verdict, Verdict::Forward));
    assert_eq!((packet[0], packet[9]), (0x45, 132));
    assert_eq!(packet[16..20], [198, 51, 100, 7]);
    assert_eq!(&packet[20..], payload);
    assert_eq!(pool_size(translator.mapper()), 1);
}

#[test]
fn dp_07_a_packet_without_hops_left_leaves_the_pool_untouched() {
    let mut translator = translator();
    for (protocol, hop_limit, payload) in [
        (132, 1, &b"sctp"[..]),
        (17, 64, b"cut"),
        (1, 64, b"ICMPv4 in IPv6"),
    ] {
        let (_, verdict) = translate(&mut translator, protocol, hop_limit, payload);
        assert!(!matches!(verdict, Verdict::Forward), "{protocol}");
    }
    assert_eq!(pool_size(translator.mapper()), 0);
}

fn translate(
    translator: &mut Translator<Dynamic>,
    protocol: u8,
    hop_limit: u8,
    payload: &[u8],
) -> (Vec<u8>, Verdict) {
    let mut packet = vec![0x60, 0, 0, 0, 0, payload.len() as u8, protocol, hop_limit];
    packet.extend(v6("2001:db8::7").octets());
    packet.extend(v6(SERVER6).octets());
    packet.extend(payload);
    let mut buffer = vec![0xa5; HEADROOM + packet.len() + TAILROOM];
    buffer[HEADROOM..HEADROOM + packet.len()].copy_from_slice(&packet);
    let mut frame = Frame::new(&mut buffer, HEADROOM, packet.len(), Offload::NONE).unwrap();
    let verdict = translator.translate(&mut frame, secs(0));
    (frame.packet().to_vec(), verdict)
}

fn translator() -> Translator<Dynamic> {
    let policy = Policy::new(v4("192.168.64.1"), v6("2001:db8:ffff::1"));
    Translator::new(mapper(), policy, Identifications::new([1, 2], 0, 1)).unwrap()
}

fn mapper() -> Dynamic {
    mapper_of("192.168.64.0/24", Hairpin::Intrinsic)
}

/// A pool behind 2001:db8:64::/96 with one static map; the translator is 192.168.64.1 unless the
/// pool is too small to spare it.
fn mapper_of(prefix: &str, hairpin: Hairpin) -> Dynamic {
    let mut config = PoolConfig::new(prefix.parse().unwrap());
    config.clients = vec!["2001:db8::/32".parse().unwrap()];
    config.reserved = vec![STATIC4.parse().unwrap()];
    if config.prefix.len() < 30 {
        config.reserved.push("192.168.64.1".parse().unwrap());
    }
    let pool = DynamicPool::new(config, [1, 2]).unwrap();
    let map = format!("{STATIC4}={STATIC6}").parse().unwrap();
    Dynamic::new(
        EamTable::new([map]).unwrap(),
        Pref64s::single("2001:db8:64::/96".parse().unwrap()),
        hairpin,
        Arc::new(Mutex::new(pool)),
    )
}

fn pool_size(mapper: &Dynamic) -> u32 {
    mapper.pool().lock().unwrap().active()
}

fn from_v6(src: &str, dst: &str) -> Flow<Ipv6Addr> {
    from_v6_to(v6(src), v6(dst))
}

fn from_v6_to(src: Ipv6Addr, dst: Ipv6Addr) -> Flow<Ipv6Addr> {
    flow(src, dst, IpNextHeaderProtocols::Udp)
}

fn from_v4(src: Ipv4Addr, dst: Ipv4Addr) -> Flow<Ipv4Addr> {
    flow(src, dst, IpNextHeaderProtocols::Udp)
}

fn flow<A>(src: A, dst: A, protocol: IpNextHeaderProtocol) -> Flow<A> {
    Flow {
        src,
        dst,
        protocol,
        ports: Some(Ports { src: 4000, dst: 53 }),
        tcp_flags: 0,
        fragment: None,
    }
}

/// RFC 6052 by hand.
fn embedded(address: Ipv4Addr) -> Ipv6Addr {
    v6(&format!("2001:db8:64::{address}"))
}

fn v4(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

fn v6(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

fn secs(secs: u64) -> Instant {
    Instant::from_secs(secs)
}

const SERVER6: &str = "2001:db8:64::c633:6407";
const STATIC4: &str = "192.168.64.200";
const STATIC6: &str = "2001:db8:5::5";
