//! External ports that clients ask for (RFC 6887) in the tables: PC of the requirements.
#![allow(clippy::unwrap_used)]

mod world;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};

use nat64::config::{Filtering, PortBlocks, StaticBinding};
use nat64::{PortRefusal, PortRequest, Protocol, RemoteFilter};
use pnet_packet::ip::IpNextHeaderProtocol;
use world::{ACK, RST, SYN, TCP, UDP, World, config, sock4, sock6};

const CLIENT: &str = "[2001:db8::7]:5000";
const SERVER: &str = "198.51.100.7:53";
const OTHER: &str = "203.0.113.9:99";

fn host() -> Ipv6Addr {
    *sock6(CLIENT).ip()
}

fn wanted(port: u16) -> PortRequest {
    PortRequest {
        protocol: Protocol::Udp,
        client: host(),
        client_port: port,
        address: None,
        port: None,
        exact: false,
    }
}

fn exactly(port: u16, external: u16) -> PortRequest {
    PortRequest {
        port: Some(external),
        exact: true,
        ..wanted(port)
    }
}

fn keep(world: &World, wanted: &PortRequest) -> Result<SocketAddrV4, PortRefusal> {
    world.nat.keep_port(wanted, world.now)
}

fn open(world: &World, port: u16, filters: &[RemoteFilter]) {
    world.nat.open_port(Protocol::Udp, host(), port, filters);
}

fn release(world: &World, port: u16) {
    world
        .nat
        .release_port(Protocol::Udp, host(), port, world.now);
}

#[test]
fn pc_21_a_kept_port_stays_without_sessions_and_goes_when_it_is_released() {
    let mut world = World::with_pool("192.0.2.1");
    let external = keep(&world, &wanted(5000)).unwrap();
    open(&world, 5000, &[]);
    world.wait(1_000_000);
    world.expire();
    assert_eq!(keep(&world, &wanted(5000)), Ok(external));
    assert_eq!(world.udp_in(SERVER, external), Ok(sock6(CLIENT)));
    assert_eq!(world.udp_out(CLIENT, OTHER), Ok(external));
    // Sessions go on, and the binding ends with the last of them.
    release(&world, 5000);
    assert_eq!(world.counts().bindings, 1);
    assert_eq!(world.udp_in(SERVER, external), Ok(sock6(CLIENT)));
    world.wait(301);
    world.expire();
    let counts = world.counts();
    assert_eq!((counts.bindings, counts.subscribers), (0, 0));
}

#[test]
fn pc_21_a_kept_port_without_sessions_is_released_at_once() {
    let world = World::with_pool("192.0.2.1");
    let before = world.counts();
    keep(&world, &wanted(5000)).unwrap();
    release(&world, 5000);
    release(&world, 5000);
    let after = world.counts();
    assert_eq!((after.bindings, after.subscribers), (0, 0));
    assert!(before.free_ports[0] - after.free_ports[0] <= 1);
}

#[test]
fn pc_21_the_port_of_a_running_session_is_the_port_that_is_kept() {
    let mut world = World::with_pool("192.0.2.0/28");
    let external = world.udp_out(CLIENT, SERVER).unwrap();
    assert_eq!(keep(&world, &wanted(5000)), Ok(external));
    let other = external.port() ^ 1;
    let refused = keep(&world, &exactly(5000, other));
    assert_eq!(refused, Err(PortRefusal::NotThisOne));
    let same = keep(&world, &exactly(5000, external.port()));
    assert_eq!(same, Ok(external));
}

