//! The UDP header (RFC 768).

/// Bytes of the header.
pub const HEADER: usize = 8;
/// Offset of the length, which counts the header.
pub const LENGTH: usize = 4;
/// Offset of the checksum; zero says that there is none.
pub const CHECKSUM: usize = 6;
