//! What administrators type, and waiting for what follows.

use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab::installed::PATIENCE;
use lab::namespace::Namespace;

/// Where iproute2 is.
pub(crate) const IP: &str = "/usr/sbin/ip";

/// What `ip` prints, with IPv6 by default.
pub(crate) fn ip(namespace: &Namespace, arguments: &str) -> Result<String> {
    let mut command = Command::new(IP);
    command.arg("-6").args(arguments.split(' '));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = namespace.spawn(command)?.wait_with_output()?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {arguments}: {complaint}");
    String::from_utf8(output.stdout).context("no text")
}

/// Waits until it is so.
pub(crate) fn wait_until(mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    while !is_so()? {
        ensure!(Instant::now() < end, "it did not come in time");
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
