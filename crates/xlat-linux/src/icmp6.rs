//! ICMPv6 messages that belong to one link: neighbour discovery, received and sent by a raw
//! socket.
//!
//! The kernel passes on what our filter lets through: messages of one type that no router has
//! touched (hop limit 255), where wanted about one address. It verified their checksums before, and
//! computes those of what we send.

use std::io;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};

use pnet_packet::icmpv6::{Icmpv6Type, Icmpv6Types};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use tokio::net::UdpSocket;

use crate::host::Link;

/// Solicitations for one address on one link.
#[derive(Debug)]
pub struct Solicitations(LinkSocket);

/// Messages of neighbour discovery carry this, and so cannot come from behind a router (RFC 4861
/// section 3.1).
const HOP_LIMIT: u32 = 255;

/// Longest message that is read; a longer one is cut, and then is none.
const MESSAGE_MAX: usize = 1500;

impl Solicitations {
    /// Joins `group` on `link` and listens for neighbour solicitations about `target`. Must be
    /// called within a tokio runtime.
    ///
    /// # Errors
    /// What the system refuses; raw sockets need CAP_NET_RAW.
    pub fn listen(link: &Link, target: Ipv6Addr, group: Ipv6Addr) -> io::Result<Self> {
        let filter = filter(Icmpv6Types::NeighborSolicit, Some(target));
        open(link, &filter, group).map(Self)
    }

    /// Waits for the next message: who sent it, and the message.
    ///
    /// # Errors
    /// If the socket is broken.
    pub async fn recv(&self) -> io::Result<(Ipv6Addr, Vec<u8>)> {
        self.0.recv().await
    }

    /// Sends `message` to `to` on the link.
    ///
    /// # Errors
    /// What the system refuses.
    pub async fn send(&self, to: Ipv6Addr, message: &[u8]) -> io::Result<()> {
        self.0.send(to, message).await
    }
}

/// Messages between routers and hosts on one link: a host hears advertisements, a router
/// solicitations, and both can send whatever they have to say.
#[derive(Debug)]
pub struct RouterMessages(LinkSocket);

impl RouterMessages {
    /// Listens for what routers on `link` advertise. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// What the system refuses; raw sockets need CAP_NET_RAW.
    pub fn of_routers(link: &Link) -> io::Result<Self> {
        let filter = filter(Icmpv6Types::RouterAdvert, None);
        open(link, &filter, ALL_NODES).map(Self)
    }

    /// Listens for what hosts on `link` solicit. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// What the system refuses; raw sockets need CAP_NET_RAW.
    pub fn of_hosts(link: &Link) -> io::Result<Self> {
        let filter = filter(Icmpv6Types::RouterSolicit, None);
        open(link, &filter, ALL_ROUTERS).map(Self)
    }

    /// Waits for the next message: who sent it, and the message. Its hop limit was 255.
    ///
    /// # Errors
    /// If the socket is broken.
    pub async fn recv(&self) -> io::Result<(Ipv6Addr, Vec<u8>)> {
        self.0.recv().await
    }

    /// Sends `message` to `to` on the link, with a hop limit of 255, from the link's own
    /// link-local address.
    ///
    /// # Errors
    /// What the system refuses.
    pub async fn send(&self, to: Ipv6Addr, message: &[u8]) -> io::Result<()> {
        self.0.send(to, message).await
    }
}

/// A raw ICMPv6 socket of one link.
#[derive(Debug)]
struct LinkSocket {
    /// A raw socket in truth: receiving and sending is the same.
    socket: UdpSocket,
    link: u32,
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
    async fn recv(&self) -> io::Result<(Ipv6Addr, Vec<u8>)> {
        let mut message = vec![0; MESSAGE_MAX];
        loop {
            let (len, from) = self.socket.recv_from(&mut message).await?;
            if let SocketAddr::V6(from) = from {
                message.truncate(len);
                return Ok((*from.ip(), message));
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

/// Lets messages of one type pass, about one target where one is given, if their hop limit is 255.
/// Bytes are counted from the ICMPv6 header.
fn filter(kind: Icmpv6Type, target: Option<Ipv6Addr>) -> Vec<SockFilter> {
    const LOAD_BYTE: u16 = 0x30;
    const LOAD_WORD: u16 = 0x20;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    /// Counts from the IP header instead (`SKF_NET_OFF`).
    const IP_HEADER: u32 = 0xfff0_0000;

    let mut wanted = vec![
        (LOAD_BYTE, 0, u32::from(kind.0)),
        (LOAD_BYTE, IP_HEADER + 7, HOP_LIMIT),
    ];
    if let Some(target) = target {
        let octets = target.octets();
        let (words, _) = octets.as_chunks::<4>();
        let words = words.iter().map(|word| u32::from_be_bytes(*word));
        wanted.extend(
            (8..)
                .step_by(4)
                .zip(words)
                .map(|(at, word)| (LOAD_WORD, at, word)),
        );
    }

    let checks = wanted.len();
    let mut program = Vec::new();
    for (number, (load, at, value)) in wanted.into_iter().enumerate() {
        // Over the rest of the checks and over the acceptance.
        let reject = (2 * (checks - number - 1) + 1) as u8;
        program.push(SockFilter::new(load, 0, 0, at));
        program.push(SockFilter::new(JUMP_IF_EQUAL, 0, reject, value));
    }
    program.push(SockFilter::new(RETURN, 0, 0, u32::MAX));
    program.push(SockFilter::new(RETURN, 0, 0, 0));
    program
}
