//! `cargo lab --classic`: the network of the well-known how-to, with two programs.

use anyhow::Result;
use lab::binaries::Binaries;
use lab::classic::{CHECKS, Classic};

use crate::report::Report;

/// Runs it; `false` when a check has failed.
///
/// # Errors
/// When the network cannot be built or a binary does not get ready.
pub(crate) fn run(binaries: &Binaries) -> Result<bool> {
    let mut report = Report::default();
    report.heading("The classic topology");
    let network = Classic::new(binaries)?;
    report.step(format_args!("gateway  {}", network.plat.command()));
    report.step(format_args!("client   {}", network.clat.command()));
    report.heading("What works from the client");
    for (what, check) in CHECKS {
        report.check(what, || check(&network));
    }
    if !report.passed() {
        report.step(format_args!("plat:{}", network.plat.log()));
        report.step(format_args!("clat:{}", network.clat.log()));
    }
    report.finish();
    Ok(report.passed())
}
