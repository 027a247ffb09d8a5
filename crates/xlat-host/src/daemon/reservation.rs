//! Reserves names within a network namespace, each for one process at a time.
//!
//! Two instances that start at the same moment find the same address free. A lock on a file keeps
//! them apart, and the kernel releases it when its process ends, however it ends. The directory is
//! root's (or that of the daemon's user), so that no other user can take a name.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::host::{Error, Lock};
use crate::private_dir::PrivateDir;

/// The directory that all instances of this host share.
pub(super) const SHARED: &str = "/run/464xlat";

/// A reserved name, released when dropped.
#[derive(Debug)]
pub struct Reservation(#[expect(dead_code, reason = "it holds the lock")] Lock);

impl Reservation {
    /// Reserves a name. A process that may not use the directory that all instances share uses
    /// `run_dir`.
    ///
    /// # Errors
    /// [`Error::Running`] if another process has reserved the name.
    pub fn take(run_dir: &Path, name: &str) -> Result<Self, Error> {
        let shared = Path::new(SHARED);
        let directory = if is_ours(shared) { shared } else { run_dir };
        take_in(directory, name)
    }
}

fn take_in(directory: &Path, name: &str) -> Result<Reservation, Error> {
    let namespace = namespace().map_err(|source| Error::Journal {
        path: PathBuf::from(NAMESPACE),
        source,
    })?;
    Lock::take(directory, &format!("{namespace}-{name}")).map(Reservation)
}

/// This network namespace. The files of all namespaces of a host are in one directory.
const NAMESPACE: &str = "/proc/thread-self/ns/net";

/// The number of this network namespace.
fn namespace() -> io::Result<u64> {
    Ok(std::fs::metadata(NAMESPACE)?.ino())
}

/// Makes the directory if it is missing. True if this user and root alone may write to it.
fn is_ours(directory: &Path) -> bool {
    PrivateDir::create(directory, 0o700).is_ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_name_has_one_owner_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let first = take_in(dir.path(), "192.0.0.1").unwrap();
        let second = take_in(dir.path(), "192.0.0.1").unwrap_err();
        assert!(matches!(second, Error::Running(_)), "{second}");
        take_in(dir.path(), "192.0.0.3").unwrap();
        drop(first);
        take_in(dir.path(), "192.0.0.1").unwrap();
    }

    #[test]
    fn fc_12_a_directory_that_others_may_write_to_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("464xlat");
        assert!(is_ours(&path));
        let mode = std::fs::metadata(&path).unwrap().mode() & 0o777;
        assert_eq!(mode, 0o700);
        assert!(is_ours(&path));
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o777)).unwrap();
        assert!(!is_ours(&path));
    }
}
