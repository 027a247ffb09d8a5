//! Echo requests of any size, whatever the kernel has learned about the path.

use std::io;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use pnet_packet::icmpv6::Icmpv6Types;
use pnet_packet::ip::IpNextHeaderProtocols;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::time::timeout;
use xlat_core::checksum::Sum;

use crate::icmp4::Reply;

/// Bytes of an IPv6 header.
const HEADER: usize = 40;
/// Bytes of the shortest request: the headers and some payload.
const LENGTH: usize = 56;
/// The protocol of sockets that take whole packets (`IPPROTO_RAW`).
const WHOLE_PACKETS: i32 = 255;

/// A socket for echo requests to one address.
#[derive(Debug)]
pub struct Echo {
    sender: UdpSocket,
    /// In fact raw sockets: tokio receives from and sends to both in the same way.
    receiver: UdpSocket,
    source: Ipv6Addr,
    target: Ipv6Addr,
    id: u16,
}

impl Echo {
    /// Opens the socket. `source` must be an address of this host. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// If the system gives no raw sockets; they need CAP_NET_RAW.
    pub fn open(source: Ipv6Addr, target: Ipv6Addr) -> io::Result<Self> {
        /// Sockets of this process, each with an identifier of its own.
        static COUNT: AtomicU16 = AtomicU16::new(0);
        let id = (std::process::id() as u16).wrapping_add(COUNT.fetch_add(1, Ordering::Relaxed));
        let open = |protocol| {
            let socket = Socket::new(Domain::IPV6, Type::RAW, Some(protocol))?;
            socket.set_nonblocking(true)?;
            UdpSocket::from_std(socket.into())
        };
        Ok(Self {
            sender: open(Protocol::from(WHOLE_PACKETS))?,
            receiver: open(Protocol::ICMPV6)?,
            source,
            target,
            id,
        })
    }

    /// Sends a request, a packet of `length` bytes, and waits for what comes of it.
    pub async fn ask(&self, sequence: u16, length: usize, patience: Duration) -> Reply {
        let packet = packet((self.source, self.target), self.id, sequence, length);
        let to = SocketAddr::V6(SocketAddrV6::new(self.target, 0, 0, 0));
        let reply = async {
            if self.sender.send_to(&packet, to).await.is_err() {
                return std::future::pending().await;
            }
            let mut message = vec![0; 1 << 16];
            loop {
                let Ok((length, from)) = self.receiver.recv_from(&mut message).await else {
                    return std::future::pending().await;
                };
                let message = &message[..length];
                if from.ip() == self.target && is_reply(message, self.id, sequence) {
                    return Reply::Echo;
                }
                if let Some(mtu) = too_big(message, self.target, self.id) {
                    return Reply::TooBig(mtu);
                }
            }
        };
        timeout(patience, reply).await.unwrap_or(Reply::Silence)
    }
}

fn packet(
    (source, target): (Ipv6Addr, Ipv6Addr),
    id: u16,
    sequence: u16,
    length: usize,
) -> Vec<u8> {
    const HOP_LIMIT: u8 = 64;
    let protocol = IpNextHeaderProtocols::Icmpv6;
    let length = length.clamp(LENGTH, usize::from(u16::MAX));
    let mut message = vec![0; length - HEADER];
    message[0] = Icmpv6Types::EchoRequest.0;
    message[4..6].copy_from_slice(&id.to_be_bytes());
    message[6..8].copy_from_slice(&sequence.to_be_bytes());
    let pseudo = Sum::pseudo_v6(source, target, protocol, message.len() as u32);
    let checksum = (pseudo + Sum::of(&message)).checksum();
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((message.len() as u16).to_be_bytes());
    packet.extend([protocol.0, HOP_LIMIT]);
    packet.extend(source.octets());
    packet.extend(target.octets());
    packet.extend(message);
    packet
}

fn is_reply(message: &[u8], id: u16, sequence: u16) -> bool {
    message.first() == Some(&Icmpv6Types::EchoReply.0)
        && message.get(4..6) == Some(&id.to_be_bytes())
        && message.get(6..8) == Some(&sequence.to_be_bytes())
}

/// The MTU that an ICMPv6 error names about a request to `target` with this identifier.
fn too_big(message: &[u8], target: Ipv6Addr, id: u16) -> Option<u16> {
    let quoted = message.get(8..)?;
    let is_ours = message[0] == Icmpv6Types::PacketTooBig.0
        && quoted.get(24..40) == Some(&target.octets())
        && quoted.get(44..46) == Some(&id.to_be_bytes());
    let mtu = u32::from_be_bytes(*message[4..].first_chunk()?);
    is_ours.then(|| u16::try_from(mtu).unwrap_or(u16::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dr_06_a_request_of_ipv6_is_what_ping_sends() {
        let address = |last| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last);
        let packet = packet((address(1), address(2)), 0x1234, 2, 56);
        assert_eq!(packet[..8], [0x60, 0, 0, 0, 0, 16, 58, 64]);
        assert_eq!(packet[8..24], address(1).octets());
        // The words: 2 * (0x2001 + 0x0db8) + 1 + 2 for the addresses, 16 + 58, and 0x8000 + 0x1234 + 2.
        let expected = [128, 0, 0x12, 0x0a, 0x12, 0x34, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(packet[40..], expected);
    }

    #[test]
    fn dr_06_the_mtu_of_an_ipv6_path_is_that_of_the_error_about_the_request() {
        let target = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0xc000, 0x201);
        let mut message = vec![2, 0, 0, 0, 0, 0, 0x05, 0x14];
        message.extend([0; 24]);
        message.extend(target.octets());
        message.extend([128, 0, 0, 0, 0x12, 0x34, 0, 1]);
        assert_eq!(too_big(&message, target, 0x1234), Some(1300));
        assert_eq!(too_big(&message, target, 0x1235), None);
        assert_eq!(too_big(&message, Ipv6Addr::LOCALHOST, 0x1234), None);
        for length in 0..message.len() - 2 {
            assert_eq!(too_big(&message[..length], target, 0x1234), None);
        }
        message[0] = 1;
        assert_eq!(too_big(&message, target, 0x1234), None);
    }
}
