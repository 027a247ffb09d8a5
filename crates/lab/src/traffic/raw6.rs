//! Whole IPv6 packets from an interface, whatever their source.

use std::net::{Ipv6Addr, SocketAddrV6};

use anyhow::{Context, Result};
use nix::net::if_::if_nametoindex;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// Sends packets, IPv6 header and all, the way that the kernel's routes lead.
pub struct Raw6 {
    socket: Socket,
    link: u32,
}

impl Raw6 {
    /// Sends from the namespace of the calling thread.
    ///
    /// # Errors
    /// Without `CAP_NET_RAW`.
    pub fn new() -> Result<Self> {
        const IPPROTO_RAW: i32 = 255;
        let protocol = Some(Protocol::from(IPPROTO_RAW));
        let socket = Socket::new(Domain::IPV6, Type::RAW, protocol).context("raw socket")?;
        Ok(Self { socket, link: 0 })
    }

    /// Sends on one link, to groups and link-local addresses too.
    ///
    /// # Errors
    /// Without `CAP_NET_RAW`, or when there is no such interface.
    pub fn on(interface: &str) -> Result<Self> {
        let link = if_nametoindex(interface).context("no such interface")?;
        let raw = Self::new()?;
        raw.socket.set_multicast_if_v6(link)?;
        Ok(Self { link, ..raw })
    }

    /// Sends a packet.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn send(&self, packet: &[u8]) -> Result<()> {
        let to = packet.get(24..40).context("a cut header")?;
        self.send_to(packet, <[u8; 16]>::try_from(to)?.into())
    }

    /// Sends a packet on the way to `to`, whatever its header says.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn send_to(&self, packet: &[u8], to: Ipv6Addr) -> Result<()> {
        let to = SockAddr::from(SocketAddrV6::new(to, 0, 0, self.link));
        self.socket.send_to(packet, &to).context("packet")?;
        Ok(())
    }
}
