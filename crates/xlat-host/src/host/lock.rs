//! Locks a name in a run directory for as long as the process lives.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::error::Error;

/// An exclusive lock on a name, released when dropped.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    /// Closing the file releases the lock.
    _file: File,
}

impl Lock {
    /// Locks the name `name` in `run_dir`.
    ///
    /// # Errors
    /// [`Error::Running`] if another process holds the lock.
    pub fn take(run_dir: &Path, name: &str) -> Result<Self, Error> {
        let path = run_dir.join(format!("{name}.lock"));
        let failed = |source| Error::Journal {
            path: path.clone(),
            source,
        };
        std::fs::create_dir_all(run_dir).map_err(failed)?;
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        loop {
            let file = options.open(&path).map_err(failed)?;
            if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
                return Err(Error::Running(path));
            }
            // Its last owner may have removed it after it was opened here.
            if is_file(&path, &file).map_err(failed)? {
                return Ok(Self { path, _file: file });
            }
        }
    }
}

/// True if `file` still is the file at `path`.
fn is_file(path: &Path, file: &File) -> io::Result<bool> {
    let ours = file.metadata()?;
    match std::fs::metadata(path) {
        Ok(now) => Ok((now.dev(), now.ino()) == (ours.dev(), ours.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // The run directory may have been removed meanwhile.
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
