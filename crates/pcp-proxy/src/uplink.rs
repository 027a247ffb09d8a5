//! The sockets towards the PCP server. Requests leave with the source address of the host that asks
//! (RFC 6887 section 8.1), which is usually none of this host's: the responses are taken from the
//! link before the kernel routes them.

use std::future::pending;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv6Addr, SocketAddrV6};
use std::os::fd::AsRawFd;

use nix::libc::{in6_addr, in6_pktinfo};
use nix::sys::socket::sockopt::Ipv6RecvPacketInfo;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn6, recvmsg, sendmsg, setsockopt,
};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tracing::debug;
use xlat_host::host::Link;
use xlat_host::icmp6::Responses;
use xlat_proto::pcp::{CLIENT_PORT, LENGTH_MAX, SERVER_PORT};

/// The sockets on the uplink.
#[derive(Debug)]
pub(crate) struct UplinkSockets {
    link: Link,
    socket: UdpSocket,
    port: u16,
    /// Responses to addresses that this host does not have. Open while there may be any.
    responses: Option<Responses>,
    /// Announcements of servers; `None` where another client has the port.
    announcements: Option<UdpSocket>,
}

/// What has come from the network.
#[derive(Debug)]
pub(crate) enum Received {
    /// A datagram, from a server to an address of this host.
    Datagram(Vec<u8>, Ipv6Addr, Ipv6Addr),
    /// A packet to another address.
    Packet(Vec<u8>),
    /// A server has announced itself.
    Announcement,
}

impl UplinkSockets {
    /// Opens the sockets on a link alone. Must be called within a tokio runtime.
    pub(crate) fn open(link: Link) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_only_v6(true)?;
        socket.set_freebind_v6(true)?;
        socket.bind_device(Some(link.name.as_bytes()))?;
        socket.set_nonblocking(true)?;
        setsockopt(&socket, Ipv6RecvPacketInfo, &true)?;
        socket.bind(&SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, 0, 0, 0).into())?;
        let socket = UdpSocket::from_std(socket.into())?;
        let port = socket.local_addr()?.port();
        let refused =
            |error: &io::Error| debug!("announcements of PCP servers go unheard: {error}");
        Ok(Self {
            announcements: announcements(&link).inspect_err(refused).ok(),
            link,
            socket,
            port,
            responses: None,
        })
    }

    /// Receives responses to addresses that this host does not have, from now on or no longer.
    pub(crate) fn listen(&mut self, is_wanted: bool) -> io::Result<()> {
        if is_wanted && self.responses.is_none() {
            self.responses = Some(Responses::listen(&self.link, SERVER_PORT, self.port)?);
        } else if !is_wanted {
            self.responses = None;
        }
        Ok(())
    }

    /// Sends a request to a server, from this address.
    pub(crate) async fn send(
        &self,
        message: &[u8],
        from: Ipv6Addr,
        to: Ipv6Addr,
    ) -> io::Result<()> {
        let scope = if to.is_unicast_link_local() {
            self.link.index
        } else {
            0
        };
        let to = SockaddrIn6::from(SocketAddrV6::new(to, SERVER_PORT, 0, scope));
        let from = in6_pktinfo {
            ipi6_addr: in6_addr {
                s6_addr: from.octets(),
            },
            ipi6_ifindex: self.link.index,
        };
        let send = || {
            let parts = [IoSlice::new(message)];
            let control = [ControlMessage::Ipv6PacketInfo(&from)];
            let flags = MsgFlags::empty();
            sendmsg(self.socket.as_raw_fd(), &parts, &control, flags, Some(&to))?;
            Ok(())
        };
        self.socket.async_io(Interest::WRITABLE, send).await
    }

    /// What comes next.
    pub(crate) async fn recv(&self) -> io::Result<Received> {
        let receive = || receive(&self.socket).map_err(io::Error::from);
        let packet = async {
            match &self.responses {
                Some(responses) => responses.recv().await,
                None => pending().await,
            }
        };
        tokio::select! {
            received = self.socket.async_io(Interest::READABLE, receive) => received,
            packet = packet => Ok(Received::Packet(packet?)),
            heard = heard(self.announcements.as_ref()) => heard,
        }
    }
}

async fn heard(socket: Option<&UdpSocket>) -> io::Result<Received> {
    let Some(socket) = socket else {
        return pending().await;
    };
    socket.recv(&mut [0; 64]).await?;
    Ok(Received::Announcement)
}

/// All nodes are members of the group to which servers announce themselves (RFC 6887 section
/// 14.1.3).
fn announcements(link: &Link) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_only_v6(true)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.bind_device(Some(link.name.as_bytes()))?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, CLIENT_PORT, 0, 0).into())?;
    UdpSocket::from_std(socket.into())
}

fn receive(socket: &UdpSocket) -> nix::Result<Received> {
    let mut buffer = [0; LENGTH_MAX + 1];
    let mut control = nix::cmsg_space!(in6_pktinfo);
    let mut parts = [IoSliceMut::new(&mut buffer)];
    let socket = socket.as_raw_fd();
    let received =
        recvmsg::<SockaddrIn6>(socket, &mut parts, Some(&mut control), MsgFlags::empty())?;
    let to = received.cmsgs()?.find_map(|message| match message {
        ControlMessageOwned::Ipv6PacketInfo(info) => Some(info.ipi6_addr.s6_addr.into()),
        _ => None,
    });
    let from = received.address.map(SocketAddrV6::from);
    let length = received.bytes;
    let (Some(from), Some(to)) = (from, to) else {
        return Err(nix::Error::EPROTO);
    };
    // A server answers from its own port.
    if from.port() != SERVER_PORT {
        return Err(nix::Error::EAGAIN);
    }
    Ok(Received::Datagram(
        buffer[..length].to_vec(),
        *from.ip(),
        to,
    ))
}
