//! Stateless IPv4/IPv6 translation (RFC 7915) as a pure library: bytes in, bytes out.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod addr;
pub mod checksum;
pub mod frame;
pub mod mapper;
pub mod offload;
pub mod policy;
mod reason;
mod split;
mod time;
mod translator;
mod verdict;

pub use frame::Frame;
pub use mapper::Mapper;
pub use offload::Offload;
pub use policy::{Policy, PolicyError};
pub use reason::DropReason;
pub use split::Split;
pub use time::Instant;
pub use translator::Translator;
pub use verdict::Verdict;
