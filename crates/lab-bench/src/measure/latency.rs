//! How long a way there and back takes, without other traffic and beside a TCP connection.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use lab::topology::SERVER;
use lab::traffic::icmp::{IcmpSocket, identifier};
use lab::traffic::udp::Echo;

use super::{Way, any_address, tcp};
use crate::cases::Running;
use crate::figures::{Figures, Trip};

/// Trips of one measurement.
const IDLE: usize = 3000;
const LOADED: usize = 300;
/// What has not come back by then is lost.
const LOST: Duration = Duration::from_millis(500);
/// How long trips are made before they count.
const SETTLED: Duration = Duration::from_millis(2500);
/// In this time the connection becomes as fast as it will be.
const WARM: Duration = Duration::from_millis(200);

/// The times of many trips.
pub(super) struct Times(Vec<Duration>);

impl Times {
    /// Times of so many trips; a lost one counts as late as it can be.
    fn of(count: usize, mut trip: impl FnMut() -> Option<Duration>) -> Result<Self> {
        let mut times: Vec<_> = (0..count).map(|_| trip().unwrap_or(LOST)).collect();
        times.sort_unstable();
        ensure!(times[count / 2] < LOST, "most answers are lost");
        Ok(Self(times))
    }

    pub(super) fn add_to(&self, figures: &mut Figures, rows: Trip) {
        let last = self.0.len() - 1;
        let at = |part: usize| self.0[last * part / 100].as_secs_f64() * 1e6;
        figures.add(rows.median, at(50));
        figures.add(rows.late, at(99));
    }
}

/// Of pings and of datagrams, without other traffic.
pub(super) fn idle(running: &Running) -> Result<(Times, Times)> {
    Ok((pings(running, IDLE)?, echoes(running, IDLE)?))
}

/// The same while one TCP connection takes all it can.
pub(super) fn loaded(running: &Running) -> Result<(Times, Times)> {
    let (times, _) = tcp::during(running, 1, Way::Down, || {
        std::thread::sleep(WARM);
        Ok((pings(running, LOADED)?, echoes(running, LOADED)?))
    })?;
    Ok(times)
}

/// As ping(8) sends them: one after the other, all with the same identifier.
fn pings(running: &Running, count: usize) -> Result<Times> {
    running.topology.client().run(|| {
        let socket = IcmpSocket::open(running.target)?;
        let id = identifier();
        let mut sequence = 0_u16;
        let mut trip = || {
            sequence = sequence.wrapping_add(1);
            let begin = Instant::now();
            socket.send_echo(running.target, id, sequence, 56).ok()?;
            let reply = socket.wait_for_echo(id, sequence, begin + LOST);
            reply.ok().map(|_| begin.elapsed())
        };
        settle(&mut trip);
        Times::of(count, trip)
    })
}

/// The scheduler takes about a second to see who wakes whom, and to let them share a processor.
fn settle(mut trip: impl FnMut() -> Option<Duration>) {
    let begin = Instant::now();
    while begin.elapsed() < SETTLED {
        trip();
    }
}

fn echoes(running: &Running, count: usize) -> Result<Times> {
    let echo = Echo::start(&running.topology.server, SERVER.into())?;
    let target = SocketAddr::from((running.target, echo.address().port()));
    running.topology.client().run(|| {
        let socket = UdpSocket::bind((any_address(running), 0))?;
        socket.set_read_timeout(Some(LOST))?;
        socket.connect(target)?;
        let mut number = 0_u64;
        let mut trip = || {
            number += 1;
            let begin = Instant::now();
            socket.send(&number.to_be_bytes()).ok()?;
            let mut back = [0; 8];
            // An answer that came late is no answer to this one.
            while back != number.to_be_bytes() {
                socket.recv(&mut back).ok()?;
            }
            Some(begin.elapsed())
        };
        settle(&mut trip);
        Times::of(count, trip)
    })
}
