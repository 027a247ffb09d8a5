//! The changes to undo, on disk before they are made.
//!
//! One line for each change (`line`), with a checksum of its own: the lines that are whole are
//! believed, the others are named and kept in a copy of the file. The file is locked while its process lives, so a file without
//! a lock was left by a killed process. Most of the changes it lists disappeared together with the
//! TUN device; what remains are kernel parameters and the address on the uplink.
//!
//! A change of an interface is recorded with the number of the interface: the kernel keeps what was
//! changed when the interface is renamed, so its present name is the one to undo it by.

mod line;

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::error::Error;
use super::interface;
use super::lock::RUN_DIR_MODE;
use super::plan::{Address, PolicyRule, Renamed, Route, Step, Subject};
use super::sysctl;
use crate::daemon::flags::interface_name;
use crate::nft::TablePlace;
use crate::private_dir::PrivateDir;
use line::Line;

/// The lines that are believed of a journal with these bytes, as they would be written. Total: any bytes
/// will do.
#[must_use]
pub fn believed_lines(bytes: &[u8]) -> Vec<String> {
    let lines = line::parse(bytes).lines;
    let lines = lines
        .iter()
        .map(|(number, line)| line::format(*number, line));
    lines.filter_map(Result::ok).collect()
}

/// How to undo one change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Undo {
    /// Set a parameter back to `was`, if it still has the value `ours`.
    Sysctl {
        key: String,
        ours: String,
        was: String,
    },
    /// Remove an address.
    Address(Address),
    /// Remove a route.
    Route(Route),
    /// Remove a routing policy rule.
    Rule(PolicyRule),
    /// Remove a proxy neighbour entry.
    Proxy { dev: String, address: IpAddr },
    /// Delete an nftables table. The kernel does so when the process ends, so this is never on
    /// disk.
    #[serde(skip)]
    Table(TablePlace),
}

impl Undo {
    /// True if this undoes `step`.
    pub(super) fn is_of(&self, step: &Step) -> bool {
        step.subject() == Some(self.subject())
    }

    /// The name of the interface that was changed; `None` if the change is of the whole host.
    fn device(&self) -> Option<String> {
        match self {
            Self::Sysctl { key, .. } => sysctl::device(key),
            Self::Address(Address { dev, .. })
            | Self::Route(Route { dev, .. })
            | Self::Proxy { dev, .. } => Some(dev.clone()),
            Self::Rule(_) | Self::Table(_) => None,
        }
    }

    /// The same change of the interface that is called `name`.
    fn on_device(&self, name: &str) -> Self {
        let mut same = self.clone();
        match &mut same {
            Self::Sysctl { key, .. } => *key = sysctl::on_device(key, name),
            Self::Address(Address { dev, .. })
            | Self::Route(Route { dev, .. })
            | Self::Proxy { dev, .. } => name.clone_into(dev),
            Self::Rule(_) | Self::Table(_) => {}
        }
        same
    }

    fn subject(&self) -> Subject<'_> {
        match self {
            Self::Sysctl { key, .. } => Subject::Sysctl(key),
            Self::Address(address) => Subject::Address(address),
            Self::Route(route) => Subject::Route(route),
            Self::Rule(rule) => Subject::Rule(rule),
            Self::Proxy { dev, address } => Subject::Proxy(dev, *address),
            Self::Table(place) => Subject::Table(place.clone()),
        }
    }

    /// True if a daemon can have made this change: a line that was forged is not believed.
    fn is_plausible(&self) -> bool {
        let is_sound = match self {
            Self::Sysctl { key, ours, was } => {
                let is_line = |value: &str| !value.contains(char::is_control);
                sysctl::is_of_network(key) && is_line(ours) && is_line(was)
            }
            Self::Address(Address { address, len, .. }) => is_prefix(*address, *len),
            Self::Route(Route { to, len, .. }) => is_prefix(*to, *len),
            Self::Rule(PolicyRule { to, len, .. }) => is_prefix(*to, *len),
            Self::Proxy { .. } | Self::Table(_) => true,
        };
        let mut device = self.device().into_iter();
        is_sound && device.all(|name| interface_name(&name).is_ok())
    }

    /// True if the change does not outlive its process, so that the next one has nothing to undo.
    fn ends_with_process(&self) -> bool {
        match self {
            Self::Sysctl { .. }
            | Self::Address(_)
            | Self::Route(_)
            | Self::Rule(_)
            | Self::Proxy { .. } => false,
            Self::Table(_) => true,
        }
    }
}

impl fmt::Display for Undo {
    /// The change that was made.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sysctl { key, ours, was } => write!(f, "sysctl {key}={ours}, before: {was}"),
            Self::Address(address) => write!(f, "{address}"),
            Self::Route(route) => write!(f, "{route}"),
            Self::Rule(rule) => write!(f, "{rule}"),
            Self::Proxy { dev, address } => write!(f, "proxy {address} dev {dev}"),
            Self::Table(place) => write!(f, "nftables table {place}"),
        }
    }
}

fn is_prefix(address: IpAddr, len: u8) -> bool {
    len <= if address.is_ipv6() { 128 } else { 32 }
}

/// A change to undo.
#[derive(Debug)]
pub(super) struct Entry {
    undo: Undo,
    /// Number of the changed interface; `None` if it is unknown or the change is of the whole host.
    link: Option<u32>,
    /// The number of its line in the file; `None` if it is not on disk.
    line: Option<usize>,
}

