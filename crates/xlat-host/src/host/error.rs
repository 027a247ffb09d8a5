//! Why the host could not be read or changed. Each error is one line for the operator: the
//! operation, the cause, and a remedy.

use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;

use super::sysctl;
use crate::nft::NftError;

/// Why a query or a change of the host failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The process lacks the privilege to change the network.
    #[error("{what}: permission denied; run as root or give the process CAP_NET_ADMIN")]
    Permission {
        /// The operation that failed.
        what: String,
    },
    /// Standard output does not take what was asked for.
    #[error("cannot print: {0}")]
    Print(#[source] io::Error),
    /// No interface has this name.
    #[error("no interface {0}; `ip link` lists the interfaces")]
    NoLink(String),
    /// An address or a route of another program is in the way.
    #[error("{what}: it already exists and is not ours; remove it, or choose another value")]
    Exists {
        /// The address or route, as an `ip` command.
        what: String,
    },
    /// Another host on the link has the address.
    #[error("another host on the link of {dev} already has {address}")]
    Duplicate {
        /// Name of the interface.
        dev: String,
        /// The address that was claimed.
        address: Ipv6Addr,
    },
    /// Duplicate address detection did not finish.
    #[error("{address} on {dev} is still tentative after {seconds} s; is the link up?")]
    Tentative {
        /// Name of the interface.
        dev: String,
        /// The address that was claimed.
        address: Ipv6Addr,
        /// How long the daemon waited, in seconds.
        seconds: u64,
    },
    /// The address disappeared during duplicate address detection.
    #[error("{address} was taken off {dev} while it was checked; did the link go down?")]
    TakenAway {
        /// Name of the interface.
        dev: String,
        /// The address that was claimed.
        address: Ipv6Addr,
    },
    /// No route leads to this destination.
    #[error("there is no route to {0}; bring the network up first")]
    NoRoute(IpAddr),
    /// Another process has locked this file in the run directory.
    #[error("another process already runs with {}; stop it, or choose another --tun", .0.display())]
    Running(PathBuf),
    /// A file in the run directory cannot be written or read.
    #[error("cannot use {}: {source}; {}", path.display(), remedy(source))]
    Journal {
        /// Path of the file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A kernel parameter cannot be read or set.
    #[error("sysctl {key}: {source}{}", sysctl_remedy(key, value.as_deref(), source))]
    Sysctl {
        /// Dotted name of the parameter.
        key: String,
        /// The value that was refused.
        value: Option<String>,
        /// The system's error.
        source: io::Error,
    },
    /// The kernel refused a netlink request.
    #[error("{what}: {source}")]
    Kernel {
        /// The operation that failed.
        what: String,
        /// The system's error.
        source: io::Error,
    },
    /// The kernel refused an nftables table.
    #[error(transparent)]
    Nftables(#[from] NftError),
    /// The rtnetlink socket cannot be opened.
    #[error("netlink: {0}")]
    Netlink(String),
}

fn sysctl_remedy(key: &str, value: Option<&str>, source: &io::Error) -> String {
    match (source.kind(), value) {
        (io::ErrorKind::ReadOnlyFilesystem, Some(value)) => format!(
            "; kernel parameters are read-only here, as in containers: give the container {}",
            sysctl::from_outside(key, value)
        ),
        (io::ErrorKind::NotFound, _) => {
            "; is IPv6 switched off for the whole kernel (ipv6.disable=1)?".to_owned()
        }
        _ => String::new(),
    }
}

fn remedy(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::PermissionDenied => "run as root, or choose another --run-dir",
        _ => "choose another --run-dir",
    }
}
