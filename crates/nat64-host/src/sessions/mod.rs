//! Views of the sessions: listed, sorted, and followed as they come and go.

mod filter;
mod follow;
mod list;
mod moved;
mod row;

pub use filter::{FilterError, SessionFilter, Side};
pub use follow::SessionFollower;
pub use list::{SORTED_MAX, SessionList, SortBy, Sorted};
pub use moved::{Export, Import};
