//! Bulk TCP.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use lab::topology::SERVER;
use lab::traffic::PATIENCE;

use super::{Cost, Way};
use crate::cases::Running;
use crate::figures::{Figures, Tcp};

/// Bytes of a write.
const CHUNK: usize = 256 << 10;

/// What came through.
pub(super) struct Bulk {
    bytes: u64,
    cost: Cost,
}

impl Bulk {
    pub(super) fn add_to(&self, figures: &mut Figures, rows: Tcp) {
        figures.add(rows.rate, self.bytes as f64 * 8e-9 / self.cost.elapsed);
        if let Some(cpu) = self.cost.cpu {
            let gib = self.bytes as f64 / f64::from(1 << 30);
            figures.add(rows.cpu, cpu / gib);
        }
    }
}

/// So many connections at once for so long.
pub(super) fn measure(running: &Running, flows: usize, way: Way, time: Duration) -> Result<Bulk> {
    let (bytes, cost) = Cost::of(running, || {
        let ((), bytes) = during(running, flows, way, || {
            thread::sleep(time);
            Ok(())
        })?;
        Ok(bytes)
    })?;
    Ok(Bulk { bytes, cost })
}

/// Does something while so many connections take all they can; what it gave, and the bytes that
/// arrived meanwhile.
pub(super) fn during<T>(
    running: &Running,
    flows: usize,
    way: Way,
    work: impl FnOnce() -> Result<T>,
) -> Result<(T, u64)> {
    let network = &running.topology;
    let listener = network.server.run(|| Ok(TcpListener::bind((SERVER, 0))?))?;
    let target = SocketAddr::from((running.target, listener.local_addr()?.port()));
    let streams = (0..flows).map(|_| {
        let client = network
            .client()
            .run(|| Ok(TcpStream::connect_timeout(&target, PATIENCE)?))?;
        let server = listener.accept()?.0;
        Ok(match way {
            Way::Down => (server, client),
            Way::Up => (client, server),
        })
    });
    let streams = streams.collect::<Result<Vec<_>>>()?;
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let mut receivers = Vec::new();
        for (from, to) in &streams {
            scope.spawn(|| send(from, &over));
            receivers.push(scope.spawn(|| receive(to)));
        }
        let outcome = work();
        over.store(true, Ordering::Relaxed);
        let sums = receivers.into_iter().map(|one| one.join().unwrap_or(0));
        let bytes = sums.sum();
        Ok((outcome?, bytes))
    })
}

fn send(mut to: &TcpStream, over: &AtomicBool) {
    let chunk = vec![0; CHUNK];
    while !over.load(Ordering::Relaxed) && to.write_all(&chunk).is_ok() {}
    let _ = to.shutdown(Shutdown::Write);
}

fn receive(mut from: &TcpStream) -> u64 {
    let mut chunk = vec![0; CHUNK];
    let mut sum = 0;
    while let Ok(length @ 1..) = from.read(&mut chunk) {
        sum += length as u64;
    }
    sum
}
