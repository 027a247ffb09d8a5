//! Files that survive a restart. A file is replaced atomically: it has either the old contents or
//! the new. One that was damaged all the same is set aside, and nothing of it is believed; none
//! keeps a daemon from starting.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use rustix::rand::{GetRandomFlags, getrandom};
use tracing::warn;

use super::saved_file::{self, Saved};
use crate::private_dir::PrivateDir;

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
    /// If it cannot be created, or other users may change it.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let dir = Self(path.into());
        let opened = dir.held();
        opened.map_err(|source| StateError {
            path: path.into(),
            source,
        })?;
        Ok(dir)
    }

    /// The directory, for one operation: it may have been removed since the last one.
    fn held(&self) -> io::Result<PrivateDir> {
        PrivateDir::create(&self.0, 0o700)
    }

    /// Opens the state file `name`; `None` if there is none that can be believed. A damaged file is
    /// set aside, which the log says together with `consequence`, what follows from it.
    pub fn open_saved(&self, name: &str, consequence: &str) -> Option<Saved> {
        let file = match self.held().and_then(|dir| dir.read(name)) {
            Ok(Some(file)) => file,
            Ok(None) => return None,
            Err(error) => {
                self.set_aside(name, &error.to_string(), consequence);
                return None;
            }
        };
        match saved_file::open(file, name) {
            Ok(saved) => Some(saved),
            Err(damage) => {
                self.set_aside(name, &damage, consequence);
                None
            }
        }
    }

    /// Writes the state file `name` atomically, with the contents that `fill` writes: a new file is
    /// synced to disk and then renamed.
    ///
    /// # Errors
    /// If it cannot be written; the old file stays.
    pub fn save(
        &self,
        name: &str,
        fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), StateError> {
        self.replace(name, |file| saved_file::write(file, name, fill))
    }

    fn replace(
        &self,
        name: &str,
        fill: impl FnOnce(&mut BufWriter<std::fs::File>) -> io::Result<()>,
    ) -> Result<(), StateError> {
        let new = format!("{name}.new");
        let write = || {
            let dir = self.held()?;
            let mut file = BufWriter::new(dir.replace(&new)?);
            fill(&mut file)?;
            file.into_inner()?.sync_all()?;
            dir.rename(&new, name)?;
            dir.sync()
        };
        write().map_err(|source| self.failed(name, source))
    }

    /// Removes the file `name`, if there is one.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn remove(&self, name: &str) -> Result<(), StateError> {
        let removed = self.held().and_then(|dir| dir.remove(name));
        removed.map_err(|error| self.failed(name, error))
    }

    /// Renames a damaged file to `name.damaged`, for inspection, and says so in the log, with what
    /// is wrong with the file and what follows.
    pub fn set_aside(&self, name: &str, damage: &str, consequence: &str) {
        let path = self.0.join(name);
        warn!(
            "{} is damaged ({damage}) and set aside: {consequence}",
            path.display()
        );
        let aside = format!("{name}.damaged");
        let renamed = self.held().and_then(|dir| dir.rename(name, &aside));
        if let Err(error) = renamed {
            warn!("{} stays where it is: {error}", path.display());
        }
    }

    /// The secret in the file `secret`: two random numbers, generated at the first call. They are
    /// hash keys for values that must stay the same over restarts and be unpredictable. One that
    /// cannot be written to disk serves until the process ends.
    ///
    /// # Errors
    /// If the kernel gives no random numbers.
    pub fn secret(&self) -> Result<[u64; 2], StateError> {
        let consequence = "a new one is made, and what was derived from it is another one now";
        let saved = self.open_saved(SECRET, consequence);
        let is_current = saved.as_ref().is_some_and(|saved| !saved.is_old);
        let known = match saved.map(read_key) {
            Some(Ok(key)) => Some(key),
            Some(Err(damage)) => {
                self.set_aside(SECRET, &damage, consequence);
                None
            }
            None => None,
        };
        let key = match known {
            Some(key) if is_current => return Ok(key),
            Some(key) => key,
            None => random().map_err(|source| self.failed(SECRET, source))?,
        };
        let line = format!("{:016x} {:016x}", key[0], key[1]);
        if let Err(error) = self.save(SECRET, |file| writeln!(file, "{line}")) {
            warn!("the next start will have another secret: {error}");
        }
        Ok(key)
    }

    /// The secret in the directory `path`, if it has one that is whole. Changes nothing.
    ///
    /// # Errors
    /// If the file exists and cannot be read, or other users may change it.
    pub fn known_secret(path: &Path) -> Result<Option<[u64; 2]>, StateError> {
        match PrivateDir::open(path).and_then(|dir| dir.read(SECRET)) {
            Ok(Some(file)) => Ok(saved_file::open(file, SECRET).and_then(read_key).ok()),
            Ok(None) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Self(path.into()).failed(SECRET, source)),
        }
    }

    fn failed(&self, name: &str, source: io::Error) -> StateError {
        StateError {
            path: self.0.join(name),
            source,
        }
    }
}

