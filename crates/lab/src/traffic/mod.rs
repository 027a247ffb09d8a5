//! Traffic made here, so that no `ping`, `iperf3` or `traceroute` has to be installed.
//!
//! A socket belongs to the namespace of the thread that opens it, whichever thread uses it later.
//! The functions below open theirs in the namespace of the caller
//! ([`Namespace::run`](crate::namespace::Namespace::run)). Each wait has a deadline.

pub mod content;
pub mod dns;
pub mod fragments;
pub mod icmp;
pub mod packets;
pub mod ping;
pub mod pmtu;
pub mod ra;
pub mod raw4;
pub mod raw6;
pub mod solicit;
pub mod tcp;
pub mod traceroute;
pub mod udp;

use std::time::Duration;

/// How long an answer may take. Long, since the machines that run the tests are busy.
pub const PATIENCE: Duration = Duration::from_secs(10);
