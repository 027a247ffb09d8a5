//! Static maps, a dynamic pool and a stateful pool in one translator: each client has exactly one
//! kind of address, and all of them reach each other (DP-10).
#![allow(clippy::unwrap_used)]

mod world;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
use std::sync::{Arc, Mutex};

use nat64::dynamic::{Dynamic, DynamicPool, PoolConfig};
use nat64::{Modes, Nat64, Worker};
use world::{ICMPV6, UDP, config, embed, flow4, flow6, sock4, sock6};
use xlat_core::addr::{EamTable, Pref64s};
use xlat_core::mapper::{ErrorFlow, Flow, Fragment, PacketHolder, Pass, Refusal, Rewrite};
use xlat_core::mappers::{Hairpin, Siit};
use xlat_core::{DropReason, Instant, Mapper};

const STATIC: &str = "[2001:db8:5::5]:1000";
const LEASED: &str = "[2001:db8:d::7]:1000";
const SHARING: &str = "[2001:db8:a::7]:1000";
const SERVER: &str = "198.51.100.7:53";
const NOW: Instant = Instant::from_secs(1000);

#[test]
fn dp_10_each_client_has_one_kind_of_address_by_rule_order() {
    let mut modes = modes();
    for (client, expected) in [
        (STATIC, "10.0.0.200"),
        (LEASED, "10.0.0."),
        (SHARING, "192.0.2.1"),
    ] {
        let out = modes.map_v6(&to(client, sock4(SERVER)), NOW).unwrap();
        assert!(
            out.src.to_string().starts_with(expected),
            "{client}: {out:?}"
        );
        assert_eq!(out.ports.is_some(), client == SHARING);
        let reply = flow4(UDP, 0, sock4(SERVER), external(client, &out));
        let back = modes.map_v4(&reply, Pass::First, NOW).unwrap();
        assert_eq!(back.dst, *sock6(client).ip());

        let error = ErrorFlow {
            src: Ipv4Addr::new(203, 0, 113, 1),
            dst: out.src,
            quoted: flow4(UDP, 0, external(client, &out), sock4(SERVER)),
        };
        let error = modes.map_v4_error(&error, Pass::First, NOW).unwrap();
        assert_eq!(error.quoted.src, *sock6(client).ip());
        let error = ErrorFlow {
            src: *sock6(client).ip(),
            dst: *embed(sock4(SERVER)).ip(),
            quoted: flow6(UDP, 0, embed(sock4(SERVER)), sock6(client)),
        };
        let error = modes.map_v6_error(&error, NOW).unwrap();
        assert_eq!((error.src, error.quoted.dst), (Some(out.src), out.src));
    }
    assert_eq!(modes.own().pool().lock().unwrap().active(), 1);
    assert_eq!(modes.shared().nat().counts().bindings, 1);
}

#[test]
fn clients_of_all_kinds_reach_each_other() {
    let clients = [STATIC, LEASED, SHARING];
    for one in clients {
        for other in clients.into_iter().filter(|other| *other != one) {
            let mut modes = modes();
            let out = modes.map_v6(&to(other, sock4(SERVER)), NOW).unwrap();
            let there = external(other, &out);
            let flow = to(one, there);
            let first = modes.map_v6(&flow, NOW).unwrap();
            assert!(first.hairpin, "{one} to {other}");
            let turned = flow4(UDP, 0, external(one, &first), there);
            let second = modes.map_v4(&turned, Pass::Hairpin, NOW).unwrap();
            assert_eq!(second.dst, *sock6(other).ip(), "{one} to {other}");
            assert_eq!(second.src, *embed(SocketAddrV4::new(first.src, 0)).ip());
        }
    }
}

#[test]
fn each_kind_says_what_becomes_of_a_piece_of_a_message() {
    let piece = Fragment {
        id: 7,
        offset: 0,
        more: true,
        len: 8,
    };
    for (client, expected) in [(STATIC, Some(DropReason::FragmentedIcmp)), (SHARING, None)] {
        let mut modes = modes();
        let flow = Flow {
            protocol: ICMPV6,
            ports: None,
            fragment: Some(piece),
            ..to(client, sock4(SERVER))
        };
        let kept = modes.reassemble_v6(&flow, &[0x60; 56], NOW);
        assert_eq!(kept.err(), expected.map(Refusal::Silent), "{client}");
    }
}

#[test]
fn static_maps_alone_can_stand_before_a_stateful_pool() {
    let siit = Siit::new(eams(), pref64s(), Hairpin::Intrinsic);
    let mut modes = Modes::new(siit, worker());
    let fixed = modes.map_v6(&to(STATIC, sock4(SERVER)), NOW).unwrap();
    assert_eq!(fixed.src, Ipv4Addr::new(10, 0, 0, 200));
    let shared = modes.map_v6(&to(LEASED, sock4(SERVER)), NOW).unwrap();
    assert_eq!(shared.src, Ipv4Addr::new(192, 0, 2, 1));
}

fn modes() -> Modes<Dynamic> {
    let mut config = PoolConfig::new("10.0.0.0/24".parse().unwrap());
    config.clients = vec!["2001:db8:d::/48".parse().unwrap()];
    config.reserved = vec!["10.0.0.200".parse().unwrap()];
    let pool = DynamicPool::new(config, [1, 2]).unwrap();
    let pool = Arc::new(Mutex::new(pool));
    let own = Dynamic::new(eams(), pref64s(), Hairpin::Intrinsic, pool);
    Modes::new(own, worker())
}

fn worker() -> Worker {
    let nat = Nat64::new(config("192.0.2.1"), pref64s(), [1, 2]).unwrap();
    nat.worker()
}

fn eams() -> EamTable {
    EamTable::new(["10.0.0.200=2001:db8:5::5".parse().unwrap()]).unwrap()
}

fn pref64s() -> Pref64s {
    Pref64s::single("2001:db8:64::/96".parse().unwrap())
}

fn to(client: &str, server: SocketAddrV4) -> xlat_core::mapper::Flow<Ipv6Addr> {
    let client: SocketAddrV6 = sock6(client);
    flow6(UDP, 0, client, embed(server))
}

/// A client as the IPv4 side sees it.
fn external(client: &str, rewrite: &Rewrite<Ipv4Addr>) -> SocketAddrV4 {
    let port = rewrite
        .ports
        .map_or(sock6(client).port(), |ports| ports.src);
    SocketAddrV4::new(rewrite.src, port)
}
