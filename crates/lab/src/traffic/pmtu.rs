//! Path MTU discovery (RFC 1191): full-sized datagrams that may not be fragmented, until one comes
//! back. Where "fragmentation needed" gets lost there is a black hole, and this finds it.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::io::Errno;
use rustix::net::sockopt::{Ipv4PathMtuDiscovery, ip_mtu, set_ip_mtu_discover};

use super::content::Content;

/// IPv4 and UDP header.
const HEADERS: u32 = 28;

/// What a socket learnt about its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathMtu {
    /// MTU of the route before anything was sent, bytes.
    pub first: u32,
    /// MTU with which a datagram of full size came through, bytes.
    pub path: u32,
    /// How often the path said that a datagram was too big.
    pub rounds: u32,
}

/// Discovers the path MTU to an [`Echo`](super::udp::Echo).
///
/// # Errors
/// When a datagram vanishes without an error (a black hole), or comes back changed.
pub fn discover(server: SocketAddrV4, patience: Duration) -> Result<PathMtu> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::DO)?;
    socket
        .connect(server)
        .with_context(|| format!("no route to {server}"))?;
    socket.set_read_timeout(Some(patience))?;
    let first = ip_mtu(&socket)?;
    let deadline = Instant::now() + patience;
    let mut rounds = 0;
    loop {
        let mtu = ip_mtu(&socket)?;
        if try_size(&socket, mtu)? {
            return Ok(PathMtu {
                first,
                path: mtu,
                rounds,
            });
        }
        rounds += 1;
        let lower = ip_mtu(&socket)?;
        ensure!(
            lower < mtu,
            "too big with {mtu} bytes, but the path MTU is still {lower}"
        );
        ensure!(Instant::now() < deadline, "no end in {rounds} rounds");
    }
}

/// Sends one datagram that makes a packet of `mtu` bytes: `true` when it comes back, `false` when
/// it is too big.
fn try_size(socket: &UdpSocket, mtu: u32) -> Result<bool> {
    let size = usize::try_from(mtu.saturating_sub(HEADERS))?;
    let sent = Content::new(mtu.into()).take(size);
    if let Err(error) = socket.send(&sent) {
        return too_big(error);
    }
    let mut back = vec![0; size + 1];
    match socket.recv(&mut back) {
        Ok(length) => {
            ensure!(back[..length] == sent, "{mtu} bytes came back changed");
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            bail!("black hole: a packet of {mtu} bytes vanished without an error")
        }
        Err(error) => too_big(error),
    }
}

fn too_big(error: io::Error) -> Result<bool> {
    if Errno::from_io_error(&error) == Some(Errno::MSGSIZE) {
        return Ok(false);
    }
    Err(error).context("neither an answer nor \"too big\"")
}
