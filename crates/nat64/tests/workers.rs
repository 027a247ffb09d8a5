//! Several workers on one NAT64: no port is given out twice, every reply finds its client whichever
//! worker gets it, and nothing is left at the end.
#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_methods, reason = "workers are threads")]

mod world;

use std::collections::BTreeSet;
use std::net::{Ipv6Addr, SocketAddrV4, SocketAddrV6};

use nat64::Worker;
use world::{UDP, World, config, embed, flow4, flow6, sock4};
use xlat_core::mapper::Pass;
use xlat_core::{Instant, Mapper};

const WORKERS: u64 = 4;
const FLOWS: u64 = 5000;

#[test]
fn workers_share_the_state_and_never_a_port() {
    for shards in [1, 4, 7] {
        let mut config = config("192.0.2.0/30");
        config.shards = shards;
        let world = World::new(config);
        let bound: Vec<(SocketAddrV6, SocketAddrV4)> = in_parallel(&world, |nat, worker| {
            (0..FLOWS).map(|number| open(nat, worker, number)).collect()
        });
        let ports: BTreeSet<_> = bound.iter().map(|(_, external)| external).collect();
        assert_eq!(ports.len() as u64, WORKERS * FLOWS);

        // Each reply goes through another worker than the one that opened the session.
        let replies = in_parallel(&world, |nat, worker| {
            let start = ((worker + 1) % WORKERS * FLOWS) as usize;
            bound[start..start + FLOWS as usize]
                .iter()
                .map(|&(client, external)| {
                    let reply = flow4(UDP, 0, sock4(SERVER), external);
                    let rewrite = nat.map_v4(&reply, Pass::First, NOW).unwrap();
                    assert_eq!(rewrite.dst, *client.ip());
                    assert_eq!(rewrite.ports.unwrap().dst, client.port());
                })
                .collect()
        });
        assert_eq!(replies.len() as u64, WORKERS * FLOWS);
        while world.nat.expire(Instant::from_secs(10_000), 1000) {}
        assert_eq!(
            (world.counts().bindings, world.counts().subscribers),
            (0, 0)
        );
    }
}

fn open(nat: &mut Worker, worker: u64, number: u64) -> (SocketAddrV6, SocketAddrV4) {
    let host = u128::from((worker << 32) | (number % 100));
    let ip = Ipv6Addr::from_bits((0x2001_0db8 << 96) | host);
    let client = SocketAddrV6::new(ip, (2000 + number / 100) as u16, 0, 0);
    let rewrite = nat
        .map_v6(&flow6(UDP, 0, client, embed(sock4(SERVER))), NOW)
        .unwrap();
    (
        client,
        SocketAddrV4::new(rewrite.src, rewrite.ports.unwrap().src),
    )
}

/// Runs `work` in as many threads as there are workers; the results in the workers' order.
fn in_parallel<T: Send>(world: &World, work: impl Fn(&mut Worker, u64) -> Vec<T> + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = (0..WORKERS)
            .map(|worker| {
                let mut nat = world.nat.worker();
                scope.spawn(move || work(&mut nat, worker))
            })
            .collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    })
}

const SERVER: &str = "198.51.100.7:53";
const NOW: Instant = Instant::from_secs(1000);
