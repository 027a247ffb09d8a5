//! The configuration file, read again while sessions run.
//!
//! Nothing changes unless everything can: the file is read and checked as at a start, then what is
//! different is looked at. Some values stand for things that sessions hang on; a file that changes
//! one of those is refused as a whole.

use std::collections::BTreeSet;
use std::ffi::OsString;

use anyhow::{Context, Result, anyhow, bail};
use xlat_host::daemon::exit::Usage;
use xlat_host::daemon::flags::reloadable;
use xlat_host::daemon::values::Values;
use xlat_host::host::Repairs;

use crate::NAME;
use crate::cli::{Cli, Command, Run};
use crate::settings::Settings;

/// Reads command line and file, as at the start.
pub(crate) fn read(args: Vec<OsString>) -> Result<(Run, Values)> {
    let (cli, values) = Values::read::<Cli>(args).map_err(|Usage(line)| anyhow!(line))?;
    match cli.command {
        Some(Command::Run(run)) => Ok((*run, values)),
        None => Ok((cli.run, values)),
        _ => bail!("{NAME} does not run"),
    }
}

/// What a changed file comes to.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) settings: Settings,
    pub(crate) values: Values,
    /// Names of the values that are others now.
    pub(crate) changed: BTreeSet<String>,
}

/// Reads the file again; `old` are the settings in force and `values` their values.
pub(crate) fn read_again(old: &Settings, values: &Values) -> Result<Reading> {
    let (run, new) = read(std::env::args_os().collect())?;
    // What was chosen at the start stays.
    let settings = Settings::resolve(run, old.facts.clone())?;
    // Other words may mean the same.
    let changed = if settings == *old {
        BTreeSet::new()
    } else {
        values.differences(&new)
    };
    let reloadable = reloadable(&<Cli as clap::CommandFactory>::command());
    let fixed: Vec<&str> = changed
        .difference(&reloadable)
        .map(String::as_str)
        .collect();
    if !fixed.is_empty() {
        bail!("a changed {} needs a restart", fixed.join(", "));
    }
    if old.dynamic_pool.is_some() && changed.contains("client") {
        bail!("a changed client needs a restart with dynamic-pool");
    }
    Ok(Reading {
        settings,
        values: new,
        changed,
    })
}

/// What a reload changed, for people.
pub(crate) fn describe(changed: &BTreeSet<String>, repairs: &Repairs) -> String {
    let names: Vec<&str> = changed.iter().map(String::as_str).collect();
    let restored: Vec<&str> = repairs.steps().collect();
    match (names.as_slice(), restored.as_slice()) {
        ([], []) => "the configuration has not changed".into(),
        (names, []) => format!("applied: {}", names.join(", ")),
        ([], restored) => format!(
            "the configuration has not changed; restored on the host: {}",
            restored.join("; ")
        ),
        (names, restored) => format!(
            "applied: {}; restored on the host: {}",
            names.join(", "),
            restored.join("; ")
        ),
    }
}

/// For messages about a reload that was refused.
pub(crate) fn refused(error: &anyhow::Error) -> String {
    format!("nothing has changed: {error:#}")
}

/// The values of the command line that this process was started with.
pub(crate) fn values_at_start() -> Result<Values> {
    let read = read(std::env::args_os().collect());
    Ok(read.context("the command line")?.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(flags: &[&str]) -> Values {
        let args = [&["plat"], flags].concat();
        read(args.into_iter().map(OsString::from).collect())
            .unwrap()
            .1
    }

    #[test]
    fn what_is_different_is_named_and_some_of_it_takes_a_restart() {
        let flags = ["--prefix=64:ff9b::/96", "--pool=192.0.2.0/28"];
        let old = values(&flags);
        assert_eq!(old.differences(&old), BTreeSet::new());
        let more = ["--bind=tcp:192.0.2.1:80=[2001:db8::1]:80", "--mtu=1400"];
        let new = values(&[&flags[..], &more].concat());
        let names: Vec<String> = old.differences(&new).into_iter().collect();
        assert_eq!(names, ["bind", "mtu"]);
        let reloadable = reloadable(&<Cli as clap::CommandFactory>::command());
        let may_change = |name: &str| reloadable.contains(name);
        assert!(may_change("bind") && may_change("tcp-est-timeout"));
        assert!(!may_change("mtu") && !may_change("pool") && !may_change("lan"));
    }

    #[test]
    fn the_document_names_the_flags_that_a_reload_may_change() {
        let document = include_str!("../../../docs/configuration.md");
        let (_, rest) = document
            .split_once("A reload may change these flags:")
            .expect("the list has this beginning");
        let (list, _) = rest.split_once("\n\n").expect("a paragraph ends");
        let named = list.split('`').filter_map(|word| word.strip_prefix("--"));
        let named: BTreeSet<String> = named.map(str::to_owned).collect();
        assert_eq!(named, reloadable(&<Cli as clap::CommandFactory>::command()));
    }

    #[test]
    fn several_reloadable_flags_go_together() {
        let flags = ["--prefix=64:ff9b::/96", "--pool=192.0.2.0/28"];
        let more = ["--udp-timeout=6m", "--tos=0", "--ra-mtu=1400"];
        assert_ne!(values(&flags), values(&[&flags[..], &more].concat()));
    }

    #[test]
    fn a_run_is_read_with_and_without_its_name() {
        let flags = ["--prefix=64:ff9b::/96", "--pool=192.0.2.0/28"];
        assert_eq!(values(&flags), values(&[&["run"], &flags[..]].concat()));
    }
}
