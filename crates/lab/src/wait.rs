//! Waiting for what a test expects, without sleeping longer than it takes.

use std::panic::Location;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::installed::PATIENCE;

/// How often it is looked at.
const PAUSE: Duration = Duration::from_millis(10);

/// Waits until it is so, for [`PATIENCE`] at most.
///
/// # Errors
/// When it does not come in time, with the caller's place; or the first error of `is_so`.
#[track_caller]
pub fn wait_until(mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let caller = Location::caller();
    let end = Instant::now() + PATIENCE;
    while !is_so()? {
        ensure!(Instant::now() < end, "{caller}: it did not come in time");
        thread::sleep(PAUSE);
    }
    Ok(())
}
