//! Pings of IPv4 addresses through one interface, to measure whether anything comes back.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::time::timeout;
use xlat_core::checksum::Sum;

const ECHO_REPLY: u8 = 0;
const ECHO_REQUEST: u8 = 8;
/// Time for one reply.
const PATIENCE: Duration = Duration::from_millis(700);
/// Bytes of the request: the header and some payload.
const LENGTH: usize = 16;

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
    let mut ping = Ping::default();
    /// Pings of this process, each with an identifier of its own.
    static COUNT: AtomicU16 = AtomicU16::new(0);
    let id = (std::process::id() as u16).wrapping_add(COUNT.fetch_add(1, Ordering::Relaxed));
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))?;
    socket.set_nonblocking(true)?;
    if socket.bind_device(Some(interface.as_bytes())).is_err()
        || socket.bind(&SocketAddr::from((source, 0)).into()).is_err()
    {
        // Interface or address are not there.
        return Ok(ping);
    }
    // In fact a raw socket: tokio receives from and sends to both in the same way.
    let socket = UdpSocket::from_std(socket.into())?;
    for sequence in 1..=tries {
        let reply = async {
            let sent = socket.send_to(&request(id, sequence), (target, 0)).await;
            if sent.is_err() {
                // The interface may be up again in a moment.
                return std::future::pending().await;
            }
            ping.sent += 1;
            let mut packet = [0; 256];
            loop {
                let Ok((length, _)) = socket.recv_from(&mut packet).await else {
                    return std::future::pending().await;
                };
                if is_reply(&packet[..length], target, id) {
                    return;
                }
            }
        };
        if timeout(PATIENCE, reply).await.is_ok() {
            ping.answered = true;
            break;
        }
    }
    Ok(ping)
}

fn request(id: u16, sequence: u16) -> [u8; LENGTH] {
    let mut message = [0; LENGTH];
    message[0] = ECHO_REQUEST;
    message[4..6].copy_from_slice(&id.to_be_bytes());
    message[6..8].copy_from_slice(&sequence.to_be_bytes());
    let checksum = Sum::of(&message).checksum();
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    message
}

/// True if an IPv4 packet is the reply of `target` to a request with this identifier.
fn is_reply(packet: &[u8], target: Ipv4Addr, id: u16) -> bool {
    let Some(first) = packet.first() else {
        return false;
    };
    let message = packet.get(usize::from(first & 0xf) * 4..).unwrap_or(&[]);
    packet.get(12..16) == Some(&target.octets())
        && message.first() == Some(&ECHO_REPLY)
        && message.get(4..6) == Some(&id.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn he_03_a_request_is_what_ping_sends() {
        let expected = [8, 0, 0xe5, 0xc9, 0x12, 0x34, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(request(0x1234, 2), expected);
    }

    #[test]
    fn he_03_only_the_reply_of_the_target_counts() {
        let mut packet = vec![
            0x46, 0, 0, 32, 0, 0, 0, 0, 64, 1, 0, 0, 192, 0, 2, 1, 0, 0, 0, 0,
        ];
        packet.extend([1, 1, 1, 1, ECHO_REPLY, 0, 0, 0, 0x12, 0x34, 0, 2]);
        let target = Ipv4Addr::new(192, 0, 2, 1);
        assert!(is_reply(&packet, target, 0x1234));
        assert!(!is_reply(&packet, target, 0x1235));
        assert!(!is_reply(&packet, Ipv4Addr::new(192, 0, 2, 2), 0x1234));
        assert!(!is_reply(&packet[..28], target, 0x1234));
        packet[24] = 3;
        assert!(!is_reply(&packet, target, 0x1234));
        assert!(!is_reply(&[], target, 0x1234));
    }
}
