//! Header formats: where each field is, bytes to values and back, no decisions.
//!
//! Every offset, size and flag of IPv4, IPv6, ICMP, TCP and UDP headers in this project stands
//! here, for all code that reads packets: the translator, the coalescer of the TUN, the stateful
//! translator. Offsets are counted from the start of the header they are named after.
//!
//! The views work on arrays (`&[u8; 20]`), so that one length check in the parser is the last one
//! and the compiler sees it. Protocol numbers are those of `pnet_packet`.

pub mod icmp;
pub mod ipv4;
pub mod ipv6;
pub mod tcp;
pub mod udp;

pub use pnet_packet::ip::{IpNextHeaderProtocol, IpNextHeaderProtocols};

/// Offset of the source port in TCP and UDP headers.
pub const SRC_PORT: usize = 0;
/// Offset of the destination port in TCP and UDP headers.
pub const DST_PORT: usize = 2;
/// Bytes of both ports.
pub const PORTS: usize = 4;

/// The IP version that a packet's first byte claims.
#[inline]
pub const fn version(first: u8) -> u8 {
    first >> 4
}

/// The 16-bit word at `at`.
///
/// # Panics
/// If `bytes` ends before.
#[inline]
pub fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// The 32-bit word at `at`.
///
/// # Panics
/// If `bytes` ends before.
#[inline]
pub fn double_word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Sets the 16-bit word at `at`.
///
/// # Panics
/// If `bytes` ends before.
#[inline]
pub fn set_word(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}
