//! The rules of other people: `nft` in a namespace.

use anyhow::Result;

use crate::command::output;
use crate::namespace::Namespace;

/// Where Debian has it.
pub const NFT: &str = "/usr/sbin/nft";

/// Runs commands of `nft`, separated by semicolons as it wants them, and returns what it prints.
///
/// # Errors
/// When it complains.
pub fn nft(namespace: &Namespace, commands: &str) -> Result<String> {
    output(namespace, NFT, &[commands], "")
}
