//! A table of our own in nftables, and a look at other people's.
//!
//! The table belongs to the socket that made it (`NFT_TABLE_F_OWNER`, Linux 5.12): the kernel
//! removes it when the socket closes, whatever ends the process, and nobody else can change it.
//! There is nothing to undo and nothing to leave behind. No other table is ever written.

mod expression;
mod filter;
mod guard;
mod message;
mod source_nat;

use std::io;

use netlink_sys::Socket;

pub use filter::{DroppingChain, dropping_forward_chains, warn_of_dropping_chains};
pub use guard::Guard;
pub use source_nat::SourceNat;

/// A table of our own, until this is dropped.
#[derive(Debug)]
pub struct Made {
    /// Holds the table.
    _socket: Socket,
}

/// The kernel refused.
#[derive(Debug, thiserror::Error)]
#[error("nftables: {what}: {source}")]
pub struct NftError {
    what: &'static str,
    source: io::Error,
}
