//! A pool address that the IPv4 side knows by another one: what is reported, what turns round, and
//! what a change of it ends.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod world;

use std::net::{Ipv4Addr, SocketAddrV4};

use nat64::event::{BindingRecord, Change, EventKind};
use nat64::{OuterAddress, PortRequest, Protocol};
use world::{ACK, BINDINGS, SESSIONS, SYN, UDP, World, embed, flow6, sock4, sock6};
use xlat_core::Mapper;
use xlat_core::mapper::Pass;

const INNER: &str = "192.168.64.1";
const FIRST: &str = "203.0.113.1";
const SECOND: &str = "203.0.113.77";
const CLIENT: &str = "[2001:db8::7]:5000";
const OTHER: &str = "[2001:db8::8]:6000";
const SERVER: &str = "198.51.100.7:53";

fn world() -> World {
    let mut world = World::with_pool("192.168.64.1:10000-32767");
    move_to(&mut world, FIRST);
    world
}

fn move_to(world: &mut World, outer: &str) {
    let outer = OuterAddress {
        inner: INNER.parse().unwrap(),
        outer: outer.parse().unwrap(),
    };
    let view = world.nat.set_outer(outer, world.now);
    world.worker.adopt(view);
}

/// Event number and address of each event about a binding.
fn bindings(world: &World) -> Vec<(u8, Protocol, Ipv4Addr)> {
    let events = world.events().into_iter();
    let bindings = events.filter_map(|event| {
        let EventKind::Binding(change) = event else {
            return None;
        };
        let BindingRecord {
            protocol, external, ..
        } = *change.entry();
        Some((event.nat_event().unwrap(), protocol, external))
    });
    bindings.collect()
}

#[test]
fn oa_10_what_is_reported_has_the_address_that_the_ipv4_side_sees() {
    let mut world = world();
    world.subscribe(SESSIONS);
    let external = world.udp_out(CLIENT, SERVER).unwrap();
    assert_eq!(external.ip().to_string(), INNER, "the kernel exchanges it");
    let first: Ipv4Addr = FIRST.parse().unwrap();
    for event in world.events() {
        let seen = match event {
            EventKind::Binding(change) => change.entry().external,
            EventKind::Session(change) => change.entry().record.binding.external,
            other => panic!("{other:?}"),
        };
        assert_eq!(seen, first);
    }
    assert_eq!(world.nat.seen(*external.ip()), first);
    assert_eq!(world.nat.meant(first), *external.ip());
    let elsewhere = Ipv4Addr::new(192, 0, 2, 1);
    assert_eq!(world.nat.seen(elsewhere), elsewhere);
}

#[test]
fn oa_08_bindings_move_with_their_ports_and_connections_end() {
    let mut world = world();
    let udp = world.udp_out(CLIENT, SERVER).unwrap();
    world.tcp_out(SYN, CLIENT, SERVER).unwrap();
    let kept = PortRequest {
        protocol: Protocol::Tcp,
        client: sock6(OTHER).ip().to_owned(),
        client_port: 6000,
        address: None,
        port: None,
        exact: false,
    };
    let held = world.nat.keep_port(&kept, world.now).unwrap();
    world.subscribe(BINDINGS);
    move_to(&mut world, SECOND);
    let [first, second] = [FIRST, SECOND].map(|text| text.parse::<Ipv4Addr>().unwrap());
    let mut told = bindings(&world);
    told.sort_by_key(|(number, protocol, _)| (*number, *protocol as u8));
    let mut expected = [
        (11, Protocol::Tcp, first), // the connection
        (11, Protocol::Tcp, first), // what a client holds
        (11, Protocol::Udp, first),
        (10, Protocol::Tcp, second),
        (10, Protocol::Udp, second),
    ];
    expected.sort_by_key(|(number, protocol, _)| (*number, *protocol as u8));
    assert_eq!(told, expected);
    assert_eq!(world.counts().sessions[Protocol::Tcp as usize], 0);
    assert_eq!(world.udp_out(CLIENT, SERVER).unwrap(), udp);
    assert_eq!(world.nat.keep_port(&kept, world.now).unwrap(), held);
    // The same address again is no change.
    move_to(&mut world, SECOND);
    assert_eq!(bindings(&world), []);
}

#[test]
fn oa_06_a_packet_to_a_port_of_clients_turns_round_and_to_another_does_not() {
    let mut world = world();
    let first = world.udp_out(CLIENT, SERVER).unwrap();
    let service = format!("{FIRST}:{}", first.port());
    let flow = flow6(UDP, 0, sock6(OTHER), embed(sock4(&service)));
    let rewrite = world.worker.map_v6(&flow, world.now).unwrap();
    assert!(rewrite.hairpin);
    // Each sees the other at the outer address.
    assert_eq!(rewrite.src.to_string(), FIRST);
    let from = format!("{FIRST}:{}", rewrite.ports.unwrap().src);
    let to = world.turn(UDP, 0, sock4(&from), sock4(&service)).unwrap();
    assert_eq!(to, sock6(CLIENT));
    // And back.
    let flow = flow6(UDP, 0, sock6(CLIENT), embed(sock4(&from)));
    let rewrite = world.worker.map_v6(&flow, world.now).unwrap();
    assert!(rewrite.hairpin && rewrite.src.to_string() == FIRST);
    assert_eq!(rewrite.ports.unwrap().src, first.port());
    let back = world.turn(UDP, 0, sock4(&service), sock4(&from)).unwrap();
    assert_eq!(back, sock6(OTHER));

    let ssh = format!("{FIRST}:22");
    let flow = flow6(world::TCP, SYN, sock6(OTHER), embed(sock4(&ssh)));
    let rewrite = world.worker.map_v6(&flow, world.now).unwrap();
    assert!(!rewrite.hairpin && rewrite.src.to_string() == INNER);
    // The answer of the host is no forgery.
    let flow = world::flow4(
        world::TCP,
        SYN | ACK,
        sock4(&ssh),
        SocketAddrV4::new(rewrite.src, rewrite.ports.unwrap().src),
    );
    let answer = world.worker.map_v4(&flow, Pass::First, world.now).unwrap();
    assert_eq!(answer.dst, *sock6(OTHER).ip());
}

#[test]
fn oa_10_a_block_is_reported_and_its_owner_found_by_the_outer_address() {
    let mut config = world::config("192.168.64.1:10000-32767");
    config.clients = vec!["2001:db8::/124".parse().unwrap()];
    config.ports.blocks = Some(nat64::config::PortBlocks {
        size: 512,
        per_subscriber: 1,
    });
    config.ports.deterministic = true;
    let mut world = World::new(config);
    move_to(&mut world, FIRST);
    world.subscribe(world::BLOCKS);
    let external = world.udp_out(CLIENT, SERVER).unwrap();
    let [EventKind::Block(Change::Created(block))] = world.events()[..] else {
        panic!("not one block");
    };
    assert_eq!(block.external.to_string(), FIRST);
    let owner = world
        .nat
        .subscriber_of(FIRST.parse().unwrap(), external.port());
    assert_eq!(owner.unwrap().address(), *sock6(CLIENT).ip());
    move_to(&mut world, SECOND);
    let [
        EventKind::Block(Change::Removed(old)),
        EventKind::Block(Change::Created(new)),
    ] = world.events()[..]
    else {
        panic!("not two blocks");
    };
    assert_eq!(
        (old.external.to_string().as_str(), old.first_port),
        (FIRST, new.first_port)
    );
    assert_eq!(new.external.to_string(), SECOND);
}
