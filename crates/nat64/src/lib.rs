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
//! (`shard/layout.rs` says how a packet of each direction finds its shard). A shard is complete in
//! itself and has one lock. From the ground up:
//!
//! - `tuple.rs`: protocols, transport addresses and the tuples that sessions are found by;
//! - `table/`: sessions, one cache line each, found by either side's tuple; the bindings they use,
//!   the subscribers these are charged to; timers; SYNs that wait;
//! - `ports/`: the pool: free ports, ports in hold-down, blocks and their subscribers;
//! - `tcp.rs`: the TCP state table; `fragments/`: fragments without ports;
//! - `offload.rs`: sessions whose packets are carried elsewhere, in the kernel for example;
//! - `event.rs` and `feed.rs`: changes of the tables, for the session log and other subscribers;
//!   `snapshot.rs`: what survives a restart;
//! - `shard/`: the RFC's steps on these tables; `shared/`: all shards; `worker/`: one thread.
//!
//! All tables are sized once, for [`config::Limits::sessions`], and grow by the page as they fill:
//! there is never a moment at which everything moves, and no flood can make them larger. Nothing
//! is swept: an expired session is found by its timer or by the packet that comes too late.
#![forbid(unsafe_code)]

mod clock;
pub mod config;
mod config_pool;
mod config_text;
pub mod dynamic;
pub mod event;
pub mod feed;
mod fragments;
mod modes;
pub mod offload;
mod outer;
mod ports;
mod probe;
mod shard;
mod shared;
mod siphash;
pub mod snapshot;
mod table;
mod tcp;
mod tuple;
mod worker;

pub use config_text::ParseError;
pub use modes::{Modes, OneToOne};
pub use outer::OuterAddress;
pub use ports::pool_spec::{PoolSpec, PoolSpecError};
pub use shard::{Counts, PortRefusal, PortRequest, RemoteFilter, Usage};
pub use shared::{Nat64, ReloadError, Subscription, View};
pub use tcp::TcpState;
pub use tuple::Protocol;
pub use worker::Worker;
