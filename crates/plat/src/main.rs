//! `plat`: the provider side of 464XLAT (RFC 6877).
//!
//! Flags ([`cli`]) become settings ([`settings`]), settings and the host as it is become a plan
//! ([`plan`]), and the plan is carried out while packets are translated ([`run`]) by the workers'
//! engines ([`data_path`]). [`leases`] and [`stateful`] are what the translator remembers;
//! [`control`] is what it tells about itself.

mod advertise;
mod cli;
mod control;
mod data_path;
mod dns;
mod egress;
mod leases;
mod plan;
mod run;
mod settings;
mod stateful;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use xlat_linux::daemon::control::ask_and_print;
use xlat_linux::daemon::exit::{self, Usage};
use xlat_linux::daemon::file;

use cli::{Cli, Command};
use settings::Settings;

const NAME: &str = "plat";

fn main() -> ExitCode {
    let cli = match exit::parse(NAME, std::env::args_os()) {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    match dispatch(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            exit::complain(NAME, &format!("{error:#}"));
            ExitCode::from(if error.is::<Usage>() {
                exit::USAGE
            } else {
                exit::SYSTEM
            })
        }
    }
}

fn dispatch(cli: Cli) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    match cli.command {
        Some(Command::Recover(recover)) => {
            recover.log.init();
            runtime.block_on(run::recover(&recover.place))
        }
        Some(Command::Run(run)) => translate(&runtime, *run),
        Some(Command::Check(check)) => check_file(&check.file),
        Some(Command::Status(status)) => {
            let json = status.json;
            ask(&status.place, &control::Request::Status { json })
        }
        Some(Command::Sessions(sessions)) => {
            let request = control::Request::Sessions {
                json: sessions.json,
                client: sessions.client,
            };
            ask(&sessions.place, &request)
        }
        None => translate(&runtime, cli.run),
    }
}

fn translate(runtime: &tokio::runtime::Runtime, run: cli::Run) -> Result<()> {
    run.log.init();
    runtime.block_on(async {
        let run = egress::fill_in(run).await?;
        run::run(Settings::new(run)?).await
    })
}

/// Reads a configuration file as a start would, and prints all values that are in force then.
#[expect(clippy::print_stdout, reason = "the values are what was asked for")]
fn check_file(path: &Path) -> Result<()> {
    let args = vec![NAME.into(), "--config".into(), path.into()];
    let command = <Cli as clap::CommandFactory>::command();
    let complaint = |error: &clap::Error| exit::one_line(error);
    let args = file::expand(&command, args, complaint).map_err(|error| Usage(error.to_string()))?;
    let matches = command.clone().get_matches_from(&args);
    let cli = <Cli as clap::Parser>::parse_from(&args);
    // Without pools and maps the start chooses some.
    let chooses = cli.run.stateful.pool.is_empty()
        && cli.run.dynamic_pool.is_none()
        && cli.run.map.is_empty();
    if !chooses {
        Settings::new(cli.run)?;
    }
    print!("{}", file::effective(&command, &matches));
    Ok(())
}

fn ask(place: &cli::Place, request: &control::Request) -> Result<()> {
    Ok(ask_and_print(&place.run_dir, &place.tun, request)?)
}
