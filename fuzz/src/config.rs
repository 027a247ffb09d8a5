//! Configuration files.

use std::ffi::OsString;

use clap::{ArgMatches, CommandFactory, Parser};
use xlat_host::daemon::file::{effective, expand_with};
use xlat_host::daemon::flags::{LogFlags, PolicyFlags, RunFlags};

/// Flags of every kind that there is.
#[derive(Debug, Parser)]
#[command(name = "fuzz")]
struct Cli {
    #[command(flatten)]
    _run: RunFlags,
    #[command(flatten)]
    _policy: PolicyFlags,
    #[command(flatten)]
    _log: LogFlags,
    #[arg(long, visible_alias = "list")]
    _prefix: Vec<String>,
}

/// A file: what is accepted comes to values that, written as a file, come to the same.
///
/// # Panics
/// If they do not.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let command = Cli::command();
    let Some(matches) = read(&command, text) else {
        return;
    };
    let values = effective(&command, &matches);
    let again = read(&command, &values).map(|matches| effective(&command, &matches));
    assert_eq!(again.as_ref(), Some(&values), "{text}");
}

/// The values of a command line that names a file with this text.
fn read(command: &clap::Command, text: &str) -> Option<ArgMatches> {
    let args = ["fuzz", "--config=file"].map(OsString::from).to_vec();
    let whole = |_: &std::path::Path| Ok(text.to_owned());
    let args = expand_with(command, args, whole, |error| error.kind().to_string());
    let args = args.ok()?;
    command.clone().try_get_matches_from(args).ok()
}
