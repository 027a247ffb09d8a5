//! The fields of a TCP header (RFC 9293) that a translator looks at.

use super::word;

/// Bytes of a header without options.
pub(crate) const HEADER: usize = 20;
/// Place of the checksum.
pub(crate) const CHECKSUM: usize = 16;
/// Place of the flags.
pub(crate) const FLAGS: usize = 13;
/// The SYN flag.
pub(crate) const SYN: u8 = 0x02;

/// Header length in bytes, options included.
#[inline]
pub(crate) fn header_len(segment: &[u8]) -> usize {
    usize::from(segment[12] >> 4) * 4
}

/// Place of the maximum segment size value within a segment's header, if both are there.
pub(crate) fn mss_place(segment: &[u8]) -> Option<usize> {
    let end = header_len(segment);
    if end > segment.len() {
        return None;
    }
    let mut at = HEADER;
    while at < end {
        match segment[at] {
            0 => return None,
            1 => at += 1,
            kind => {
                let len = usize::from(*segment.get(at + 1)?);
                if len < 2 || at + len > end {
                    return None;
                }
                if kind == 2 && len == 4 {
                    return Some(at + 2);
                }
                at += len;
            }
        }
    }
    None
}

/// Source and destination port.
#[inline]
pub(crate) fn ports(segment: &[u8]) -> (u16, u16) {
    (word(segment, 0), word(segment, 2))
}
