//! The sockets of this host that wait for packets, and their ports.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A port that a socket of this host waits on: a TCP socket that listens, or a UDP socket without a
/// peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listening {
    /// Number of the transport protocol: TCP or UDP.
    pub protocol: u8,
    /// The address that it is bound to; unspecified for all.
    pub address: IpAddr,
    /// The port.
    pub port: u16,
}

impl Listening {
    /// True if IPv4 packets from other hosts may reach the socket.
    pub fn is_reached_from_outside(&self) -> bool {
        match self.address.to_canonical() {
            IpAddr::V4(v4) => !v4.is_loopback(),
            IpAddr::V6(v6) => v6.is_unspecified(),
        }
    }

    /// True if packets to this IPv4 address reach the socket.
    pub fn is_at(&self, address: Ipv4Addr) -> bool {
        match self.address.to_canonical() {
            IpAddr::V4(v4) => v4.is_unspecified() || v4 == address,
            // Most IPv6 sockets take IPv4 packets, too; the kernel does not say which do not.
            IpAddr::V6(v6) => v6.is_unspecified(),
        }
    }
}

impl fmt::Display for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = if self.protocol == TCP { "TCP" } else { "UDP" };
        write!(f, "{protocol} port {}", self.port)
    }
}

/// All of them. A list that the kernel does not have is empty.
pub fn listening() -> Vec<Listening> {
    let lists = [("tcp", TCP), ("tcp6", TCP), ("udp", UDP), ("udp6", UDP)];
    let lists = lists.into_iter().flat_map(|(name, protocol)| {
        let path = format!("/proc/thread-self/net/{name}");
        let text = std::fs::read_to_string(path).unwrap_or_default();
        parse(&text, protocol)
    });
    lists.collect()
}

fn parse(text: &str, protocol: u8) -> Vec<Listening> {
    let lines = text.lines().skip(1).filter_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let (address, port) = words.next()?.split_once(':')?;
        let waits = words.nth(1)? == if protocol == TCP { LISTEN } else { UNCONNECTED };
        waits.then_some(Listening {
            protocol,
            address: parse_address(address)?,
            port: u16::from_str_radix(port, 16).ok()?,
        })
    });
    lines.collect()
}

/// An address as the kernel lists it: words in its own byte order.
fn parse_address(text: &str) -> Option<IpAddr> {
    let words = text.as_bytes().chunks(8).map(|word| {
        let word = std::str::from_utf8(word).ok()?;
        Some(u32::from_str_radix(word, 16).ok()?.to_ne_bytes())
    });
    let bytes = words.collect::<Option<Vec<_>>>()?.concat();
    let v4 = <[u8; 4]>::try_from(&bytes[..]).map(Ipv4Addr::from);
    let v6 = <[u8; 16]>::try_from(&bytes[..]).map(Ipv6Addr::from);
    v4.map(IpAddr::from).or(v6.map(IpAddr::from)).ok()
}

const TCP: u8 = 6;
const UDP: u8 = 17;
/// States as the kernel lists them.
const LISTEN: &str = "0A";
const UNCONNECTED: &str = "07";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn sockets_that_wait_are_read_from_the_kernels_lists() {
        let tcp = "  sl  local_address rem_address   st tx_queue ...\n\
                   0: 0100007F:0277 00000000:0000 0A 00000000:00000000\n\
                   1: 017100CB:D3F4 0664A8C0:01BB 01 00000000:00000000\n";
        assert_eq!(
            parse(tcp, TCP),
            [Listening {
                protocol: TCP,
                address: Ipv4Addr::LOCALHOST.into(),
                port: 631
            }]
        );
        let udp6 = "  sl  local_address                         remote_address  st\n\
                    9: 00000000000000000000000000000000:4E20 \
                    00000000000000000000000000000000:0000 07 00000000:00000000\n";
        let found = parse(udp6, UDP);
        assert_eq!((found.len(), found[0].port), (1, 20_000));
        assert!(found[0].is_at(Ipv4Addr::new(203, 0, 113, 1)));
        assert_eq!(found[0].to_string(), "UDP port 20000");
    }

    #[test]
    fn a_socket_of_this_process_is_among_them() {
        let socket = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = socket.local_addr().unwrap().port();
        let found = listening();
        let ours = found
            .iter()
            .find(|one| one.port == port && one.protocol == UDP);
        let ours = ours.expect("the socket is listed");
        assert!(ours.is_at(Ipv4Addr::LOCALHOST));
        assert!(!ours.is_at(Ipv4Addr::new(203, 0, 113, 1)));
    }
}
