//! ICMPv6 messages of neighbour discovery, received and sent through raw sockets.
//!
//! The socket filter passes messages of one type that no router has forwarded (hop limit 255). The
//! kernel verifies the checksums of received messages and computes those of sent ones.
//! [`Responses`] of UDP servers and [`Solicitations`] are for addresses that this host does not have: they are taken from the link
//! before the kernel routes them.

mod echo;
mod filter;
mod responses;
mod solicitations;

use std::io;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use pnet_packet::icmpv6::Icmpv6Types;
use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use tokio::net::UdpSocket;

pub use self::echo::Echo;
pub use self::responses::Responses;
pub use self::solicitations::Solicitations;

use self::filter::{Hops, by_type};
use crate::host::Link;

/// Hop limit of neighbour discovery messages: with any other one a message may come from behind a
/// router (RFC 4861 section 3.1).
const HOP_LIMIT: u32 = 255;

/// Longest message in bytes. A longer one is truncated, and parsing it fails.
const MESSAGE_MAX: usize = 1500;

/// A socket for router discovery messages: a host receives advertisements, a router solicitations,
/// and both can send any message.
#[derive(Debug)]
pub struct RouterMessages(LinkSocket);

impl RouterMessages {
    /// Listens for router advertisements on `link`. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// If the system refuses; raw sockets need CAP_NET_RAW.
    pub fn of_routers(link: &Link) -> io::Result<Self> {
        let filter = by_type(Icmpv6Types::RouterAdvert, Hops::Untouched);
        open(link, &filter, ALL_NODES).map(Self)
    }

    /// Listens for advertisements of this router alone on `link`. Must be called within a tokio
    /// runtime.
    ///
    /// # Errors
    /// If the system refuses; raw sockets need CAP_NET_RAW.
    pub fn of_router(link: &Link, router: Ipv6Addr) -> io::Result<Self> {
        let filter = filter::by_source(Icmpv6Types::RouterAdvert, router);
        open(link, &filter, ALL_NODES).map(Self)
    }

    /// Listens for router advertisements on all links. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// If the system refuses; raw sockets need CAP_NET_RAW.
    pub fn of_all_routers() -> io::Result<Self> {
        open_on_all(&by_type(Icmpv6Types::RouterAdvert, Hops::Untouched)).map(Self)
    }

    /// Listens for forged router advertisements on all links: those that a router has forwarded.
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    /// If the system refuses; raw sockets need CAP_NET_RAW.
    pub fn of_forgers() -> io::Result<Self> {
        open_on_all(&by_type(Icmpv6Types::RouterAdvert, Hops::Forwarded)).map(Self)
    }

    /// Listens for router solicitations on `link`. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// If the system refuses; raw sockets need CAP_NET_RAW.
    pub fn of_hosts(link: &Link) -> io::Result<Self> {
        let filter = by_type(Icmpv6Types::RouterSolicit, Hops::Untouched);
        open(link, &filter, ALL_ROUTERS).map(Self)
    }

    /// Waits for the next message. Returns its source and the message, whose hop limit the filter
    /// of the socket has checked.
    ///
    /// # Errors
    /// If the socket is broken.
    pub async fn recv(&self) -> io::Result<(Ipv6Addr, Vec<u8>)> {
        let (from, message) = self.0.recv_from().await?;
        Ok((*from.ip(), message))
    }

    /// Waits for the next message. The scope of the returned source is the number of the receiving
    /// link if the source is link-local.
    ///
    /// # Errors
    /// If the socket is broken.
    pub async fn recv_from(&self) -> io::Result<(SocketAddrV6, Vec<u8>)> {
        self.0.recv_from().await
    }

    /// Sends `message` to `to` on the link, with a hop limit of 255, from the link's own
    /// link-local address.
    ///
    /// # Errors
    /// If the system refuses.
    pub async fn send(&self, to: Ipv6Addr, message: &[u8]) -> io::Result<()> {
        self.0.send(to, message).await
    }
}

/// Pings `target` over a link a few times; false if it does not reply. Must be called within a
/// tokio runtime.
///
/// # Errors
/// If the system refuses; raw sockets need CAP_NET_RAW.
pub async fn answers(link: &Link, target: Ipv6Addr, id: u16) -> io::Result<bool> {
    const TRIES: u8 = 3;
    const PAUSE: Duration = Duration::from_secs(1);
    let filter = by_type(Icmpv6Types::EchoReply, Hops::Any);
    let socket = open(link, &filter, ALL_NODES)?;
    for sequence in 0..TRIES {
        let [high, low] = id.to_be_bytes();
        let request = [128, 0, 0, 0, high, low, 0, sequence];
        // The kernel reports an unreachable neighbour as an error of the next call.
        if socket.send(target, &request).await.is_err() {
            tokio::time::sleep(PAUSE).await;
            continue;
        }
        let reply = async {
            loop {
                let (from, message) = socket.recv_from().await?;
                if *from.ip() == target && message.get(4..6) == Some(&[high, low]) {
                    return Ok::<_, io::Error>(());
                }
            }
        };
        if let Ok(received) = tokio::time::timeout(PAUSE, reply).await {
            return received.map(|()| true);
        }
    }
    Ok(false)
}

/// A raw ICMPv6 socket of one link, or of all.
#[derive(Debug)]
struct LinkSocket {
    /// In fact a raw socket: tokio receives from and sends to both in the same way.
    socket: UdpSocket,
    link: u32,
}

/// Opens a socket for all links. The kernel is a member of the all-nodes group on each of them.
fn open_on_all(filter: &[SockFilter]) -> io::Result<LinkSocket> {
    let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
    socket.attach_filter(filter)?;
    socket.set_nonblocking(true)?;
    Ok(LinkSocket {
        socket: UdpSocket::from_std(socket.into())?,
        link: 0,
    })
}

fn open(link: &Link, filter: &[SockFilter], group: Ipv6Addr) -> io::Result<LinkSocket> {
    let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
    socket.attach_filter(filter)?;
    socket.set_nonblocking(true)?;
    socket.bind_device(Some(link.name.as_bytes()))?;
    socket.set_unicast_hops_v6(HOP_LIMIT)?;
    socket.set_multicast_hops_v6(HOP_LIMIT)?;
    socket.set_multicast_loop_v6(false)?;
    socket.set_multicast_if_v6(link.index)?;
    socket.join_multicast_v6(&group, link.index)?;
    Ok(LinkSocket {
        socket: UdpSocket::from_std(socket.into())?,
        link: link.index,
    })
}

impl LinkSocket {
    async fn recv_from(&self) -> io::Result<(SocketAddrV6, Vec<u8>)> {
        let mut message = vec![0; MESSAGE_MAX];
        loop {
            let (len, from) = self.socket.recv_from(&mut message).await?;
            if let SocketAddr::V6(from) = from {
                message.truncate(len);
                return Ok((from, message));
            }
        }
    }

    async fn send(&self, to: Ipv6Addr, message: &[u8]) -> io::Result<()> {
        let to = SocketAddr::V6(SocketAddrV6::new(to, 0, 0, self.link));
        self.socket.send_to(message, to).await.map(drop)
    }
}

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
