//! The host: what a daemon reads from it, and how it changes it and undoes the changes.
//!
//! A binary describes the desired state as a [`Plan`]; [`Host::apply`] applies it step by step,
//! recording each change on disk before making it, and [`Applied::undo`] undoes the changes in
//! reverse. [`Host::recover`] or the next start undoes the changes of a killed process. All of it
//! uses netlink and /proc/sys; no other program is run.

mod apply;
mod error;
mod inspect;
mod interface;
mod ipv4_route;
mod ipv6_route;
mod journal;
mod listening;
mod lock;
mod netlink;
mod on_link;
mod pace;
mod plan;
mod repairs;
pub mod reserved_ports;
mod snapshot;
mod sysctl;
mod watch;
mod written;

pub use apply::{Applied, Leftovers};
pub use error::Error;
pub use ipv4_route::{Ipv4Defaults, Ipv4OverIpv6, Ipv4Route, LinkLocalDefault};
pub use ipv6_route::Ipv6DefaultRoute;
pub use journal::believed_lines;
pub use listening::{Listening, listening};
pub use lock::Lock;
pub(crate) use lock::RUN_DIR_MODE;
pub use netlink::{Assigned, Link, Way};
pub use on_link::OnLinkPrefix;
pub use plan::{
    Address, Difference, Plan, PolicyRule, ROUTE_PROTOCOL, Renamed, Route, Step, device_key,
};
pub use repairs::{FailingRepairs, RepairCounters, RepairFigures, RepairLog, Repairs};
pub use watch::Changes;
pub use written::WriteWatch;

use std::sync::Arc;

use netlink::Netlink;
use tokio::sync::Notify;

/// The host this process runs on (more exactly: its network namespace).
#[derive(Clone, Debug)]
pub struct Host {
    netlink: Netlink,
    /// Another program has written a parameter that is watched.
    written: Arc<Notify>,
}

impl Host {
    /// Connects to the kernel. Must be called within a tokio runtime, which drives the connection.
    ///
    /// # Errors
    /// If the kernel gives no rtnetlink socket.
    pub fn connect() -> Result<Self, Error> {
        Ok(Self {
            netlink: Netlink::connect()?,
            written: Arc::default(),
        })
    }
}
