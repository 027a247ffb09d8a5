//! The error of this crate.

use thiserror::Error;

/// Why advertising could not start.
#[derive(Debug, Error)]
pub enum Error {
    /// The kernel refuses the raw socket.
    #[error("cannot advertise on {link}; run as root or with CAP_NET_RAW")]
    Socket {
        /// Name of the link.
        link: String,
        /// The kernel's error.
        source: std::io::Error,
    },
    /// Another program of this host is the router on the link.
    #[error(
        "another program of this host (radvd?) answers router solicitations on {0} already; stop \
         it, or leave --lan {0} out"
    )]
    OtherProgram(String),
    /// The links of the host could not be read.
    #[error(transparent)]
    Host(#[from] xlat_host::host::Error),
}
