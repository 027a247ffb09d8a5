//! The traffic of the benchmark, and what it costs.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab::process::Daemon;
use lab::topology::SERVER;
use lab::traffic::PATIENCE;
use lab::traffic::ping::ping;
use socket2::SockRef;

use super::cases::Running;

/// Bytes of a write.
const CHUNK: usize = 256 << 10;
/// Pings of one measurement without and with load.
const PINGS: usize = 5000;
const PINGS_LOADED: usize = 300;

/// A ping that has not come back by then is lost.
const LOST: Duration = Duration::from_millis(500);

/// What was measured, by name; higher is better except for times.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures(pub(crate) Vec<(&'static str, f64)>);

/// Which way bytes go, seen from the client.
#[derive(Clone, Copy)]
enum Way {
    Down,
    Up,
}

pub(crate) const TCP_1_DOWN: &str = "TCP 1 flow down, Gbit/s";
pub(crate) const TCP_1_UP: &str = "TCP 1 flow up, Gbit/s";
pub(crate) const TCP_4_DOWN: &str = "TCP 4 flows down, Gbit/s";
pub(crate) const TCP_4_UP: &str = "TCP 4 flows up, Gbit/s";
pub(crate) const TCP_CPU: &str = "CPU s per GiB, 1 flow down";
pub(crate) const UDP_64: &str = "UDP 64 bytes, kpkt per CPU s";
pub(crate) const UDP_1200: &str = "UDP 1200 bytes, kpkt per CPU s";
pub(crate) const SESSIONS: &str = "new TCP connections, 1000/s";
pub(crate) const PING_50: &str = "ping idle p50, us";
pub(crate) const PING_99: &str = "ping idle p99, us";
pub(crate) const LOADED_50: &str = "ping loaded p50, us";
pub(crate) const LOADED_99: &str = "ping loaded p99, us";
pub(crate) const WAKEUPS: &str = "wakeups a second, idle";

/// All figures, in the order of the table.
pub(crate) const ALL: [&str; 13] = [
    TCP_1_DOWN, TCP_1_UP, TCP_4_DOWN, TCP_4_UP, TCP_CPU, UDP_64, UDP_1200, SESSIONS, PING_50,
    PING_99, LOADED_50, LOADED_99, WAKEUPS,
];

/// Measures everything once; each load takes this time.
pub(crate) fn measure(running: &Running, time: Duration) -> Result<Figures> {
    let mut figures = Figures::default();
    let mut add = |name, figure| figures.0.push((name, figure));
    // Before anything has left sessions, warm caches or a busy host behind.
    let idle = pings(running, PINGS)?;
    add(PING_50, idle.0);
    add(PING_99, idle.1);
    let (rate, cpu) = tcp(running, 1, Way::Down, time)?;
    add(TCP_1_DOWN, rate);
    if !running.translators.is_empty() {
        add(TCP_CPU, cpu);
    }
    add(TCP_1_UP, tcp(running, 1, Way::Up, time)?.0);
    add(TCP_4_DOWN, tcp(running, 4, Way::Down, time)?.0);
    add(TCP_4_UP, tcp(running, 4, Way::Up, time)?.0);
    if !running.translators.is_empty() {
        add(UDP_64, udp(running, 64, time)?);
        add(UDP_1200, udp(running, 1200, time)?);
    }
    add(SESSIONS, connections(running, time)?);
    let loaded = loaded(running, time)?;
    add(LOADED_50, loaded.0);
    add(LOADED_99, loaded.1);
    if !running.translators.is_empty() {
        add(WAKEUPS, wakeups(running, time)?);
    }
    Ok(figures)
}

/// Gbit/s of the payload, and CPU seconds of the translators per GiB.
fn tcp(running: &Running, flows: usize, way: Way, time: Duration) -> Result<(f64, f64)> {
    let cpu = processor_time(&running.translators)?;
    let begin = Instant::now();
    let bytes = flow(running, flows, way, time)?;
    let elapsed = begin.elapsed().as_secs_f64();
    let cpu = (processor_time(&running.translators)? - cpu).as_secs_f64();
    let gib = bytes as f64 / f64::from(1 << 30);
    Ok((bytes as f64 * 8e-9 / elapsed, cpu / gib))
}

/// Bytes that arrived over so many connections at once.
fn flow(running: &Running, flows: usize, way: Way, time: Duration) -> Result<u64> {
    let network = &running.topology;
    let listener = network.server.run(|| Ok(TcpListener::bind((SERVER, 0))?))?;
    let target = SocketAddr::from((running.target, listener.local_addr()?.port()));
    let end = Instant::now() + time;
    let streams = (0..flows).map(|_| {
        let client = network
            .client()
            .run(|| Ok(TcpStream::connect_timeout(&target, PATIENCE)?))?;
        Ok((client, listener.accept()?.0))
    });
    let streams = streams.collect::<Result<Vec<_>>>()?;
    thread::scope(|scope| {
        let receivers: Vec<_> = streams
            .iter()
            .map(|(client, server)| {
                let (mut from, mut to) = match way {
                    Way::Down => (server, client),
                    Way::Up => (client, server),
                };
                scope.spawn(move || {
                    let chunk = vec![0; CHUNK];
                    while Instant::now() < end && from.write_all(&chunk).is_ok() {}
                    let _ = from.shutdown(std::net::Shutdown::Write);
                });
                scope.spawn(move || {
                    let mut chunk = vec![0; CHUNK];
                    let mut sum = 0;
                    while let Ok(length @ 1..) = to.read(&mut chunk) {
                        sum += length as u64;
                    }
                    sum
                })
            })
            .collect();
        let sums = receivers.into_iter().map(|one| one.join().unwrap_or(0));
        Ok(sums.sum())
    })
}

