//! Sessions whose packets are carried below the worker: which are, for how long, and what ends it.
#![allow(clippy::unwrap_used)]

mod world;

use std::net::SocketAddrV4;

use nat64::config::Destination;
use nat64::event::{Change, EventKind};
use nat64::{Protocol, TcpState};
use world::offload::FakeOffload;
use world::{ACK, FIN, RST, SESSIONS, SYN, UDP, World, config, sock4, sock6};
use xlat_core::DropReason;
use xlat_core::mapper::{PacketHolder, PendingPacket};

const CLIENT: &str = "[2001:db8::1]:1000";
const SERVER: &str = "198.51.100.7:53";

/// A NAT64 that offers a session after three packets, besides the one that began it.
fn world(flows: u32) -> (World, FakeOffload) {
    let world = World::new(config("192.0.2.1"));
    let offload = FakeOffload::default();
    world.nat.set_offload(Some(&offload.config(3, flows)));
    (world, offload)
}

fn batch_ends(world: &mut World) {
    assert!(world.worker.poll_packet(world.now).is_none());
}

/// A UDP session that is installed.
fn udp(world: &mut World, client: &str) -> SocketAddrV4 {
    let external = world.udp_out(client, SERVER).unwrap();
    world.udp_in(SERVER, external).unwrap();
    world.udp_in(SERVER, external).unwrap();
    world.udp_out(client, SERVER).unwrap();
    batch_ends(world);
    // The other direction follows with its next packet.
    world.udp_in(SERVER, external).unwrap();
    batch_ends(world);
    external
}

/// A TCP connection that is installed.
fn tcp(world: &mut World) -> SocketAddrV4 {
    let external = world.tcp_out(SYN, CLIENT, SERVER).unwrap();
    world.tcp_in(SYN | ACK, SERVER, external).unwrap();
    world.tcp_out(ACK, CLIENT, SERVER).unwrap();
    world.tcp_out(ACK, CLIENT, SERVER).unwrap();
    batch_ends(world);
    world.tcp_in(ACK, SERVER, external).unwrap();
    batch_ends(world);
    external
}

fn carry_out(world: &World, offload: &FakeOffload, client: &str) -> Option<SocketAddrV4> {
    offload.carry_out((Protocol::Udp, 0), sock6(client), sock4(SERVER), world.now)
}

#[test]
fn kf_02_a_session_is_offered_after_some_packets_whichever_way_they_go() {
    for ways in [[true; 3], [false; 3], [true, false, true]] {
        let (mut world, offload) = world(8);
        let external = world.udp_out(CLIENT, SERVER).unwrap();
        for goes_out in ways {
            batch_ends(&mut world);
            assert_eq!(offload.installed(), []);
            match goes_out {
                true => drop(world.udp_out(CLIENT, SERVER).unwrap()),
                false => drop(world.udp_in(SERVER, external).unwrap()),
            }
        }
        batch_ends(&mut world);
        let installed = offload.installed();
        assert_eq!(installed.len(), 1, "{ways:?}");
        let binding = installed[0].record.binding;
        assert_eq!(
            (binding.external, binding.external_port),
            (*external.ip(), external.port())
        );
        assert_eq!(world.counts().offloaded, 1);
        // What was seen says nothing about the other direction.
        let carried = |world: &World| {
            let back = offload.carry_in((Protocol::Udp, 0), sock4(SERVER), external, world.now);
            [carry_out(world, &offload, CLIENT).is_some(), back.is_some()]
        };
        let last = ways[2];
        assert_eq!(carried(&world), [last, !last]);
        match last {
            true => drop(world.udp_in(SERVER, external).unwrap()),
            false => drop(world.udp_out(CLIENT, SERVER).unwrap()),
        }
        batch_ends(&mut world);
        assert_eq!(carried(&world), [true; 2]);
    }
}

