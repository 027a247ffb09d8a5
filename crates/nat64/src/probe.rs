//! The TCP segment that asks an endpoint whether it is still there (RFC 6146 section 3.5.2.2): no
//! data, sequence and acknowledgement number 0, nothing but the ACK flag. A live endpoint answers
//! with its own numbers, which revives the session; a dead connection answers with a RST.

use std::net::Ipv6Addr;

use pnet_packet::ip::IpNextHeaderProtocols;
use xlat_core::checksum::Sum;

use crate::tcp::ACK;

/// The probe from the remote node, as the client knows it, to the client.
pub(crate) fn build(
    remote: (Ipv6Addr, u16),
    client: (Ipv6Addr, u16),
) -> [u8; IPV6_HEADER + TCP_HEADER] {
    let mut packet = [0; IPV6_HEADER + TCP_HEADER];
    packet[0] = 0x60;
    packet[5] = TCP_HEADER as u8;
    packet[6] = IpNextHeaderProtocols::Tcp.0;
    packet[7] = HOP_LIMIT;
    packet[8..24].copy_from_slice(&remote.0.octets());
    packet[24..40].copy_from_slice(&client.0.octets());

    let segment = &mut packet[IPV6_HEADER..];
    segment[0..2].copy_from_slice(&remote.1.to_be_bytes());
    segment[2..4].copy_from_slice(&client.1.to_be_bytes());
    segment[12] = (TCP_HEADER as u8 / 4) << 4;
    segment[13] = ACK;
    let pseudo = Sum::pseudo_v6(
        remote.0,
        client.0,
        IpNextHeaderProtocols::Tcp,
        TCP_HEADER as u32,
    );
    let checksum = (pseudo + Sum::of(segment)).checksum();
    segment[16..18].copy_from_slice(&checksum.to_be_bytes());
    packet
}

const IPV6_HEADER: usize = 40;
const TCP_HEADER: usize = 20;
const HOP_LIMIT: u8 = 64;

#[cfg(test)]
mod tests {
    use etherparse::{NetHeaders, PacketHeaders, TransportHeader};

    use super::*;

    #[test]
    fn nc_12_a_probe_is_a_bare_ack_with_a_right_checksum() {
        let remote = "2001:db8:64::c633:6407".parse().unwrap();
        let client = "2001:db8::7".parse().unwrap();
        let packet = build((remote, 443), (client, 5000));
        let parsed = PacketHeaders::from_ip_slice(&packet).unwrap();
        let Some(NetHeaders::Ipv6(ip, _)) = parsed.net else {
            panic!("not IPv6: {:?}", parsed.net);
        };
        let Some(TransportHeader::Tcp(tcp)) = parsed.transport else {
            panic!("not TCP: {:?}", parsed.transport);
        };
        assert_eq!((ip.source_addr(), ip.destination_addr()), (remote, client));
        assert_eq!((tcp.source_port, tcp.destination_port), (443, 5000));
        assert_eq!((tcp.sequence_number, tcp.acknowledgment_number), (0, 0));
        assert!(tcp.ack && !tcp.syn && !tcp.fin && !tcp.rst && !tcp.psh);
        assert!(parsed.payload.slice().is_empty());
        assert_eq!(tcp.checksum, tcp.calc_checksum_ipv6(&ip, &[]).unwrap());
    }
}
