//! Limits, port blocks and full tables: what happens when there is not enough for everybody (CG,
//! SE-15).
#![allow(clippy::unwrap_used)]

mod world;

use std::collections::{BTreeMap, BTreeSet};

use nat64::Protocol;
use nat64::config::{PortBlocks, StaticBinding};
use nat64::event::EventKind;
use world::{BINDINGS, BLOCKS, SYN, World, answer, config, silent, sock4, sock6};
use xlat_core::DropReason;
use xlat_core::mapper::Unreachable::{self, Address};

const SERVER: &str = "198.51.100.7:53";

#[test]
fn cg_01_the_limit_of_ports_counts_bindings_per_protocol() {
    let mut config = config("192.0.2.0/28");
    config.limits.subscriber_prefix = 64;
    config.limits.subscriber_ports = 10;
    let mut world = World::new(config);
    let client = |port| format!("[2001:db8::{port}]:{port}");
    for port in 1..=10 {
        world.udp_out(&client(port), SERVER).unwrap();
    }
    let limited = answer(DropReason::SubscriberLimit, Address);
    assert_eq!(world.udp_out(&client(11), SERVER), limited);
    assert!(world.tcp_out(SYN, &client(11), SERVER).is_ok());
    assert!(world.udp_out(&client(5), "203.0.113.9:99").is_ok());
    assert!(world.udp_out("[2001:db8:0:1::1]:1", SERVER).is_ok());
    world.wait(302);
    assert!(world.udp_out(&client(11), SERVER).is_ok());
}

#[test]
fn se_15_the_limit_of_sessions_holds_in_both_directions() {
    let mut config = config("192.0.2.0/28");
    config.limits.subscriber_sessions = 5;
    let mut world = World::new(config);
    let client = "[2001:db8::7]:5000";
    let mut bound = None;
    for port in 1..=5 {
        bound = Some(
            world
                .udp_out(client, &format!("198.51.100.7:{port}"))
                .unwrap(),
        );
    }
    assert_eq!(
        world.udp_out(client, "198.51.100.7:6"),
        answer(DropReason::SubscriberLimit, Address)
    );
    assert_eq!(
        world.udp_in("203.0.113.9:99", bound.unwrap()),
        silent(DropReason::SubscriberLimit)
    );
    assert!(world.udp_out(client, "198.51.100.7:5").is_ok());
    assert_eq!(world.counts().sessions, [5, 0, 0]);
}

#[test]
fn se_15_a_flood_from_outside_leaves_room_for_the_clients() {
    let mut config = config("192.0.2.0/28");
    config.limits.sessions = 800;
    config.limits.subscriber_sessions = 160;
    let mut world = World::new(config);
    let flood = |world: &mut World, client: &str| {
        let bound = world.udp_out(client, SERVER).unwrap();
        (0..2000)
            .filter(|number| {
                let from = format!("203.0.{}.{}:99", number / 250, number % 250);
                world.udp_in(&from, bound).is_ok()
            })
            .count()
    };
    assert_eq!(flood(&mut world, "[2001:db8::1]:1"), 139);
    for client in 2..=20 {
        flood(&mut world, &format!("[2001:db8::{client:x}]:1"));
    }
    assert!(world.counts().sessions[0] <= 719);
    for client in 1..=20 {
        let client = format!("[2001:db8::{client:x}]:1");
        assert!(
            world.udp_out(&client, "198.51.100.7:54").is_ok(),
            "{client}"
        );
    }
}

#[test]
fn cg_02_new_bindings_are_limited_in_rate_and_old_ones_keep_working() {
    let mut config = config("192.0.2.0/28");
    config.limits.subscriber_rate = Some(10);
    let mut world = World::new(config);
    let made = (1..=100)
        .filter(|port| {
            world
                .udp_out(&format!("[2001:db8::7]:{port}"), SERVER)
                .is_ok()
        })
        .count();
    assert_eq!(made, 20);
    assert!(world.udp_out("[2001:db8::7]:1", SERVER).is_ok());
    assert!(world.udp_out("[2001:db8::8]:1", SERVER).is_ok());
    world.wait(1);
    assert!(world.udp_out("[2001:db8::7]:99", SERVER).is_ok());
}

#[test]
fn se_15_a_full_table_refuses_new_sessions_and_keeps_the_old_ones() {
    let mut config = config("192.0.2.0/28");
    config.limits.sessions = 50;
    let mut world = World::new(config);
    let client = |number| format!("[2001:db8::{number:x}]:5000");
    let bound: Vec<_> = (0..50)
        .map(|number| world.udp_out(&client(number), SERVER).unwrap())
        .collect();
    for number in 50..500 {
        assert_eq!(
            world.udp_out(&client(number), SERVER),
            answer(DropReason::TableFull, Address)
        );
    }
    assert_eq!(
        world.udp_in("203.0.113.9:99", bound[0]),
        silent(DropReason::TableFull)
    );
    for (number, bound) in bound.iter().enumerate() {
        assert_eq!(world.udp_in(SERVER, *bound), Ok(sock6(&client(number))));
    }
    let counts = world.counts();
    assert_eq!((counts.subscribers, counts.bindings), (50, 50));
    world.wait(302);
    assert!(world.udp_out(&client(500), SERVER).is_ok());
}

