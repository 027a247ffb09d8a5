//! Datagrams as fast as one thread sends them.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab::topology::SERVER;
use lab::traffic::PATIENCE;
use socket2::SockRef;

use super::{Cost, Way, any_address};
use crate::cases::Running;
use crate::figures::{Figures, Udp};

/// What is still on its way arrives in this time.
const LAST: Duration = Duration::from_millis(100);

/// What came through of what was sent.
pub(super) struct Flood {
    sent: u64,
    received: u64,
    time: Duration,
    cost: Cost,
}

impl Flood {
    pub(super) fn add_to(&self, figures: &mut Figures, rows: Udp) {
        let thousands = self.received as f64 / 1000.0;
        figures.add(rows.rate, thousands / self.time.as_secs_f64());
        let lost = self.sent.saturating_sub(self.received);
        let lost = lost as f64 * 100.0 / self.sent.max(1) as f64;
        figures.add(rows.lost, lost);
        if let Some(cpu) = self.cost.cpu {
            figures.add(rows.per_cpu, thousands / cpu);
            figures.add(rows.cpu, cpu * 1000.0 / thousands);
        }
    }
}

/// Datagrams of this size for so long.
pub(super) fn measure(running: &Running, size: usize, way: Way, time: Duration) -> Result<Flood> {
    let (client, server) = connect(running)?;
    let (from, to) = match way {
        Way::Down => (server, client),
        Way::Up => (client, server),
    };
    SockRef::from(&to).set_recv_buffer_size(8 << 20)?;
    to.set_read_timeout(Some(LAST))?;
    let over = AtomicBool::new(false);
    let ((sent, received), cost) = Cost::of(running, || {
        thread::scope(|scope| {
            let receiver = scope.spawn(|| receive(&to, &over));
            let sent = send(&from, size, time);
            thread::sleep(LAST);
            over.store(true, Ordering::Relaxed);
            let received = receiver.join().ok().context("the receiver panicked")?;
            Ok((sent, received))
        })
    })?;
    ensure!(received > 0, "no datagram of {size} bytes came through");
    Ok(Flood {
        sent,
        received,
        time,
        cost,
    })
}

/// A socket of the client's and one of the server's that know each other.
fn connect(running: &Running) -> Result<(UdpSocket, UdpSocket)> {
    let network = &running.topology;
    let server = network.server.run(|| Ok(UdpSocket::bind((SERVER, 0))?))?;
    let target = SocketAddr::from((running.target, server.local_addr()?.port()));
    let client = network.client().run(|| {
        let socket = UdpSocket::bind((any_address(running), 0))?;
        socket.connect(target)?;
        Ok(socket)
    })?;
    client.send(b"?")?;
    server.set_read_timeout(Some(PATIENCE))?;
    let (_, from) = server.recv_from(&mut [0; 1])?;
    server.connect(from)?;
    Ok((client, server))
}

/// How many were sent; what the kernel does not take now is part of the load.
fn send(from: &UdpSocket, size: usize, time: Duration) -> u64 {
    let payload = vec![7; size];
    let end = Instant::now() + time;
    let mut sent = 0;
    while Instant::now() < end {
        for _ in 0..64 {
            let _ = from.send(&payload);
            sent += 1;
        }
    }
    sent
}

fn receive(from: &UdpSocket, over: &AtomicBool) -> u64 {
    let mut buffer = [0; 2048];
    let mut received = 0;
    while !over.load(Ordering::Relaxed) {
        received += u64::from(from.recv(&mut buffer).is_ok());
    }
    received
}
