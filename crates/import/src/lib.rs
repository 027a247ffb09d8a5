//! Reads the configurations of other translators, router advertisement daemons and resolvers, and
//! writes those of `clat` and `plat`.
//!
//! Each format has a module and a grammar of its own. What they say comes together in
//! `found::Found`: values for our flags with the line that they come from, directives that were left
//! out with the reason, and what behaves differently. `merge` makes one configuration of several
//! files, or refuses what contradicts itself, and `render` writes it. Nothing is guessed: a directive
//! is carried over, left out by name, or an error with line and column.
//!
//! There is no I/O: files are arguments, and what they include comes from [`Includes`].

mod blocks;
mod clatd;
mod detect;
mod found;
mod jool;
mod json;
mod merge;
mod named;
mod radvd;
mod render;
mod tayga;
mod text;
mod tundra;
mod unbound;

use std::fmt;
use std::net::Ipv6Addr;

use nat64::dynamic::map_file::Lease;

use found::Found;
use text::Text;
pub use text::{At, File};

/// Longest file that is read, in bytes.
pub const FILE_MAX: usize = 64 << 20;

/// What is wrong with a file, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {message}")]
pub struct Error {
    /// Where.
    pub at: At,
    /// What.
    pub message: String,
}

impl Error {
    pub(crate) fn new(at: &At, message: impl Into<String>) -> Self {
        Self {
            at: at.clone(),
            message: message.into(),
        }
    }
}

/// Where included files come from.
pub trait Includes {
    /// The files that `pattern` names, as it stands in the file `from`.
    ///
    /// # Errors
    /// Why there is none, for people.
    fn find(&self, pattern: &str, from: &str) -> Result<Vec<File>, String>;
}

/// Whose configuration is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// `clat`.
    Clat,
    /// `plat`.
    Plat,
}

impl Program {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Clat => "clat",
            Self::Plat => "plat",
        }
    }
}

/// The formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `tayga.conf`.
    Tayga,
    /// TAYGA's `dynamic.map`.
    DynamicMap,
    /// The JSON of `jool`, the stateful translator.
    Jool,
    /// The JSON of `jool_siit`, the stateless one.
    JoolSiit,
    /// A list of `jool` or `jool_siit` commands.
    JoolCommands,
    /// What `jool bib display --csv` prints.
    JoolBib,
    /// Tundra's configuration.
    Tundra,
    /// `radvd.conf`.
    Radvd,
    /// `unbound.conf`.
    Unbound,
    /// `named.conf` or `named.conf.options`.
    Named,
    /// `clatd.conf`.
    Clatd,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Tayga,
        Self::DynamicMap,
        Self::Jool,
        Self::JoolSiit,
        Self::JoolCommands,
        Self::JoolBib,
        Self::Tundra,
        Self::Radvd,
        Self::Unbound,
        Self::Named,
        Self::Clatd,
    ];

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tayga => "tayga",
            Self::DynamicMap => "dynamic-map",
            Self::Jool => "jool",
            Self::JoolSiit => "jool-siit",
            Self::JoolCommands => "jool-commands",
            Self::JoolBib => "jool-bib",
            Self::Tundra => "tundra",
            Self::Radvd => "radvd",
            Self::Unbound => "unbound",
            Self::Named => "named",
            Self::Clatd => "clatd",
        }
    }

    /// The format with this name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|format| format.name() == name)
    }

    /// The program that has no use for it; a translator like Tundra may be either.
    fn other_than(self, program: Program) -> Option<Program> {
        match (self, program) {
            (Self::Tundra, _) | (Self::Clatd, Program::Clat) => None,
            (Self::Clatd, Program::Plat) => Some(Program::Clat),
            (_, Program::Clat) => Some(Program::Plat),
            (_, Program::Plat) => None,
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What is said about the files beside their contents.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The format of all files; without it their contents decide.
    pub format: Option<Format>,
    /// Interfaces of `radvd.conf` to carry over; if empty, all.
    pub lans: Vec<String>,
    /// Where a DNS64 answers that answers on all addresses of its host.
    pub dns64: Vec<Ipv6Addr>,
}

/// A configuration that was read.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The file of ours.
    pub toml: String,
    /// Leases of the dynamic pool.
    pub leases: Vec<Lease>,
    /// Number of values that were carried over.
    pub values: usize,
    /// Number of directives that were not.
    pub left_out: usize,
}

/// One configuration of these files.
///
/// # Errors
/// All that is wrong with them.
pub fn import(
    program: Program,
    files: &[File],
    options: &Options,
    includes: &dyn Includes,
) -> Result<Imported, Vec<Error>> {
    let mut found = Found::default();
    for file in files {
        match Text::decode(file) {
            Ok(text) => read(program, &text, options, includes, &mut found),
            Err(error) => found.errors.push(error),
        }
    }
    merge::merge(program, &mut found);
    if !found.errors.is_empty() {
        return Err(found.errors);
    }
    let names: Vec<String> = files.iter().map(|file| file.name.clone()).collect();
    Ok(Imported {
        toml: render::toml(program, &names, &found),
        values: found.settings.len(),
        left_out: found.left_out.len(),
        leases: found.leases.into_iter().map(|(_, lease)| lease).collect(),
    })
}

fn read(
    program: Program,
    text: &Text,
    options: &Options,
    includes: &dyn Includes,
    found: &mut Found,
) {
    let Some(format) = options.format.or_else(|| detect::format(text)) else {
        let known: Vec<&str> = Format::ALL.iter().map(|format| format.name()).collect();
        let message = format!(
            "the contents do not tell which program this is for; say it with --format: {}",
            known.join(", ")
        );
        return found.error(&text.at(0), message);
    };
    if let Some(other) = format.other_than(program) {
        let (other, own) = (other.name(), program.name());
        let message =
            format!("this is in the format of {format}: `{other} import` reads it, not {own}");
        return found.error(&text.at(0), message);
    }
    match format {
        Format::Tayga => tayga::read(text, includes, found),
        Format::DynamicMap => tayga::read_leases(text, found),
        Format::Jool => jool::read_json(text, jool::Kind::Nat64, found),
        Format::JoolSiit => jool::read_json(text, jool::Kind::Siit, found),
        Format::JoolCommands => jool::read_commands(text, includes, found),
        Format::JoolBib => jool::read_bib(text, found),
        Format::Tundra => tundra::read(text, program, found),
        Format::Radvd => radvd::read(text, &options.lans, found),
        Format::Unbound => unbound::read(text, options, includes, found),
        Format::Named => named::read(text, options, includes, found),
        Format::Clatd => clatd::read(text, found),
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod formats;
