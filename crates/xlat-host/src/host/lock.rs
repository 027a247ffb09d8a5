//! Locks a name in a run directory for as long as the process lives.

use std::fs::File;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use super::error::Error;
use crate::private_dir::PrivateDir;

/// An exclusive lock on a name, released when dropped.
#[derive(Debug)]
pub struct Lock {
    dir: PrivateDir,
    name: String,
    /// Closing the file releases the lock.
    _file: File,
}

impl Lock {
    /// Locks the name `name` in `run_dir`.
    ///
    /// # Errors
    /// [`Error::Running`] if another process holds the lock; also if other users may change the
    /// directory.
    pub fn take(run_dir: &Path, name: &str) -> Result<Self, Error> {
        let name = format!("{name}.lock");
        let path = run_dir.join(&name);
        let failed = |source| Error::Journal {
            path: path.clone(),
            source,
        };
        let dir = PrivateDir::create(run_dir, RUN_DIR_MODE).map_err(failed)?;
        loop {
            let file = dir.append(&name).map_err(failed)?;
            if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
                return Err(Error::Running(path));
            }
            // Its last owner may have removed it after it was opened here.
            if dir.is_named(&file, &name).map_err(failed)? {
                return Ok(Self {
                    dir,
                    name,
                    _file: file,
                });
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // The run directory may have been removed meanwhile.
        let _ = self.dir.remove(&self.name);
    }
}

/// Other users may look for a daemon in its run directory; its files are for their owner alone.
pub(crate) const RUN_DIR_MODE: u32 = 0o755;

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
