//! What an administrator types: programs of the system in a namespace.

use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Result, ensure};

use crate::namespace::Namespace;

/// What a program prints that gets `input`.
///
/// # Errors
/// When it complains.
pub fn output(
    namespace: &Namespace,
    program: &str,
    arguments: &[&str],
    input: &str,
) -> Result<String> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = namespace.spawn(command)?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    let line = arguments.join(" ");
    ensure!(output.status.success(), "{program} {line}: {complaint}");
    Ok(String::from_utf8(output.stdout)?)
}
