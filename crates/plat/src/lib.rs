//! `plat`: the provider side of 464XLAT (RFC 6877).
//!
//! Flags (`cli`) become settings (`settings`), settings and the host as it is become a plan
//! (`plat_host`), and the plan is carried out while packets are translated (`run`) by the workers
//! (`plat_host::DataPath`). `started` is what runs; `control` is what it tells about itself;
//! `reload` reads the configuration file again.

mod advertise;
mod check;
mod cli;
mod control;
mod dns;
mod doctor;
mod dry_run;
mod facts;
mod import;
mod moved;
mod orders;
mod pcp;
mod reload;
mod run;
mod settings;
mod started;
mod stateful;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::CommandFactory;
use xlat_host::daemon::control::{ask_and_print, follow_and_print};
use xlat_host::daemon::privileges;
use xlat_host::daemon::{exit, explain};
use xlat_host::examine;

use cli::{Cli, Command};

const NAME: &str = "plat";

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
        Some(Command::Check(flags)) => return runtime.block_on(check::file(&flags)),
        Some(Command::Import(flags)) => import::run(&flags),
        Some(Command::Whose(whose)) => {
            let external = whose.external;
            ask(&whose.place, &control::Request::Whose { external })
        }
        Some(Command::Reload(reload)) => ask(&reload.place, &control::Request::Reload),
        Some(Command::Drain(drain)) => control::drain(&drain),
        Some(Command::Resume(resume)) => ask(&resume.place, &control::Request::Resume),
        Some(Command::Export(export)) => moved::export(export),
        Some(Command::ImportSessions(import)) => moved::import(&import),
        Some(Command::Doctor(asked)) => {
            let report = runtime.block_on(doctor::run(&asked))?;
            // A thread that waits for the kernel must not keep the report.
            runtime.shutdown_background();
            examine::print(&report, asked.json)?;
            return Ok(report.exit_code());
        }
        Some(Command::Status(cli::Status {
            explain: Some(reason),
            ..
        })) => Ok(exit::print(&explain::text(reason))?),
        Some(Command::Status(status)) => {
            let json = status.json;
            let known = false;
            ask(&status.place, &control::Request::Status { json, known })
        }
        Some(Command::Sessions(sessions)) => {
            let (place, follows) = (sessions.place.clone(), sessions.follow);
            let request = control::Request::List(sessions.into());
            match follows {
                true => Ok(follow_and_print(&place.run_dir, &place.tun, &request)?),
                false => ask(&place, &request),
            }
        }
        None => translate(&runtime, cli.run),
    }?;
    Ok(exit::DONE)
}

fn translate(runtime: &tokio::runtime::Runtime, run: cli::Run) -> Result<()> {
    run.log.init();
    // Loading takes more capabilities than what follows.
    let fast_path = run.fast_path()?;
    privileges::keep_what_is_needed(&run.flags).context("privileges cannot be dropped")?;
    runtime.block_on(run::start::start(run, fast_path))
}

fn ask(place: &cli::Place, request: &control::Request) -> Result<()> {
    Ok(ask_and_print(&place.run_dir, &place.tun, request)?)
}
