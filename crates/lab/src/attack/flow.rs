//! An established UDP flow, and how it fares.

use std::fmt;
use std::net::{IpAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::Bars;
use crate::namespace::Namespace;
use crate::traffic::udp::Echo;

/// Datagrams of the flow in a second, and bytes of each.
const RATE: u32 = 500;
const SIZE: usize = 512;
/// What has not come back so long after the last one was sent is lost.
const LATE: Duration = Duration::from_millis(200);
/// 99 of 100 round trips are shorter.
const TRIP_MAX: Duration = Duration::from_millis(10);
/// A flow that goes on is not silent for so long, whatever the machine does besides.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// How it fared for a while.
#[derive(Debug, Clone, Copy)]
pub struct Figures {
    /// Datagrams sent.
    pub sent: u32,
    /// Those that came back.
    pub back: u32,
    /// 99 of 100 of those that came back took no longer.
    pub late: Duration,
    /// The longest time in which nothing came.
    pub silence: Duration,
}

/// Before an attack, and while it lasted.
#[derive(Debug, Clone, Copy)]
pub struct Beside {
    /// Before.
    pub before: Figures,
    /// While it lasted.
    pub during: Figures,
    /// Another one at the same time, which the kernel forwards and nobody translates.
    pub kernel: Figures,
}

impl Figures {
    /// The part that came back, of 1.
    #[must_use]
    pub fn share(&self) -> f64 {
        f64::from(self.back) / f64::from(self.sent.max(1))
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (share, late) = (self.share() * 100.0, self.late.as_secs_f64() * 1000.0);
        write!(f, "{share:.1} %, {late:.1} ms")
    }
}

impl Beside {
    /// True if what the flow misses is what plain forwarding by the kernel misses in the same attack.
    #[must_use]
    pub fn is_of_the_kernel(&self) -> bool {
        let [loses, is_late] = self.misses();
        let kernel = Self {
            during: self.kernel,
            ..*self
        };
        let [kernel_loses, kernel_is_late] = kernel.misses();
        (loses || is_late) && (kernel_loses || !loses) && (kernel_is_late || !is_late)
    }

    /// More than a tenth is lost; it takes too long.
    fn misses(&self) -> [bool; 2] {
        let Self { before, during, .. } = self;
        [
            during.share() < before.share() * 0.9,
            during.late >= TRIP_MAX,
        ]
    }

    pub(super) fn check(&self, bars: Bars) -> Result<()> {
        let Self {
            before,
            during,
            kernel,
        } = self;
        ensure!(
            during.back > 0 && during.silence < SILENCE_MAX,
            "the flow was silent for {:?}",
            during.silence
        );
        if bars == Bars::Alive || self.is_of_the_kernel() {
            return Ok(());
        }
        let [loses, is_late] = self.misses();
        let figures = format!("{before} before, {during} during, {kernel} by the kernel alone");
        ensure!(!loses, "the flow lost more than a tenth: {figures}");
        ensure!(
            !is_late,
            "the flow took longer than {TRIP_MAX:?}: {figures}"
        );
        Ok(())
    }
}

/// A flow between a program and a server that sends everything back.
pub(super) struct Flow {
    socket: UdpSocket,
    _echo: Echo,
}

impl Flow {
    /// Sends a first datagram and waits for the answer.
    pub(super) fn start(client: &Namespace, server: &Namespace, to: IpAddr) -> Result<Self> {
        let echo = Echo::start(server, to)?;
        let port = echo.address().port();
        let socket = client.run(|| {
            let any: IpAddr = match to {
                IpAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
                IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
            };
            let socket = UdpSocket::bind((any, 0))?;
            socket.connect((to, port))?;
            Ok(socket)
        })?;
        let flow = Self {
            socket,
            _echo: echo,
        };
        flow.exchange(10).context("the flow does not start")?;
        Ok(flow)
    }

    /// So many datagrams come back, one after the other; a lost one is sent again.
    pub(super) fn exchange(&self, count: u32) -> Result<()> {
        self.socket.set_read_timeout(Some(LATE))?;
        let end = Instant::now() + crate::traffic::PATIENCE;
        let mut came = 0;
        while came < count {
            ensure!(Instant::now() < end, "{came} of {count} came back");
            let _ = self.socket.send(&[0xff; SIZE]);
            came += u32::from(self.socket.recv(&mut [0; SIZE]).is_ok());
        }
        Ok(())
    }

    /// Sends at its rate for a time.
    pub(super) fn measure(&self, time: Duration) -> Result<Figures> {
        let begin = Instant::now();
        let (sent, is_over) = (AtomicU32::new(0), AtomicBool::new(false));
        self.socket
            .set_read_timeout(Some(Duration::from_millis(20)))?;
        thread::scope(|scope| {
            scope.spawn(|| {
                while begin.elapsed() < time {
                    let due =
                        (begin.elapsed().as_micros() as u64 * u64::from(RATE) / 1_000_000) as u32;
                    while sent.load(Ordering::Relaxed) < due {
                        let mut datagram = [0; SIZE];
                        let now = begin.elapsed().as_nanos() as u64;
                        datagram[..8].copy_from_slice(&now.to_be_bytes());
                        // What the kernel does not take is lost like any other.
                        let _ = self.socket.send(&datagram);
                        sent.fetch_add(1, Ordering::Relaxed);
                    }
                    thread::sleep(Duration::from_millis(1));
                }
                thread::sleep(LATE);
                is_over.store(true, Ordering::Relaxed);
            });
            let (mut trips, mut silence, mut last) = (Vec::new(), Duration::ZERO, begin);
            let mut datagram = [0; SIZE];
            while !is_over.load(Ordering::Relaxed) {
                let came = self.socket.recv(&mut datagram).is_ok();
                if begin.elapsed() < time {
                    silence = silence.max(last.elapsed());
                }
                let when = datagram
                    .first_chunk()
                    .map_or(0, |bytes| u64::from_be_bytes(*bytes));
                // Those of `exchange` that come late have no time.
                let trip = begin.elapsed().checked_sub(Duration::from_nanos(when));
                if let (true, Some(trip)) = (came, trip) {
                    trips.push(trip);
                    last = Instant::now();
                }
            }
            trips.sort_unstable();
            let sent = sent.load(Ordering::Relaxed);
            ensure!(sent > 0, "nothing was sent");
            Ok(Figures {
                sent,
                back: trips.len() as u32,
                late: trips.get(trips.len() * 99 / 100).copied().unwrap_or(LATE),
                silence,
            })
        })
    }
}
