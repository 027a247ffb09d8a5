//! What administrators type, and waiting for what follows.

use std::io::Write as _;
use std::panic::Location;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab::installed::PATIENCE;
use lab::namespace::Namespace;

/// Where iproute2 is.
pub(crate) const IP: &str = "/usr/sbin/ip";

/// Where nftables' tool is.
pub(crate) const NFT: &str = "/usr/sbin/nft";

/// What `ip` prints, with IPv6 by default.
pub(crate) fn ip(namespace: &Namespace, arguments: &str) -> Result<String> {
    let mut all = vec!["-6"];
    all.extend(arguments.split_whitespace());
    feed(namespace, IP, &all, "")
}

/// What a program prints that gets this input.
pub(crate) fn feed(
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
    ensure!(
        output.status.success(),
        "{program} {arguments:?}: {complaint}"
    );
    String::from_utf8(output.stdout).context("no text")
}

/// Waits until it is so.
#[track_caller]
pub(crate) fn wait_until(mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let caller = Location::caller();
    let end = Instant::now() + PATIENCE;
    while !is_so()? {
        ensure!(Instant::now() < end, "{caller}: it did not come in time");
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
