//! Files that survive a restart. A file is replaced atomically: it has either the old contents or
//! the new.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The state directory of a daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateDir(PathBuf);

/// The state directory or a file in it cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot use {}: {source}; choose another --state-dir", path.display())]
pub struct StateError {
    path: PathBuf,
    source: io::Error,
}

impl StateDir {
    /// Opens the directory `path`, or creates it with access for its owner only.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.map_err(|source| StateError {
            path: path.into(),
            source,
        })?;
        Ok(Self(path.into()))
    }

    /// The contents of the file `name`; `None` if there is no such file.
    ///
    /// # Errors
    /// If it exists and cannot be read as text.
    pub fn read(&self, name: &str) -> Result<Option<String>, StateError> {
        match std::fs::read_to_string(self.0.join(name)) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(self.failed(name, source)),
        }
    }

    /// Opens the file `name` for reading; `None` if there is no such file.
    ///
    /// # Errors
    /// If it exists and cannot be opened.
    pub fn open_file(&self, name: &str) -> Result<Option<BufReader<File>>, StateError> {
        match File::open(self.0.join(name)) {
            Ok(file) => Ok(Some(BufReader::new(file))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(self.failed(name, source)),
        }
    }

    /// Writes `text` to the file `name` atomically: a new file is synced to disk and then renamed.
    ///
    /// # Errors
    /// If it cannot be written; the old file stays.
    pub fn write(&self, name: &str, text: &str) -> Result<(), StateError> {
        self.write_with(name, |file| file.write_all(text.as_bytes()))
    }

    /// The same, with the contents that `fill` writes.
    ///
    /// # Errors
    /// If it cannot be written; the old file stays.
    pub fn write_with(
        &self,
        name: &str,
        fill: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
    ) -> Result<(), StateError> {
        let new = self.0.join(format!("{name}.new"));
        let write = || {
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(true).mode(0o600);
            let mut file = BufWriter::new(options.open(&new)?);
            fill(&mut file)?;
            file.into_inner()?.sync_all()?;
            std::fs::rename(&new, self.0.join(name))?;
            File::open(&self.0)?.sync_all()
        };
        write().map_err(|source| self.failed(name, source))
    }

    /// Removes the file `name`.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn remove(&self, name: &str) -> Result<(), StateError> {
        std::fs::remove_file(self.0.join(name)).map_err(|source| self.failed(name, source))
    }

    /// Renames a damaged file to `name.damaged`, for inspection.
    ///
    /// # Errors
    /// If it cannot be renamed.
    pub fn set_aside(&self, name: &str) -> Result<(), StateError> {
        let aside = self.0.join(format!("{name}.damaged"));
        std::fs::rename(self.0.join(name), aside).map_err(|source| self.failed(name, source))
    }

    /// The secret in the file `secret`: two random numbers, generated at the first call. They are
    /// hash keys for values that must stay the same over restarts and be unpredictable.
    ///
    /// # Errors
    /// If the file can be neither read nor written.
    pub fn secret(&self) -> Result<[u64; 2], StateError> {
        const NAME: &str = "secret";
        if let Some(key) = self.read(NAME)?.as_deref().and_then(parse_key) {
            return Ok(key);
        }
        let key = random().map_err(|source| self.failed(NAME, source))?;
        self.write(NAME, &format!("{:016x} {:016x}\n", key[0], key[1]))?;
        Ok(key)
    }

    /// The secret in the directory `path`, if it has one. Creates nothing.
    ///
    /// # Errors
    /// If the file exists and cannot be read.
    pub fn known_secret(path: &Path) -> Result<Option<[u64; 2]>, StateError> {
        let text = Self(path.into()).read("secret")?;
        Ok(text.as_deref().and_then(parse_key))
    }

    fn failed(&self, name: &str, source: io::Error) -> StateError {
        StateError {
            path: self.0.join(name),
            source,
        }
    }
}

fn parse_key(text: &str) -> Option<[u64; 2]> {
    let (first, second) = text.trim().split_once(' ')?;
    Some([
        u64::from_str_radix(first, 16).ok()?,
        u64::from_str_radix(second, 16).ok()?,
    ])
}

/// Two random numbers from the kernel.
///
/// # Errors
/// If `/dev/urandom` cannot be read.
pub fn random() -> io::Result<[u64; 2]> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    let number = u128::from_ne_bytes(bytes);
    Ok([number as u64, (number >> 64) as u64])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_file_is_replaced_as_a_whole_and_belongs_to_its_owner() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("deep/state");
        let dir = StateDir::open(&path).unwrap();
        assert_eq!(dir.read("map").unwrap(), None);
        dir.write("map", "one").unwrap();
        dir.write("map", "two").unwrap();
        assert_eq!(dir.read("map").unwrap().as_deref(), Some("two"));
        let names: Vec<_> = std::fs::read_dir(&path).unwrap().collect();
        assert_eq!(names.len(), 1, "{names:?}");
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&path.join("map"))), (0o700, 0o600));
    }

    #[test]
    fn a_damaged_file_is_kept_for_inspection() {
        let root = tempfile::tempdir().unwrap();
        let dir = StateDir::open(root.path()).unwrap();
        dir.write("map", "\u{0}").unwrap();
        dir.set_aside("map").unwrap();
        assert_eq!(dir.read("map").unwrap(), None);
        assert!(root.path().join("map.damaged").exists());
    }

    #[test]
    fn the_secret_is_made_once() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(
            StateDir::known_secret(&root.path().join("no")).unwrap(),
            None
        );
        let dir = StateDir::open(root.path()).unwrap();
        let secret = dir.secret().unwrap();
        assert_eq!(StateDir::known_secret(root.path()).unwrap(), Some(secret));
        assert_eq!(dir.secret().unwrap(), secret);
        assert_ne!(secret[0], secret[1]);
    }
}
