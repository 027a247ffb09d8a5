//! What has to be undone, on disk before it is done.
//!
//! One line of JSON for each change. The file is locked while its process lives, so a file that
//! is not locked was left by a process that was killed. Most of what it lists is gone with the TUN
//! device by then; what is left are kernel parameters and the address on the uplink.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::error::Error;
use super::plan::{Address, Route};

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
}

/// A journal that this process holds.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    entries: Vec<Undo>,
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
        let entries = text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect();
        Ok(Self {
            path,
            file,
            entries,
        })
    }

    /// Puts `undo` on disk. Only then may the change be made.
    pub(super) fn record(&mut self, undo: Undo) -> Result<(), Error> {
        let written = serde_json::to_string(&undo)
            .map_err(io::Error::other)
            .and_then(|line| writeln!(self.file, "{line}"))
            .and_then(|()| self.file.sync_data());
        written.map_err(|source| Error::Journal {
            path: self.path.clone(),
            source,
        })?;
        self.entries.push(undo);
        Ok(())
    }

    /// What has to be undone, oldest first.
    pub(super) fn entries(&self) -> &[Undo] {
        &self.entries
    }

    /// Forgets everything: all was undone.
    pub(super) fn clear(&mut self) -> Result<(), Error> {
        self.entries.clear();
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
    fn a_line_cut_off_by_a_crash_is_no_entry() {
        let dir = tempfile::tempdir().unwrap();
        let line = serde_json::to_string(&sysctl("a")).unwrap();
        std::fs::write(dir.path().join("clat.journal"), format!("{line}\n{{\"Sysc")).unwrap();
        let journal = Journal::open(dir.path(), "clat").unwrap();
        assert_eq!(journal.entries(), [sysctl("a")]);
    }
}
