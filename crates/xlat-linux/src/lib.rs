//! What touches the Linux kernel.

pub mod counters;
pub mod tun;
