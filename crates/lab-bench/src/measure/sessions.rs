//! New sessions: many short ones at the same time, no two of them with the same port.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use lab::topology::SERVER;
use lab::traffic::udp::Echo;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::any_address;
use crate::cases::Running;

/// Threads that make sessions.
const THREADS: u16 = 16;
/// Ports that each of them has. Behind one shared address some are left for the loads that follow.
const PORTS: u16 = 3000;
const FIRST_PORT: u16 = 1024;
/// Connections that wait to be accepted, as far as the system lets them.
const BACKLOG: i32 = 65_535;
/// An answer that has not come by then is lost.
const LOST: Duration = Duration::from_millis(500);

/// Thousand connections that were made a second.
pub(super) fn tcp(running: &Running, time: Duration) -> Result<f64> {
    let network = &running.topology;
    let listener = network.server.run(listen)?;
    let target = SocketAddr::from((running.target, listener.local_addr()?.port()));
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                drop(listener.accept());
            }
        });
        let rate = many(running, time, |local| {
            let kind = Domain::for_address(target);
            let socket = Socket::new(kind, Type::STREAM, Some(Protocol::TCP))?;
            socket.bind(local)?;
            // The end is a reset: nothing waits for the last packets.
            socket.set_linger(Some(Duration::ZERO))?;
            socket.connect_timeout(&target.into(), LOST)
        });
        over.store(true, Ordering::Relaxed);
        rate
    })
}

/// A listener that many can wait for at the same time.
fn listen() -> Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.bind(&SocketAddr::from((SERVER, 0)).into())?;
    socket.listen(BACKLOG)?;
    // Whoever accepts looks now and then whether it is over.
    socket.set_read_timeout(Some(LOST))?;
    Ok(socket.into())
}

/// Thousand datagrams from new ports that were answered a second.
pub(super) fn udp(running: &Running, time: Duration) -> Result<f64> {
    let echo = Echo::start(&running.topology.server, SERVER.into())?;
    let target = SocketAddr::from((running.target, echo.address().port()));
    many(running, time, |local| {
        let kind = Domain::for_address(target);
        let socket = Socket::new(kind, Type::DGRAM, Some(Protocol::UDP))?;
        socket.bind(local)?;
        let socket = UdpSocket::from(socket);
        socket.set_read_timeout(Some(LOST))?;
        socket.connect(target)?;
        socket.send(b"session")?;
        socket.recv(&mut [0; 16]).map(drop)
    })
}

/// Thousand sessions a second, from the client and on all threads. One that fails, or is not made in
/// time, is none.
fn many(
    running: &Running,
    time: Duration,
    session: impl Fn(&SockAddr) -> io::Result<()> + Sync,
) -> Result<f64> {
    let any = any_address(running);
    let (count, elapsed) = running.topology.client().run(|| {
        let begin = Instant::now();
        let in_time = || begin.elapsed() < time;
        // The threads are in the namespace of the one that started them.
        Ok(thread::scope(|scope| {
            let work = |thread: u16| {
                let session = &session;
                scope.spawn(move || {
                    let first = FIRST_PORT + thread * PORTS;
                    let count = (first..first + PORTS)
                        .take_while(|_| in_time())
                        .filter(|port| session(&SocketAddr::from((any, *port)).into()).is_ok())
                        .filter(|_| in_time())
                        .count();
                    // Before the time is over, when there is no port left.
                    (count, begin.elapsed().min(time))
                })
            };
            let threads: Vec<_> = (0..THREADS).map(work).collect();
            let all = threads.into_iter().filter_map(|one| one.join().ok());
            all.fold((0, Duration::ZERO), |(sum, longest), (count, elapsed)| {
                (sum + count, longest.max(elapsed))
            })
        }))
    })?;
    ensure!(count > 0, "no session could be made");
    Ok(count as f64 / 1000.0 / elapsed.as_secs_f64())
}
