//! Why nothing can be advertised.

use thiserror::Error;

/// Nothing can be advertised.
#[derive(Debug, Error)]
pub enum Error {
    /// The kernel refuses the raw socket.
    #[error("cannot advertise on {link}; run as root or with CAP_NET_RAW")]
    Socket {
        /// Name of the link.
        link: String,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// Another program of this host is the router on the link.
    #[error(
        "another program of this host (radvd?) answers router solicitations on {0} already; stop \
         it, or leave --lan {0} out"
    )]
    OtherProgram(String),
    /// The host does not tell about its links.
    #[error(transparent)]
    Host(#[from] xlat_host::host::Error),
}