#[test]
fn cg_05_the_heaviest_subscribers_are_named() {
    let mut config = config("192.0.2.0/28");
    config.shards = 3;
    config.limits.subscriber_prefix = 64;
    let mut world = World::new(config);
    for subscriber in 1..=20 {
        for port in 1..=subscriber {
            let client = format!("[2001:db8:0:{subscriber:x}::1]:{port}");
            world.udp_out(&client, SERVER).unwrap();
        }
    }
    let top = world.nat.top_subscribers(3);
    let sessions: Vec<u32> = top.iter().map(|usage| usage.sessions).collect();
    assert_eq!(sessions, [20, 19, 18]);
    assert_eq!(top[0].subscriber.to_string(), "2001:db8:0:14::/64");
    assert_eq!((top[0].bindings, top[0].blocks), ([20, 0, 0], 0));
}

#[test]
fn cg_07_refusals_are_reported_once_a_second_at_most() {
    let mut world = World::with_pool("192.0.2.1:4000-4000");
    world.subscribe(BINDINGS);
    world.udp_out("[2001:db8::1]:1", SERVER).unwrap();
    for number in 2..100 {
        world
            .udp_out(&format!("[2001:db8::{number:x}]:1"), SERVER)
            .unwrap_err();
    }
    world.wait(2);
    world.udp_out("[2001:db8::1:1]:1", SERVER).unwrap_err();
    let kinds: Vec<u8> = world
        .events()
        .iter()
        .filter_map(EventKind::nat_event)
        .collect();
    assert_eq!(kinds, [10, 12, 12]);
}

#[test]
fn cg_10_a_subscriber_lives_in_its_blocks_and_a_block_is_one_record() {
    let mut config = config("192.0.2.0/30");
    config.limits.subscriber_prefix = 64;
    config.ports.blocks = Some(PortBlocks {
        size: 128,
        per_subscriber: 2,
    });
    let mut world = World::new(config);
    world.subscribe(BLOCKS);
    let mut owner = BTreeMap::new();
    for subscriber in 0..20 {
        let mut blocks = BTreeSet::new();
        for host in 1..=200 {
            let client = format!("[2001:db8:0:{subscriber:x}::{host:x}]:5000");
            let bound = world.udp_out(&client, SERVER).unwrap();
            assert!(bound.port() >= 1024);
            let block = (*bound.ip(), bound.port() / 128);
            assert_eq!(*owner.entry(block).or_insert(subscriber), subscriber);
            blocks.insert(block);
        }
        assert!(blocks.len() <= 2, "{blocks:?}");
        let next = format!("[2001:db8:0:{subscriber:x}::ffff]:5000");
        let refusals = (0..100)
            .map(|port| world.udp_out(&next.replace("5000", &format!("{}", 5000 + port)), SERVER))
            .filter(|result| *result == answer(DropReason::SubscriberLimit, Address))
            .count();
        assert_eq!(refusals, 100 - 56);
    }
    let allocated = world
        .events()
        .into_iter()
        .filter(|event| !matches!(event, EventKind::LimitReached(_)))
        .filter_map(|event| event.nat_event());
    assert_eq!(allocated.collect::<Vec<_>>(), [16; 40]);

    world.wait(302);
    world.expire();
    assert_eq!(world.counts().bindings, 0);
    assert_eq!(world.counts().subscribers, 20);
    world.wait(122);
    world.expire();
    let freed: Vec<u8> = world
        .events()
        .iter()
        .filter_map(EventKind::nat_event)
        .collect();
    assert_eq!(freed, [17; 40]);
    assert_eq!(world.counts().subscribers, 0);
}

#[test]
fn cg_14_a_network_leaves_ports_to_others() {
    let mut config = config("192.0.2.1:1024-2023");
    config.limits.network_prefix = Some(64);
    let mut world = World::new(config);
    let flood = |world: &mut World, network: &str| {
        (1..=1100)
            .filter(|host| {
                let client = format!("[2001:db8:0:{network}::{host:x}]:5000");
                world.udp_out(&client, SERVER).is_ok()
            })
            .count()
    };
    // Three times what is left.
    assert_eq!(flood(&mut world, "1"), 750);
    assert_eq!(
        world.udp_out("[2001:db8:0:1::ffff]:1", SERVER),
        answer(DropReason::SubscriberLimit, Address)
    );
    // Who has a port keeps it, and other protocols have ports of their own.
    assert!(world.udp_out("[2001:db8:0:1::1]:5000", SERVER).is_ok());
    assert!(world.tcp_out(SYN, "[2001:db8:0:1::ffff]:1", SERVER).is_ok());
    assert_eq!(flood(&mut world, "2"), 188);
    assert_eq!(flood(&mut world, "3"), 47);
    // Ports that are held down are not free, so that even now not all are taken.
    world.wait(302);
    world.expire();
    assert_eq!(world.counts().bindings, 0);
    assert_eq!(flood(&mut world, "1"), 12);
    assert_eq!(flood(&mut world, "2"), 3);
    rest(&mut world);
    assert_eq!(flood(&mut world, "1"), 750);
}

