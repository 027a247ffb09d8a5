//! The socket on one link. Responses leave from the address that the request was sent to (RFC 6887
//! section 8.2), so the kernel tells that address with each datagram.

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
use xlat_host::host::Link;
use xlat_proto::pcp::SERVER_PORT;

/// One byte more than a request may have, to see that it is longer.
const BUFFER: usize = 1101;

#[derive(Debug)]
pub(crate) struct LanSocket {
    socket: UdpSocket,
    link: String,
    index: u32,
}

impl LanSocket {
    /// Listens on a link alone. Must be called within a tokio runtime.
    pub(crate) fn open(link: &Link) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_only_v6(true)?;
        socket.bind_device(Some(link.name.as_bytes()))?;
        socket.set_nonblocking(true)?;
        // Announcements and responses are for this link.
        socket.set_multicast_hops_v6(1)?;
        socket.set_multicast_if_v6(link.index)?;
        setsockopt(&socket, Ipv6RecvPacketInfo, &true)?;
        let any = SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, SERVER_PORT, 0, 0);
        socket.bind(&any.into())?;
        Ok(Self {
            socket: UdpSocket::from_std(socket.into())?,
            link: link.name.clone(),
            index: link.index,
        })
    }

    /// The link's name.
    pub(crate) fn link(&self) -> &str {
        &self.link
    }

    /// The link's number.
    pub(crate) fn index(&self) -> u32 {
        self.index
    }

    /// The next datagram, where it comes from, and the address it was sent to.
    pub(crate) async fn recv(&self) -> io::Result<(Vec<u8>, SocketAddrV6, Ipv6Addr)> {
        let receive = || receive(&self.socket).map_err(io::Error::from);
        self.socket.async_io(Interest::READABLE, receive).await
    }

    /// Sends a message, from this address if there is one to be named.
    pub(crate) async fn send(
        &self,
        message: &[u8],
        to: SocketAddrV6,
        from: Option<Ipv6Addr>,
    ) -> io::Result<()> {
        let from = from.map(|address| in6_pktinfo {
            ipi6_addr: in6_addr {
                s6_addr: address.octets(),
            },
            ipi6_ifindex: self.index,
        });
        let control: Vec<_> = from.iter().map(ControlMessage::Ipv6PacketInfo).collect();
        let send = || {
            let parts = [IoSlice::new(message)];
            let to = SockaddrIn6::from(to);
            let flags = MsgFlags::empty();
            sendmsg(self.socket.as_raw_fd(), &parts, &control, flags, Some(&to))?;
            Ok(())
        };
        self.socket.async_io(Interest::WRITABLE, send).await
    }
}

fn receive(socket: &UdpSocket) -> nix::Result<(Vec<u8>, SocketAddrV6, Ipv6Addr)> {
    let mut buffer = [0; BUFFER];
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
    Ok((buffer[..length].to_vec(), from, to))
}
