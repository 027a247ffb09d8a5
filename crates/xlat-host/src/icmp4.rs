//! Pings of IPv4 addresses through one interface, to measure whether anything comes back.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use pnet_packet::ip::IpNextHeaderProtocols;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::time::timeout;
use xlat_core::checksum::Sum;

const ECHO_REPLY: u8 = 0;
const ECHO_REQUEST: u8 = 8;
const UNREACHABLE: u8 = 3;
const PORT_UNREACHABLE: u8 = 3;
const FRAGMENTATION_NEEDED: u8 = 4;
const ICMP: u8 = 1;
const UDP: u8 = 17;
/// Time for one reply.
const PATIENCE: Duration = Duration::from_millis(700);
/// Bytes of an IPv4 header.
const HEADER: usize = 20;
/// Bytes of a request: the headers and some payload.
const LENGTH: usize = 36;

/// The outcome of a ping.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ping {
    /// A reply came.
    pub answered: bool,
    /// Number of requests that were sent.
    pub sent: u64,
}

/// Pings `target` from `source` through an interface, so many times at most. Must be called within a tokio
/// runtime.
///
/// # Errors
/// If the system gives no raw socket; it needs CAP_NET_RAW.
pub async fn ping(
    interface: &str,
    source: Ipv4Addr,
    target: Ipv4Addr,
    tries: u16,
) -> io::Result<Ping> {
    let Some(echo) = Echo::open(interface, source, target)? else {
        // Interface or address are not there.
        return Ok(Ping::default());
    };
    let mut ping = Ping::default();
    for sequence in 1..=tries {
        let (sent, reply) = echo.ask(sequence, LENGTH, PATIENCE).await;
        ping.sent += u64::from(sent);
        if reply == Reply::Echo {
            ping.answered = true;
            break;
        }
    }
    Ok(ping)
}

/// What came of an echo request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Its answer.
    Echo,
    /// It is too large for a link on the way, which takes so many bytes.
    TooBig(u16),
    /// Nothing in time.
    Silence,
}

/// A socket for echo requests to one address, by one interface.
#[derive(Debug)]
pub struct Echo {
    /// In fact a raw socket: tokio receives from and sends to both in the same way.
    socket: UdpSocket,
    source: Ipv4Addr,
    target: Ipv4Addr,
    id: u16,
}

