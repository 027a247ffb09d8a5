//! What touches the Linux kernel.

pub mod counters;
pub mod daemon;
pub mod host;
pub mod tun;
