//! Laboratory: a 464XLAT network on one machine.
//!
//! Namespaces made in process take the part of the machines, the *real* binaries `clat` and `plat`
//! run inside them, and the traffic is made here as well, so that nothing has to be installed.
//! The end-to-end tests and `cargo lab` are built from these parts.

pub mod binaries;
pub mod capture;
pub mod classic;
pub mod client_host;
pub mod fake_host;
pub mod fixture;
pub mod inspect;
pub mod installed;
pub mod link;
pub mod load;
pub mod namespace;
pub mod nft;
pub mod privilege;
pub mod process;
pub mod resolver;
pub mod router;
pub mod suite;
pub mod topology;
pub mod traffic;
