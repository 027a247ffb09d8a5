//! A command line with its configuration file, as values: read again at a reload, compared, printed.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt;
use std::path::Path;

use clap::Parser;

use super::{exit, file};

/// The values in force, as lines of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Values(BTreeSet<String>);

impl Values {
    /// Reads a command line and the file that it names, as a start does.
    ///
    /// # Errors
    /// One line that names what is wrong.
    pub fn read<C: Parser>(args: Vec<OsString>) -> Result<(C, Self), exit::Usage> {
        Self::read_with(args, |path| std::fs::read_to_string(path))
    }

    /// The same, with the file read by `read`.
    ///
    /// # Errors
    /// One line that names what is wrong.
    pub fn read_with<C: Parser>(
        args: Vec<OsString>,
        read: impl FnOnce(&Path) -> std::io::Result<String>,
    ) -> Result<(C, Self), exit::Usage> {
        let command = C::command();
        let args = file::expand_with(&command, args, read, exit::one_line);
        let args = args.map_err(|error| exit::Usage(error.to_string()))?;
        let wrong = |error: clap::Error| exit::Usage(exit::one_line(&error));
        let matches = command.clone().try_get_matches_from(&args).map_err(wrong)?;
        let cli = C::try_parse_from(&args).map_err(wrong)?;
        let values = match matches.subcommand() {
            Some((name, matches)) => {
                let flags = command.find_subcommand(name).unwrap_or(&command);
                file::effective(flags, matches)
            }
            None => file::effective(&command, &matches),
        };
        Ok((cli, Self(values.lines().map(str::to_owned).collect())))
    }

    /// The values as an object.
    pub fn to_json(&self) -> serde_json::Value {
        let table = toml::from_str::<toml::Table>(&self.to_string());
        // What was made of values reads as such.
        serde_json::to_value(table.unwrap_or_default()).unwrap_or_default()
    }

    /// Names of the values that are not the same.
    pub fn differences(&self, other: &Self) -> BTreeSet<String> {
        let names = self.0.symmetric_difference(&other.0).map(|line| {
            let name = line.split(" = ").next();
            name.unwrap_or(line).to_owned()
        });
        names.collect()
    }
}

impl fmt::Display for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}
