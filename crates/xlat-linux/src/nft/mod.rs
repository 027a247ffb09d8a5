//! A table of our own in nftables, and a look at other people's.
//!
//! The table belongs to the socket that made it (`NFT_TABLE_F_OWNER`, Linux 5.12): the kernel
//! removes it when the socket closes, whatever ends the process, and nobody else can change it.
//! There is nothing to undo and nothing to leave behind. No other table is ever written.

mod filter;
mod message;
mod source_nat;

use std::io;

pub use filter::{DroppingChain, dropping_forward_chains, warn_of_dropping_chains};
pub use source_nat::{Made, SourceNat};

/// The kernel refused.
#[derive(Debug, thiserror::Error)]
#[error("nftables: {what}: {source}")]
pub struct NftError {
    what: &'static str,
    source: io::Error,
}