const SECRET: &str = "secret";

fn read_key(saved: Saved) -> Result<[u64; 2], String> {
    let text = saved.text().map_err(|error| error.to_string())?;
    parse_key(&text).ok_or_else(|| "not two numbers".into())
}

/// Two numbers of 16 hexadecimal digits, and nothing else.
fn parse_key(text: &str) -> Option<[u64; 2]> {
    let (first, second) = text.strip_suffix('\n').unwrap_or(text).split_once(' ')?;
    let number = |text: &str| {
        let is_whole = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_whole.then(|| u64::from_str_radix(text, 16).ok())?
    };
    Some([number(first)?, number(second)?])
}

/// Two random numbers from the kernel.
///
/// # Errors
/// If it has none yet, early at boot.
pub fn random() -> io::Result<[u64; 2]> {
    let mut bytes = [0; 16];
    // So few come at once, or none.
    getrandom(&mut bytes, GetRandomFlags::empty())?;
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
        let text = |dir: &StateDir| dir.open_saved("map", "").map(|saved| saved.text().unwrap());
        assert_eq!(text(&dir), None);
        dir.save("map", |file| writeln!(file, "one")).unwrap();
        dir.save("map", |file| writeln!(file, "two")).unwrap();
        assert_eq!(text(&dir).as_deref(), Some("two\n"));
        let names: Vec<_> = std::fs::read_dir(&path).unwrap().collect();
        assert_eq!(names.len(), 1, "{names:?}");
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&path.join("map"))), (0o700, 0o600));
    }

    #[test]
    fn fp_14_a_damaged_file_is_kept_for_inspection() {
        let root = tempfile::tempdir().unwrap();
        let dir = StateDir::open(root.path()).unwrap();
        for damaged in [&b"464xlat map 2\none\nend 0\n"[..], b"464xlat map \xff\xfe"] {
            std::fs::write(root.path().join("map"), damaged).unwrap();
            assert!(dir.open_saved("map", "").is_none());
            assert!(!root.path().join("map").exists());
            let kept = std::fs::read(root.path().join("map.damaged"));
            assert_eq!(kept.unwrap(), damaged);
        }
        // What is no file at all is no reason to end either.
        std::fs::create_dir(root.path().join("map")).unwrap();
        std::fs::remove_file(root.path().join("map.damaged")).unwrap();
        assert!(dir.open_saved("map", "").is_none());
        assert!(!root.path().join("map").exists());
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

    #[test]
    fn fp_14_the_secret_of_version_1_stays_and_a_damaged_one_is_replaced() {
        let root = tempfile::tempdir().unwrap();
        let dir = StateDir::open(root.path()).unwrap();
        let path = root.path().join("secret");
        let old = "0123456789abcdef fedcba9876543210\n";
        std::fs::write(&path, old).unwrap();
        let key = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210];
        assert_eq!(StateDir::known_secret(root.path()).unwrap(), Some(key));
        assert_eq!(dir.secret().unwrap(), key);
        let new = std::fs::read_to_string(&path).unwrap();
        assert!(new.starts_with("464xlat secret 2\n") && new.contains(old));
        assert_eq!(dir.secret().unwrap(), key);

        for damaged in [
            &b"0123456789abcdef fedcba987654321\n"[..],
            b"+123456789abcdef fedcba9876543210\n",
            b"\xff\xfe",
            b"",
            new.replace('a', "b").as_bytes(),
        ] {
            std::fs::write(&path, damaged).unwrap();
            assert_eq!(StateDir::known_secret(root.path()).unwrap(), None);
            let secret = dir.secret().unwrap();
            assert_ne!(secret, key);
            assert_eq!(dir.secret().unwrap(), secret);
        }
    }

    #[test]
    fn fp_14_a_secret_that_cannot_be_saved_serves_for_now() {
        let root = tempfile::tempdir().unwrap();
        let dir = StateDir::open(root.path()).unwrap();
        // The name of the new file is taken.
        std::fs::create_dir(root.path().join("secret.new")).unwrap();
        assert_ne!(dir.secret().unwrap(), [0, 0]);
    }
}
