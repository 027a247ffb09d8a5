//! The dynamic pool: each IPv6 client gets an IPv4 address of its own for as long as it needs it.
pub mod map_file;

mod config;
mod pool;
mod saved;

use std::time::Duration;

pub use config::{LEASE, PoolConfig, PoolError, PrefixLimit, REMEMBER};
pub use pool::{Conflict, DynamicPool};

/// A worker tells the pool about a lease's use at most this often.
pub const PUBLISH: Duration = Duration::from_secs(10);
