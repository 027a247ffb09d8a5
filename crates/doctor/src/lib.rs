//! What `clat doctor` and `plat doctor` check, and how they say what they found.
//!
//! [`checks`] is the only list: programs take their checks from it, and `docs/troubleshooting.md` is made
//! of it ([`document`]). The programs measure, `judge` says what a figure means, and a [`Report`] tells
//! the faults from what only follows from them. Nothing here reads a clock or does I/O.

pub mod checks;
pub mod document;
pub mod judge;
mod report;
mod text;

pub use checks::{Check, Programs};
pub use report::{Finding, Outcome, Report, SCHEMA};
pub use text::Look;
