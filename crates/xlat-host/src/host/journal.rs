//! What has to be undone, on disk before it is done.
//!
//! One line of JSON for each change. The file is locked while its process lives, so a file that
//! is not locked was left by a process that was killed. Most of what it lists is gone with the TUN
//! device by then; what is left are kernel parameters and the address on the uplink.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::error::Error;
use super::plan::{Address, Route, Step};

/// How to take back one change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Undo {
    /// Set a parameter back, if it still has the value we gave it.
    Sysctl {
        key: String,
        ours: String,
        was: String,
    },
    /// Remove an address.
    Address(Address),
    /// Remove a route.
    Route(Route),
    /// Answer no longer for an address.
    Proxy { dev: String, address: IpAddr },
}

impl Undo {
    /// True if this takes back that step.
    pub(super) fn is_of(&self, step: &Step) -> bool {
        match (self, step) {
            (Self::Sysctl { key, .. }, Step::Sysctl { key: of, .. }) => key == of,
            (Self::Address(address), Step::Address(of)) => address == of,
            (Self::Route(route), Step::Route(of)) => route == of,
            (
                Self::Proxy { dev, address },
                Step::Proxy {
                    dev: of_dev,
                    address: of,
                },
            ) => (dev, address) == (of_dev, of),
            _ => false,
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
            Self::Proxy { dev, address } => write!(f, "proxy {address} dev {dev}"),
        }
    }
}

/// A line of the file.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Line {
    /// The change in this line of the file, counted from 0, was taken back.
    Done { done: usize },
    /// A change that is to be taken back.
    Change(Undo),
}

/// A journal that this process holds.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    entries: Vec<Undo>,
    /// The entries' lines in the file.
    places: Vec<usize>,
    /// Lines in the file.
    lines: usize,
}

impl Journal {
    /// Opens and locks the journal `name` in `dir`, with what a killed process left in it.
    pub(super) fn open(dir: &Path, name: &str) -> Result<Self, Error> {
        let path = dir.join(format!("{name}.journal"));
        let failed = |source| Error::Journal {
            path: path.clone(),
            source,
        };
        std::fs::create_dir_all(dir).map_err(failed)?;
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true).mode(0o600);
        let mut file = options.open(&path).map_err(failed)?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(Error::Running(path));
        }
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(failed)?;
        // A line that was cut off by a crash stands for a change that was never made.
        let mut journal = Self {
            path,
            file,
            entries: Vec::new(),
            places: Vec::new(),
            lines: text.lines().count(),
        };
        for (place, line) in text.lines().enumerate() {
            match serde_json::from_str(line) {
                Ok(Line::Change(undo)) => {
                    journal.entries.push(undo);
                    journal.places.push(place);
                }
                Ok(Line::Done { done }) => journal.drop_entry(done),
                Err(_) => {}
            }
        }
        Ok(journal)
    }

    /// Puts `undo` on disk. Only then may the change be made.
    pub(super) fn record(&mut self, undo: Undo) -> Result<(), Error> {
        self.append(&Line::Change(undo.clone()))?;
        self.entries.push(undo);
        self.places.push(self.lines - 1);
        Ok(())
    }

    /// Forgets one entry: that change was taken back.
    pub(super) fn forget(&mut self, undo: &Undo) -> Result<(), Error> {
        let Some(number) = self.entries.iter().rposition(|entry| entry == undo) else {
            return Ok(());
        };
        let done = self.places[number];
        self.append(&Line::Done { done })?;
        self.drop_entry(done);
        Ok(())
    }

    fn append(&mut self, line: &Line) -> Result<(), Error> {
        let written = serde_json::to_string(line)
            .map_err(io::Error::other)
            .and_then(|line| writeln!(self.file, "{line}"))
            .and_then(|()| self.file.sync_data());
        written.map_err(|source| Error::Journal {
            path: self.path.clone(),
            source,
        })?;
        self.lines += 1;
        Ok(())
    }

    fn drop_entry(&mut self, place: usize) {
        if let Some(number) = self.places.iter().position(|one| *one == place) {
            self.entries.remove(number);
            self.places.remove(number);
        }
    }

    /// What has to be undone, oldest first.
    pub(super) fn entries(&self) -> &[Undo] {
        &self.entries
    }

    /// Forgets everything: all was undone.
    pub(super) fn clear(&mut self) -> Result<(), Error> {
        self.entries.clear();
        self.places.clear();
        self.lines = 0;
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
        std::fs::remove_file(&self.path).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sysctl(key: &str) -> Undo {
        Undo::Sysctl {
            key: key.into(),
            ours: "1".into(),
            was: "0".into(),
        }
    }

    #[test]
    fn what_a_killed_process_recorded_is_there_for_the_next_one() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(dir.path(), "clat").unwrap();
        journal.record(sysctl("a")).unwrap();
        journal.record(sysctl("b")).unwrap();
        assert!(matches!(
            Journal::open(dir.path(), "clat"),
            Err(Error::Running(_))
        ));
        drop(journal);

        let mut left = Journal::open(dir.path(), "clat").unwrap();
        assert_eq!(left.entries(), [sysctl("a"), sysctl("b")]);
        left.clear().unwrap();
        left.remove().unwrap();
        assert!(std::fs::read_dir(dir.path()).unwrap().next().is_none());
    }

    #[test]
    fn what_was_taken_back_meanwhile_is_not_there_for_the_next_one() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(dir.path(), "clat").unwrap();
        for key in ["a", "b", "c"] {
            journal.record(sysctl(key)).unwrap();
        }
        journal.forget(&sysctl("b")).unwrap();
        journal.record(sysctl("b")).unwrap();
        journal.forget(&sysctl("a")).unwrap();
        journal.forget(&sysctl("x")).unwrap();
        assert_eq!(journal.entries(), [sysctl("c"), sysctl("b")]);
        drop(journal);
        let left = Journal::open(dir.path(), "clat").unwrap();
        assert_eq!(left.entries(), [sysctl("c"), sysctl("b")]);
    }

    #[test]
    fn a_line_cut_off_by_a_crash_is_no_entry() {
        let dir = tempfile::tempdir().unwrap();
        let line = serde_json::to_string(&sysctl("a")).unwrap();
        std::fs::write(dir.path().join("clat.journal"), format!("{line}\n{{\"Sysc")).unwrap();
        let journal = Journal::open(dir.path(), "clat").unwrap();
        assert_eq!(journal.entries(), [sysctl("a")]);
    }
}
