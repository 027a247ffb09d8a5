//! Whole IPv4 packets, whatever their source. The kernel sets length and header checksum.

use std::net::{Ipv4Addr, SocketAddrV4};

use anyhow::{Context, Result};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// Sends packets, IPv4 header and all, the way that the kernel's routes lead.
pub struct Raw4 {
    socket: Socket,
}

impl Raw4 {
    /// Sends from the namespace of the calling thread.
    ///
    /// # Errors
    /// Without `CAP_NET_RAW`.
    pub fn new() -> Result<Self> {
        const IPPROTO_RAW: i32 = 255;
        let protocol = Some(Protocol::from(IPPROTO_RAW));
        let socket = Socket::new(Domain::IPV4, Type::RAW, protocol).context("raw socket")?;
        Ok(Self { socket })
    }

    /// Sends a packet on the way to `to`, whatever its header says.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn send_to(&self, packet: &[u8], to: Ipv4Addr) -> Result<()> {
        let to = SockAddr::from(SocketAddrV4::new(to, 0));
        self.socket.send_to(packet, &to).context("packet")?;
        Ok(())
    }
}
