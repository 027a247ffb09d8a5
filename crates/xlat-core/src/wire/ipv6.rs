//! The IPv6 header and the Fragment header (RFC 8200 sections 3 and 4.5).
//!
//! ```text
//!  0               1               2               3
//! |Version| Traffic class |              Flow label               |
//! |        Payload length         |  Next header  |   Hop limit   |
//! |                   Source address (16 bytes)                   |
//! |                Destination address (16 bytes)                 |
//!
//! |  Next header  |   Reserved    |     Fragment offset     |Res|M|
//! |                        Identification                         |
//! ```

use core::net::Ipv6Addr;

use pnet_packet::ip::IpNextHeaderProtocol;

/// Bytes of the fixed header.
pub(crate) const HEADER: usize = 40;
/// Bytes of the Fragment header.
pub(crate) const FRAGMENT: usize = 8;
/// Bytes of both.
pub(crate) const HEADER_AND_FRAGMENT: usize = HEADER + FRAGMENT;

/// An IPv6 header's values. The flow label is neither read nor kept (RFC 7915 section 5.1) and is
/// emitted as zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) traffic_class: u8,
    pub(crate) payload_len: u16,
    pub(crate) next_header: IpNextHeaderProtocol,
    pub(crate) hop_limit: u8,
    pub(crate) src: Ipv6Addr,
    pub(crate) dst: Ipv6Addr,
}

impl Header {
    #[inline]
    pub(crate) fn parse(b: &[u8; HEADER]) -> Self {
        let mut src = [0; 16];
        src.copy_from_slice(&b[8..24]);
        let mut dst = [0; 16];
        dst.copy_from_slice(&b[24..40]);
        Self {
            traffic_class: (b[0] << 4) | (b[1] >> 4),
            payload_len: u16::from_be_bytes([b[4], b[5]]),
            next_header: IpNextHeaderProtocol(b[6]),
            hop_limit: b[7],
            src: Ipv6Addr::from(src),
            dst: Ipv6Addr::from(dst),
        }
    }

    #[inline]
    pub(crate) fn emit(&self) -> [u8; HEADER] {
        let mut b = [0; HEADER];
        b[0] = 0x60 | (self.traffic_class >> 4);
        b[1] = self.traffic_class << 4;
        b[4..6].copy_from_slice(&self.payload_len.to_be_bytes());
        b[6] = self.next_header.0;
        b[7] = self.hop_limit;
        b[8..24].copy_from_slice(&self.src.octets());
        b[24..40].copy_from_slice(&self.dst.octets());
        b
    }

    /// The header followed by a Fragment header. `self.next_header` must say Fragment.
    #[inline]
    pub(crate) fn emit_with_fragment(
        &self,
        fragment: &FragmentHeader,
    ) -> [u8; HEADER_AND_FRAGMENT] {
        let mut b = [0; HEADER_AND_FRAGMENT];
        b[..HEADER].copy_from_slice(&self.emit());
        b[HEADER..].copy_from_slice(&fragment.emit());
        b
    }
}

/// A Fragment header's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FragmentHeader {
    pub(crate) next_header: IpNextHeaderProtocol,
    /// In units of 8 bytes.
    pub(crate) offset: u16,
    pub(crate) more: bool,
    pub(crate) id: u32,
}

impl FragmentHeader {
    #[inline]
    pub(crate) fn parse(b: &[u8; FRAGMENT]) -> Self {
        let offset = u16::from_be_bytes([b[2], b[3]]);
        Self {
            next_header: IpNextHeaderProtocol(b[0]),
            offset: offset >> 3,
            more: offset & 1 != 0,
            id: u32::from_be_bytes([b[4], b[5], b[6], b[7]]),
        }
    }

    #[inline]
    pub(crate) fn emit(&self) -> [u8; FRAGMENT] {
        let offset = (self.offset << 3 | u16::from(self.more)).to_be_bytes();
        let id = self.id.to_be_bytes();
        [
            self.next_header.0,
            0,
            offset[0],
            offset[1],
            id[0],
            id[1],
            id[2],
            id[3],
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pnet_packet::ip::IpNextHeaderProtocols;

    #[test]
    fn values_survive_the_way_to_bytes_and_back() {
        let mut bytes = [0; 40];
        bytes[..8].copy_from_slice(&[0x6b, 0x80, 0x00, 0x00, 0x12, 0x34, 17, 63]);
        bytes[8..24].copy_from_slice(&[0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        bytes[24..40].copy_from_slice(&[0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
        let header = Header::parse(&bytes);
        assert_eq!(header.traffic_class, 0xb8);
        assert_eq!(header.payload_len, 0x1234);
        assert_eq!(
            (header.next_header, header.hop_limit),
            (IpNextHeaderProtocols::Udp, 63)
        );
        assert_eq!(header.dst, "2001:db8::2".parse::<Ipv6Addr>().unwrap());
        assert_eq!(header.emit(), bytes);

        let bytes = [6, 0, 0x05, 0xa9, 1, 2, 3, 4];
        let fragment = FragmentHeader::parse(&bytes);
        assert_eq!(
            (fragment.offset, fragment.more, fragment.id),
            (0xb5, true, 0x0102_0304)
        );
        assert_eq!(fragment.emit(), bytes);
    }
}
