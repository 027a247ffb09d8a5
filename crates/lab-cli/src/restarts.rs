//! `cargo lab restarts`: starts `plat` with damaged state files.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use lab::binaries::Binaries;
use lab::restarts;

use crate::cli::Restarts;
use crate::report::Report;

/// Runs it; `false` when a start fails or takes up what it must not.
///
/// # Errors
/// When the clock is before 1970.
pub(crate) fn run(wanted: &Restarts, binaries: &Binaries) -> Result<bool> {
    let seed = match wanted.seed {
        Some(seed) => seed,
        None => SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
    };
    let mut report = Report::default();
    report.heading(&format!(
        "{} damaged state files, --seed {seed}",
        wanted.files
    ));
    let soak = restarts::Restarts {
        files: wanted.files,
        networks: wanted.networks,
        seed,
    };
    report.check("every start succeeds, nothing altered is taken up", || {
        let outcome = restarts::run(binaries, &soak)?;
        Ok(format!(
            "{} starts with {} damaged files, {} of them journals of a run that was killed",
            outcome.starts, outcome.files, outcome.journals
        ))
    });
    report.finish();
    Ok(report.passed())
}