#[test]
fn kf_02_an_echo_is_offered_with_its_identifier() {
    let (mut world, offload) = world(8);
    let external = world.ping_out(CLIENT, "198.51.100.9").unwrap();
    for _ in 0..2 {
        world.ping_in("198.51.100.9", external).unwrap();
        world.ping_out(CLIENT, "198.51.100.9").unwrap();
    }
    batch_ends(&mut world);
    let record = offload.installed()[0].record;
    assert_eq!(record.binding.protocol, Protocol::Icmp);
    assert_eq!(
        (record.binding.client_port, record.binding.external_port),
        (1000, external.port())
    );
    assert_eq!(record.remote_port, 0);
}

#[test]
fn kf_02_sessions_that_become_ripe_in_a_batch_are_offered_together() {
    let (mut world, offload) = world(3);
    let clients: Vec<_> = (1..=5)
        .map(|number| format!("[2001:db8::{number}]:1000"))
        .collect();
    // Each of them twice as often as it takes.
    for _ in 0..7 {
        for client in &clients {
            world.udp_out(client, SERVER).unwrap();
        }
    }
    batch_ends(&mut world);
    assert_eq!(
        (offload.installed().len(), world.counts().offloaded),
        (3, 3)
    );
    assert_eq!(offload.calls(), 1);
}

#[test]
fn kf_04_a_session_that_is_in_use_makes_no_place() {
    let (mut world, offload) = world(1);
    let clients = ["[2001:db8::1]:1000", "[2001:db8::2]:1000"];
    udp(&mut world, clients[0]);
    world.wait(10);
    assert!(carry_out(&world, &offload, clients[0]).is_some());
    udp(&mut world, clients[1]);
    let carried = |world: &World| clients.map(|one| carry_out(world, &offload, one).is_some());
    assert_eq!(carried(&world), [true, false]);
    world.wait(2);
    udp(&mut world, clients[1]);
    world.udp_out(clients[1], SERVER).unwrap();
    batch_ends(&mut world);
    assert_eq!(carried(&world), [false, true]);
}

#[test]
fn kf_02_tcp_is_offered_once_it_is_established_and_taken_back_at_fin_and_rst() {
    for end in [FIN | ACK, RST] {
        for from_client in [true, false] {
            let (mut world, offload) = world(8);
            for _ in 0..6 {
                world.tcp_out(SYN, CLIENT, SERVER).unwrap();
            }
            batch_ends(&mut world);
            assert_eq!(offload.installed(), []);
            let external = tcp(&mut world);
            assert_eq!(offload.installed().len(), 1);
            assert_eq!(offload.installed()[0].tcp, Some(TcpState::Established));
            if from_client {
                world.tcp_out(end, CLIENT, SERVER).unwrap();
            } else {
                world.tcp_in(end, SERVER, external).unwrap();
            }
            assert_eq!(offload.installed(), []);
        }
    }
}

/// The worker has seen none of the segments that the kernel carried: it knows no sequence numbers, and
/// needs none.
#[test]
fn nc_23_a_forged_rst_costs_a_connection_below_no_more_than_one_above() {
    let (mut world, offload) = world(8);
    let external = tcp(&mut world);
    world.tcp_in(RST, SERVER, external).unwrap();
    assert_eq!(offload.installed(), []);
    world.wait(1);
    let probe = world.worker.poll_packet(world.now);
    assert!(matches!(probe, Some(PendingPacket::Send(_))), "{probe:?}");
    for _ in 0..3 {
        world.tcp_out(ACK, CLIENT, SERVER).unwrap();
        world.tcp_in(ACK, SERVER, external).unwrap();
    }
    world.tcp_out(ACK, CLIENT, SERVER).unwrap();
    batch_ends(&mut world);
    assert_eq!(offload.installed().len(), 1);
    world.wait(7400);
    world.expire();
    assert_eq!(world.counts().sessions, [0, 1, 0]);
}

