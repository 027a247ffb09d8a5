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

use super::{double_word, set_word, word};

/// Bytes of the fixed header.
pub const HEADER: usize = 40;
/// Bytes of the Fragment header.
pub const FRAGMENT: usize = 8;
/// Bytes of both.
pub const HEADER_AND_FRAGMENT: usize = HEADER + FRAGMENT;
/// First byte of a header with traffic class 0.
pub const VERSION: u8 = 0x60;

/// Offset of the payload length.
pub const PAYLOAD_LEN: usize = 4;
/// Offset of the next header's protocol number.
pub const NEXT_HEADER: usize = 6;
/// Offset of the hop limit.
pub const HOP_LIMIT: usize = 7;
/// Offset of the source address.
pub const SRC: usize = 8;
/// Offset of the destination address.
pub const DST: usize = 24;
/// Unit in bytes of an extension header's length, which does not count the first one.
pub const EXTENSION_UNIT: usize = 8;
/// Offset of Segments Left in a Routing header (RFC 8200 section 4.4).
pub const SEGMENTS_LEFT: usize = 3;
/// Offset in the Fragment header of the word of fragment offset and M flag.
pub const FRAGMENT_OFFSET: usize = 2;
/// Offset in the Fragment header of the identification.
pub const FRAGMENT_ID: usize = 4;

/// An IPv6 header's values. The flow label is neither read nor kept (RFC 7915 section 5.1) and is
/// emitted as zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Traffic class: DSCP and ECN.
    pub traffic_class: u8,
    /// Bytes behind this header, extension headers included.
    pub payload_len: u16,
    /// Protocol of what follows.
    pub next_header: IpNextHeaderProtocol,
    /// Hops that are left.
    pub hop_limit: u8,
    /// Source address.
    pub src: Ipv6Addr,
    /// Destination address.
    pub dst: Ipv6Addr,
}

impl Header {
    /// Reads the fields; nothing is judged.
    #[inline]
    pub fn parse(b: &[u8; HEADER]) -> Self {
        Self {
            traffic_class: (b[0] << 4) | (b[1] >> 4),
            payload_len: word(b, PAYLOAD_LEN),
            next_header: IpNextHeaderProtocol(b[NEXT_HEADER]),
            hop_limit: b[HOP_LIMIT],
            src: address(b, SRC),
            dst: address(b, DST),
        }
    }

    /// The header's bytes.
    #[inline]
    pub fn emit(&self) -> [u8; HEADER] {
        let mut b = [0; HEADER];
        b[0] = VERSION | (self.traffic_class >> 4);
        b[1] = self.traffic_class << 4;
        set_word(&mut b, PAYLOAD_LEN, self.payload_len);
        b[NEXT_HEADER] = self.next_header.0;
        b[HOP_LIMIT] = self.hop_limit;
        b[SRC..SRC + 16].copy_from_slice(&self.src.octets());
        b[DST..DST + 16].copy_from_slice(&self.dst.octets());
        b
    }

    /// The header followed by a Fragment header. `self.next_header` must say Fragment.
    #[inline]
    pub fn emit_with_fragment(&self, fragment: &FragmentHeader) -> [u8; HEADER_AND_FRAGMENT] {
        let mut b = [0; HEADER_AND_FRAGMENT];
        b[..HEADER].copy_from_slice(&self.emit());
        b[HEADER..].copy_from_slice(&fragment.emit());
        b
    }
}

/// A Fragment header's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FragmentHeader {
    /// Protocol of what follows.
    pub next_header: IpNextHeaderProtocol,
    /// Fragment offset in units of 8 bytes.
    pub offset: u16,
    /// The M flag: more fragments follow.
    pub more: bool,
    /// Identification, the same in all fragments of a datagram.
    pub id: u32,
}

impl FragmentHeader {
    /// Reads the fields; nothing is judged.
    #[inline]
    pub fn parse(b: &[u8; FRAGMENT]) -> Self {
        let offset = word(b, FRAGMENT_OFFSET);
        Self {
            next_header: IpNextHeaderProtocol(b[0]),
            offset: offset >> 3,
            more: offset & 1 != 0,
            id: double_word(b, FRAGMENT_ID),
        }
    }

    /// The header's bytes.
    #[inline]
    pub fn emit(&self) -> [u8; FRAGMENT] {
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

/// The address at `at`, [`SRC`] or [`DST`], of a whole header.
#[inline]
pub fn address(header: &[u8; HEADER], at: usize) -> Ipv6Addr {
    let mut octets = [0; 16];
    octets.copy_from_slice(&header[at..at + 16]);
    Ipv6Addr::from(octets)
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
