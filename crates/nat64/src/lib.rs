//! State of a NAT64: the dynamic address pool ([`dynamic`]), which gives each IPv6 client an IPv4
//! address of its own.
//!
//! The crate is pure but stateful: it allocates and hashes, but it reads no clock, has no
//! randomness of its own and does no input or output. Time and random numbers are arguments, so
//! every lifetime can be tested in no time at all.
#![forbid(unsafe_code)]

mod bitset;
pub mod dynamic;
mod list;
mod siphash;
