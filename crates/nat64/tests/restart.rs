//! Sessions across a restart: out as text, back into a new NAT64 with the same seed.
#![allow(clippy::unwrap_used)]

mod world;

use nat64::TcpState;
use nat64::config::{Config, PortBlocks};
use nat64::snapshot::{Cursor, SavedSession, SkipReason};
use world::{ACK, SYN, World, answer, config, sock6};
use xlat_core::DropReason;
use xlat_core::mapper::Unreachable::Address;

const SERVER: &str = "198.51.100.7:53";
const EPOCH: u64 = 1_790_000_000;

#[test]
fn nb_06_bindings_sessions_states_and_lifetimes_survive_a_restart() {
    for config in configs() {
        let mut before = World::new(config.clone());
        let mut bound = Vec::new();
        for host in 1..=60 {
            let client = format!("[2001:db8::{host:x}]:{host}");
            let udp = before.udp_out(&client, SERVER).unwrap();
            let tcp = before.tcp_out(SYN, &client, SERVER).unwrap();
            before.tcp_in(SYN | ACK, SERVER, tcp).unwrap();
            let icmp = before.ping_out(&client, "198.51.100.7").unwrap();
            bound.push((client, udp, tcp, icmp));
        }
        before.wait(30);
        let lines: Vec<String> = saved(&before).iter().map(ToString::to_string).collect();
        assert_eq!(lines.len(), 180);

        let mut after = World::new(config);
        after.wait(77_777);
        for line in &lines {
            let session = line.parse::<SavedSession>().unwrap();
            after.nat.restore(&session, after.now, EPOCH + 5).unwrap();
        }
        assert_eq!(after.counts().sessions, [60; 3]);
        assert_eq!(after.counts().tcp[TcpState::Established as usize], 60);
        assert_eq!(after.counts().free_ports, before.counts().free_ports);
        for (client, udp, tcp, icmp) in &bound {
            assert_eq!(after.udp_in(SERVER, *udp), Ok(sock6(client)));
            assert_eq!(after.tcp_out(ACK, client, SERVER), Ok(*tcp));
            assert_eq!(after.udp_out(client, "203.0.113.9:99"), Ok(*udp));
            assert_eq!(after.ping_out(client, "203.0.113.9"), Ok(*icmp));
        }
    }
}

#[test]
fn a_restored_session_lives_no_longer_than_it_would_have() {
    let mut before = World::with_pool("192.0.2.0/28");
    let bound = before.udp_out("[2001:db8::7]:5000", SERVER).unwrap();
    before.wait(100);
    let sessions = saved(&before);
    let mut after = World::with_pool("192.0.2.0/28");
    after
        .nat
        .restore(&sessions[0], after.now, EPOCH + 150)
        .unwrap();
    after.wait(49);
    assert_eq!(
        after
            .error_in(world::UDP, "203.0.113.1", bound, SERVER)
            .map(|error| error.dst),
        Ok(*sock6("[2001:db8::7]:5000").ip())
    );
    after.wait(3);
    assert_eq!(
        after.udp_in(SERVER, bound),
        answer(DropReason::NoBinding, Address)
    );
}

#[test]
fn a_clock_that_jumps_back_stretches_no_lifetime() {
    let mut before = World::with_pool("192.0.2.0/28");
    before.udp_out("[2001:db8::7]:5000", SERVER).unwrap();
    let sessions = saved(&before);
    let mut after = World::with_pool("192.0.2.0/28");
    after.nat.restore(&sessions[0], after.now, 1000).unwrap();
    after.wait(302);
    after.expire();
    assert_eq!(after.counts().bindings, 0);
}

#[test]
fn what_does_not_fit_is_refused_with_its_reason() {
    let mut before = World::with_pool("192.0.2.0/28");
    before.udp_out("[2001:db8::7]:5000", SERVER).unwrap();
    let good = saved(&before)[0];
    let changed = |change: fn(&mut SavedSession)| {
        let mut session = good;
        change(&mut session);
        session
    };
    let cases = [
        (good, Ok(())),
        (good, Err(SkipReason::Taken)),
        (
            changed(|session| session.expires = EPOCH),
            Err(SkipReason::Expired),
        ),
        (
            changed(|session| session.pref64 = "2001:db8:65::/96".parse().unwrap()),
            Err(SkipReason::Prefix),
        ),
        (
            changed(|session| session.binding.external = "192.0.2.99".parse().unwrap()),
            Err(SkipReason::NotInPool),
        ),
        (
            changed(|session| session.binding.external_port ^= 1),
            Err(SkipReason::Taken),
        ),
        (
            changed(|session| session.binding.client = "2001:db8::8".parse().unwrap()),
            Err(SkipReason::Taken),
        ),
        (changed(|session| session.remote_port = 54), Ok(())),
    ];
    let after = World::with_pool("192.0.2.0/28");
    for (session, expected) in cases {
        let result = after.nat.restore(&session, after.now, EPOCH);
        assert_eq!(result, expected, "{session}");
    }
    let counts = after.counts();
    assert_eq!(
        (counts.bindings, counts.sessions, counts.subscribers),
        (1, [2, 0, 0], 1)
    );
}

#[test]
fn a_list_of_sessions_can_be_read_in_small_parts() {
    let mut config = config("192.0.2.0/28");
    config.shards = 3;
    let mut world = World::new(config);
    for host in 0..100 {
        world
            .udp_out(&format!("[2001:db8::{host:x}]:1"), SERVER)
            .unwrap();
    }
    let mut all = Vec::new();
    let mut cursor = Some(Cursor::default());
    while let Some(at) = cursor {
        let (part, next) = world.nat.sessions(at, 7, world.now, EPOCH);
        assert!(part.len() <= 7);
        all.extend(part.iter().map(|session| session.binding.client));
        cursor = next;
    }
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 100);
}

fn configs() -> Vec<Config> {
    let mut sharded = config("192.0.2.0/28");
    sharded.shards = 4;
    let mut sliced = config("192.0.2.1");
    sliced.shards = 2;
    let mut blocks = config("192.0.2.0/24");
    blocks.limits.subscriber_prefix = 124;
    blocks.ports.blocks = Some(PortBlocks {
        size: 64,
        per_subscriber: 4,
    });
    vec![config("192.0.2.0/28"), sharded, sliced, blocks]
}

fn saved(world: &World) -> Vec<SavedSession> {
    let mut all = Vec::new();
    let mut cursor = Some(Cursor::default());
    while let Some(at) = cursor {
        let (part, next) = world.nat.sessions(at, 1000, world.now, EPOCH);
        all.extend(part);
        cursor = next;
    }
    all
}
