//! One process for each name in a run directory, as long as it lives.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::error::Error;

/// The name is this process's until this is dropped.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    /// Holds the lock.
    _file: File,
}

impl Lock {
    /// Takes the name `name` in `run_dir`.
    ///
    /// # Errors
    /// [`Error::Running`] if another process has it.
    pub fn take(run_dir: &Path, name: &str) -> Result<Self, Error> {
        let path = run_dir.join(format!("{name}.lock"));
        let failed = |source| Error::Journal {
            path: path.clone(),
            source,
        };
        std::fs::create_dir_all(run_dir).map_err(failed)?;
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(&path).map_err(failed)?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(Error::Running(path));
        }
        Ok(Self { path, _file: file })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // A run directory that is gone is no reason to complain.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_taken_once_and_free_again_afterwards() {
        let dir = tempfile::tempdir().unwrap();
        let first = Lock::take(dir.path(), "clat").unwrap();
        let second = Lock::take(dir.path(), "clat").unwrap_err();
        assert!(matches!(second, Error::Running(_)), "{second}");
        Lock::take(dir.path(), "clat1").unwrap();
        drop(first);
        Lock::take(dir.path(), "clat").unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
