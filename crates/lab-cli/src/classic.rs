//! `cargo lab --classic`: the network of the well-known how-to, with two programs; with `--capture`
//! what crossed both ends of it.

use std::path::Path;

use anyhow::Result;
use lab::binaries::Binaries;
use lab::classic::{CHECKS, Classic};

use crate::report::Report;
use crate::tour::SNAPSHOT;

/// Runs it; `false` when a check has failed.
///
/// # Errors
/// When the network cannot be built or a binary does not get ready.
pub(crate) fn run(file: Option<&Path>, binaries: &Binaries) -> Result<bool> {
    let mut report = Report::default();
    report.heading("The classic topology");
    let network = Classic::new(binaries)?;
    report.step(format_args!("gateway  {}", network.plat.command()));
    report.step(format_args!("client   {}", network.clat.command()));
    let capture = file.map(|file| Ok::<_, anyhow::Error>((file, network.capture(SNAPSHOT)?)));
    let capture = capture.transpose()?;
    report.heading("What works from the client");
    for (what, check) in CHECKS {
        report.check(what, || check(&network));
    }
    if let Some((file, capture)) = capture {
        let captured = capture.stop()?;
        captured.write(file)?;
        let count = captured.packets.len();
        report.step(format_args!("{count} packets in {}", file.display()));
    }
    if !report.passed() {
        report.step(format_args!("plat:{}", network.plat.log()));
        report.step(format_args!("clat:{}", network.clat.log()));
    }
    report.finish();
    Ok(report.passed())
}
