//! What `plat status` says about the fast path in the kernel.

use anyhow::{Context, Result};

use crate::installed::Installed;

/// Sessions that the kernel has.
///
/// # Errors
/// When `plat` does not answer, or says nothing about it.
pub fn in_kernel(installed: &Installed) -> Result<u64> {
    let status = installed.ask_plat(&["status"])?;
    number_in(&status, "  kernel  ", 0).or(Ok(0))
}

/// Packets that the kernel has translated.
///
/// # Errors
/// When `plat` does not answer, or says nothing about it.
pub fn carried(installed: &Installed) -> Result<u64> {
    number_in(&installed.ask_plat(&["status"])?, "fast path on: ", 0)
}

/// Packets and bytes in and out of both families, in the order of the status.
///
/// # Errors
/// When `plat` does not answer, or says nothing about it.
pub fn traffic(installed: &Installed) -> Result<Vec<u64>> {
    let status = installed.ask_plat(&["status"])?;
    let lines = ["IPv4 in", "IPv6 in", "IPv4 out", "IPv6 out"];
    let numbers =
        lines.map(|line| Ok([number_in(&status, line, 0)?, number_in(&status, line, 1)?]));
    let numbers = numbers.into_iter().collect::<Result<Vec<_>>>()?;
    Ok(numbers.concat())
}

/// The number at `place` among those of the line that begins with `start`.
fn number_in(status: &str, start: &str, place: usize) -> Result<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(start));
    let line = line.with_context(|| format!("no {start:?} in {status}"))?;
    let mut numbers = line.split_whitespace().filter_map(|word| word.parse().ok());
    numbers.nth(place).context("no number there")
}
