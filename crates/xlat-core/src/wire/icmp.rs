//! The fixed part of ICMP messages (RFC 792, RFC 4443) and of their extensions (RFC 4884).
//!
//! ```text
//!  0               1               2               3
//! |     Type      |     Code      |           Checksum            |
//! |   unused, length of the quoted packet, pointer, MTU, id/seq   |
//! |               the quoted packet, or data ...                  |
//! ```

/// Bytes in front of the quoted packet.
pub(crate) const HEADER: usize = 8;
/// Place of the checksum.
pub(crate) const CHECKSUM: usize = 2;
/// Place of the identifier of an echo message.
pub(crate) const IDENTIFIER: usize = 4;

/// ICMPv4 type numbers.
pub(crate) mod v4 {
    pub(crate) const ECHO_REPLY: u8 = 0;
    pub(crate) const UNREACHABLE: u8 = 3;
    pub(crate) const ECHO_REQUEST: u8 = 8;
    pub(crate) const TIME_EXCEEDED: u8 = 11;
    pub(crate) const PARAMETER_PROBLEM: u8 = 12;

    /// Errors quote the packet they complain about; these are all of RFC 792, translatable or not.
    pub(crate) const fn is_error(icmp_type: u8) -> bool {
        matches!(
            icmp_type,
            UNREACHABLE | 4 | 5 | TIME_EXCEEDED | PARAMETER_PROBLEM
        )
    }
}

/// ICMPv6 type numbers.
pub(crate) mod v6 {
    pub(crate) const UNREACHABLE: u8 = 1;
    pub(crate) const PACKET_TOO_BIG: u8 = 2;
    pub(crate) const TIME_EXCEEDED: u8 = 3;
    pub(crate) const PARAMETER_PROBLEM: u8 = 4;
    pub(crate) const ECHO_REQUEST: u8 = 128;
    pub(crate) const ECHO_REPLY: u8 = 129;
    pub(crate) const REDIRECT: u8 = 137;

    /// All types below 128 are errors (RFC 4443 section 2.1).
    pub(crate) const fn is_error(icmp_type: u8) -> bool {
        icmp_type < 128
    }
}
