//! The customer side (RFC 6877): a [`View`] of the host and the NAT64 prefix go into a
//! [`Lifecycle`], and the desired [`State`] comes out. A [`Reconciler`] says when to look at the
//! host and when to bring it into that state; [`Backoff`] schedules another try after a failure.

pub mod address;
mod backoff;
mod lifecycle;
mod pace;
mod reconciler;
mod side4;
mod state;
mod uplink;
mod view;

pub use backoff::Backoff;
pub use lifecycle::{Config, Lifecycle};
pub use reconciler::{Action, Reconciler};
pub use side4::Side4;
pub use state::{Clat, Origin, State};
pub use uplink::{DefaultRoute, choose_uplink, default_router};
pub use view::{Lack, Lead, MissingUplink, OtherClat, Prefix, Uplink, View};
