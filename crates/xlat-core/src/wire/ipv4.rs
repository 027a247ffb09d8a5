//! The IPv4 header (RFC 791) without options.
//!
//! ```text
//!  0               1               2               3
//! |Version|  IHL  |Type of service|         Total length          |
//! |        Identification         |Flags|     Fragment offset     |
//! | Time to live  |   Protocol    |        Header checksum        |
//! |                        Source address                         |
//! |                      Destination address                      |
//! ```

use core::net::Ipv4Addr;

use pnet_packet::ip::IpNextHeaderProtocol;

use crate::checksum::Sum;

/// Bytes of a header without options.
pub(crate) const HEADER: usize = 20;

const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET: u16 = 0x1fff;

/// An IPv4 header's values. Header length and checksum are not among them: options are never
/// emitted, and the checksum follows from the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) tos: u8,
    pub(crate) total_len: u16,
    pub(crate) id: u16,
    pub(crate) dont_fragment: bool,
    pub(crate) more_fragments: bool,
    /// In units of 8 bytes.
    pub(crate) offset: u16,
    pub(crate) ttl: u8,
    pub(crate) protocol: IpNextHeaderProtocol,
    pub(crate) src: Ipv4Addr,
    pub(crate) dst: Ipv4Addr,
}

impl Header {
    #[inline]
    pub(crate) fn parse(b: &[u8; HEADER]) -> Self {
        let flags = u16::from_be_bytes([b[6], b[7]]);
        Self {
            tos: b[1],
            total_len: u16::from_be_bytes([b[2], b[3]]),
            id: u16::from_be_bytes([b[4], b[5]]),
            dont_fragment: flags & DONT_FRAGMENT != 0,
            more_fragments: flags & MORE_FRAGMENTS != 0,
            offset: flags & OFFSET,
            ttl: b[8],
            protocol: IpNextHeaderProtocol(b[9]),
            src: Ipv4Addr::new(b[12], b[13], b[14], b[15]),
            dst: Ipv4Addr::new(b[16], b[17], b[18], b[19]),
        }
    }

    /// The header's bytes, with its checksum.
    #[inline]
    pub(crate) fn emit(&self) -> [u8; HEADER] {
        let mut b = [0; HEADER];
        b[0] = 0x45;
        b[1] = self.tos;
        b[2..4].copy_from_slice(&self.total_len.to_be_bytes());
        b[4..6].copy_from_slice(&self.id.to_be_bytes());
        let mut flags = self.offset;
        if self.dont_fragment {
            flags |= DONT_FRAGMENT;
        }
        if self.more_fragments {
            flags |= MORE_FRAGMENTS;
        }
        b[6..8].copy_from_slice(&flags.to_be_bytes());
        b[8] = self.ttl;
        b[9] = self.protocol.0;
        b[12..16].copy_from_slice(&self.src.octets());
        b[16..20].copy_from_slice(&self.dst.octets());
        let checksum = Sum::of(&b).checksum();
        b[10..12].copy_from_slice(&checksum.to_be_bytes());
        b
    }

    /// True if the packet is a piece of a larger datagram.
    #[inline]
    pub(crate) fn is_fragment(&self) -> bool {
        self.more_fragments || self.offset != 0
    }
}

/// Header length in bytes that the first byte claims.
#[inline]
pub(crate) const fn header_len(first: u8) -> usize {
    (first & 0x0f) as usize * 4
}

#[cfg(test)]
mod tests {
    use super::*;
    use pnet_packet::ip::IpNextHeaderProtocols;

    /// RFC 1071-style header with a checksum computed by hand.
    const BYTES: [u8; 20] = [
        0x45, 0xb8, 0x00, 0x73, 0x12, 0x34, 0x40, 0x00, 0x40, 0x11, 0xa5, 0x75, 0xc0, 0xa8, 0x00,
        0x01, 0xc0, 0xa8, 0x00, 0xc7,
    ];

    #[test]
    fn values_survive_the_way_to_bytes_and_back() {
        let header = Header::parse(&BYTES);
        assert_eq!(header.tos, 0xb8);
        assert_eq!(header.total_len, 0x73);
        assert_eq!(header.id, 0x1234);
        assert!(header.dont_fragment && !header.is_fragment());
        assert_eq!(
            (header.ttl, header.protocol),
            (64, IpNextHeaderProtocols::Udp)
        );
        assert_eq!(header.src, Ipv4Addr::new(192, 168, 0, 1));
        assert_eq!(header.dst, Ipv4Addr::new(192, 168, 0, 199));
        assert_eq!(header.emit(), BYTES);
    }
}
