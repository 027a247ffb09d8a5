//! The Linux host around a translator, and the services that both daemons share.
//!
//! [`host`] queries the kernel through netlink and applies plans, [`nft`] holds the nftables
//! tables, [`arp`] and [`icmp6`] the raw sockets for ARP and neighbour discovery, [`icmp4`] pings, [`daemon`] flags, files, control
//! socket, metrics and privileges, [`examine`] what both doctors look at, [`private_dir`] the directories that nobody else may change. No packet to be
//! translated passes through this crate: that is
//! `xlat-tun`.

pub mod arp;
mod conntrack;
pub mod daemon;
pub mod examine;
pub mod host;
pub mod icmp4;
pub mod icmp6;
pub mod nft;
pub mod private_dir;