/// The changes in a journal.
pub(super) type Entries<'a> = std::iter::Map<std::slice::Iter<'a, Entry>, fn(&Entry) -> &Undo>;

/// A journal that this process holds.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    dir: PrivateDir,
    name: String,
    file: File,
    entries: Vec<Entry>,
    /// The number of the next line.
    next: usize,
    /// Lines of the file that are not believed, for people.
    damaged: Vec<String>,
}

impl Journal {
    /// Opens and locks the journal `name` in `dir`, and reads the entries that a killed process
    /// left in it.
    pub(super) fn open(dir: &Path, name: &str) -> Result<Self, Error> {
        let name = format!("{name}.journal");
        let path = dir.join(&name);
        let failed = |source| Error::Journal {
            path: path.clone(),
            source,
        };
        let dir = PrivateDir::create(dir, RUN_DIR_MODE).map_err(failed)?;
        let mut file = dir.append(&name).map_err(failed)?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(Error::Running(path));
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(failed)?;
        if !bytes.is_empty() && !bytes.ends_with(b"\n") {
            // A crash cut the last line off: the next one begins anew.
            file.write_all(b"\n").map_err(failed)?;
        }
        let contents = line::parse(&bytes);
        if !contents.damaged.is_empty() {
            keep_copy(&dir, &name, &bytes);
        }
        let mut journal = Self {
            path,
            dir,
            name,
            file,
            entries: Vec::new(),
            next: contents.next,
            damaged: contents.damaged,
        };
        for (number, line) in contents.lines {
            match line {
                Line::Change { undo, link } => journal.entries.push(Entry {
                    undo,
                    link,
                    line: Some(number),
                }),
                Line::Done { done } => journal.drop_entry(done),
            }
        }
        Ok(journal)
    }

    /// Writes `undo` to disk. Call this before making the change.
    pub(super) fn record(&mut self, undo: Undo) -> Result<(), Error> {
        let link = undo.device().and_then(|name| interface::index(&name));
        let line = if undo.ends_with_process() {
            None
        } else {
            let undo = undo.clone();
            self.append(&Line::Change { undo, link })?;
            Some(self.next - 1)
        };
        self.entries.push(Entry { undo, link, line });
        Ok(())
    }

    /// Removes one entry, whose change was undone.
    pub(super) fn forget(&mut self, undo: &Undo) -> Result<(), Error> {
        let is_it = |entry: &Entry| entry.undo == *undo;
        let Some(at) = self.entries.iter().rposition(is_it) else {
            return Ok(());
        };
        if let Some(done) = self.entries[at].line {
            self.append(&Line::Done { done })?;
        }
        self.entries.remove(at);
        Ok(())
    }

    /// Gives the entries the present names of their interfaces. An entry whose interface has gone
    /// keeps its name: another interface may have it by now. Returns what was renamed.
    pub(super) fn follow_renames(&mut self) -> Vec<Renamed> {
        let mut all = Vec::new();
        for entry in &mut self.entries {
            let now = entry.link.and_then(interface::name);
            let (Some(old), Some(new)) = (entry.undo.device(), now) else {
                continue;
            };
            if old != new {
                entry.undo = entry.undo.on_device(&new);
                all.push(Renamed { old, new });
            }
        }
        all.sort_unstable();
        all.dedup();
        all
    }

    fn append(&mut self, line: &Line) -> Result<(), Error> {
        let written = line::format(self.next, line)
            .map_err(io::Error::other)
            .and_then(|text| self.file.write_all(text.as_bytes()))
            .and_then(|()| self.file.sync_data());
        written.map_err(|source| Error::Journal {
            path: self.path.clone(),
            source,
        })?;
        self.next += 1;
        Ok(())
    }

    fn drop_entry(&mut self, number: usize) {
        self.entries.retain(|entry| entry.line != Some(number));
    }

    /// Lines that are not believed, for people: their changes, if they were made, are not known.
    pub(super) fn damaged(&self) -> &[String] {
        &self.damaged
    }

    /// The changes to undo, oldest first.
    pub(super) fn entries(&self) -> Entries<'_> {
        self.entries.iter().map(|entry| &entry.undo)
    }

    /// Removes all entries, whose changes were undone.
    pub(super) fn clear(&mut self) -> Result<(), Error> {
        self.entries.clear();
        self.damaged.clear();
        self.next = 0;
        let failed = |source| Error::Journal {
            path: self.path.clone(),
            source,
        };
        self.file.set_len(0).map_err(failed)
    }

    /// Removes the file, which must be empty.
    pub(super) fn remove(self) -> Result<(), Error> {
        let failed = |source| Error::Journal {
            path: self.path.clone(),
            source,
        };
        // The run directory may have been removed meanwhile, and the file with it.
        self.dir.remove(&self.name).map_err(failed)
    }
}

/// Keeps the bytes of a damaged journal for inspection, as far as the disk lets us.
fn keep_copy(dir: &PrivateDir, name: &str, bytes: &[u8]) {
    let kept = dir.replace(&format!("{name}.damaged"));
    if let Err(error) = kept.and_then(|mut copy| copy.write_all(bytes)) {
        warn!("no copy of the damaged {name} is kept: {error}");
    }
}

#[cfg(test)]
mod tests;
