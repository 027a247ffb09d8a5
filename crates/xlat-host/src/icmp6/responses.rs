//! Responses of UDP servers to addresses that are routed through this host and assigned to none of
//! its interfaces.

use std::io;

use tokio::net::UdpSocket;

use super::MESSAGE_MAX;
use super::filter::responses;
use super::solicitations::packets;
use crate::host::Link;

/// The UDP datagrams from one port to another that arrive by one link, whatever their addresses.
///
/// The kernel routes them too: they are for addresses that this host does not have. A server that
/// is the router itself answers from a link-local address, from which nothing is forwarded.
#[derive(Debug)]
pub struct Responses {
    /// In fact a packet socket.
    packets: UdpSocket,
}

impl Responses {
    /// Listens on `link`. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// If the system refuses; the socket needs CAP_NET_RAW.
    pub fn listen(link: &Link, from_port: u16, to_port: u16) -> io::Result<Self> {
        let packets = packets(link, &responses(from_port, to_port))?;
        Ok(Self { packets })
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
}
