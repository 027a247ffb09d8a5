//! The rules of other people: `nft` in a namespace.

use std::process::{Command, Stdio};

use anyhow::{Result, ensure};

use crate::namespace::Namespace;

/// Where Debian has it.
pub const NFT: &str = "/usr/sbin/nft";

/// Runs commands of `nft`, separated by semicolons as it wants them, and returns what it prints.
///
/// # Errors
/// When it complains.
pub fn nft(namespace: &Namespace, commands: &str) -> Result<String> {
    let mut process = Command::new(NFT);
    process.arg(commands);
    process.stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = namespace.spawn(process)?.wait_with_output()?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "nft {commands}: {complaint}");
    Ok(String::from_utf8(output.stdout)?)
}