#[test]
fn kf_02_hairpins_are_never_offered() {
    let (mut world, offload) = world(8);
    let (other, client) = ("[2001:db8::2]:2000", CLIENT);
    let target = world.udp_out(other, SERVER).unwrap();
    let external = world.udp_out(client, &target.to_string()).unwrap();
    for _ in 0..9 {
        world.udp_out(client, &target.to_string()).unwrap();
        world.turn(UDP, 0, external, target).unwrap();
        world.udp_out(other, &external.to_string()).unwrap();
        world.turn(UDP, 0, target, external).unwrap();
    }
    batch_ends(&mut world);
    assert_eq!(offload.installed(), []);
}

#[test]
fn kf_03_a_session_that_is_used_below_lives_on_and_ends_after_its_last_packet() {
    let (mut world, offload) = world(8);
    udp(&mut world, CLIENT);
    for _ in 0..10 {
        world.wait(200);
        world.expire();
        assert!(carry_out(&world, &offload, CLIENT).is_some());
    }
    world.wait(299);
    world.expire();
    assert_eq!(world.counts().sessions, [1, 0, 0]);
    world.wait(2);
    world.expire();
    assert_eq!(
        (world.counts().sessions, offload.installed().len()),
        ([0; 3], 0)
    );
}

#[test]
fn kf_03_without_inbound_refresh_packets_from_ipv4_below_prolong_nothing() {
    let mut config = config("192.0.2.1");
    config.inbound.refreshes = false;
    let (mut world, offload) = (World::new(config), FakeOffload::default());
    world.nat.set_offload(Some(&offload.config(3, 8)));
    let external = udp(&mut world, CLIENT);
    world.wait(299);
    let carried = offload.carry_in((Protocol::Udp, 0), sock4(SERVER), external, world.now);
    assert!(carried.is_some());
    world.wait(2);
    world.expire();
    assert_eq!(
        (world.counts().sessions, offload.installed().len()),
        ([0; 3], 0)
    );
}

#[test]
fn kf_03_an_idle_connection_is_probed_only_when_it_is_idle_below_too() {
    let (mut world, offload) = world(8);
    tcp(&mut world);
    world.wait(7000);
    let segment = (Protocol::Tcp, ACK);
    let carried = offload.carry_out(segment, sock6(CLIENT), sock4(SERVER), world.now);
    assert!(carried.is_some());
    world.wait(7000);
    world.expire();
    batch_ends(&mut world);
    world.wait(441);
    world.expire();
    let packet = world.worker.poll_packet(world.now);
    assert!(matches!(packet, Some(PendingPacket::Send(_))), "{packet:?}");
    assert_eq!(offload.installed(), []);
}

#[test]
fn kf_03_an_icmp_error_finds_a_session_that_lives_by_packets_below() {
    let (mut world, offload) = world(8);
    let external = udp(&mut world, CLIENT);
    world.wait(200);
    assert!(carry_out(&world, &offload, CLIENT).is_some());
    world.wait(200);
    assert!(
        world
            .error_in(UDP, "203.0.113.99", external, SERVER)
            .is_ok()
    );
    world.wait(101);
    assert!(
        world
            .error_in(UDP, "203.0.113.99", external, SERVER)
            .is_err()
    );
}

#[test]
fn kf_04_the_least_recently_used_session_makes_place() {
    let (mut world, offload) = world(2);
    let clients = [
        "[2001:db8::1]:1000",
        "[2001:db8::2]:1000",
        "[2001:db8::3]:1000",
    ];
    udp(&mut world, clients[0]);
    world.wait(1);
    udp(&mut world, clients[1]);
    world.wait(1);
    assert!(carry_out(&world, &offload, clients[0]).is_some());
    world.wait(1);
    udp(&mut world, clients[2]);
    let carried = clients.map(|client| carry_out(&world, &offload, client).is_some());
    assert_eq!(carried, [true, false, true]);
    assert_eq!(world.counts().offloaded, 2);
}