#[test]
fn pc_09_a_suggested_port_is_given_if_it_is_free() {
    let mut cfg = config("192.0.2.1");
    cfg.shards = 1;
    let world = World::new(cfg);
    let given = keep(&world, &exactly(5000, 51413));
    assert_eq!(given, Ok(sock4("192.0.2.1:51413")));
    let rival = PortRequest {
        client: "2001:db8:0:1::1".parse().unwrap(),
        ..exactly(1, 51413)
    };
    assert_eq!(keep(&world, &rival), Err(PortRefusal::NotThisOne));
    assert_eq!(world.counts().subscribers, 1);
    let modest = PortRequest {
        exact: false,
        ..rival
    };
    let other = keep(&world, &modest).unwrap();
    assert_ne!(other.port(), 51413);
    let elsewhere = PortRequest {
        address: Some(Ipv4Addr::new(203, 0, 113, 1)),
        ..exactly(5001, 51414)
    };
    assert_eq!(keep(&world, &elsewhere), Err(PortRefusal::NotThisOne));
}

#[test]
fn pc_24_an_open_port_is_open_whatever_the_filtering_of_others() {
    let mut cfg = config("192.0.2.1");
    cfg.filtering = Filtering::AddressDependent;
    let mut world = World::new(cfg);
    let external = keep(&world, &wanted(5000)).unwrap();
    // Kept is not open: that is what PEER asks for.
    assert!(world.udp_in(OTHER, external).is_err());
    open(&world, 5000, &[]);
    assert_eq!(world.udp_in(OTHER, external), Ok(sock6(CLIENT)));
    world.nat.close_port(Protocol::Udp, host(), 5000);
    assert!(world.udp_in(SERVER, external).is_err());
    assert_eq!(keep(&world, &wanted(5000)), Ok(external));
}

#[test]
fn pc_10_filters_admit_whom_the_client_wants_to_hear() {
    for protocol in [Protocol::Udp, Protocol::Tcp] {
        let mut cfg = config("192.0.2.1");
        cfg.inbound.opens_tcp = true;
        let mut world = World::new(cfg);
        let request = PortRequest {
            protocol,
            ..wanted(5000)
        };
        let external = keep(&world, &request).unwrap();
        let only = RemoteFilter {
            prefix: "198.51.100.0/24".parse().unwrap(),
            port: Some(53),
        };
        assert!(begins(&mut world, protocol, "192.0.2.200:1", external));
        world.nat.open_port(protocol, host(), 5000, &[only]);
        assert!(begins(&mut world, protocol, SERVER, external));
        assert!(!begins(&mut world, protocol, "198.51.100.7:54", external));
        assert!(!begins(&mut world, protocol, OTHER, external));
        // Whom the client speaks to may answer.
        world.send(number(protocol), SYN, CLIENT, OTHER).unwrap();
        let answer = world.receive(number(protocol), SYN | ACK, OTHER, external);
        assert_eq!(answer, Ok(sock6(CLIENT)));
    }
}

fn number(protocol: Protocol) -> IpNextHeaderProtocol {
    match protocol {
        Protocol::Tcp => TCP,
        _ => UDP,
    }
}

fn begins(world: &mut World, protocol: Protocol, from: &str, to: SocketAddrV4) -> bool {
    world.receive(number(protocol), SYN, from, to).is_ok()
}

#[test]
fn pc_26_limits_of_a_subscriber_hold_for_kept_ports_too() {
    let mut cfg = config("192.0.2.1");
    cfg.limits.subscriber_ports = 2;
    let world = World::new(cfg);
    for port in [1, 2] {
        keep(&world, &wanted(port)).unwrap();
    }
    assert_eq!(keep(&world, &wanted(3)), Err(PortRefusal::Limit));
    release(&world, 1);
    assert!(keep(&world, &wanted(3)).is_ok());
}

#[test]
fn pc_26_ports_come_from_the_blocks_of_the_subscriber() {
    let mut cfg = config("192.0.2.1");
    cfg.shards = 1;
    cfg.ports.blocks = Some(PortBlocks {
        size: 64,
        per_subscriber: 1,
    });
    let world = World::new(cfg);
    let first = keep(&world, &exactly(5000, 6400)).unwrap();
    assert_eq!(first, sock4("192.0.2.1:6400"));
    // Another block would be the second.
    let beyond = keep(&world, &exactly(5001, 6464));
    assert_eq!(beyond, Err(PortRefusal::NotThisOne));
    let inside = keep(&world, &wanted(5002)).unwrap();
    assert!((6400..6464).contains(&inside.port()), "{inside}");
}

