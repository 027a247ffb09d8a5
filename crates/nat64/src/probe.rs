//! The TCP segment that asks an endpoint whether it is still there (RFC 6146 section 3.5.2.2): no
//! data, sequence and acknowledgement number 0, nothing but the ACK flag. A live endpoint answers
//! with its own numbers, which revives the session; a dead connection answers with a RST.
//!
//! It is sent when an established session ends by silence, and when a RST has made it transitory
//! (NC-23). The translator does not know which sequence numbers a connection is at: the kernel carries
//! most segments past it. The client does, and a RST that it does not believe (RFC 5961 section 3)
//! ends nothing. Its answer says so, for the price of one packet and without a byte of state.

use std::net::Ipv6Addr;

use pnet_packet::ip::IpNextHeaderProtocols;
use xlat_core::checksum::Sum;
use xlat_core::wire::{DST_PORT, SRC_PORT, ipv6, set_word, tcp};

/// The probe from the remote node, as the client knows it, to the client.
pub(crate) fn build(
    remote: (Ipv6Addr, u16),
    client: (Ipv6Addr, u16),
) -> [u8; ipv6::HEADER + tcp::HEADER] {
    let header = ipv6::Header {
        traffic_class: 0,
        payload_len: tcp::HEADER as u16,
        next_header: IpNextHeaderProtocols::Tcp,
        hop_limit: HOP_LIMIT,
        src: remote.0,
        dst: client.0,
    };
    let mut packet = [0; ipv6::HEADER + tcp::HEADER];
    let (ip, segment) = packet.split_at_mut(ipv6::HEADER);
    ip.copy_from_slice(&header.emit());
    set_word(segment, SRC_PORT, remote.1);
    set_word(segment, DST_PORT, client.1);
    segment[tcp::DATA_OFFSET] = (tcp::HEADER as u8 / 4) << 4;
    segment[tcp::FLAGS] = tcp::ACK;
    let len = tcp::HEADER as u32;
    let pseudo = Sum::pseudo_v6(header.src, header.dst, header.next_header, len);
    let checksum = (pseudo + Sum::of(segment)).checksum();
    set_word(segment, tcp::CHECKSUM, checksum);
    packet
}

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
