//! `clat import`: the configuration of clatd as one of ours.

use std::ffi::OsString;

use anyhow::{Context, Result};
use import::{Options, Program};
use xlat_host::daemon::import::ImportFlags;
use xlat_host::daemon::values::Values;

use crate::NAME;
use crate::cli::Cli;
use crate::settings::Settings;

/// Reads the files, and writes a configuration file that `clat` accepts.
pub(crate) fn run(files: &ImportFlags) -> Result<()> {
    let imported = files.read(Program::Clat, Options::default())?;
    // What comes of it is not the command line's fault: no `Usage`.
    let checked = check(&imported.toml).map_err(|error| anyhow::anyhow!("{error:#}"));
    checked.context("clat would not start with what was imported")?;
    Ok(files.write(&imported)?)
}

fn check(text: &str) -> Result<()> {
    let args: Vec<OsString> = vec![NAME.into(), "--config".into(), "the imported file".into()];
    let (cli, _) = Values::read_with::<Cli>(args, |_| Ok(text.to_owned()))?;
    Settings::resolve(cli.run)?;
    Ok(())
}