#[test]
fn pc_26_the_administrators_bindings_stay_his() {
    let mut cfg = config("192.0.2.1");
    cfg.bindings.push(StaticBinding {
        protocol: Protocol::Udp,
        client: host(),
        client_port: 5000,
        external: Ipv4Addr::new(192, 0, 2, 1),
        external_port: 443,
    });
    let mut world = World::new(cfg);
    let external = sock4("192.0.2.1:443");
    assert_eq!(keep(&world, &wanted(5000)), Ok(external));
    release(&world, 5000);
    assert_eq!(world.udp_in(SERVER, external), Ok(sock6(CLIENT)));
    let taken = PortRequest {
        client: "2001:db8::8".parse().unwrap(),
        ..exactly(1, 443)
    };
    assert_eq!(keep(&world, &taken), Err(PortRefusal::NotThisOne));
}

#[test]
fn pc_26_hosts_that_are_not_served_get_nothing() {
    let mut cfg = config("192.0.2.1");
    cfg.clients = vec!["2001:db8:aaaa::/48".parse().unwrap()];
    let world = World::new(cfg);
    assert_eq!(keep(&world, &wanted(1)), Err(PortRefusal::NotServed));
}

/// RFC 6887 section 12.3: "extend the mapping's lifetime", beyond the timeout of idle connections.
#[test]
fn pc_12_a_held_connection_may_be_idle_for_longer_than_others() {
    let hold = |world: &World, seconds: u64| {
        let until = world.now + std::time::Duration::from_secs(seconds);
        let (tcp, remote) = (Protocol::Tcp, sock4(SERVER));
        world.nat.hold_connection(tcp, host(), 5000, remote, until);
    };
    let begin = || {
        let mut world = World::with_pool("192.0.2.1");
        let wanted = PortRequest {
            protocol: Protocol::Tcp,
            ..wanted(5000)
        };
        let external = keep(&world, &wanted).unwrap();
        assert_eq!(world.tcp_out(SYN, CLIENT, SERVER), Ok(external));
        world.tcp_in(SYN | ACK, SERVER, external).unwrap();
        world.tcp_out(ACK, CLIENT, SERVER).unwrap();
        (world, external)
    };
    let sessions = |world: &mut World, seconds: u64| {
        world.wait(seconds);
        world.expire();
        world.counts().sessions.iter().sum::<u32>()
    };
    const ESTABLISHED: u64 = 7440;
    const TRANS: u64 = 240;
    let (mut world, external) = begin();
    hold(&world, 86_400);
    assert_eq!(sessions(&mut world, 86_399), 1);
    assert!(world.tcp_in(ACK, SERVER, external).is_ok());
    // The packet began the usual time again; the promise is over.
    assert_eq!(sessions(&mut world, ESTABLISHED + TRANS + 1), 0);

    // A client that lets it go, and one that never asked.
    for is_held in [true, false] {
        let (mut world, _) = begin();
        if is_held {
            hold(&world, 86_400);
            let (tcp, remote) = (Protocol::Tcp, sock4(SERVER));
            world.nat.let_connection_go(tcp, host(), 5000, remote);
        }
        assert_eq!(
            sessions(&mut world, ESTABLISHED + TRANS + 1),
            0,
            "{is_held}"
        );
    }
    // Another connection of the same port is not held, nor one that ends.
    let (mut world, external) = begin();
    hold(&world, 86_400);
    world.tcp_out(SYN, CLIENT, OTHER).unwrap();
    world.tcp_in(SYN | ACK, OTHER, external).unwrap();
    assert_eq!(sessions(&mut world, ESTABLISHED + TRANS + 1), 1);
    world.tcp_out(RST, CLIENT, SERVER).unwrap();
    assert_eq!(sessions(&mut world, TRANS + 1), 0);
}
