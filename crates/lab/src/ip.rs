//! What an administrator types: `ip` in a namespace.

use std::process::{Command, Stdio};

use anyhow::{Result, ensure};

use crate::namespace::Namespace;

/// Where Debian has it.
pub const IP: &str = "/usr/sbin/ip";

/// Runs `ip` with these words, and returns what it prints.
///
/// # Errors
/// When it complains.
pub fn ip(namespace: &Namespace, words: &str) -> Result<String> {
    let mut process = Command::new(IP);
    process.args(words.split_whitespace());
    process.stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = namespace.spawn(process)?.wait_with_output()?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {words}: {complaint}");
    Ok(String::from_utf8(output.stdout)?)
}
