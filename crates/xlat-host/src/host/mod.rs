//! The host: what a daemon reads of it, and how it changes it and changes it back.
//!
//! A binary describes what it wants as a [`Plan`]; [`Host::apply`] carries it out step by step,
//! noting each on disk before it is made, and [`Applied::undo`] takes it back in reverse. Whatever
//! a killed process left is taken back by [`Host::recover`] or by the next start. All of it goes
//! through netlink and /proc/sys; no other program is run.

mod apply;
mod error;
mod inspect;
mod ipv4_route;
mod journal;
mod lock;
mod netlink;
mod plan;
pub mod reserved_ports;
mod snapshot;
mod sysctl;
mod watch;

pub use apply::Applied;
pub use error::Error;
pub use ipv4_route::Ipv4Route;
pub use lock::Lock;
pub use netlink::{Assigned, Link, Way};
pub use plan::{Address, Difference, Plan, ROUTE_PROTOCOL, Route, Step, device_key};
pub use watch::Changes;

use netlink::Netlink;

/// The host this process runs on (more exactly: its network namespace).
#[derive(Clone, Debug)]
pub struct Host {
    netlink: Netlink,
}

impl Host {
    /// Connects to the kernel. Must be called within a tokio runtime, in which the connection
    /// lives on.
    ///
    /// # Errors
    /// If there is no routing socket to be had.
    pub fn connect() -> Result<Self, Error> {
        Ok(Self {
            netlink: Netlink::connect()?,
        })
    }
}