impl Echo {
    /// Opens the socket; `None` if the interface or the address `source` are not there. Must be called
    /// within a tokio runtime.
    ///
    /// # Errors
    /// If the system gives no raw socket; it needs CAP_NET_RAW.
    pub fn open(interface: &str, source: Ipv4Addr, target: Ipv4Addr) -> io::Result<Option<Self>> {
        /// Sockets of this process, each with an identifier of its own.
        static COUNT: AtomicU16 = AtomicU16::new(0);
        let id = (std::process::id() as u16).wrapping_add(COUNT.fetch_add(1, Ordering::Relaxed));
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))?;
        socket.set_nonblocking(true)?;
        // The kernel then takes packets of any size that the interface takes, whatever it has learned
        // about the path.
        socket.set_header_included_v4(true)?;
        if socket.bind_device(Some(interface.as_bytes())).is_err()
            || socket.bind(&SocketAddr::from((source, 0)).into()).is_err()
        {
            return Ok(None);
        }
        Ok(Some(Self {
            socket: UdpSocket::from_std(socket.into())?,
            source,
            target,
            id,
        }))
    }

    /// Sends a request, a packet of `length` bytes that must not be fragmented, and waits for what
    /// comes of it. Also returns whether it was sent.
    pub async fn ask(&self, sequence: u16, length: usize, patience: Duration) -> (bool, Reply) {
        let length = length.clamp(LENGTH, usize::from(u16::MAX));
        let request = request(self.id, sequence, length - HEADER);
        let is_answer = |packet: &[u8]| is_reply(packet, self.target, self.id, sequence);
        self.exchange(&self.packet(ICMP, &request), is_answer, patience)
            .await
    }

    /// Sends a UDP datagram, a packet of `length` bytes that must not be fragmented, to a port at which
    /// nobody listens. Whatever its size, the answer is a small one: that there is nobody.
    pub async fn ask_port(&self, port: u16, length: usize, patience: Duration) -> Reply {
        let length = length.clamp(LENGTH, usize::from(u16::MAX));
        let datagram = self.datagram(port, length - HEADER);
        let is_answer = |packet: &[u8]| {
            quoted(packet, PORT_UNREACHABLE, self.target, &self.ports(port)).is_some()
        };
        let packet = self.packet(UDP, &datagram);
        self.exchange(&packet, is_answer, patience).await.1
    }

    async fn exchange(
        &self,
        packet: &[u8],
        is_answer: impl Fn(&[u8]) -> bool,
        patience: Duration,
    ) -> (bool, Reply) {
        let mut sent = false;
        let reply = async {
            if self.socket.send_to(packet, (self.target, 0)).await.is_err() {
                // The interface may be up again in a moment.
                return std::future::pending().await;
            }
            sent = true;
            // An identifier is where the ports of UDP are, but for two bytes.
            let key = match packet[9] {
                UDP => packet[HEADER..HEADER + 4].to_vec(),
                _ => Vec::new(),
            };
            let mut received = vec![0; 1 << 16];
            loop {
                let Ok((length, _)) = self.socket.recv_from(&mut received).await else {
                    return std::future::pending().await;
                };
                let received = &received[..length];
                if is_answer(received) {
                    return Reply::Echo;
                }
                let mtu = match &key[..] {
                    [] => too_big(received, self.target, self.id),
                    ports => quoted(received, FRAGMENTATION_NEEDED, self.target, ports),
                };
                if let Some(mtu) = mtu {
                    return Reply::TooBig(mtu);
                }
            }
        };
        let reply = timeout(patience, reply).await.unwrap_or(Reply::Silence);
        (sent, reply)
    }

    fn packet(&self, protocol: u8, payload: &[u8]) -> Vec<u8> {
        const DONT_FRAGMENT: u8 = 0x40;
        const TTL: u8 = 64;
        let mut packet = vec![0; HEADER];
        packet[0] = 0x45;
        packet[2..4].copy_from_slice(&((HEADER + payload.len()) as u16).to_be_bytes());
        packet[6] = DONT_FRAGMENT;
        (packet[8], packet[9]) = (TTL, protocol);
        // The kernel computes the checksum.
        packet[12..16].copy_from_slice(&self.source.octets());
        packet[16..20].copy_from_slice(&self.target.octets());
        packet.extend(payload);
        packet
    }

    /// The first bytes of a datagram to `port`.
    fn ports(&self, port: u16) -> [u8; 4] {
        // Ephemeral, so that it is no service's.
        let [high, low] = (self.id | 0xc000).to_be_bytes();
        let [to_high, to_low] = port.to_be_bytes();
        [high, low, to_high, to_low]
    }

    fn datagram(&self, port: u16, length: usize) -> Vec<u8> {
        let mut datagram = self.ports(port).to_vec();
        datagram.extend((length as u16).to_be_bytes());
        datagram.resize(length, 0);
        let protocol = IpNextHeaderProtocols::Udp;
        let pseudo = Sum::pseudo_v4(self.source, self.target, protocol, length as u32);
        let checksum = match (pseudo + Sum::of(&datagram)).checksum() {
            0 => u16::MAX,
            sum => sum,
        };
        datagram[6..8].copy_from_slice(&checksum.to_be_bytes());
        datagram
    }
}

/// An echo request with so many bytes.
fn request(id: u16, sequence: u16, length: usize) -> Vec<u8> {
    let mut message = vec![0; length];
    message[0] = ECHO_REQUEST;
    message[4..6].copy_from_slice(&id.to_be_bytes());
    message[6..8].copy_from_slice(&sequence.to_be_bytes());
    let checksum = Sum::of(&message).checksum();
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    message
}

/// What follows the header of an IPv4 packet.
fn payload(packet: &[u8]) -> Option<&[u8]> {
    packet.get(usize::from(packet.first()? & 0xf) * 4..)
}