#[test]
fn cg_14_a_network_leaves_blocks_to_others() {
    let mut config = config("192.0.2.1:1024-2047");
    config.limits.network_prefix = Some(64);
    config.ports.blocks = Some(PortBlocks {
        size: 128,
        per_subscriber: 1,
    });
    let mut world = World::new(config);
    let blocks = |world: &mut World, network: &str| {
        (1..=20)
            .filter(|host| {
                let client = format!("[2001:db8:0:{network}::{host:x}]:5000");
                world.udp_out(&client, SERVER).is_ok()
            })
            .count()
    };
    assert_eq!(blocks(&mut world, "1"), 6);
    assert_eq!(blocks(&mut world, "2"), 2);
    rest(&mut world);
    assert_eq!(blocks(&mut world, "2"), 6);
}

/// Waits until all ports are free again.
fn rest(world: &mut World) {
    for seconds in [302, 122] {
        world.wait(seconds);
        world.expire();
    }
}

#[test]
fn cg_10_blocks_run_out_before_ports_do() {
    let mut config = config("192.0.2.1:1024-1279");
    config.ports.blocks = Some(PortBlocks {
        size: 128,
        per_subscriber: 1,
    });
    let mut world = World::new(config);
    assert!(world.udp_out("[2001:db8::1]:1", SERVER).is_ok());
    assert!(world.udp_out("[2001:db8::2]:1", SERVER).is_ok());
    assert_eq!(
        world.udp_out("[2001:db8::3]:1", SERVER),
        answer(DropReason::PoolExhausted, Address)
    );
    assert_eq!(world.counts().subscribers, 2);
}

#[test]
fn se_15_a_flood_at_one_port_forward_leaves_room_for_all_others() {
    let mut config = config("192.0.2.0/28");
    config.limits.sessions = 1000;
    config.limits.subscriber_sessions = 80;
    config.bindings = vec![StaticBinding {
        protocol: Protocol::Tcp,
        external: "192.0.2.1".parse().unwrap(),
        external_port: 443,
        client: "2001:db8::10".parse().unwrap(),
        client_port: 8443,
    }];
    let mut world = World::new(config);
    let outside = sock4("192.0.2.1:443");
    let passed = (1..=500)
        .filter(|port| {
            world
                .tcp_in(SYN, &format!("198.51.100.7:{port}"), outside)
                .is_ok()
        })
        .count();
    assert_eq!(passed, 70);
    let refused = world.tcp_in(SYN, "203.0.113.9:99", outside);
    assert_eq!(refused, silent(DropReason::SubscriberLimit));
    // The server's own connections have the eighth that is kept for it.
    let own = world.tcp_out(SYN, "[2001:db8::10]:8443", "203.0.113.9:99");
    assert_eq!(own, Ok(outside));
}

#[test]
fn cg_06_what_a_client_without_a_port_is_told_can_be_chosen() {
    for (choice, expected) in [
        (
            Some(Unreachable::Address),
            answer(DropReason::PoolExhausted, Unreachable::Address),
        ),
        (
            Some(Unreachable::Prohibited),
            answer(DropReason::PoolExhausted, Unreachable::Prohibited),
        ),
        (None, silent(DropReason::PoolExhausted)),
    ] {
        let mut config = config("192.0.2.1:4000-4000");
        config.exhaustion_answer = choice;
        let mut world = World::new(config);
        world
            .udp_out("[2001:db8::1]:1024", "198.51.100.7:53")
            .unwrap();
        let refused = world.udp_out("[2001:db8::2]:1024", "198.51.100.7:53");
        assert_eq!(refused, expected);
    }
}

#[test]
fn sc_04_a_gateway_that_is_drained_serves_those_it_knows() {
    let mut config = config("192.0.2.0/28");
    config.limits.subscriber_prefix = 64;
    let mut world = World::new(config);
    let (known, other) = ("[2001:db8::1]:1000", "[2001:db8:0:1::1]:1000");
    let bound = world.udp_out(known, SERVER).unwrap();
    world.nat.set_draining(true);
    let refused = answer(DropReason::Draining, Address);
    assert_eq!(world.udp_out(other, SERVER), refused);
    assert_eq!(world.ping_out(other, "198.51.100.7"), refused);
    assert_eq!(world.tcp_out(SYN, other, SERVER), refused);
    // Sessions go on, and the subscriber begins others.
    assert!(world.udp_in(SERVER, bound).is_ok());
    assert!(world.udp_out("[2001:db8::2]:7", SERVER).is_ok());
    assert!(world.tcp_out(SYN, known, SERVER).is_ok());
    world.wait(600);
    world.expire();
    assert_eq!(world.counts().sessions, [0; 3]);
    assert_eq!(world.udp_out(known, SERVER), refused);
    world.nat.set_draining(false);
    assert!(world.udp_out(other, SERVER).is_ok());
}
