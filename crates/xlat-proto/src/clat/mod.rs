//! The customer side (RFC 6877): a [`View`] of the host and the NAT64 prefix go into a
//! [`Lifecycle`], and the desired [`State`] comes out. [`Backoff`] schedules another try after a
//! failure.

pub mod address;
mod backoff;
mod lifecycle;
mod side4;
mod state;
mod view;

pub use backoff::Backoff;
pub use lifecycle::{Config, Lifecycle};
pub use side4::Side4;
pub use state::{Clat, Origin, State};
pub use view::{Lack, Lead, MissingUplink, OtherClat, Uplink, View};
