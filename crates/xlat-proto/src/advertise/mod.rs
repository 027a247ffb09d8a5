//! A router's advertisements (RFC 4861 section 6.2): [`Schedule`] computes their times,
//! [`Announcement`] their contents, [`DampedReach`] when a lost default route is told, and
//! [`Reported`] how other routers contradict them.
//!
//! Time and random numbers are arguments.

mod announcement;
mod compare;
mod config;
mod prefixes;
mod reach;
mod schedule;
mod withdrawn;

pub use announcement::Announcement;
pub use compare::{Finding, Reported};
pub use config::Config;
pub use prefixes::OnLinkPrefix;
pub use reach::{DampedReach, Reach};
pub use schedule::{Due, Schedule};
