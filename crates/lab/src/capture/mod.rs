//! What crosses an interface, for a file that Wireshark opens and for tests that look inside.
//!
//! A packet socket that is bound to no interface hears all of its namespace; the index in the
//! address of each packet tells which are wanted. With offloads on, TCP shows up as the large
//! packets that the kernel really handed over, some with checksums still to be filled in.

mod pcapng;

use std::fs::File;
use std::io::{self, BufWriter};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, anyhow, ensure};
use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{
    AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, socket,
};
use socket2::SockRef;

use crate::link::End;

/// How often a thread that waits for packets looks whether it should end.
const LOOK: Duration = Duration::from_millis(50);

/// Room in the socket for bursts, bytes.
const ROOM: usize = 64 << 20;

/// Longer than any packet.
const LONGEST: usize = 128 << 10;

/// `ARPHRD_ETHER`: packets of this kind of interface start with an Ethernet header.
const ETHERNET: u16 = 1;

/// `PACKET_OUTGOING` of `linux/if_packet.h`.
const OUTGOING: u8 = 4;

/// A packet as it was seen.
#[derive(Debug, Clone)]
pub struct Packet {
    /// Position of the interface in the list given to [`Capture::start`].
    pub interface: usize,
    /// When it was read.
    pub time: SystemTime,
    /// Sent by the namespace, and not received.
    pub outgoing: bool,
    /// Whether it starts with an Ethernet header, and not with that of IP.
    pub ethernet: bool,
    /// Its length, of which `bytes` may be the first part only.
    pub length: usize,
    /// The packet, cut to the length that was asked for.
    pub bytes: Vec<u8>,
}

impl Packet {
    /// The packet from its IP header on; empty when it is not IP (ARP).
    #[must_use]
    pub fn ip(&self) -> &[u8] {
        if !self.ethernet {
            return &self.bytes;
        }
        match self.bytes.get(12..14) {
            Some([0x08, 0x00] | [0x86, 0xdd]) => &self.bytes[14..],
            _ => &[],
        }
    }
}

/// A running capture; dropped, it ends without a result.
pub struct Capture {
    names: Vec<String>,
    most: usize,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Vec<Packet>>>,
}

/// The next packet on an interface that is the one, from its IP header on.
///
/// # Errors
/// When none comes within `patience`, or without `CAP_NET_RAW`.
pub fn wait_for(
    end: End<'_>,
    patience: Duration,
    is_it: impl Fn(&[u8]) -> bool,
) -> Result<Vec<u8>> {
    const MOST: usize = 2048;
    let deadline = Instant::now() + patience;
    let mut capture = Capture::start(&[end], MOST)?;
    loop {
        thread::sleep(LAST_PACKETS);
        // The next one listens before this one is over.
        let next = Capture::start(&[end], MOST)?;
        let captured = std::mem::replace(&mut capture, next).stop()?;
        let mut packets = captured.packets.iter().map(Packet::ip);
        if let Some(packet) = packets.find(|packet| is_it(packet)) {
            return Ok(packet.to_vec());
        }
        ensure!(Instant::now() < deadline, "no such packet on {}", end.1);
    }
}

/// What was captured.
#[derive(Debug, Clone)]
pub struct Captured {
    /// Namespace and name of each interface, for people.
    pub names: Vec<String>,
    /// Most bytes kept of a packet.
    pub most: usize,
    /// In the order of their times.
    pub packets: Vec<Packet>,
}

impl Capture {
    /// Listens on interfaces that are there already, and keeps at most `most` bytes of a packet.
    ///
    /// # Errors
    /// When there is no such interface, or without `CAP_NET_RAW`.
    pub fn start(ends: &[End<'_>], most: usize) -> Result<Self> {
        let mut capture = Self {
            names: Vec::new(),
            most,
            stop: Arc::new(AtomicBool::new(false)),
            threads: Vec::new(),
        };
        for (interface, &(namespace, name)) in ends.iter().enumerate() {
            let (socket, index) = namespace.run(|| open(name))?;
            let stop = Arc::clone(&capture.stop);
            let reader = Reader {
                socket,
                index,
                interface,
                most,
            };
            capture
                .threads
                .push(thread::spawn(move || reader.read(&stop)));
            capture.names.push(format!("{} {name}", namespace.name()));
        }
        Ok(capture)
    }

    /// Ends the capture; what is in the sockets is read before.
    ///
    /// # Errors
    /// When a reader panicked.
    pub fn stop(mut self) -> Result<Captured> {
        self.stop.store(true, Ordering::Relaxed);
        let mut packets = Vec::new();
        for thread in self.threads.drain(..) {
            let read = thread.join();
            packets.extend(read.map_err(|_| anyhow!("the capture panicked"))?);
        }
        packets.sort_by_key(|packet| packet.time);
        Ok(Captured {
            names: std::mem::take(&mut self.names),
            most: self.most,
            packets,
        })
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Captured {
    /// Writes a file in the pcapng format.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let file = File::create(path).and_then(|file| pcapng::write(self, BufWriter::new(file)));
        file.with_context(|| path.display().to_string())
    }
}

struct Reader {
    socket: OwnedFd,
    index: usize,
    interface: usize,
    most: usize,
}

/// How long packets are taken that arrived before the end.
const LAST_PACKETS: Duration = Duration::from_millis(200);

impl Reader {
    fn read(&self, stop: &AtomicBool) -> Vec<Packet> {
        let mut packets = Vec::new();
        let mut buffer = vec![0; LONGEST];
        let mut end = None;
        loop {
            // What has arrived is still taken, but traffic that never pauses must not hold us.
            if stop.load(Ordering::Relaxed)
                && *end.get_or_insert_with(|| Instant::now() + LAST_PACKETS) <= Instant::now()
            {
                return packets;
            }
            match recvfrom::<LinkAddr>(self.socket.as_raw_fd(), &mut buffer) {
                Ok((length, Some(address))) if address.ifindex() == self.index => {
                    packets.push(self.packet(&buffer[..length], &address));
                }
                Ok(_) | Err(Errno::EINTR) => {}
                // An interface that goes down is reported once; it may come back.
                Err(Errno::EAGAIN | Errno::ENETDOWN) if !stop.load(Ordering::Relaxed) => {}
                Err(_) => return packets,
            }
        }
    }

    fn packet(&self, bytes: &[u8], address: &LinkAddr) -> Packet {
        Packet {
            interface: self.interface,
            time: SystemTime::now(),
            outgoing: address.pkttype() == OUTGOING,
            ethernet: address.hatype() == ETHERNET,
            length: bytes.len(),
            bytes: bytes[..bytes.len().min(self.most)].to_vec(),
        }
    }
}

fn open(name: &str) -> Result<(OwnedFd, usize)> {
    let index = if_nametoindex(name).with_context(|| format!("there is no interface {name}"))?;
    let socket = socket(
        AddressFamily::Packet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::EthAll,
    )
    .context("packet socket")?;
    let options = SockRef::from(&socket);
    options.set_read_timeout(Some(LOOK))?;
    enlarge(&socket)?;
    Ok((socket, usize::try_from(index)?))
}

/// The limit of the machine may be passed by root only.
fn enlarge(socket: &OwnedFd) -> io::Result<()> {
    use nix::sys::socket::{setsockopt, sockopt};
    let forced = setsockopt(socket, sockopt::RcvBufForce, &ROOM);
    Ok(forced.or_else(|_| setsockopt(socket, sockopt::RcvBuf, &ROOM))?)
}
