//! The customer side (RFC 6877).

pub mod address;
