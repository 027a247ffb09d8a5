//! What touches the Linux kernel.

pub mod counters;
pub mod host;
pub mod tun;
