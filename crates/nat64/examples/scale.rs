//! What four million sessions cost: memory by resident set size, set-up rate, look-up time
//! compared with a small table.
//!
//! `cargo run --release -p nat64 --example scale [SESSIONS]`
//!
//! Every session has a binding of its own, which is the dearest case, and 64 of them belong to one
//! subscriber. In the end each has a subscriber of its own too, as in a flood of new sources.
#![allow(clippy::print_stdout, clippy::unwrap_used)]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a measurement is a program of its own"
)]

use std::net::Ipv6Addr;
use std::process::Command;
use std::time::Instant as Clock;

use nat64::config::Config;
use nat64::{Nat64, Worker};
use pnet_packet::ip::IpNextHeaderProtocols;
use xlat_core::addr::Pref64s;
use xlat_core::mapper::{Flow, Ports, Prefetch, UpcomingFlow};
use xlat_core::{Instant, Mapper, PREFETCH_BATCH};

fn main() {
    let sessions: u32 = std::env::args()
        .nth(1)
        .map_or(4_000_000, |text| text.parse().unwrap());
    if std::env::args().nth(2).as_deref() == Some(ALONE) {
        return alone(sessions);
    }
    let nat = fill(10_000, SHARE).0;
    let mut worker = nat.worker();
    let small = look_up(&mut worker, 10_000, 1);
    let small_together = look_up(&mut worker, 10_000, PREFETCH_BATCH);
    println!("look-up, 10000 sessions:     {small:>6.1} ns, {small_together:.1} ns together");
    drop((nat, worker));

    let before = resident();
    let (nat, rate) = fill(sessions, SHARE);
    let mut worker = nat.worker();
    let bytes = resident() - before;
    println!("set-up:                      {:>6.2} M/s", rate / 1e6);
    println!(
        "memory:                      {:>6.1} bytes per session",
        bytes as f64 / f64::from(sessions)
    );
    // The keeper of a running translator does that once a second.
    while nat.expire(Instant::from_secs(20), 10_000) {}
    let large = look_up(&mut worker, sessions, 1);
    let together = look_up(&mut worker, sessions, PREFETCH_BATCH);
    println!("look-up, {sessions} sessions:   {large:>6.1} ns, {together:.1} ns together");
    let ratio = |large: f64, small: f64| large / small;
    println!(
        "ratio:                       {:>6.2}, {:.2} together",
        ratio(large, small),
        ratio(together, small_together)
    );
    println!(
        "expiry:                      {:>6.2} M/s",
        expire(&nat, sessions) / 1e6
    );
    // In a process of its own, so that nothing that was there before counts.
    let own = std::env::current_exe().unwrap();
    let text = sessions.to_string();
    let status = Command::new(own).args([text.as_str(), ALONE]).status();
    assert!(status.unwrap().success());
}

/// What it costs when each session has a subscriber of its own.
fn alone(sessions: u32) {
    let before = resident();
    let (_nat, rate) = fill(sessions, 1);
    let bytes = resident() - before;
    println!(
        "each its own subscriber:     {:>6.1} bytes per session, set-up {:.2} M/s",
        bytes as f64 / f64::from(sessions),
        rate / 1e6
    );
}

const ALONE: &str = "alone";

/// Sessions of one subscriber.
const SHARE: u32 = 64;

/// A NAT64 with so many sessions, `share` of them of each subscriber, and how many were set up a
/// second.
fn fill(sessions: u32, share: u32) -> (Nat64, f64) {
    let mut config = Config::new(vec!["192.0.0.0/24".parse().unwrap()]);
    config.limits.sessions = sessions;
    let pref64s = Pref64s::single("2001:db8:64::/96".parse().unwrap());
    let nat = Nat64::new(config, pref64s, [1, 2]).unwrap();
    let mut worker = nat.worker();
    let start = Clock::now();
    for number in 0..sessions {
        let flow = flow_of(number, share);
        worker.map_v6(&flow, Instant::from_secs(10)).unwrap();
    }
    let rate = f64::from(sessions) / start.elapsed().as_secs_f64();
    assert_eq!(nat.counts().sessions[0], sessions);
    (nat, rate)
}

/// Nanoseconds per packet of a known session, sessions picked at random: one by one, or as a worker
/// does it that has read several packets.
fn look_up(worker: &mut Worker, sessions: u32, together: usize) -> f64 {
    const ROUNDS: usize = 4_000_000;
    let mut random = 0x9e37_79b9_u32;
    let start = Clock::now();
    let mut upcoming = Vec::new();
    for _ in 0..ROUNDS / together {
        upcoming.clear();
        upcoming.extend((0..together).map(|_| {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let number = (u64::from(random) * u64::from(sessions)) >> 32;
            UpcomingFlow::V6(flow(number as u32))
        }));
        if together > 1 && worker.wants_prefetch() {
            worker.prefetch(&upcoming);
        }
        for one in &upcoming {
            let UpcomingFlow::V6(flow) = one else {
                continue;
            };
            let rewrite = worker.map_v6(flow, Instant::from_secs(20));
            assert!(rewrite.is_ok());
        }
    }
    start.elapsed().as_secs_f64() * 1e9 / ROUNDS as f64
}

/// Sessions ended per second, all at once.
fn expire(nat: &Nat64, sessions: u32) -> f64 {
    let start = Clock::now();
    while nat.expire(Instant::from_secs(1000), 10_000) {}
    let rate = f64::from(sessions) / start.elapsed().as_secs_f64();
    assert_eq!(nat.counts().sessions[0], 0);
    rate
}

fn flow(number: u32) -> Flow<Ipv6Addr> {
    flow_of(number, SHARE)
}

fn flow_of(number: u32, share: u32) -> Flow<Ipv6Addr> {
    let client = (0x2001_0db8_u128 << 96) | (u128::from(number / share) << 64) | 0x1234;
    let server = (0x2001_0db8_0064_u128 << 80) | 0xc633_6400 | u128::from(number % 199);
    Flow {
        src: Ipv6Addr::from_bits(client),
        dst: Ipv6Addr::from_bits(server),
        protocol: IpNextHeaderProtocols::Udp,
        ports: Some(Ports {
            src: 1024 + (number % share) as u16,
            dst: 443,
        }),
        tcp_flags: 0,
        fragment: None,
    }
}

/// Bytes of this process that are in memory.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.unwrap().split_whitespace().nth(1).unwrap();
    kib.parse::<u64>().unwrap() * 1024
}
