//! Whole IPv6 packets from an interface, whatever their source.

use std::net::{Ipv6Addr, SocketAddrV6};

use anyhow::{Context, Result};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// Sends packets, IPv6 header and all, the way that the kernel's routes lead.
pub struct Raw6 {
    socket: Socket,
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
        Ok(Self { socket })
    }

    /// Sends a packet.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn send(&self, packet: &[u8]) -> Result<()> {
        let to = packet.get(24..40).context("a cut header")?;
        let to = Ipv6Addr::from(<[u8; 16]>::try_from(to)?);
        let to = SockAddr::from(SocketAddrV6::new(to, 0, 0, 0));
        self.socket.send_to(packet, &to).context("packet")?;
        Ok(())
    }
}
