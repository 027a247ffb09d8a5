//! The error of this crate.

use std::path::PathBuf;

use nat64::config::ConfigError;
use nat64::dynamic::PoolError;
use thiserror::Error;
use xlat_host::daemon::state_dir::StateError;

use crate::session_log::SessionLogError;

/// Why the state of a NAT64 could not be created.
#[derive(Debug, Error)]
pub enum Error {
    /// The configuration of the stateful translator is invalid.
    #[error("stateful NAT64")]
    Config(#[from] ConfigError),
    /// The configuration of the dynamic pool is invalid.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// The state directory cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// Leases would be replaced.
    #[error(
        "{} is there already: plat has leases of its own; remove it to begin with others",
        .0.display()
    )]
    HasLeases(PathBuf),
    /// The session log cannot be opened.
    #[error(transparent)]
    SessionLog(#[from] SessionLogError),
}
