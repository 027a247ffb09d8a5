//! ICMP messages over raw sockets, as far as a ping and a traceroute need them.
//!
//! Written out by hand and not with the header views of the translator: what checks it must not
//! share its mistakes.

use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// The largest IPv4 packet.
const LARGEST: usize = 65535;

/// What came back: an ICMPv4 message, and who sent it.
#[derive(Debug, Clone)]
pub struct Message {
    /// Sender of the message.
    pub source: Ipv4Addr,
    /// Time to live on arrival.
    pub ttl: u8,
    /// The message from its type on.
    pub body: Vec<u8>,
}

impl Message {
    /// Type and code.
    #[must_use]
    pub fn kind(&self) -> (u8, u8) {
        (self.body[0], self.body[1])
    }

    /// Transport header of the packet quoted by an error, when this is one and its protocol is
    /// `protocol`.
    #[must_use]
    pub fn quoted(&self, protocol: u8) -> Option<&[u8]> {
        if !matches!(self.body[0], 3 | 11 | 12) {
            return None;
        }
        let packet = self.body.get(8..)?;
        let header = usize::from(packet.first()? & 15) * 4;
        let of_protocol = *packet.get(9)? == protocol;
        of_protocol.then(|| packet.get(header..)).flatten()
    }
}

/// A raw ICMP socket.
pub struct IcmpSocket {
    socket: Socket,
    v4: bool,
}

impl IcmpSocket {
    /// Opens a socket of the family of `peer` in the namespace of the calling thread.
    ///
    /// # Errors
    /// Without `CAP_NET_RAW` in the namespace.
    pub fn open(peer: IpAddr) -> Result<Self> {
        let (domain, protocol) = match peer {
            IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
            IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
        };
        let socket = Socket::new(domain, Type::RAW, Some(protocol)).context("raw ICMP socket")?;
        Ok(Self {
            socket,
            v4: peer.is_ipv4(),
        })
    }

    /// Sends an echo request; the data is a pattern of `size` bytes.
    ///
    /// # Errors
    /// When the kernel has no route, or the packet is too big for it.
    pub fn send_echo(&self, peer: IpAddr, id: u16, sequence: u16, size: usize) -> Result<()> {
        let message = echo(if self.v4 { 8 } else { 128 }, id, sequence, size);
        let address = SockAddr::from(std::net::SocketAddr::new(peer, 0));
        self.socket
            .send_to(&message, &address)
            .with_context(|| format!("echo request to {peer}"))?;
        Ok(())
    }

    /// Sets the time to live of what is sent.
    ///
    /// # Errors
    /// When the kernel refuses the value.
    pub fn set_ttl(&self, ttl: u32) -> Result<()> {
        match self.v4 {
            true => self.socket.set_ttl_v4(ttl)?,
            false => self.socket.set_unicast_hops_v6(ttl)?,
        }
        Ok(())
    }

    /// The next echo reply with these numbers: its data. Other messages are passed over.
    ///
    /// # Errors
    /// When `deadline` comes first.
    pub fn wait_for_echo(&self, id: u16, sequence: u16, deadline: Instant) -> Result<Vec<u8>> {
        let reply = if self.v4 { 0 } else { 129 };
        let mut start = [reply, 0, 0, 0, 0, 0, 0, 0];
        start[4..6].copy_from_slice(&id.to_be_bytes());
        start[6..8].copy_from_slice(&sequence.to_be_bytes());
        loop {
            let packet = self.receive(deadline)?.context("no echo reply in time")?;
            let body = self.body(&packet);
            let Some((header, data)) = body.split_at_checked(8) else {
                continue;
            };
            if header[..2] == start[..2] && header[4..] == start[4..] {
                return Ok(data.to_vec());
            }
        }
    }

    /// The next ICMPv4 message of any kind, or `None` when `deadline` comes first.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn next_message(&self, deadline: Instant) -> Result<Option<Message>> {
        while let Some(packet) = self.receive(deadline)? {
            let body = self.body(&packet);
            if packet.len() < 20 || body.len() < 8 {
                continue;
            }
            return Ok(Some(Message {
                source: Ipv4Addr::new(packet[12], packet[13], packet[14], packet[15]),
                ttl: packet[8],
                body: body.to_vec(),
            }));
        }
        Ok(None)
    }

    /// An IPv4 raw socket hands out the IPv4 header, an IPv6 one does not.
    fn body<'a>(&self, packet: &'a [u8]) -> &'a [u8] {
        let header = match (self.v4, packet.first()) {
            (true, Some(first)) => usize::from(first & 15) * 4,
            _ => 0,
        };
        packet.get(header..).unwrap_or_default()
    }

    fn receive(&self, deadline: Instant) -> Result<Option<Vec<u8>>> {
        let Some(left) = deadline.checked_duration_since(Instant::now()) else {
            return Ok(None);
        };
        let wait = left.max(Duration::from_millis(1));
        self.socket.set_read_timeout(Some(wait))?;
        let mut packet = vec![0; LARGEST];
        match (&self.socket).read(&mut packet) {
            Ok(count) => packet.truncate(count),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error).context("raw ICMP socket"),
        }
        Ok(Some(packet))
    }
}

/// An identifier that nothing else in this process uses.
#[must_use]
pub fn identifier() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// The data of an echo request.
#[must_use]
pub fn pattern(size: usize) -> Vec<u8> {
    (0..size).map(|at| (at * 7 + at / 251) as u8).collect()
}

/// An echo request with the ICMPv4 checksum; the kernel overwrites the one of ICMPv6.
fn echo(kind: u8, id: u16, sequence: u16, size: usize) -> Vec<u8> {
    let mut message = vec![kind, 0, 0, 0];
    message.extend(id.to_be_bytes());
    message.extend(sequence.to_be_bytes());
    message.extend(pattern(size));
    let sum = checksum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2);
    let mut sum = words.fold(0_u32, |sum, word| {
        let low = word.get(1).copied().unwrap_or(0);
        sum + u32::from(u16::from_be_bytes([word[0], low]))
    });
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echo_request_is_what_rfc_792_says() {
        assert_eq!(
            echo(8, 0x1234, 1, 3),
            [8, 0, 0xd7, 0xc3, 0x12, 0x34, 0, 1, 0, 7, 14]
        );
    }

    #[test]
    fn the_quoted_header_is_found_behind_options() {
        let mut body = vec![11, 0, 0, 0, 0, 0, 0, 0];
        let mut packet = [0; 24];
        packet[0] = 0x46;
        packet[9] = 17;
        body.extend(packet);
        body.extend([1, 2, 3, 4, 5, 6, 7, 8]);
        let message = Message {
            source: Ipv4Addr::LOCALHOST,
            ttl: 1,
            body,
        };
        assert_eq!(message.quoted(17), Some(&[1, 2, 3, 4, 5, 6, 7, 8][..]));
        assert_eq!(message.quoted(6), None);
    }
}
