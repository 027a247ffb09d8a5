//! The dynamic pool: each IPv6 client gets an IPv4 address of its own for as long as it needs one,
//! as TAYGA does it. Nothing is shared, so nothing but addresses is rewritten and every protocol
//! passes.
//!
//! # Life of a lease
//!
//! A client's first packet *leases* the first free address from the place in the pool that a
//! keyed hash of the client's address names, so that the same client tends to get the same
//! address. The lease holds [`LEASE`] after the last packet in either direction. Then it is
//! *dormant*: packets from outside are refused, but the client gets the address back when it
//! returns within [`REMEMBER`], unless all other addresses were taken meanwhile; then the one that
//! was dormant longest is given away. A lease that holds is never taken from its client.
//!
//! # Several workers, one pool
//!
//! All workers share one [`DynamicPool`] behind a mutex, and each remembers in its own
//! [`Dynamic`] what the pool told it. A remembered answer is good for [`PUBLISH`]; then the worker
//! asks again, which is also how the pool learns that the lease is in use. So a known client's
//! packets take the lock once in ten seconds per worker and direction, and only packets to or from
//! unknown addresses take it each time.
//!
//! This is safe because a remembered answer is at most [`PUBLISH`] old, and the pool lets a lease
//! go only [`LEASE`] + [`PUBLISH`] after it was last asked about it: when an address changes
//! hands, everybody forgot the old holder two hours ago. It also means that a lease holds at least
//! [`LEASE`] after the last packet, although the pool may not have heard of that one.
//!
//! # What the binary does
//!
//! It calls [`DynamicPool::expire`] now and then, which does bounded work; it saves
//! [`DynamicPool::snapshot`] through [`map_file::format`] when [`DynamicPool::generation`] has
//! changed and at the end, and hands [`map_file::parse`] and [`DynamicPool::restore`] the file at
//! the start.

pub mod map_file;

mod cache;
mod config;
mod mapper;
mod pool;
mod reserved;
mod saved;

use std::time::Duration;

pub use config::{LEASE, PoolConfig, PoolError, PrefixLimit, REMEMBER};
pub use mapper::Dynamic;
pub use pool::DynamicPool;
pub use reserved::Conflict;

/// A worker tells the pool about a lease's use at most this often.
pub const PUBLISH: Duration = Duration::from_secs(10);
