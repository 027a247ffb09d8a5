//! Time per packet of the stateful NAT64: a whole UDP packet of a known session through the
//! translator, the mapper alone in both directions, and a session's whole life.
//!
//! `examples/scale.rs` measures what a large table costs.

use std::hint::black_box;
use std::net::{Ipv4Addr, Ipv6Addr};

use criterion::{Criterion, criterion_group, criterion_main};
use etherparse::PacketBuilder;
use nat64::config::Config;
use nat64::{Nat64, Worker};
use pnet_packet::ip::IpNextHeaderProtocols;
use xlat_core::addr::Pref64s;
use xlat_core::frame::{HEADROOM, TAILROOM};
use xlat_core::identification::Identifications;
use xlat_core::mapper::{Flow, Pass, Ports};
use xlat_core::{Frame, Instant, Mapper, Offload, Policy, Translator, Verdict};

const NOW: Instant = Instant::from_secs(10);
const CLIENT: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 7);
const SERVER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x64, 0, 0, 0, 0xc633, 0x6407);
const SERVER4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);

fn worker(pool: &str) -> Worker {
    let config = Config::new(vec![pool.parse().expect("a valid pool")]);
    let pref64 = "2001:db8:64::/96".parse().expect("a valid prefix");
    let nat = Nat64::new(config, Pref64s::single(pref64), [1, 2]);
    nat.expect("a valid configuration").worker()
}

fn outbound(client: Ipv6Addr, port: u16) -> Flow<Ipv6Addr> {
    Flow {
        src: client,
        dst: SERVER,
        protocol: IpNextHeaderProtocols::Udp,
        ports: Some(Ports { src: port, dst: 53 }),
        tcp_flags: 0,
        fragment: None,
    }
}

fn packet(bench: &mut Criterion) {
    let policy = Policy::new(Ipv4Addr::new(192, 0, 0, 2), Ipv6Addr::LOCALHOST);
    let ids = Identifications::new([1, 2], 0, 1);
    let mut translator =
        Translator::new(worker("192.0.2.0/28"), policy, ids).expect("a valid policy");
    let mut packet = Vec::new();
    PacketBuilder::ipv6(CLIENT.octets(), SERVER.octets(), 64)
        .udp(4000, 53)
        .write(&mut packet, &[0x5a; 64])
        .expect("in memory");
    let mut buffer = vec![0; HEADROOM + packet.len() + TAILROOM];
    bench.bench_function("udp packet of a known session, v6 to v4", |bench| {
        bench.iter(|| {
            buffer[HEADROOM..HEADROOM + packet.len()].copy_from_slice(&packet);
            let frame = Frame::new(&mut buffer, HEADROOM, packet.len(), Offload::NONE);
            let mut frame = frame.expect("room");
            let verdict = translator.translate(&mut frame, NOW);
            assert!(matches!(black_box(verdict), Verdict::Forward));
        });
    });
}

fn mapper(bench: &mut Criterion) {
    let mut worker = worker("192.0.2.0/28");
    let there = outbound(CLIENT, 4000);
    let rewrite = worker.map_v6(&there, NOW).expect("room");
    bench.bench_function("known session, v6 to v4", |bench| {
        bench.iter(|| black_box(worker.map_v6(black_box(&there), NOW)).is_ok());
    });
    let back = Flow {
        src: SERVER4,
        dst: rewrite.src,
        protocol: IpNextHeaderProtocols::Udp,
        ports: rewrite.ports.map(|ports| Ports {
            src: ports.dst,
            dst: ports.src,
        }),
        tcp_flags: 0,
        fragment: None,
    };
    bench.bench_function("known session, v4 to v6", |bench| {
        bench.iter(|| black_box(worker.map_v4(black_box(&back), Pass::First, NOW)).is_ok());
    });
}

/// A steady stream of new sessions: each packet opens one and closes an old one.
fn churn(bench: &mut Criterion) {
    let mut worker = worker("192.0.2.0/26");
    let mut number = 0_u64;
    bench.bench_function("session set up and ended", |bench| {
        bench.iter(|| {
            number += 1;
            let client = Ipv6Addr::from_bits(CLIENT.to_bits() + u128::from(number % 4000));
            let port = 1024 + (number / 4000 % 60_000) as u16;
            // 1000 new sessions a second, 300 seconds each.
            let now = Instant::from_millis(10_000 + number);
            assert!(worker.map_v6(&outbound(client, port), now).is_ok());
        });
    });
}

criterion_group!(benches, packet, mapper, churn);
criterion_main!(benches);
