//! The fast path of a `plat` in the laboratory: a flow for it, and what the status says about it.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;

use anyhow::{Context, Result, bail, ensure};

use crate::installed::{Installed, PATIENCE};
use crate::topology::{SERVER, embedded};
use crate::wait::wait_until;

/// A UDP flow between a client and the server.
pub struct Flow {
    /// The client's socket.
    pub client: UdpSocket,
    /// The server's.
    pub server: UdpSocket,
    /// Where the server sees the client.
    pub outside: SocketAddr,
}

impl Flow {
    /// Sends the first datagram.
    ///
    /// # Errors
    /// When a packet does not arrive, or arrives changed.
    pub fn start(installed: &Installed) -> Result<Self> {
        let server = installed
            .topology
            .server
            .run(|| Ok(UdpSocket::bind((SERVER, 0))?))?;
        server.set_read_timeout(Some(PATIENCE))?;
        let client = bind6(installed)?;
        client.connect(in_prefix(server.local_addr()?))?;
        client.send(&[0; 100])?;
        let (_, outside) = server.recv_from(&mut [0; 128])?;
        Ok(Self {
            client,
            server,
            outside,
        })
    }

    /// A datagram of 100 bytes from the client.
    ///
    /// # Errors
    /// When a packet does not arrive, or arrives changed.
    pub fn there(&self) -> Result<()> {
        self.client.send(&[0; 100])?;
        let (length, from) = self
            .server
            .recv_from(&mut [0; 128])
            .context("it did not arrive")?;
        ensure!(
            (length, from) == (100, self.outside),
            "{length} bytes from {from}"
        );
        Ok(())
    }

    /// The same from the server.
    ///
    /// # Errors
    /// When a packet does not arrive, or arrives changed.
    pub fn back(&self) -> Result<()> {
        self.server.send_to(&[0; 100], self.outside)?;
        let length = self
            .client
            .recv(&mut [0; 128])
            .context("it did not come back")?;
        ensure!(length == 100, "{length} bytes");
        Ok(())
    }

    /// Goes on until the kernel has the session.
    ///
    /// # Errors
    /// When a packet does not arrive, or arrives changed.
    pub fn warm_up(&self, installed: &Installed) -> Result<()> {
        wait_until(|| {
            for _ in 0..8 {
                self.there()?;
                self.back()?;
            }
            Ok(in_kernel(installed)? > 0)
        })
    }
}

/// A connection of which one end sends when it is asked to.
pub struct Download {
    receiving: TcpStream,
    sending: TcpStream,
}

/// Bytes that cross at once.
pub const PART: usize = 1 << 20;

impl Download {
    /// A client's connection to an address of the server, which sends.
    ///
    /// # Errors
    /// When there is no connection.
    pub fn start(installed: &Installed, address: IpAddr) -> Result<Self> {
        let network = &installed.topology;
        let listener = network.server.run(|| Ok(TcpListener::bind((SERVER, 0))?))?;
        let target = SocketAddr::new(address, listener.local_addr()?.port());
        let receiving = network.client().run(|| connect(target))?;
        let (sending, _) = listener.accept()?;
        Ok(Self { receiving, sending })
    }

    /// A connection that is there.
    #[must_use]
    pub fn of(receiving: TcpStream, sending: TcpStream) -> Self {
        Self { receiving, sending }
    }

    /// So many mebibytes cross, unchanged.
    ///
    /// # Errors
    /// When they do not; with the log of `plat`.
    pub fn parts(&mut self, installed: &Installed, count: u8) -> Result<()> {
        let mut sending = self.sending.try_clone()?;
        let sender = thread::spawn(move || {
            (0..count).try_for_each(|number| sending.write_all(&vec![number; PART]))
        });
        let mut chunk = vec![0; PART];
        for number in 0..count {
            if let Err(error) = self.receiving.read_exact(&mut chunk) {
                bail!("{error}: {}", installed.plat.log());
            }
            ensure!(chunk.iter().all(|byte| *byte == number), "it has changed");
        }
        let sent = sender.join().ok().context("the sender panicked")?;
        Ok(sent?)
    }
}

/// A connection on which nobody waits for ever.
///
/// # Errors
/// When it is not made.
pub fn connect(target: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&target, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// A UDP socket of the client, on a port of the kernel's choice.
///
/// # Errors
/// When there is none.
pub fn bind6(installed: &Installed) -> Result<UdpSocket> {
    let socket = installed
        .topology
        .client()
        .run(|| Ok(UdpSocket::bind("[::]:0")?))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// A transport address as clients see it.
#[must_use]
pub fn in_prefix(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(v4) => SocketAddr::new(embedded(v4).into(), address.port()),
        IpAddr::V6(_) => address,
    }
}

/// Sessions that the kernel has.
///
/// # Errors
/// When `plat` does not answer, or says nothing about it.
pub fn in_kernel(installed: &Installed) -> Result<u64> {
    let status = installed.ask_plat(&["status"])?;
    number_in(&status, "  kernel  ", 0).or(Ok(0))
}

/// Packets that the kernel has translated.
///
/// # Errors
/// When `plat` does not answer, or says nothing about it.
pub fn carried(installed: &Installed) -> Result<u64> {
    number_in(&installed.ask_plat(&["status"])?, "fast path on: ", 0)
}

/// Packets and bytes in and out of both families, in the order of the status.
///
/// # Errors
/// When `plat` does not answer, or says nothing about it.
pub fn traffic(installed: &Installed) -> Result<Vec<u64>> {
    let status = installed.ask_plat(&["status"])?;
    let lines = ["IPv4 in", "IPv6 in", "IPv4 out", "IPv6 out"];
    let numbers =
        lines.map(|line| Ok([number_in(&status, line, 0)?, number_in(&status, line, 1)?]));
    let numbers = numbers.into_iter().collect::<Result<Vec<_>>>()?;
    Ok(numbers.concat())
}

/// Compares how the counters of [`traffic`] have grown with what was sent. The host itself sends reports of
/// multicast groups into its TUN now and then, and they are counted as IPv6 that came in.
///
/// # Errors
/// When they differ otherwise.
pub fn ensure_exact(grown: &[u64], wanted: &[u64; 8]) -> Result<()> {
    let [packets, bytes] = [2, 3].map(|place| grown[place].checked_sub(wanted[place]));
    let is_own =
        matches!((packets, bytes), (Some(packets @ 0..=4), Some(bytes)) if bytes <= packets * 200);
    let others = |all: &[u64]| [&all[..2], &all[4..]].concat();
    ensure!(
        is_own && others(grown) == others(wanted),
        "{grown:?} instead of {wanted:?}"
    );
    Ok(())
}

/// The number at `place` among those of the line that begins with `start`.
fn number_in(status: &str, start: &str, place: usize) -> Result<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(start));
    let line = line.with_context(|| format!("no {start:?} in {status}"))?;
    let mut numbers = line.split_whitespace().filter_map(|word| word.parse().ok());
    numbers.nth(place).context("no number there")
}
