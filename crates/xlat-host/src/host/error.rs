//! Why the host could not be read or changed. Each error is one line for the operator: what, why,
//! and what to do.

use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;

use crate::nft::NftError;

/// A refusal of the host.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The process may not change the network.
    #[error("{what}: permission denied; run as root or give the process CAP_NET_ADMIN")]
    Permission {
        /// What was to be done.
        what: String,
    },
    /// No link of this name.
    #[error("there is no interface {0}; `ip link` lists the interfaces there are")]
    NoLink(String),
    /// Something of somebody else's is in the way.
    #[error("{what}: it exists already and is not ours; remove it, or choose another value")]
    Exists {
        /// What was to be made.
        what: String,
    },
    /// Another host on the link has the address.
    #[error("another host on the link of {dev} already has {address}")]
    Duplicate {
        /// The device.
        dev: String,
        /// The address.
        address: Ipv6Addr,
    },
    /// Duplicate address detection did not finish.
    #[error("{address} on {dev} is still tentative after {seconds} s; is the link up?")]
    Tentative {
        /// The device.
        dev: String,
        /// The address.
        address: Ipv6Addr,
        /// How long it took, in seconds.
        seconds: u64,
    },
    /// An address went while it was looked for duplicates of.
    #[error("{address} was taken off {dev} while it was checked; did the link go down?")]
    TakenAway {
        /// The device.
        dev: String,
        /// The address.
        address: Ipv6Addr,
    },
    /// No way there.
    #[error("there is no route to {0}; bring the network up first")]
    NoRoute(IpAddr),
    /// Another process works with the same journal.
    #[error("another process already runs with {}; stop it, or choose another --tun", .0.display())]
    Running(PathBuf),
    /// The journal cannot be written or read.
    #[error("cannot use {}: {source}; {}", path.display(), remedy(source))]
    Journal {
        /// The journal.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A kernel parameter cannot be read or set.
    #[error("sysctl {key}: {source}")]
    Sysctl {
        /// The parameter.
        key: String,
        /// What the system says.
        source: io::Error,
    },
    /// The kernel refused.
    #[error("{what}: {source}")]
    Kernel {
        /// What was to be done.
        what: String,
        /// What the system says.
        source: io::Error,
    },
    /// A table of nftables was refused.
    #[error(transparent)]
    Nftables(#[from] NftError),
    /// Netlink itself does not work.
    #[error("netlink: {0}")]
    Netlink(String),
}

fn remedy(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::PermissionDenied => "run as root, or choose another --run-dir",
        _ => "choose another --run-dir",
    }
}
