//! Sans-IO protocol machines: events and time go in, decisions come out. No sockets, no clock, no
//! randomness; the binaries feed them and act on what they say.
#![forbid(unsafe_code)]

pub mod advertise;
pub mod clat;
pub mod discovery;
pub mod ndp;
pub mod ra;