#[test]
fn kf_04_an_offload_that_refuses_is_left_alone_for_a_second() {
    let (mut world, offload) = world(8);
    offload.refuse(true);
    udp(&mut world, CLIENT);
    offload.refuse(false);
    udp(&mut world, CLIENT);
    assert_eq!(offload.installed(), []);
    world.wait(2);
    udp(&mut world, CLIENT);
    assert_eq!(offload.installed().len(), 1);
}

#[test]
fn kf_05_a_reload_takes_all_back_and_a_worker_with_the_old_view_installs_none() {
    let (mut world, offload) = world(8);
    udp(&mut world, CLIENT);
    let prefix = "198.51.100.7/32".parse().unwrap();
    let mut config = config("192.0.2.1");
    config.denied = vec![Destination {
        prefix,
        ports: None,
    }];
    let view = world.nat.reconfigure(config, world.now).unwrap();
    assert_eq!(offload.installed(), []);
    udp(&mut world, CLIENT);
    assert_eq!(offload.installed(), []);
    world.worker.adopt(view);
    let refused = world.udp_out(CLIENT, SERVER).unwrap_err();
    assert!(format!("{refused:?}").contains(&format!("{:?}", DropReason::Denied)));
    udp_to_another(&mut world);
    assert_eq!(offload.installed().len(), 1);
}

/// A session with a server that is not denied.
fn udp_to_another(world: &mut World) {
    let server = "203.0.113.9:53";
    let external = world.udp_out(CLIENT, server).unwrap();
    world.udp_in(server, external).unwrap();
    for _ in 0..3 {
        world.udp_out(CLIENT, server).unwrap();
    }
    batch_ends(world);
}

#[test]
fn kf_05_a_recall_stops_all_and_they_come_again_with_the_new_view() {
    let (mut world, offload) = world(8);
    udp(&mut world, CLIENT);
    let view = world.nat.recall();
    assert_eq!((offload.installed(), world.counts().offloaded), (vec![], 0));
    udp(&mut world, CLIENT);
    assert_eq!(offload.installed(), []);
    world.worker.adopt(view);
    udp(&mut world, CLIENT);
    assert_eq!(offload.installed().len(), 1);
    world.nat.set_offload(None);
    udp(&mut world, CLIENT);
    assert_eq!((offload.installed(), world.counts().offloaded), (vec![], 0));
}

#[test]
fn kf_05_a_session_of_another_prefix_is_installed_anew() {
    let prefixes = ["2001:db8:64::/96", "2001:db8:65::/96"];
    let pref64s = xlat_core::addr::Pref64s::new(prefixes.map(|one| one.parse().unwrap()), true);
    let (mut world, offload) = (
        World::behind(pref64s, config("192.0.2.1")),
        FakeOffload::default(),
    );
    world.nat.set_offload(Some(&offload.config(3, 8)));
    udp(&mut world, CLIENT);
    assert_eq!(offload.installed()[0].pref64, 0);
    let other = "[2001:db8:65::198.51.100.7]:53".parse().unwrap();
    let flow = world::flow6(UDP, 0, sock6(CLIENT), other);
    let now = world.now;
    xlat_core::Mapper::map_v6(&mut world.worker, &flow, now).unwrap();
    assert_eq!(offload.installed(), []);
}

#[test]
fn kf_06_the_end_of_a_session_that_was_carried_is_reported_with_its_time() {
    let (mut world, offload) = world(8);
    world.subscribe(SESSIONS);
    udp(&mut world, CLIENT);
    world.wait(250);
    assert!(carry_out(&world, &offload, CLIENT).is_some());
    let last = world.now;
    world.wait(302);
    world.expire();
    let ends = world.events().into_iter().find_map(|event| match event {
        EventKind::Session(Change::Removed(entry)) => Some(entry.expires),
        _ => None,
    });
    let lived = ends.unwrap().as_nanos() - last.as_nanos();
    assert!(
        (300_000_000_000..300_300_000_000).contains(&lived),
        "{lived}"
    );
}
