//! The customer side (RFC 6877).

pub mod address;
pub mod life;
pub mod setback;
