//! The host's side of the state in the crate `nat64`, which has neither clock nor files nor threads.
//!
//! A [`Keeper`] ends sessions whose time is over, hands their records to the session log (RFC 6888),
//! reports floods, and saves the sessions over a restart (`saved_sessions`). Workers wake it by a
//! [`Wakeup`]; a [`StatusSource`] shows its tables. [`Leases`] does the last for the dynamic pool.

mod floods;
mod keeper;
mod leases;
mod saved_sessions;
mod session_list;
mod session_log;
mod status;
mod wakeup;

use std::time::{SystemTime, UNIX_EPOCH};

use nat64::config::ConfigError;
use nat64::dynamic::PoolError;
use thiserror::Error;
use xlat_host::daemon::state_dir::StateError;

pub use keeper::Keeper;
pub use leases::Leases;
pub use session_list::SessionList;
pub use session_log::SessionLogError;
pub use status::{NatStatus, StatusSource};
pub use wakeup::Wakeup;

/// The state cannot be kept.
#[derive(Debug, Error)]
pub enum Error {
    /// The configuration of the stateful translator.
    #[error("stateful NAT64")]
    Config(#[from] ConfigError),
    /// The configuration of the dynamic pool.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// The state directory.
    #[error(transparent)]
    State(#[from] StateError),
    /// The session log.
    #[error(transparent)]
    SessionLog(#[from] SessionLogError),
}

/// Seconds since 1970 on the wall clock.
pub fn epoch() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
