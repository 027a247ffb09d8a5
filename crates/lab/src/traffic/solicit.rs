//! Router solicitations of any kind, good and bad, from anybody.

use std::net::{Ipv6Addr, SocketAddrV6};

use anyhow::{Context, Result};
use nix::net::if_::if_nametoindex;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::fragments::checksum;
use super::ra::ALL_ROUTERS;

/// Sends what it is told to on one link, IPv6 header and all.
pub struct Solicitor {
    socket: Socket,
    link: u32,
}

impl Solicitor {
    /// Sends from an interface in the namespace of the calling thread.
    ///
    /// # Errors
    /// Without `CAP_NET_RAW`, or when there is no such interface.
    pub fn new(interface: &str) -> Result<Self> {
        const IPPROTO_RAW: i32 = 255;
        let link = if_nametoindex(interface).context("no such interface")?;
        let protocol = Some(Protocol::from(IPPROTO_RAW));
        let socket = Socket::new(Domain::IPV6, Type::RAW, protocol).context("raw socket")?;
        socket.set_multicast_if_v6(link)?;
        Ok(Self { socket, link })
    }

    /// Sends an ICMPv6 message to all routers, with its checksum.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn send(&self, source: Ipv6Addr, hop_limit: u8, message: &[u8]) -> Result<()> {
        let to = (ALL_ROUTERS, 0).into();
        let checksum = checksum(58, (source, 0).into(), to, message);
        self.send_with(source, hop_limit, message, checksum)
    }

    /// The same with another checksum.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn send_with(
        &self,
        source: Ipv6Addr,
        hop_limit: u8,
        message: &[u8],
        checksum: u16,
    ) -> Result<()> {
        let mut packet = vec![0x60, 0, 0, 0];
        packet.extend((message.len() as u16).to_be_bytes());
        packet.extend([58, hop_limit]);
        packet.extend(source.octets());
        packet.extend(ALL_ROUTERS.octets());
        packet.extend(message);
        packet[42..44].copy_from_slice(&checksum.to_be_bytes());
        let to = SockAddr::from(SocketAddrV6::new(ALL_ROUTERS, 0, 0, self.link));
        self.socket.send_to(&packet, &to).context("solicitation")?;
        Ok(())
    }
}
