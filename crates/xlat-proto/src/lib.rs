//! Sans-IO protocol machines: events and time go in, decisions come out. No sockets, no clock, no
//! randomness; the callers feed in events and carry out the decisions.
#![forbid(unsafe_code)]

pub mod advertise;
pub mod arp;
pub mod clat;
pub mod discovery;
pub mod ndp;
pub mod pcp;
pub mod ra;