/// Thousand datagrams delivered per CPU second of the translators.
fn udp(running: &Running, size: usize, time: Duration) -> Result<f64> {
    let network = &running.topology;
    let server = network.server.run(|| Ok(UdpSocket::bind((SERVER, 0))?))?;
    SockRef::from(&server).set_recv_buffer_size(8 << 20)?;
    server.set_read_timeout(Some(Duration::from_millis(100)))?;
    let target = SocketAddr::from((running.target, server.local_addr()?.port()));
    let client = network.client().run(|| {
        let any: IpAddr = match running.target {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect(target)?;
        Ok(socket)
    })?;
    let (count, over) = (
        Arc::new(AtomicU64::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let receiver = thread::spawn({
        let (count, over) = (Arc::clone(&count), Arc::clone(&over));
        move || {
            let mut buffer = [0; 2048];
            while !over.load(Ordering::Relaxed) {
                if server.recv(&mut buffer).is_ok() {
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    });
    let cpu = processor_time(&running.translators)?;
    let payload = vec![7; size];
    let end = Instant::now() + time;
    while Instant::now() < end {
        for _ in 0..64 {
            // What the kernel does not take now is part of the load.
            let _ = client.send(&payload);
        }
    }
    thread::sleep(Duration::from_millis(100));
    let cpu = (processor_time(&running.translators)? - cpu).as_secs_f64();
    over.store(true, Ordering::Relaxed);
    let _ = receiver.join();
    Ok(count.load(Ordering::Relaxed) as f64 / 1000.0 / cpu.max(0.01))
}

/// Thousand connections that were made and closed a second, one after the other.
fn connections(running: &Running, time: Duration) -> Result<f64> {
    let network = &running.topology;
    let listener = network.server.run(|| Ok(TcpListener::bind((SERVER, 0))?))?;
    let target = SocketAddr::from((running.target, listener.local_addr()?.port()));
    let over = Arc::new(AtomicBool::new(false));
    let accepting = thread::spawn({
        let over = Arc::clone(&over);
        move || {
            while !over.load(Ordering::Relaxed) {
                drop(listener.accept());
            }
        }
    });
    let (count, elapsed) = network.client().run(|| {
        let (mut count, begin) = (0_u32, Instant::now());
        while begin.elapsed() < time {
            let stream = TcpStream::connect_timeout(&target, PATIENCE)?;
            // Ports are not to run out.
            SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
            count += 1;
        }
        over.store(true, Ordering::Relaxed);
        // One more lets the other end see it.
        drop(TcpStream::connect_timeout(&target, PATIENCE));
        Ok((count, begin.elapsed()))
    })?;
    let _ = accepting.join();
    Ok(f64::from(count) / 1000.0 / elapsed.as_secs_f64())
}

/// Median and 99th percentile of the round trip, in microseconds.
fn pings(running: &Running, count: usize) -> Result<(f64, f64)> {
    running.topology.client().run(|| {
        let mut times = Vec::new();
        for _ in 0..count {
            // A lost one counts as late as it can be.
            times.push(ping(running.target, 56, LOST).unwrap_or(LOST));
        }
        times.sort();
        ensure!(times[times.len() / 2] < LOST, "most pings are lost");
        let at = |part: usize| times[(times.len() - 1) * part / 100].as_secs_f64() * 1e6;
        Ok((at(50), at(99)))
    })
}

/// The same while one TCP connection takes all it can.
fn loaded(running: &Running, time: Duration) -> Result<(f64, f64)> {
    thread::scope(|scope| {
        let load = scope.spawn(|| flow(running, 1, Way::Down, time + Duration::from_secs(1)));
        thread::sleep(Duration::from_millis(200));
        let times = pings(running, PINGS_LOADED);
        load.join().ok().context("the load's thread panicked")??;
        times
    })
}

/// Threads of the translators that were woken in a second without traffic.
fn wakeups(running: &Running, time: Duration) -> Result<f64> {
    // What the load has left comes first: plat looks once more a second after the last packet.
    thread::sleep(Duration::from_millis(2500));
    let sum = || {
        running
            .translators
            .iter()
            .map(Daemon::wakeups)
            .sum::<Result<u64>>()
    };
    let before = sum()?;
    thread::sleep(time);
    Ok((sum()? - before) as f64 / time.as_secs_f64())
}

fn processor_time(translators: &[Daemon]) -> Result<Duration> {
    translators.iter().map(Daemon::processor_time).sum()
}
