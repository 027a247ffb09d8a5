//! Neighbour solicitations for an address that is routed through this host and assigned to none of
//! its interfaces.

use std::io;
use std::net::Ipv6Addr;
use std::os::fd::AsFd;

use rustix::io::Errno;
use socket2::{Domain, SockFilter, Socket, Type};
use tokio::net::UdpSocket;
use xlat_tun::bind_to_link;

use super::filter::{nothing, solicitations};
use super::{LinkSocket, MESSAGE_MAX, open};
use crate::host::Link;

/// The neighbour solicitations for one address on one link, and the answers to them.
///
/// Neighbours solicit by multicast to find the address, and by unicast to check that it is still
/// there (RFC 4861 section 7.3.3). The kernel delivers the former to raw sockets, but routes the
/// latter: to the address, or back to the asking router as an ICMPv6 error, because a link-local
/// source must not be forwarded. A packet socket receives both before that.
#[derive(Debug)]
pub struct Solicitations {
    /// In fact a packet socket.
    packets: UdpSocket,
    /// Keeps the membership in the group, and sends.
    link: LinkSocket,
}

impl Solicitations {
    /// Joins `group` on `link` and listens for neighbour solicitations about `target`. Must be
    /// called within a tokio runtime.
    ///
    /// # Errors
    /// If the system refuses; both sockets need CAP_NET_RAW.
    pub fn listen(link: &Link, target: Ipv6Addr, group: Ipv6Addr) -> io::Result<Self> {
        Ok(Self {
            packets: packets(link, &solicitations(target))?,
            link: open(link, &nothing(), group)?,
        })
    }

    /// Waits for the next packet. Returns it with its IPv6 header; its checksum has not been
    /// verified.
    ///
    /// # Errors
    /// If the socket is broken.
    pub async fn recv(&self) -> io::Result<Vec<u8>> {
        let mut packet = vec![0; MESSAGE_MAX];
        let len = self.packets.recv(&mut packet).await?;
        packet.truncate(len);
        Ok(packet)
    }

    /// Sends `message` to `to` on the link, with a hop limit of 255; the kernel fills in the
    /// checksum.
    ///
    /// # Errors
    /// If the system refuses.
    pub async fn send(&self, to: Ipv6Addr, message: &[u8]) -> io::Result<()> {
        self.link.send(to, message).await
    }
}

/// A packet socket for the IPv6 packets of a link that pass the filter.
pub(super) fn packets(link: &Link, filter: &[SockFilter]) -> io::Result<UdpSocket> {
    const IPV6: u16 = 0x86dd;
    let socket = Socket::new(Domain::PACKET, Type::DGRAM, None).map_err(explain)?;
    socket.attach_filter(filter)?;
    socket.set_nonblocking(true)?;
    bind_to_link(socket.as_fd(), link.index, IPV6)?;
    UdpSocket::from_std(socket.into())
}

/// Adds what to do where a service manager allows address families one by one.
fn explain(error: io::Error) -> io::Error {
    match Errno::from_io_error(&error) {
        Some(Errno::AFNOSUPPORT) => io::Error::new(
            io::ErrorKind::Unsupported,
            "no packet sockets; allow AF_PACKET (RestrictAddressFamilies= of a systemd unit)",
        ),
        _ => error,
    }
}
