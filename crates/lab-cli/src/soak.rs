//! `cargo lab soak`: loads `plat` with many subscribers and shows how it goes.

use std::time::Duration;

use anyhow::Result;
use lab::binaries::Binaries;
use lab::load::{self, Load, Outcome};

use crate::cli::Soak;
use crate::report::Report;

/// Of so many packets one begins a new session.
const CHURN: u32 = 100;

/// Runs it; `false` when something is not as it should be.
///
/// # Errors
/// When the network cannot be built, or an answer reached somebody else.
pub(crate) fn run(soak: &Soak, binaries: &Binaries) -> Result<bool> {
    let mut report = Report::default();
    let load = Load {
        subscribers: soak.subscribers,
        sessions: soak.sessions / soak.subscribers * soak.subscribers,
        time: Duration::from_secs(soak.seconds),
        lifetime: Duration::from_secs(soak.lifetime),
        churn: CHURN,
    };
    let (sessions, subscribers) = (load.sessions, load.subscribers);
    report.heading(&format!(
        "{sessions} sessions of {subscribers} subscribers for {} seconds",
        soak.seconds
    ));
    let outcome = load::run(binaries, &load, |outcome| {
        report.step(describe(outcome));
    })?;
    report.check("nothing is lost, mixed up or left", || {
        outcome.check(&load)?;
        Ok(format!(
            "{} sessions of {} subscribers began, most at once {}",
            outcome.begun, outcome.came, outcome.most
        ))
    });
    report.finish();
    Ok(report.passed())
}

fn describe(outcome: &Outcome) -> String {
    let memory = outcome.memory.last().copied().unwrap_or_default() / 1024;
    format!(
        "{:>9} sent {:>9} back {:>8} begun {:>7} at once {memory:>4} MiB",
        outcome.sent, outcome.returned, outcome.begun, outcome.most
    )
}
