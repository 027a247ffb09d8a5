//! Tables of our own in nftables, and a look at other people's.
//!
//! A table belongs to the socket that made it (`NFT_TABLE_F_OWNER`, Linux 5.12): the kernel
//! removes it when the socket closes, whatever ends the process, and nobody else can change it.
//! There is nothing to undo and nothing to leave behind. No other table is ever written.

mod expression;
mod filter;
mod guard;
mod message;
mod source_nat;
mod table;

use std::io;

pub use filter::{DroppingChain, dropping_forward_chains, warn_of_dropping_chains};
pub use table::Table;
pub(crate) use table::{Held, TablePlace};

/// The kernel refused.
#[derive(Debug, thiserror::Error)]
#[error("nftables: {what}: {source}")]
pub struct NftError {
    what: &'static str,
    /// Name of the table, where it is one of ours.
    table: Option<String>,
    source: io::Error,
}

impl NftError {
    /// True if it is about this table.
    pub fn is_of(&self, table: &Table) -> bool {
        self.table.as_deref() == Some(table.name())
    }
}
