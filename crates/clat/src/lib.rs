//! `clat`: the customer side of 464XLAT (RFC 6877).
//!
//! Flags (`cli`) become settings (`settings`). Then the `daemon` follows the network: it
//! reads the host's state (`clat_host`), discovers the NAT64 prefix (`pref64_discovery`), and
//! sets up a translation, changes it or takes it back (`clat_host`). The desired state is computed
//! in `xlat_proto`, without I/O.

mod check;
mod cli;
mod control;
mod daemon;
mod detect;
mod discover;
mod doctor;
mod dry_run;
mod import;
mod lifecycle;
mod ports;
mod run;
mod settings;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::CommandFactory;
use xlat_host::daemon::control::ask_and_print;
use xlat_host::daemon::{exit, explain, privileges};
use xlat_host::examine;

use cli::{Cli, Command};
use settings::Settings;

const NAME: &str = "clat";

/// The command line of the program, for its manual pages and completions.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

/// The whole program: from the command line to the exit code.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match exit::parse(NAME, std::env::args_os()) {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    match dispatch(cli) {
        Ok(code) => ExitCode::from(code),
        Err(error) => exit::fail(NAME, error.as_ref()),
    }
}

fn dispatch(cli: Cli) -> Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    match cli.command {
        Some(Command::Recover(recover)) => {
            recover.log.init();
            privileges::keep_to_recover().context("privileges cannot be dropped")?;
            runtime.block_on(run::recover(&recover))
        }
        Some(Command::Run(run)) => translate(&runtime, *run),
        Some(Command::Detect(detect)) => {
            detect.log.init();
            let works = runtime.block_on(detect::run(&detect))?;
            return Ok(if works { exit::DONE } else { exit::NOTHING });
        }
        Some(Command::Doctor(asked)) => {
            let report = runtime.block_on(doctor::run(&asked))?;
            // A resolver that hangs must not keep the report.
            runtime.shutdown_background();
            examine::print(&report, asked.json)?;
            return Ok(report.exit_code());
        }
        Some(Command::Status(cli::Status {
            explain: Some(reason),
            ..
        })) => exit::print(&explain::text(reason)).map_err(Into::into),
        Some(Command::Status(status)) => {
            let request = control::Request::Status {
                json: status.json,
                known: false,
            };
            ask_and_print(&status.place.run_dir, &status.place.tun, &request).map_err(Into::into)
        }
        Some(Command::Check(flags)) => return runtime.block_on(check::file(&flags)),
        Some(Command::Import(files)) => import::run(&files),
        None => translate(&runtime, cli.run),
    }?;
    Ok(exit::DONE)
}

fn translate(runtime: &tokio::runtime::Runtime, run: cli::Run) -> Result<()> {
    run.log.init();
    // Loading takes more capabilities than what follows.
    let kernel = run.kernel_path().context("--fast-path required")?;
    privileges::keep_what_is_needed(&run.flags).context("privileges cannot be dropped")?;
    runtime.block_on(run::run(Settings::resolve(run)?, kernel))
}