/// True if an IPv4 packet is the reply of `target` to this request.
fn is_reply(packet: &[u8], target: Ipv4Addr, id: u16, sequence: u16) -> bool {
    let message = payload(packet).unwrap_or(&[]);
    packet.get(12..16) == Some(&target.octets())
        && message.first() == Some(&ECHO_REPLY)
        && message.get(4..6) == Some(&id.to_be_bytes())
        && message.get(6..8) == Some(&sequence.to_be_bytes())
}

/// The MTU that an ICMP error names about a request to `target` with this identifier.
fn too_big(packet: &[u8], target: Ipv4Addr, id: u16) -> Option<u16> {
    let request = payload(payload(packet)?.get(8..)?)?;
    let is_ours = request.get(4..6) == Some(&id.to_be_bytes());
    quoted(packet, FRAGMENTATION_NEEDED, target, &[]).filter(|_| is_ours)
}

/// The MTU field of an ICMP error with this code about a packet to `target` whose payload starts so.
fn quoted(packet: &[u8], code: u8, target: Ipv4Addr, start: &[u8]) -> Option<u16> {
    let message = payload(packet)?;
    let quoted = message.get(8..)?;
    let is_ours = message[..2] == [UNREACHABLE, code]
        && quoted.get(16..20) == Some(&target.octets())
        && payload(quoted)?.starts_with(start);
    is_ours.then(|| u16::from_be_bytes([message[6], message[7]]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn he_03_a_request_is_what_ping_sends() {
        let expected = [8, 0, 0xe5, 0xc9, 0x12, 0x34, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(request(0x1234, 2, 16), expected);
    }

    #[test]
    fn he_03_only_the_reply_of_the_target_counts() {
        let mut packet = vec![
            0x46, 0, 0, 32, 0, 0, 0, 0, 64, 1, 0, 0, 192, 0, 2, 1, 0, 0, 0, 0,
        ];
        packet.extend([1, 1, 1, 1, ECHO_REPLY, 0, 0, 0, 0x12, 0x34, 0, 2]);
        let target = Ipv4Addr::new(192, 0, 2, 1);
        assert!(is_reply(&packet, target, 0x1234, 2));
        assert!(!is_reply(&packet, target, 0x1234, 3));
        assert!(!is_reply(&packet, target, 0x1235, 2));
        assert!(!is_reply(&packet, Ipv4Addr::new(192, 0, 2, 2), 0x1234, 2));
        assert!(!is_reply(&packet[..28], target, 0x1234, 2));
        packet[24] = 3;
        assert!(!is_reply(&packet, target, 0x1234, 2));
        assert!(!is_reply(&[], target, 0x1234, 2));
    }

    #[test]
    fn dr_06_the_mtu_of_the_path_is_that_of_the_error_about_the_request() {
        let mut packet = vec![
            0x45, 0, 0, 56, 0, 0, 0, 0, 64, 1, 0, 0, 203, 0, 113, 9, 192, 0, 0, 1,
        ];
        packet.extend([3, 4, 0, 0, 0, 0, 0x05, 0x14]);
        packet.extend([
            0x45, 0, 5, 0xc0, 0, 0, 0x40, 0, 63, 1, 0, 0, 192, 0, 0, 1, 192, 0, 2, 1,
        ]);
        packet.extend([8, 0, 0, 0, 0x12, 0x34, 0, 1]);
        let target = Ipv4Addr::new(192, 0, 2, 1);
        assert_eq!(too_big(&packet, target, 0x1234), Some(1300));
        assert_eq!(too_big(&packet, target, 0x1235), None);
        assert_eq!(too_big(&packet, Ipv4Addr::new(192, 0, 2, 2), 0x1234), None);
        for length in 0..packet.len() - 2 {
            assert_eq!(too_big(&packet[..length], target, 0x1234), None);
        }
        let start = [8, 0, 0, 0];
        assert_eq!(quoted(&packet, 4, target, &start), Some(1300));
        assert_eq!(quoted(&packet, 3, target, &start), None);
        assert_eq!(quoted(&packet, 4, target, &[8, 1]), None);
        packet[21] = 1;
        assert_eq!(too_big(&packet, target, 0x1234), None);
    }
}
