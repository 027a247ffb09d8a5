//! The fields of a TCP header (RFC 9293) that a translator looks at.

use super::{DST_PORT, SRC_PORT, word};

/// Bytes of a header without options.
pub const HEADER: usize = 20;
/// Offset of the sequence number.
pub const SEQUENCE: usize = 4;
/// Offset of the acknowledgement number.
pub const ACKNOWLEDGEMENT: usize = 8;
/// Offset of the data offset, in the high half of its byte.
pub const DATA_OFFSET: usize = 12;
/// Offset of the flags.
pub const FLAGS: usize = 13;
/// Offset of the window.
pub const WINDOW: usize = 14;
/// Offset of the checksum.
pub const CHECKSUM: usize = 16;
/// Offset of the urgent pointer.
pub const URGENT: usize = 18;

/// The FIN flag.
pub const FIN: u8 = 0x01;
/// The SYN flag.
pub const SYN: u8 = 0x02;
/// The RST flag.
pub const RST: u8 = 0x04;
/// The PSH flag.
pub const PSH: u8 = 0x08;
/// The ACK flag.
pub const ACK: u8 = 0x10;
/// The URG flag.
pub const URG: u8 = 0x20;

const OPTION_END: u8 = 0;
const OPTION_NOP: u8 = 1;
const OPTION_MSS: u8 = 2;

/// Header length in bytes, options included, that a segment of at least [`HEADER`] bytes claims.
#[inline]
pub fn header_len(segment: &[u8]) -> usize {
    usize::from(segment[DATA_OFFSET] >> 4) * 4
}

/// Offset of the maximum segment size within a segment's header, if both are there.
pub fn mss_offset(segment: &[u8]) -> Option<usize> {
    let end = header_len(segment);
    if end > segment.len() {
        return None;
    }
    let mut at = HEADER;
    while at < end {
        match segment[at] {
            OPTION_END => return None,
            OPTION_NOP => at += 1,
            kind => {
                let len = usize::from(*segment.get(at + 1)?);
                if len < 2 || at + len > end {
                    return None;
                }
                if kind == OPTION_MSS && len == 4 {
                    return Some(at + 2);
                }
                at += len;
            }
        }
    }
    None
}

/// Source and destination port.
///
/// # Panics
/// If the segment ends before.
#[inline]
pub fn ports(segment: &[u8]) -> (u16, u16) {
    (word(segment, SRC_PORT), word(segment, DST_PORT))
}
