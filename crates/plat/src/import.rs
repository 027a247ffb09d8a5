//! `plat import`: configurations of other programs as one of ours, and the leases of TAYGA.

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use import::{Imported, Options, Program};
use nat64_host::Leases;
use xlat_host::daemon::exit::Usage;

use crate::check;
use crate::cli::Import;

/// Reads the files, and writes a configuration file that `plat` accepts.
pub(crate) fn run(flags: &Import) -> Result<()> {
    let options = Options {
        lans: flags.lan.clone(),
        dns64: flags.dns64.clone(),
        ..Options::default()
    };
    let imported = flags.files.read(Program::Plat, options)?;
    // What comes of it is not the command line's fault: no `Usage`.
    let checked = check::text(&imported.toml).map_err(|error| anyhow!("{error:#}"));
    checked.context("plat would not start with what was imported")?;
    match (&flags.state_dir, imported.leases.is_empty()) {
        (_, true) => Ok(flags.files.write(&imported)?),
        (Some(dir), false) => write_both(flags, &imported, dir),
        (None, false) => bail!(Usage(format!(
            "these files have {} leases: name the directory where plat will look for them, as in \
             --state-dir /var/lib/plat",
            imported.leases.len()
        ))),
    }
}

/// The leases first: without them the file would be complete and mean something else.
fn write_both(flags: &Import, imported: &Imported, dir: &Path) -> Result<()> {
    Leases::write_new(dir, &imported.leases)?;
    let written = flags.files.write(imported);
    if written.is_err() {
        Leases::remove(dir)?;
    }
    Ok(written?)
}
