//! One TCP connection that carries a given number of bytes one way, with checksum and rate.
//!
//! The server tells nothing about what to expect: both ends make the same content from the seed,
//! and the one that receives compares checksums.

use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};

use super::content::{Checksum, Content};
use crate::namespace::Namespace;

/// How much is written and read at once.
const CHUNK: usize = 256 * 1024;

/// Which way the bytes go, seen from the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Server to client.
    Download,
    /// Client to server.
    Upload,
}

/// A transfer that has arrived complete and unchanged.
#[derive(Debug, Clone, Copy)]
pub struct Transfer {
    /// How many bytes.
    pub bytes: u64,
    /// From before the connection was opened to the last byte read.
    pub time: Duration,
    /// Checksum of the content, equal at both ends.
    pub checksum: u64,
    /// The address the server saw.
    pub peer: IpAddr,
}

impl Transfer {
    /// Megabits per second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.bytes as f64 * 8.0 / 1e6 / self.time.as_secs_f64()
    }
}

/// Opens a connection from `client` to `target`, an address of `server`, and carries `bytes` bytes.
///
/// # Errors
/// When the connection is not made or stalls for `patience`, or the content is not the same.
pub fn transfer(
    client: &Namespace,
    server: &Namespace,
    target: IpAddr,
    way: Way,
    bytes: u64,
    patience: Duration,
) -> Result<Transfer> {
    let listener = server.run(|| Ok(TcpListener::bind((target, 0))?))?;
    let address = listener.local_addr()?;
    let serving = thread::spawn(move || serve(&listener, way, bytes, patience));
    let begin = Instant::now();
    let stream = client.run(|| {
        let stream = TcpStream::connect_timeout(&address, patience);
        stream.with_context(|| format!("no TCP connection to {address}"))
    });
    let near = stream.and_then(|stream| match way {
        Way::Download => receive(stream, patience),
        Way::Upload => send(stream, bytes, patience),
    });
    let time = begin.elapsed();
    let (peer, far) = finish(serving, near.is_err().then_some((server, address)))?;
    let (near, far) = (near?, far?);
    ensure!(
        near.count() == bytes && far.count() == bytes,
        "{} bytes here and {} bytes there instead of {bytes}",
        near.count(),
        far.count()
    );
    ensure!(
        near.value() == far.value(),
        "the content has changed on its way"
    );
    Ok(Transfer {
        bytes,
        time,
        checksum: near.value(),
        peer,
    })
}

/// Where the client came from, and the checksum of the server's side.
type Served = Result<(IpAddr, Result<Checksum>)>;

fn serve(listener: &TcpListener, way: Way, bytes: u64, patience: Duration) -> Served {
    let (stream, peer) = listener.accept()?;
    let sum = match way {
        Way::Download => send(stream, bytes, patience),
        Way::Upload => receive(stream, patience),
    };
    Ok((peer.ip(), sum))
}

/// Waits for the server's thread; when no client ever came it is woken up by a connection.
fn finish(serving: JoinHandle<Served>, wake: Option<(&Namespace, SocketAddr)>) -> Served {
    if let Some((server, address)) = wake
        && !serving.is_finished()
    {
        let _ = server.run(|| Ok(TcpStream::connect(address)?));
    }
    serving
        .join()
        .map_err(|_| anyhow!("the server's thread panicked"))?
}

fn send(mut stream: TcpStream, bytes: u64, patience: Duration) -> Result<Checksum> {
    stream.set_write_timeout(Some(patience))?;
    stream.set_read_timeout(Some(patience))?;
    let mut content = Content::new(bytes);
    let mut sum = Checksum::default();
    let mut buffer = vec![0; CHUNK];
    while sum.count() < bytes {
        let length = usize::try_from(bytes - sum.count()).map_or(CHUNK, |left| left.min(CHUNK));
        let chunk = &mut buffer[..length];
        content.fill(chunk);
        let sent = sum.count();
        stream
            .write_all(chunk)
            .with_context(|| format!("stalled after {sent} bytes sent"))?;
        sum.add(chunk);
    }
    stream.shutdown(Shutdown::Write)?;
    // The other end closes when it has read everything.
    let rest = stream.read(&mut [0]).context("the end was not confirmed")?;
    ensure!(rest == 0, "bytes that nobody sent");
    Ok(sum)
}

fn receive(mut stream: TcpStream, patience: Duration) -> Result<Checksum> {
    stream.set_read_timeout(Some(patience))?;
    let mut sum = Checksum::default();
    let mut buffer = vec![0; CHUNK];
    loop {
        let got = sum.count();
        let read = stream.read(&mut buffer);
        match read.with_context(|| format!("stalled after {got} bytes received"))? {
            0 => return Ok(sum),
            count => sum.add(&buffer[..count]),
        }
    }
}
