//! The host's side of the state in the crate `nat64`, which has neither clock nor files nor threads.
//!
//! A [`Keeper`] ends sessions whose time is over, hands their records to the session log (RFC 6888),
//! reports floods, and saves the sessions over a restart (`saved_sessions`). Workers wake it by a
//! [`Wakeup`]; a [`StatusSource`] shows its tables. [`Leases`] saves those of the dynamic pool.

mod error;
mod floods;
mod keeper;
mod leases;
mod saved_sessions;
mod session_list;
mod session_log;
mod status;
mod wakeup;
mod wall_clock;

pub use error::Error;
pub use keeper::Keeper;
pub use leases::Leases;
pub use session_list::SessionList;
pub use session_log::{LogLevel, SessionLogError};
pub use status::{NatStatus, StatusSource};
pub use wakeup::Wakeup;
