//! Why the state of a NAT64 cannot be kept.

use nat64::config::ConfigError;
use nat64::dynamic::PoolError;
use thiserror::Error;
use xlat_host::daemon::state_dir::StateError;

use crate::session_log::SessionLogError;

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
