//! The traffic of the benchmark, and what it costs.

mod latency;
mod sessions;
mod tcp;
mod udp;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use anyhow::Result;
use lab::process::Daemon;

use crate::cases::Running;
use crate::figures::{
    ECHO_IDLE, ECHO_LOADED, Figures, PING_IDLE, PING_LOADED, TCP_1_DOWN, TCP_1_UP, TCP_4_DOWN,
    TCP_4_UP, TCP_SESSIONS, UDP_64_DOWN, UDP_64_UP, UDP_1200_DOWN, UDP_1200_UP, UDP_SESSIONS,
    WAKEUPS,
};

/// Which way bytes go, seen from the client.
#[derive(Clone, Copy)]
enum Way {
    Down,
    Up,
}

/// Measures everything once; each load takes this time.
pub(crate) fn all(running: &Running, time: Duration) -> Result<Figures> {
    let mut figures = Figures::default();
    // Before anything has left sessions, warm caches or a busy host behind.
    let (ping, echo) = latency::idle(running)?;
    ping.add_to(&mut figures, PING_IDLE);
    echo.add_to(&mut figures, ECHO_IDLE);
    for (rows, flows, way) in [
        (TCP_1_DOWN, 1, Way::Down),
        (TCP_1_UP, 1, Way::Up),
        (TCP_4_DOWN, 4, Way::Down),
        (TCP_4_UP, 4, Way::Up),
    ] {
        tcp::measure(running, flows, way, time)?.add_to(&mut figures, rows);
    }
    for (rows, size, way) in [
        (UDP_64_DOWN, 64, Way::Down),
        (UDP_64_UP, 64, Way::Up),
        (UDP_1200_DOWN, 1200, Way::Down),
        (UDP_1200_UP, 1200, Way::Up),
    ] {
        udp::measure(running, size, way, time)?.add_to(&mut figures, rows);
    }
    figures.add(TCP_SESSIONS, sessions::tcp(running, time)?);
    figures.add(UDP_SESSIONS, sessions::udp(running, time)?);
    let (ping, echo) = latency::loaded(running)?;
    ping.add_to(&mut figures, PING_LOADED);
    echo.add_to(&mut figures, ECHO_LOADED);
    if !running.translators.is_empty() {
        figures.add(WAKEUPS, wakeups(running)?);
    }
    Ok(figures)
}

/// What a load took, and what it cost the translators.
struct Cost {
    elapsed: f64,
    /// CPU seconds; `None` where there are no translators.
    cpu: Option<f64>,
}

impl Cost {
    /// Runs the load.
    fn of<T>(running: &Running, load: impl FnOnce() -> Result<T>) -> Result<(T, Self)> {
        let before = processor_time(&running.translators)?;
        let begin = Instant::now();
        let outcome = load()?;
        let elapsed = begin.elapsed().as_secs_f64();
        let cpu = processor_time(&running.translators)?.saturating_sub(before);
        let there = !running.translators.is_empty();
        // Never nothing: it is divided by.
        let cpu = there.then(|| cpu.as_secs_f64().max(1e-6));
        Ok((outcome, Self { elapsed, cpu }))
    }
}

fn processor_time(translators: &[Daemon]) -> Result<Duration> {
    translators.iter().map(Daemon::processor_time).sum()
}

/// Any address of the client's that can reach the target.
fn any_address(running: &Running) -> IpAddr {
    match running.target {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// Threads of the translators that were woken in a second without traffic: in the quietest of some
/// seconds, as what the load has left comes first.
fn wakeups(running: &Running) -> Result<f64> {
    const SECONDS: u32 = 6;
    let mut least = f64::MAX;
    for _ in 0..SECONDS {
        let before = all_wakeups(running)?;
        std::thread::sleep(Duration::from_secs(1));
        least = least.min((all_wakeups(running)? - before) as f64);
        if least == 0.0 {
            break;
        }
    }
    Ok(least)
}

fn all_wakeups(running: &Running) -> Result<u64> {
    running.translators.iter().map(Daemon::wakeups).sum()
}
