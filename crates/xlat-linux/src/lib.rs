//! What touches the Linux kernel.

pub mod counters;
pub mod daemon;
pub mod host;
pub mod icmp6;
pub mod nft;
pub mod tun;
