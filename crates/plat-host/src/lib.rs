//! The host's side of a gateway: what only `plat` does to its host.
//!
//! A [`HostConfig`] says what belongs to the translator and how packets leave. Of it follows the
//! plan: [`base_plan`] stays whoever the clients are, [`client_plan`] changes with them; the host is
//! compared with it at [`RepairTimes`]. [`egress`] has the ways out to IPv4, [`HostFacts`] what is
//! chosen on a host where nobody has said whom to translate for, [`check_overlaps`] refuses what
//! would take the host's own traffic away, a [`RouteWatch`] which routes others may learn, a [`DrainWatch`] takes the gateway out of service, and [`Own6`] is the address that the translator's own
//! ICMPv6 errors come from. [`start_workers`] opens the TUN, and a [`DataPath`] is the handle on
//! what translates; [`KernelSessions`] carries sessions in the kernel. [`Dns`] are the settings of the DNS64, [`Status`] is what `plat status` shows.

mod announced;
mod config;
mod data_path;
mod dns;
mod drain;
pub mod egress;
mod error;
mod health;
mod kernel_sessions;
mod overlap;
mod own6;
mod plan;
mod pool_status;
mod repair_times;
mod status;

pub use announced::{Announced, OnNoEgress, ROUTE_WITHDRAWALS, RouteStatus, RouteWatch, Withheld};
pub use config::HostConfig;
pub use data_path::{DataPath, DataPathConfig, Started, WorkerConfig, start_workers};
pub use dns::{Dns, DnsError};
pub use drain::{DrainOrder, DrainStatus, DrainWatch, SeenDrain};
pub use egress::{
    Egress, EgressNames, FactsError, Forward, HostFacts, Outer, OwnAddress, OwnFacts, POOLS, Pool,
};
pub use error::SetupError;
pub use health::HealthSource;
pub use kernel_sessions::{KernelSessions, static_mapping};
pub use overlap::{OverlapError, check_overlaps, warn_of_on_link_prefixes};
pub use own6::{Own6, is_global};
pub use plan::{base_plan, client_plan};
pub use pool_status::{PoolStatus, Ports};
pub use repair_times::RepairTimes;
pub use status::{SeenOuter, Status, StatusSource};
