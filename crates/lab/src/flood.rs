//! Floods that a client sends, and what goes on beside them.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::installed::Installed;
use crate::namespace::Namespace;
use crate::topology::{SERVER, Topology, embedded};
use crate::traffic::raw6::Raw6;
use crate::traffic::udp::Echo;

/// Packets of a flood in a second.
pub const RATE: u64 = 14_000;

/// What became of a flow during a flood.
#[derive(Debug, Clone, Copy)]
pub struct Flow {
    /// Packets of it.
    pub sent: u32,
    /// Those that were answered.
    pub answered: u32,
    /// The longest time without an answer.
    pub stalled: Duration,
}

impl Flow {
    /// Checks that it went on.
    ///
    /// # Errors
    /// When nothing came back for a second, or less than half of it at all.
    pub fn check(&self) -> Result<()> {
        let Self {
            sent,
            answered,
            stalled,
        } = self;
        // Packets are lost where queues are full.
        ensure!(
            *stalled < Duration::from_secs(1) && answered * 2 > *sent,
            "{answered} of {sent} came back, nothing for {stalled:?}"
        );
        Ok(())
    }
}

/// A UDP flow of the first client's beside packets that it sends at [`RATE`], whole, one for each
/// number.
///
/// # Errors
/// When there is no flood, or the network fails.
pub fn beside(
    installed: &Installed,
    time: Duration,
    packet: &(impl Fn(u32) -> Vec<u8> + Sync),
) -> Result<Flow> {
    let topology = &installed.topology;
    let echo = Echo::start(&topology.server, SERVER.into())?;
    let socket = topology
        .client()
        .run(|| Ok(UdpSocket::bind((Topology::client_address(0), 0))?))?;
    socket.connect((embedded(SERVER), echo.address().port()))?;
    socket.set_read_timeout(Some(Duration::from_millis(20)))?;
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let flood = scope.spawn(|| flood(topology.client(), &is_over, packet));
        let flow = watch(&socket, time);
        is_over.store(true, Ordering::Relaxed);
        let sent = flood
            .join()
            .map_err(|_| anyhow::anyhow!("a thread panicked"))??;
        let least = time.as_secs() * RATE / 4;
        ensure!(sent > least, "only {sent} packets: no flood");
        flow
    })
}

/// Sends at [`RATE`] until it is over. Returns how many.
fn flood(
    client: &Namespace,
    is_over: &AtomicBool,
    packet: &(impl Fn(u32) -> Vec<u8> + Sync),
) -> Result<u64> {
    client.run(|| {
        let raw = Raw6::new()?;
        let begin = Instant::now();
        let mut sent = 0;
        while !is_over.load(Ordering::Relaxed) {
            let due = begin.elapsed().as_micros() as u64 * RATE / 1_000_000;
            for number in sent..due {
                // The link may be full.
                let _ = raw.send(&packet(number as u32));
            }
            sent = due.max(sent);
            thread::sleep(Duration::from_millis(1));
        }
        Ok(sent)
    })
}

fn watch(socket: &UdpSocket, time: Duration) -> Result<Flow> {
    let begin = Instant::now();
    let mut last = begin;
    let mut flow = Flow {
        sent: 0,
        answered: 0,
        stalled: Duration::ZERO,
    };
    while begin.elapsed() < time {
        socket.send(b"still there?")?;
        flow.sent += 1;
        if socket.recv(&mut [0; 64]).is_ok() {
            flow.answered += 1;
            last = Instant::now();
            thread::sleep(Duration::from_millis(10));
        }
        flow.stalled = flow.stalled.max(last.elapsed());
    }
    Ok(flow)
}
