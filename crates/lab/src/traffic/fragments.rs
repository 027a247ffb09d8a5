//! Datagrams sent in fragments, in an order of the caller's choice, through raw sockets.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context, Result};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// A datagram that is to be sent in pieces: transport header and payload, checksum included.
#[derive(Debug, Clone)]
pub struct Pieces {
    /// IPv4 protocol number or IPv6 next header.
    pub protocol: u8,
    /// Everything behind the IP header.
    pub datagram: Vec<u8>,
    /// Bytes in a piece, a multiple of 8.
    pub size: usize,
    /// Identification.
    pub id: u16,
}

impl Pieces {
    /// Sends it over IPv6 with the last piece first.
    ///
    /// # Errors
    /// Without `CAP_NET_RAW` in the namespace of the calling thread, or without a route.
    pub fn send_backwards_v6(&self, from: Ipv6Addr, to: Ipv6Addr) -> Result<()> {
        let socket = raw(Domain::IPV6)?;
        self.backwards(|offset, payload, more| {
            let mut packet = vec![0x60, 0, 0, 0];
            packet.extend((payload.len() as u16 + 8).to_be_bytes());
            packet.extend([44, 64]);
            packet.extend(from.octets());
            packet.extend(to.octets());
            packet.extend([self.protocol, 0]);
            packet.extend((offset as u16 | u16::from(more)).to_be_bytes());
            packet.extend(u32::from(self.id).to_be_bytes());
            packet.extend(payload);
            send(&socket, &packet, (to, 0).into())
        })
    }

    /// Sends it over IPv4 with the last piece first. The kernel fills in the header's checksum.
    ///
    /// # Errors
    /// Without `CAP_NET_RAW` in the namespace of the calling thread, or without a route.
    pub fn send_backwards_v4(&self, from: Ipv4Addr, to: Ipv4Addr) -> Result<()> {
        let socket = raw(Domain::IPV4)?;
        self.backwards(|offset, payload, more| {
            let mut packet = vec![0x45, 0];
            packet.extend((payload.len() as u16 + 20).to_be_bytes());
            packet.extend(self.id.to_be_bytes());
            packet.extend(((offset / 8) as u16 | u16::from(more) << 13).to_be_bytes());
            packet.extend([64, self.protocol, 0, 0]);
            packet.extend(from.octets());
            packet.extend(to.octets());
            packet.extend(payload);
            send(&socket, &packet, (to, 0).into())
        })
    }

    fn backwards(&self, mut send: impl FnMut(usize, &[u8], bool) -> Result<()>) -> Result<()> {
        let pieces = self.datagram.chunks(self.size).enumerate();
        let count = pieces.len();
        for (number, payload) in pieces.rev() {
            send(number * self.size, payload, number + 1 < count)?;
        }
        Ok(())
    }
}

/// A UDP datagram between two addresses of one family, with its checksum.
#[must_use]
pub fn udp(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let mut datagram = Vec::new();
    datagram.extend(from.port().to_be_bytes());
    datagram.extend(to.port().to_be_bytes());
    datagram.extend((payload.len() as u16 + 8).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(payload);
    let checksum = checksum(17, from, to, &datagram);
    datagram[6..8].copy_from_slice(&checksum.to_be_bytes());
    datagram
}

/// An ICMPv6 echo request between two addresses, with its checksum.
#[must_use]
pub fn echo_request_v6(from: Ipv6Addr, to: Ipv6Addr, id: u16, data: &[u8]) -> Vec<u8> {
    let mut message = vec![128, 0, 0, 0];
    message.extend(id.to_be_bytes());
    message.extend([0, 1]);
    message.extend(data);
    let checksum = checksum(58, (from, 0).into(), (to, 0).into(), &message);
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    message
}

/// The checksum of a transport header and payload, whose own checksum field is zero.
#[must_use]
pub fn checksum(protocol: u8, from: SocketAddr, to: SocketAddr, datagram: &[u8]) -> u16 {
    let octets = |address: SocketAddr| match address {
        SocketAddr::V4(address) => address.ip().octets().to_vec(),
        SocketAddr::V6(address) => address.ip().octets().to_vec(),
    };
    let mut all = [octets(from), octets(to)].concat();
    all.extend([0, protocol]);
    all.extend((datagram.len() as u16).to_be_bytes());
    all.extend(datagram);
    checksum_of(&all)
}

/// The Internet checksum of bytes (RFC 1071).
pub(crate) fn checksum_of(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// A socket that takes whole packets, IP header included.
fn raw(domain: Domain) -> Result<Socket> {
    const IPPROTO_RAW: i32 = 255;
    Socket::new(domain, Type::RAW, Some(Protocol::from(IPPROTO_RAW))).context("raw socket")
}

fn send(socket: &Socket, packet: &[u8], to: SocketAddr) -> Result<()> {
    socket
        .send_to(packet, &SockAddr::from(to))
        .with_context(|| format!("fragment to {to}"))?;
    Ok(())
}
