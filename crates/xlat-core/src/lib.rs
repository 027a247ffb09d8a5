//! IPv4/IPv6 translation as a pure library: bytes in, bytes out.
//!
//! RFC 7915 (the translation), RFC 6052 (addresses), RFC 7757 (explicit mappings), RFC 6791 and
//! RFC 4884 (ICMP errors). No I/O, no clock, no randomness, no allocation per packet, no `unsafe`;
//! `no_std`.
//!
//! # A packet's journey
//!
//! An IPv4 host sends 192.0.0.1 -> 198.51.100.7 through a CLAT:
//!
//! 1. The device below puts the packet into a buffer with room in front: a [`Frame`]. Work that the
//!    stack put off (checksum, segmentation) travels with it as an [`Offload`].
//! 2. [`Translator::translate`] validates it once, asks the [`Mapper`] for the addresses in the
//!    other family, and swaps the headers in place. The payload is neither moved nor read.
//! 3. The [`Verdict`] says what to do: send the frame, send the pieces of a [`Split`], send an ICMP
//!    error back, or drop it for a [`DropReason`]. The translator itself never sends.
//!
//! ```
//! use xlat_core::frame::{HEADROOM, TAILROOM};
//! use xlat_core::identification::Identifications;
//! use xlat_core::mappers::Clat;
//! use xlat_core::{Frame, Instant, Offload, Policy, Translator, Verdict};
//!
//! let (host4, host6) = ("192.0.0.1".parse()?, "2001:db8:1::c1a7".parse()?);
//! let mapper = Clat::new(host4, host6, "2001:db8:64::/96".parse()?)?;
//! let policy = Policy { answer_v6: false, ..Policy::new("192.0.0.2".parse()?, host6) };
//! let ids = Identifications::new([0x5eed, 0x5eed], 0, 1);
//! let mut translator = Translator::new(mapper, policy, ids)?;
//!
//! // UDP, 192.0.0.1 port 4000 -> 198.51.100.7 port 53, "hi".
//! let packet = [
//!     0x45, 0, 0, 30, 0, 0, 0, 0, 64, 17, 0x90, 0x93, 192, 0, 0, 1, 198, 51, 100, 7, //
//!     0x0f, 0xa0, 0, 53, 0, 10, 0x9d, 0x5f, b'h', b'i',
//! ];
//! let mut buffer = [0; HEADROOM + 30 + TAILROOM];
//! buffer[HEADROOM..HEADROOM + 30].copy_from_slice(&packet);
//! let mut frame = Frame::new(&mut buffer, HEADROOM, 30, Offload::NONE).ok_or("too small")?;
//!
//! assert!(matches!(translator.translate(&mut frame, Instant::ZERO), Verdict::Forward));
//! let ipv6 = frame.packet();
//! assert_eq!(ipv6.len(), 50);
//! assert_eq!(ipv6[..8], [0x60, 0, 0, 0, 0, 10, 17, 63]);
//! assert_eq!(&ipv6[48..], b"hi");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Start reading at [`Translator`]; its source is the pipeline on one screen.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod addr;
pub mod bucket;
pub mod checksum;
mod error_limits;
mod explain;
mod fit;
pub mod frame;
mod icmp;
pub mod identification;
pub mod mapper;
pub mod mappers;
pub mod offload;
mod packet;
pub mod policy;
mod reason;
mod reject;
mod reply;
mod split;
mod time;
mod translator;
mod transport;
mod v4_to_v6;
mod v6_to_v4;
mod verdict;
pub mod wire;

pub use explain::Explanation;
pub use frame::Frame;
pub use mapper::{Mapper, PREFETCH_BATCH};
pub use offload::Offload;
pub use policy::{Policy, PolicyError};
pub use reason::DropReason;
pub use split::Split;
pub use time::Instant;
pub use translator::Translator;
pub use verdict::Verdict;
