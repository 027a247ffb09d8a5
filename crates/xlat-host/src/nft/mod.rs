//! nftables tables of this process, and a check of the chains of other programs.
//!
//! A table belongs to the socket that made it (`NFT_TABLE_F_OWNER`, Linux 5.12): the kernel removes
//! it when the socket closes, however the process ends, and no other program can change it. So
//! there is nothing to undo after a crash. Tables of other programs are never written.

mod changes;
mod destination_nat;
mod expression;
mod family;
mod filter;
mod forward;
mod guard;
mod hidden;
mod interface;
mod message;
mod ruleset;
mod solicitations;
mod source_nat;
mod table;

use std::io;

pub use changes::RulesetChanges;
pub use destination_nat::Ports;
pub use filter::{
    DroppingChain, DroppingChains, ForwardWatch, dropping_forward_chains, warn_of_dropping_chains,
    warn_of_legacy_rules,
};
pub use forward::Forward;
pub(crate) use guard::TUN_GROUP;
pub use interface::Interface;
pub use table::Table;
pub(crate) use table::{OwnedTable, TablePlace};

/// The kernel refused a request to nftables.
#[derive(Debug, thiserror::Error)]
#[error("nftables: {what}: {source}")]
pub struct NftError {
    what: &'static str,
    /// Name of the table, if the request was about one of this process.
    table: Option<String>,
    source: io::Error,
}

/// What messages to the kernel's other packet filters have in common with those to nftables.
pub(crate) mod netlink {
    pub(crate) use super::filter::find;
    pub(crate) use super::message::{
        DONE, DUMP, ERROR, REQUEST, connect, message, messages, outcome,
    };
}

impl NftError {
    /// True if this process lacks the privilege.
    pub fn is_refused(&self) -> bool {
        self.source.kind() == io::ErrorKind::PermissionDenied
    }

    /// True if the request was about `table`.
    pub fn is_of(&self, table: &Table) -> bool {
        self.table.as_deref() == Some(table.name())
    }
}
