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

use super::{set_word, word};
use crate::checksum::Sum;

/// Bytes of a header without options.
pub const HEADER: usize = 20;
/// First byte of a header without options.
pub const WITHOUT_OPTIONS: u8 = 0x45;

/// Offset of the type of service.
pub const TOS: usize = 1;
/// Offset of the total length.
pub const TOTAL_LEN: usize = 2;
/// Offset of the identification.
pub const ID: usize = 4;
/// Offset of the word of flags and fragment offset.
pub const FRAGMENT: usize = 6;
/// Offset of the time to live.
pub const TTL: usize = 8;
/// Offset of the protocol number.
pub const PROTOCOL: usize = 9;
/// Offset of the header checksum.
pub const CHECKSUM: usize = 10;
/// Offset of the source address.
pub const SRC: usize = 12;
/// Offset of the destination address.
pub const DST: usize = 16;

/// In the word at [`FRAGMENT`]: the DF flag.
pub const DONT_FRAGMENT: u16 = 0x4000;
/// In the word at [`FRAGMENT`]: the MF flag.
pub const MORE_FRAGMENTS: u16 = 0x2000;
/// In the word at [`FRAGMENT`]: the fragment offset in units of 8 bytes.
pub const FRAGMENT_OFFSET: u16 = 0x1fff;

/// An IPv4 header's values. Header length and checksum are not among them: options are never
/// emitted, and the checksum follows from the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Type of service: DSCP and ECN.
    pub tos: u8,
    /// Bytes of the packet, header included.
    pub total_len: u16,
    /// Identification, the same in all fragments of a datagram.
    pub id: u16,
    /// The DF flag.
    pub dont_fragment: bool,
    /// The MF flag.
    pub more_fragments: bool,
    /// Fragment offset in units of 8 bytes.
    pub offset: u16,
    /// Time to live in hops.
    pub ttl: u8,
    /// Protocol of the payload.
    pub protocol: IpNextHeaderProtocol,
    /// Source address.
    pub src: Ipv4Addr,
    /// Destination address.
    pub dst: Ipv4Addr,
}

impl Header {
    /// Reads the fields; nothing is judged.
    #[inline]
    pub fn parse(b: &[u8; HEADER]) -> Self {
        let fragment = word(b, FRAGMENT);
        Self {
            tos: b[TOS],
            total_len: word(b, TOTAL_LEN),
            id: word(b, ID),
            dont_fragment: fragment & DONT_FRAGMENT != 0,
            more_fragments: fragment & MORE_FRAGMENTS != 0,
            offset: fragment & FRAGMENT_OFFSET,
            ttl: b[TTL],
            protocol: IpNextHeaderProtocol(b[PROTOCOL]),
            src: address(b, SRC),
            dst: address(b, DST),
        }
    }

    /// The header's bytes, with its checksum.
    #[inline]
    pub fn emit(&self) -> [u8; HEADER] {
        let mut b = [0; HEADER];
        b[0] = WITHOUT_OPTIONS;
        b[TOS] = self.tos;
        set_word(&mut b, TOTAL_LEN, self.total_len);
        set_word(&mut b, ID, self.id);
        let mut fragment = self.offset;
        if self.dont_fragment {
            fragment |= DONT_FRAGMENT;
        }
        if self.more_fragments {
            fragment |= MORE_FRAGMENTS;
        }
        set_word(&mut b, FRAGMENT, fragment);
        b[TTL] = self.ttl;
        b[PROTOCOL] = self.protocol.0;
        b[SRC..SRC + 4].copy_from_slice(&self.src.octets());
        b[DST..DST + 4].copy_from_slice(&self.dst.octets());
        let checksum = Sum::of(&b).checksum();
        set_word(&mut b, CHECKSUM, checksum);
        b
    }

    /// True if the packet is a piece of a larger datagram.
    #[inline]
    pub fn is_fragment(&self) -> bool {
        self.more_fragments || self.offset != 0
    }
}

/// True if `header`, of at least [`HEADER`] bytes, begins a piece of a larger datagram.
#[inline]
pub fn is_fragment(header: &[u8]) -> bool {
    word(header, FRAGMENT) & (MORE_FRAGMENTS | FRAGMENT_OFFSET) != 0
}

/// The address at `at`, [`SRC`] or [`DST`], of a whole header.
#[inline]
pub fn address(header: &[u8; HEADER], at: usize) -> Ipv4Addr {
    Ipv4Addr::new(header[at], header[at + 1], header[at + 2], header[at + 3])
}

/// Header length in bytes that the first byte claims.
#[inline]
pub const fn header_len(first: u8) -> usize {
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
