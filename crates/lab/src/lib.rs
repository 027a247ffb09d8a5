//! Laboratory: a 464XLAT network on one machine.
//!
//! Namespaces made in process take the part of the machines, the *real* binaries `clat` and `plat`
//! run inside them, and the traffic is made here as well, so that nothing has to be installed.
//! The end-to-end tests, `cargo lab` and the benchmark are built from these parts.
//!
//! Of the product the laboratory uses the two binaries and nothing else: it depends on none of the
//! product's crates. Packets, router advertisements and DNS messages are made and read by code of
//! its own, the kernel's tables are listed by its own requests, so that a mistake of a codec cannot
//! be on both sides of a test. Libraries of others (`rtnetlink`, `tun`, `rustls`) may be the same
//! as the product's.
//!
//! | what | modules |
//! |---|---|
//! | networks | [`namespace`], [`link`], [`topology`], [`ip`], [`nft`], [`inspect`] |
//! | programs | [`binaries`], [`bind`], [`unbound`], [`command`], [`process`], [`privilege`], [`suite`], [`wait`] |
//! | hosts that a test plays itself | [`router`], [`fake_host`], [`tun`] |
//! | networks with programs in them | [`installed`], [`client_host`], [`fixture`], [`dns64_fixture`], [`scale_out`], [`classic`], [`load`], [`wan`], [`pages`] |
//! | attacks | [`attack`], [`flood`], [`restarts`], [`random`] |
//! | packets | [`traffic`], [`capture`], [`pcp`] |

pub mod attack;
pub mod binaries;
pub mod bind;
pub mod capture;
pub mod classic;
pub mod client_host;
pub mod command;
pub mod debian;
pub mod dns64_fixture;
pub mod fake_host;
pub mod fast_path;
pub mod fixture;
pub mod flood;
pub mod inspect;
pub mod installed;
pub mod ip;
pub mod link;
pub mod load;
pub mod namespace;
mod netlink;
pub mod nft;
pub mod pages;
pub mod pcp;
pub mod privilege;
pub mod process;
pub mod random;
pub mod restarts;
pub mod router;
pub mod scale_out;
pub mod suite;
pub mod topology;
pub mod traffic;
pub mod tun;
pub mod unbound;
pub mod wait;
pub mod wan;
