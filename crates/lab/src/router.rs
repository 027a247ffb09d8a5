//! A router that says what a test wants it to say.

use std::io;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::net::if_::if_nametoindex;
use socket2::{Domain, Protocol, Socket, Type};

use crate::namespace::Namespace;
use crate::traffic::ra::{ALL_NODES, ALL_ROUTERS, Advertisement};

const SOLICITATION: u8 = 133;

/// A router on one link: it answers solicitations and announces what it is told to.
pub struct Router {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    /// A raw ICMPv6 socket in truth: receiving and sending is the same.
    socket: UdpSocket,
    link: u32,
    message: Mutex<Vec<u8>>,
    solicited: AtomicU64,
    stop: AtomicBool,
}

impl Router {
    /// Starts to advertise on an interface of the namespace.
    ///
    /// # Errors
    /// When there is no such interface.
    pub fn start(
        namespace: &Namespace,
        interface: &str,
        advertisement: &Advertisement,
    ) -> Result<Self> {
        let (socket, link) = namespace.run(|| {
            let link = if_nametoindex(interface)
                .with_context(|| format!("there is no interface {interface}"))?;
            Ok((open(interface, link)?, link))
        })?;
        let shared = Arc::new(Shared {
            socket,
            link,
            message: Mutex::new(advertisement.build()),
            solicited: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        });
        shared.advertise();
        Ok(Self {
            shared: Arc::clone(&shared),
            thread: Some(thread::spawn(move || shared.serve())),
        })
    }

    /// Announces this now, and to whoever asks from now on.
    pub fn announce(&self, advertisement: &Advertisement) {
        self.announce_bytes(advertisement.build());
    }

    /// The same with a message of the caller's making.
    pub fn announce_bytes(&self, message: Vec<u8>) {
        *self.shared.message() = message;
        self.shared.advertise();
    }

    /// How many solicitations it has heard.
    #[must_use]
    pub fn solicited(&self) -> u64 {
        self.shared.solicited.load(Ordering::Relaxed)
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn message(&self) -> std::sync::MutexGuard<'_, Vec<u8>> {
        self.message.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn advertise(&self) {
        let to = SocketAddrV6::new(ALL_NODES, 0, 0, self.link);
        // An interface may be down for a while.
        let _ = self.socket.send_to(&self.message(), to);
    }

    fn serve(&self) {
        let mut buffer = [0; 1500];
        while !self.stop.load(Ordering::Relaxed) {
            match self.socket.recv_from(&mut buffer) {
                Ok((length, SocketAddr::V6(from))) => {
                    if is_solicitation(*from.ip(), &buffer[..length]) {
                        self.solicited.fetch_add(1, Ordering::Relaxed);
                        self.advertise();
                    }
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // The interface went down: do not spin until it is back.
                Err(_) => thread::sleep(Duration::from_millis(10)),
            }
        }
    }
}

/// A socket that hears what hosts on the link ask all routers, and sends as a router does.
fn open(interface: &str, link: u32) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
    socket.bind_device(Some(interface.as_bytes()))?;
    socket.set_multicast_hops_v6(255)?;
    socket.set_multicast_loop_v6(false)?;
    socket.join_multicast_v6(&ALL_ROUTERS, link)?;
    socket.set_read_timeout(Some(Duration::from_millis(20)))?;
    Ok(socket.into())
}

fn is_solicitation(from: Ipv6Addr, message: &[u8]) -> bool {
    let is_near = from.is_unicast_link_local() || from.is_unspecified();
    is_near && message.len() >= 8 && message[..2] == [SOLICITATION, 0]
}
