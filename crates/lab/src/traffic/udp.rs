//! UDP datagrams there and back, and what comes back when nobody listens.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::net::sockopt::{
    Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, set_ip_mtu_discover, set_ipv6_mtu_discover,
};
use socket2::SockRef;

use super::content::Content;
use crate::namespace::Namespace;

/// How often a thread that waits for datagrams looks whether it should end.
const LOOK: Duration = Duration::from_millis(50);

/// Sends every datagram back to where it came from, until it is dropped.
pub struct Echo {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    /// Listens on an address of the namespace, on a port of the kernel's choice. Answers may be
    /// fragmented: the socket does not ask for path MTU discovery.
    ///
    /// # Errors
    /// When the address is not one of the namespace.
    pub fn start(namespace: &Namespace, address: IpAddr) -> Result<Self> {
        let socket = namespace.run(|| bind(address))?;
        let address = socket.local_addr()?;
        socket.set_read_timeout(Some(LOOK))?;
        let stop = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let stop = Arc::clone(&stop);
            move || reflect(&socket, &stop)
        });
        Ok(Self {
            address,
            stop,
            thread: Some(thread),
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Sends datagrams of these sizes to an [`Echo`] and compares what comes back. A datagram that is
/// larger than the link leaves in fragments. Returns the time for all of them.
///
/// # Errors
/// When a datagram does not come back within `patience`, or comes back changed.
pub fn exchange(
    server: SocketAddr,
    sizes: impl IntoIterator<Item = usize>,
    patience: Duration,
) -> Result<Duration> {
    let socket = connect(server)?;
    socket.set_read_timeout(Some(patience))?;
    let mut back = vec![0; 65536];
    let begin = Instant::now();
    for size in sizes {
        let sent = Content::new(size as u64).take(size);
        let length = socket
            .send(&sent)
            .with_context(|| format!("{size} bytes cannot be sent"))?;
        ensure!(length == size, "{length} of {size} bytes sent");
        let length = socket
            .recv(&mut back)
            .with_context(|| format!("a datagram of {size} bytes did not come back"))?;
        ensure!(
            back[..length] == sent,
            "a datagram of {size} bytes came back changed, with {length} bytes"
        );
    }
    Ok(begin.elapsed())
}

/// Sends one datagram to a port where nobody listens, and waits for the kernel to report
/// `ECONNREFUSED` on the socket, as it does on an ICMP port unreachable.
///
/// # Errors
/// When something else happens within `patience`, or nothing.
pub fn refused(server: IpAddr, patience: Duration) -> Result<Duration> {
    let socket = connect((server, 9).into())?;
    socket.set_read_timeout(Some(patience))?;
    let begin = Instant::now();
    socket.send(b"anybody there?")?;
    match socket.recv(&mut [0; 16]) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(begin.elapsed()),
        Err(error) => Err(error).context("instead of ECONNREFUSED"),
        Ok(_) => bail!("somebody listens on the discard port of {server}"),
    }
}

fn connect(server: SocketAddr) -> Result<UdpSocket> {
    let own: IpAddr = match server {
        SocketAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = bind(own)?;
    socket
        .connect(server)
        .with_context(|| format!("no route to {server}"))?;
    Ok(socket)
}

fn bind(address: IpAddr) -> Result<UdpSocket> {
    let socket = UdpSocket::bind((address, 0)).with_context(|| format!("UDP on {address}"))?;
    // Bursts must not be lost in the socket, whatever the machine does meanwhile.
    SockRef::from(&socket).set_recv_buffer_size(4 << 20)?;
    match address {
        IpAddr::V4(_) => set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::DONT)?,
        IpAddr::V6(_) => set_ipv6_mtu_discover(&socket, Ipv6PathMtuDiscovery::DONT)?,
    }
    Ok(socket)
}

fn reflect(socket: &UdpSocket, stop: &AtomicBool) {
    let mut buffer = vec![0; 65536];
    while !stop.load(Ordering::Relaxed) {
        if let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..length], from);
        }
    }
}
