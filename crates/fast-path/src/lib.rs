//! Translation inside the kernel.
//!
//! An eBPF program at the egress of our own TUN translates the packets that it knows and hands them
//! back to the kernel, as if the TUN had been written to. Every other packet goes on into the TUN, to
//! the worker, as without the program. The program decides nothing: it carries out what the
//! translator has decided, either a constant mapping ([`StaticMapping`]) or entries for single flows
//! ([`FlowTable`]), which a worker installs.
//!
//! - [`FastPath`]: the program and its maps, which belong to this process;
//! - [`FlowTable`]: flows that the kernel carries, to be used by several threads;
//! - [`StaticMapping`] and [`Rules`]: what the program knows besides flows;
//! - [`Counters`]: what it carried and what it passed up, by reason.

mod captures;
mod counters;
mod flows;
mod layout;
mod mapping;
mod memory;
mod mode;
mod program;
mod rules;
mod sys;
mod table;
mod trial;
mod unavailable;

pub use counters::{Counters, PASSED_UP, PassedUp, Traffic};
pub use flows::{Epoch, Flow, FlowTable, InstallError, Key, Usage, monotonic};
pub use layout::{KeyV4, KeyV6, ToV4, ToV6};
pub use mapping::{MappingError, StaticMapping};
pub use mode::{Mode, ModeError};
pub use program::{FastPath, Options};
pub use rules::Rules;
pub use trial::{Outcome, Trial};
pub use unavailable::Unavailable;
