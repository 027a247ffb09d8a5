//! A short look at a packet that will be parsed later: enough to know what it will be looked up by.

use core::net::{Ipv4Addr, Ipv6Addr};

use pnet_packet::ip::{IpNextHeaderProtocol, IpNextHeaderProtocols};

use crate::mapper::{Flow, Ports, UpcomingFlow};

const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
/// Flags of a TCP segment.
const TCP_FLAGS: usize = 13;

/// The flow of a plain packet: without options, extension headers and fragments. `None` for any
/// other, which is nothing wrong.
pub(crate) fn peek(packet: &[u8]) -> Option<UpcomingFlow> {
    match packet.first()? {
        0x45 => {
            let header = packet.get(..IPV4_HEADER)?;
            let is_fragment = header[6] & 0x3f != 0 || header[7] != 0;
            if is_fragment {
                return None;
            }
            let protocol = IpNextHeaderProtocol(header[9]);
            let (ports, tcp_flags) = transport(protocol, &packet[IPV4_HEADER..])?;
            let address = |at: usize| {
                Ipv4Addr::new(header[at], header[at + 1], header[at + 2], header[at + 3])
            };
            Some(UpcomingFlow::V4(Flow {
                src: address(12),
                dst: address(16),
                protocol,
                ports: Some(ports),
                tcp_flags,
                fragment: None,
            }))
        }
        first if first >> 4 == 6 => {
            let header = packet.get(..IPV6_HEADER)?;
            let protocol = IpNextHeaderProtocol(header[6]);
            let (ports, tcp_flags) = transport(protocol, &packet[IPV6_HEADER..])?;
            let address = |at: usize| {
                let octets: Option<&[u8; 16]> = header.get(at..)?.first_chunk();
                octets.map(|octets| Ipv6Addr::from(*octets))
            };
            Some(UpcomingFlow::V6(Flow {
                src: address(8)?,
                dst: address(24)?,
                protocol,
                ports: Some(ports),
                tcp_flags,
                fragment: None,
            }))
        }
        _ => None,
    }
}

fn transport(protocol: IpNextHeaderProtocol, bytes: &[u8]) -> Option<(Ports, u8)> {
    let word = |at: usize| Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
    let ports = || {
        Some(Ports {
            src: word(0)?,
            dst: word(2)?,
        })
    };
    match protocol {
        IpNextHeaderProtocols::Udp => Some((ports()?, 0)),
        IpNextHeaderProtocols::Tcp => Some((ports()?, *bytes.get(TCP_FLAGS)?)),
        // Echo requests and replies.
        IpNextHeaderProtocols::Icmp if matches!(bytes.first(), Some(0 | 8)) => {
            Some((Ports::identifier(word(4)?), 0))
        }
        IpNextHeaderProtocols::Icmpv6 if matches!(bytes.first(), Some(128 | 129)) => {
            Some((Ports::identifier(word(4)?), 0))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use etherparse::PacketBuilder;

    use super::*;

    const A4: [u8; 4] = [192, 0, 2, 1];
    const B4: [u8; 4] = [198, 51, 100, 7];

    #[test]
    fn the_flow_is_the_one_that_parsing_finds() {
        let mut udp = Vec::new();
        let builder = PacketBuilder::ipv4(A4, B4, 64).udp(5000, 53);
        builder.write(&mut udp, &[1, 2, 3]).unwrap();
        let Some(UpcomingFlow::V4(flow)) = peek(&udp) else {
            panic!("no flow");
        };
        assert_eq!((flow.src, flow.dst), (A4.into(), B4.into()));
        let ports = Some(Ports { src: 5000, dst: 53 });
        assert_eq!((flow.ports, flow.tcp_flags), (ports, 0));

        let mut tcp = Vec::new();
        let (a6, b6) = ([0x20; 16], [0x30; 16]);
        let builder = PacketBuilder::ipv6(a6, b6, 64).tcp(5000, 443, 7, 8).syn();
        builder.write(&mut tcp, &[]).unwrap();
        let Some(UpcomingFlow::V6(flow)) = peek(&tcp) else {
            panic!("no flow");
        };
        assert_eq!((flow.src, flow.dst), (a6.into(), b6.into()));
        assert_eq!(flow.tcp_flags, 2);

        let mut echo = Vec::new();
        let builder = PacketBuilder::ipv6(a6, b6, 64).icmpv6_echo_request(77, 1);
        builder.write(&mut echo, &[]).unwrap();
        let Some(UpcomingFlow::V6(flow)) = peek(&echo) else {
            panic!("no flow");
        };
        assert_eq!(flow.ports, Some(Ports::identifier(77)));
    }

    #[test]
    fn whatever_is_not_plain_is_left_to_parsing() {
        let mut udp = Vec::new();
        let builder = PacketBuilder::ipv4(A4, B4, 64).udp(5000, 53);
        builder.write(&mut udp, &[1, 2, 3]).unwrap();
        for length in 0..24 {
            assert_eq!(peek(&udp[..length]), None, "{length}");
        }
        let mut fragment = udp.clone();
        fragment[7] = 1;
        assert_eq!(peek(&fragment), None);
        let mut options = udp.clone();
        options[0] = 0x46;
        assert_eq!(peek(&options), None);
        udp[9] = 47;
        assert_eq!(peek(&udp), None);
    }
}
