//! State of a NAT64, in two kinds: [`Nat64`], where many clients share an IPv4 address (RFC 6146),
//! and the [`dynamic`] pool, where each client gets one of its own. [`Modes`] puts one before the
//! other.
//!
//! The crate is pure but stateful: it allocates and hashes, but it reads no clock, has no
//! randomness of its own and does no input or output. Time and random numbers are arguments, so
//! every lifetime can be tested in no time at all.
//!
//! # How the stateful NAT64 is built
//!
//! [`Nat64`] is the table that all workers share, and that the control plane asks and changes; a
//! [`Worker`] is what the translator of one thread asks. The table is cut into shards by subscriber
//! (`layout.rs` says how a packet of each direction finds its shard). A shard (`shard/`) is complete
//! in itself and has one lock:
//!
//! - `session.rs`: sessions, one cache line each, found by either side's tuple; `bib.rs`: the
//!   bindings they hang on; `subscribers.rs`: who pays for the bindings;
//! - `pool.rs` and `ports.rs`: which ports are free, which rest, which block is whose;
//! - `wheel.rs`: when sessions end; `tcp.rs`: the TCP state table; `syn.rs`: SYNs that wait;
//! - `fragments/`: the fragments that cannot tell their ports;
//! - `event.rs`: what the session log is told; `snapshot.rs`: what survives a restart.
//!
//! All tables are sized once, for [`config::Limits::sessions`], and grow by the page as they fill:
//! there is never a moment at which everything moves, and no flood can make them larger. Nothing
//! is swept: an expired session is found by its timer or by the packet that comes too late.
#![forbid(unsafe_code)]

mod bib;
mod bitset;
mod clock;
pub mod config;
mod config_text;
mod contacts;
mod deterministic;
pub mod dynamic;
pub mod event;
pub mod feed;
mod fragments;
mod index;
mod layout;
mod list;
mod modes;
mod pool;
mod ports;
mod probe;
mod session;
mod shard;
mod shared;
mod siphash;
mod slab;
pub mod snapshot;
mod subscribers;
mod syn;
mod tcp;
mod wheel;
mod worker;

pub use config_text::ParseError;
pub use modes::{Modes, OneToOne};
pub use pool::{PoolSpec, PoolSpecError};
pub use session::Protocol;
pub use shard::{Counts, Usage};
pub use shared::{Nat64, ReloadError, View};
pub use tcp::TcpState;
pub use worker::Worker;
