//! The Linux host around a translator, and what both daemons need to live on it.
//!
//! [`host`] looks at the kernel through netlink and carries out plans, [`nft`] has the nftables
//! tables, [`icmp6`] the raw sockets for neighbour discovery, [`daemon`] flags, files, control
//! socket, metrics and privileges. Nothing here touches a packet on its way: that is `xlat-tun`.

pub mod daemon;
pub mod host;
pub mod icmp6;
pub mod nft;
