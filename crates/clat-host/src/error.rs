//! Why a CLAT could not be started or changed.

use std::io;
use std::net::Ipv6Addr;

use fast_path::Unavailable;
use xlat_core::PolicyError;
use xlat_core::addr::{EamError, Ipv4Prefix};
use xlat_host::host;
use xlat_tun::OpenError;

use crate::ResponderError;

/// Why a CLAT could not be started or changed.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The host refused a change, or could not be read.
    #[error(transparent)]
    Host(#[from] host::Error),
    /// The nftables table for a shared IPv6 address was refused.
    #[error(
        "{uplink} has no /64 prefix for an address of the CLAT's own, and sharing {address} does \
         not work; give an address that is routed to this host with --ipv6"
    )]
    SharedAddress {
        /// Name of the uplink.
        uplink: String,
        /// The uplink's address.
        address: Ipv6Addr,
        /// The refusal.
        source: host::Error,
    },
    /// No interface has an address in a network of `lan`.
    #[error("no interface of this host has an address of --lan-network {0} any more; add one")]
    NoLanAddress(Ipv4Prefix),
    /// The interface of a network of `lan` was removed meanwhile.
    #[error("the interface of --lan-network has gone")]
    NoLanLink,
    /// Neighbours cannot be answered.
    #[error(transparent)]
    Responder(#[from] ResponderError),
    /// The policy contradicts itself.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The CLAT's addresses do not map to each other.
    #[error(transparent)]
    Mapping(#[from] EamError),
    /// The TUN could not be opened.
    #[error(transparent)]
    Tun(#[from] OpenError),
    /// `--fast-path required`, and the kernel refuses it.
    #[error("no fast path in the kernel: {0}")]
    FastPath(#[from] Unavailable),
    /// The worker threads could not be started.
    #[error("the worker threads did not start")]
    Workers(#[source] io::Error),
}

impl SetupError {
    /// The host's refusal, if that is the cause.
    pub fn host(&self) -> Option<&host::Error> {
        match self {
            Self::Host(error) | Self::SharedAddress { source: error, .. } => Some(error),
            _ => None,
        }
    }
}
