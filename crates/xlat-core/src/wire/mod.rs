//! Header formats: bytes to values and back, no decisions.
//!
//! The views work on arrays (`&[u8; 20]`), so that one length check in the parser is the last one
//! and the compiler sees it. Protocol numbers are those of `pnet_packet`.

pub(crate) mod icmp;
pub(crate) mod ipv4;
pub(crate) mod ipv6;
pub(crate) mod tcp;

/// The 16-bit word at `at`.
#[inline]
pub(crate) fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// Sets the 16-bit word at `at`.
#[inline]
pub(crate) fn set_word(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}
