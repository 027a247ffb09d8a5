//! The clock, files and threads for the state of the crate `nat64`, which does no I/O.
//!
//! A [`Keeper`] expires sessions, passes their records to the session log (RFC 6888), logs floods,
//! and saves the sessions for the next start (`saved_sessions`). Workers wake it by a [`Wakeup`]; a
//! [`StatusSource`] reads its tables. [`Leases`] saves those of the dynamic pool, and a [`State`] is
//! keeper and leases together. [`PoolNeighbours`] tells the neighbours on a link where the addresses
//! of the pool are.

mod error;
mod floods;
mod keeper;
mod leases;
mod pool_neighbours;
mod saved_sessions;
mod session_log;
mod sessions;
mod state;
mod status;
mod wakeup;

pub use error::Error;
pub use keeper::Keeper;
pub use leases::Leases;
pub use pool_neighbours::{Conflict, Conflicts, PoolNeighbours};
pub use session_log::{LogLevel, SessionLogError};
pub use sessions::{
    Export, FilterError, Import, SORTED_MAX, SessionFilter, SessionFollower, SessionList, Side,
    SortBy, Sorted,
};
pub use state::{State, StateConfig};
pub use status::{NatStatus, StatusSource};
pub use wakeup::Wakeup;
