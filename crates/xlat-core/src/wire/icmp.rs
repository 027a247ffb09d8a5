//! The fixed part of ICMP messages (RFC 792, RFC 4443) and of their extensions (RFC 4884).
//!
//! ```text
//!  0               1               2               3
//! |     Type      |     Code      |           Checksum            |
//! |   unused, length of the quoted packet, pointer, MTU, id/seq   |
//! |               the quoted packet, or data ...                  |
//! ```

/// Bytes in front of the quoted packet.
pub const HEADER: usize = 8;
/// Offset of the type.
pub const TYPE: usize = 0;
/// Offset of the code.
pub const CODE: usize = 1;
/// Offset of the checksum.
pub const CHECKSUM: usize = 2;
/// Offset of the 32 bits that each type uses in its own way.
pub const REST: usize = 4;
/// Offset of the identifier of an echo message.
pub const IDENTIFIER: usize = 4;

/// ICMPv4 type numbers.
pub mod v4 {
    /// Echo reply.
    pub const ECHO_REPLY: u8 = 0;
    /// Destination unreachable.
    pub const UNREACHABLE: u8 = 3;
    /// Code of [`UNREACHABLE`]: port unreachable.
    pub const PORT_UNREACHABLE: u8 = 3;
    /// Code of [`UNREACHABLE`]: fragmentation needed and DF set.
    pub const FRAGMENTATION_NEEDED: u8 = 4;
    /// Echo request.
    pub const ECHO_REQUEST: u8 = 8;
    /// Time exceeded.
    pub const TIME_EXCEEDED: u8 = 11;
    /// Parameter problem.
    pub const PARAMETER_PROBLEM: u8 = 12;

    /// Offset of a parameter problem's pointer (RFC 792).
    pub const POINTER: usize = 4;
    /// Offset of the length of the quoted packet, in units of [`LENGTH_UNIT`] (RFC 4884).
    pub const LENGTH: usize = 5;
    /// Bytes that [`LENGTH`] counts in.
    pub const LENGTH_UNIT: usize = 4;
    /// Offset of the 16-bit MTU of the next hop (RFC 1191).
    pub const MTU: usize = 6;

    /// True for an error, which quotes the packet that caused it: all of RFC 792, translatable or
    /// not.
    #[inline]
    pub const fn is_error(icmp_type: u8) -> bool {
        matches!(
            icmp_type,
            UNREACHABLE | 4 | 5 | TIME_EXCEEDED | PARAMETER_PROBLEM
        )
    }
}

/// ICMPv6 type numbers.
pub mod v6 {
    /// Destination unreachable.
    pub const UNREACHABLE: u8 = 1;
    /// Packet too big.
    pub const PACKET_TOO_BIG: u8 = 2;
    /// Time exceeded.
    pub const TIME_EXCEEDED: u8 = 3;
    /// Parameter problem.
    pub const PARAMETER_PROBLEM: u8 = 4;
    /// Echo request.
    pub const ECHO_REQUEST: u8 = 128;
    /// Echo reply.
    pub const ECHO_REPLY: u8 = 129;
    /// Redirect (RFC 4861).
    pub const REDIRECT: u8 = 137;

    /// Offset of the length of the quoted packet, in units of [`LENGTH_UNIT`] (RFC 4884).
    pub const LENGTH: usize = 4;
    /// Bytes that [`LENGTH`] counts in.
    pub const LENGTH_UNIT: usize = 8;
    /// Offset of the low byte of a parameter problem's 32-bit pointer, which is at
    /// [`REST`](super::REST).
    pub const POINTER_LOW: usize = 7;

    /// True for an error: all types below 128 (RFC 4443 section 2.1).
    #[inline]
    pub const fn is_error(icmp_type: u8) -> bool {
        icmp_type < 128
    }
}
