//! The host's side of a CLAT.
//!
//! [`look`] collects the host's state as [`xlat_proto::clat`] wants it. For the CLAT that follows
//! from it, a [`DataPath`] runs the workers with a translator each, and a [`Translation`]
//! applies a plan ([`Parts`]) to the host, with the nftables tables, and starts the [`Responder`]
//! to neighbours that ask for the CLAT's address. All take a [`HostConfig`]. [`Status`] is
//! what `clat status` and the metrics page show. [`pcp_hosts`], [`asking_networks`] and [`pcp_servers`]
//! are what the PCP proxy serves.

mod config;
mod data_path;
mod error;
mod names;
mod neighbours;
mod path;
mod plan;
mod ports;
mod status;
mod tables;
mod translation;
mod view;

pub use config::{GROWTH, HostConfig, lan_map};
pub use data_path::{DataPath, WorkerFailed};
pub use error::SetupError;
pub use names::{AddressOrigin, PrefixSource, PrefixStatus, StateName};
pub use neighbours::{Responder, ResponderError};
pub use path::{Path, TARGET};
pub use plan::Parts;
pub use ports::{AskingNetwork, asking_networks, pcp_hosts, pcp_servers};
pub use status::{Known, Status};
pub use translation::Translation;
pub use view::{Wanted, ipv4_addresses, look};
