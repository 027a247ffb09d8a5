//! Why a gateway's workers could not be started.

use std::io;

use xlat_core::PolicyError;
use xlat_tun::OpenError;

/// Why a gateway's workers could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The TUN could not be opened.
    #[error(transparent)]
    Tun(#[from] OpenError),
    /// The policy contradicts itself.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The worker threads could not be started.
    #[error("the worker threads did not start")]
    Workers(#[source] io::Error),
}
