//! `cargo lab`: the main job on real packets, step by step.
//!
//! Exit code 0 when everything works, 1 when a check fails or the system does not let us, 2 for a
//! wrong command line.

mod attack;
mod classic;
mod cli;
mod page;
mod report;
mod restarts;
mod soak;
mod tour;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use lab::binaries::Binaries;

fn main() -> ExitCode {
    lab::process::become_daemon_if_asked();
    let cli = cli::Cli::parse();
    match run(&cli) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &cli::Cli) -> anyhow::Result<bool> {
    let binaries = Binaries::build_and_find()?;
    lab::privilege::acquire()?;
    match &cli.command {
        None if cli.classic => classic::run(cli.capture.as_deref(), &binaries),
        None => tour::run(cli, &binaries),
        Some(cli::Command::Soak(soak)) => soak::run(soak, &binaries),
        Some(cli::Command::Restarts(restarts)) => restarts::run(restarts, &binaries),
        Some(cli::Command::Attack(attack)) => attack::run(attack, &binaries),
        Some(cli::Command::Page(page)) => page::run(page, &binaries),
        Some(cli::Command::Bench(bench)) => lab_bench::run(bench, &binaries),
    }
}
