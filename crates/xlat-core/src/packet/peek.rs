//! A short look at a packet that will be parsed later: enough to know what it will be looked up by.

use pnet_packet::ip::{IpNextHeaderProtocol, IpNextHeaderProtocols};

use crate::mapper::{Flow, Ports, UpcomingFlow};
use crate::wire::{DST_PORT, SRC_PORT, icmp, ipv4, ipv6, tcp, version};

/// The flow of a plain packet: without options, extension headers and fragments. `None` for any
/// other, which is nothing wrong.
pub(crate) fn peek(packet: &[u8]) -> Option<UpcomingFlow> {
    match *packet.first()? {
        ipv4::WITHOUT_OPTIONS => {
            let (header, payload) = packet.split_first_chunk::<{ ipv4::HEADER }>()?;
            if ipv4::is_fragment(header) {
                return None;
            }
            let protocol = IpNextHeaderProtocol(header[ipv4::PROTOCOL]);
            let (ports, tcp_flags) = transport(protocol, payload)?;
            Some(UpcomingFlow::V4(Flow {
                src: ipv4::address(header, ipv4::SRC),
                dst: ipv4::address(header, ipv4::DST),
                protocol,
                ports: Some(ports),
                tcp_flags,
                fragment: None,
            }))
        }
        first if version(first) == 6 => {
            let (header, payload) = packet.split_first_chunk::<{ ipv6::HEADER }>()?;
            let protocol = IpNextHeaderProtocol(header[ipv6::NEXT_HEADER]);
            let (ports, tcp_flags) = transport(protocol, payload)?;
            Some(UpcomingFlow::V6(Flow {
                src: ipv6::address(header, ipv6::SRC),
                dst: ipv6::address(header, ipv6::DST),
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
            src: word(SRC_PORT)?,
            dst: word(DST_PORT)?,
        })
    };
    let echo = || Some((Ports::identifier(word(icmp::IDENTIFIER)?), 0));
    match protocol {
        IpNextHeaderProtocols::Udp => Some((ports()?, 0)),
        IpNextHeaderProtocols::Tcp => Some((ports()?, *bytes.get(tcp::FLAGS)?)),
        IpNextHeaderProtocols::Icmp => match *bytes.first()? {
            icmp::v4::ECHO_REQUEST | icmp::v4::ECHO_REPLY => echo(),
            _ => None,
        },
        IpNextHeaderProtocols::Icmpv6 => match *bytes.first()? {
            icmp::v6::ECHO_REQUEST | icmp::v6::ECHO_REPLY => echo(),
            _ => None,
        },
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
