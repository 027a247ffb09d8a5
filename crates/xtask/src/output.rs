//! A directory that appears complete or not at all.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

/// Files that will be in the directory once it is [published](Staging::publish). What a killed run
/// left of its own is under another name, and is removed by the next one.
pub(crate) struct Staging {
    final_name: PathBuf,
    partial: PathBuf,
    files: Vec<File>,
}

/// A file that was made.
pub(crate) struct File {
    pub(crate) name: String,
    pub(crate) size: usize,
    pub(crate) sha256: String,
}

impl Staging {
    pub(crate) fn new(final_name: &Path) -> Result<Self> {
        let partial = beside(final_name, ".partial")?;
        remove(&partial)?;
        fs::create_dir_all(&partial).with_context(|| {
            format!(
                "{} cannot be made; --out names another place",
                partial.display()
            )
        })?;
        Ok(Self {
            final_name: final_name.to_owned(),
            partial,
            files: Vec::new(),
        })
    }

    pub(crate) fn write(&mut self, name: &str, bytes: &[u8], mode: u32) -> Result<()> {
        use std::os::unix::fs::PermissionsExt;
        let path = self.partial.join(name);
        let context = || format!("{} cannot be written", path.display());
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(context)?;
        }
        fs::write(&path, bytes).with_context(context)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).with_context(context)?;
        self.files.push(File {
            name: name.to_owned(),
            size: bytes.len(),
            sha256: hex(&Sha256::digest(bytes)),
        });
        Ok(())
    }

    /// Writes SHA256SUMS and gives the directory its name, in place of the one of before.
    pub(crate) fn publish(mut self) -> Result<Vec<File>> {
        self.files.sort_by(|one, other| one.name.cmp(&other.name));
        let lines = self
            .files
            .iter()
            .map(|file| format!("{}  {}\n", file.sha256, file.name));
        let sums = lines.collect::<String>();
        fs::write(self.partial.join("SHA256SUMS"), sums)?;
        let old = beside(&self.final_name, ".old")?;
        remove(&old)?;
        let context = || format!("{} cannot be replaced", self.final_name.display());
        if self.final_name.exists() {
            fs::rename(&self.final_name, &old).with_context(context)?;
        }
        fs::rename(&self.partial, &self.final_name).with_context(context)?;
        remove(&old)?;
        Ok(std::mem::take(&mut self.files))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        let _ = remove(&self.partial);
    }
}

fn beside(path: &Path, ending: &str) -> Result<PathBuf> {
    let name = path
        .file_name()
        .context("--out needs the name of a directory")?;
    let mut name = name.to_owned();
    name.push(ending);
    Ok(path.with_file_name(name))
}

fn remove(directory: &Path) -> Result<()> {
    match directory.symlink_metadata() {
        Err(_) => Ok(()),
        Ok(_) => fs::remove_dir_all(directory)
            .with_context(|| format!("{} cannot be removed", directory.display())),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn pk_03_a_directory_appears_whole_and_replaces_the_one_of_before() {
        let place = tempfile::tempdir().unwrap();
        let out = place.path().join("dist");
        for text in [&b"first"[..], b"second"] {
            // What a killed run left.
            fs::create_dir_all(place.path().join("dist.partial/half")).unwrap();
            let mut staging = Staging::new(&out).unwrap();
            staging.write("bin/clat", text, 0o755).unwrap();
            assert_eq!(out.exists(), text == b"second");
            staging.publish().unwrap();
            assert_eq!(fs::read(out.join("bin/clat")).unwrap(), text);
            assert_eq!(names(&out), ["SHA256SUMS", "bin"]);
            assert_eq!(names(place.path()), ["dist"]);
        }
        let sums = fs::read_to_string(out.join("SHA256SUMS")).unwrap();
        // printf second | sha256sum
        let sum = "16367aacb67a4a017c8da8ab95682ccb390863780f7114dda0a0e0c55644c7c4";
        assert_eq!(sums, format!("{sum}  bin/clat\n"));
    }

    #[test]
    fn pk_03_what_fails_leaves_the_directory_of_before() {
        let place = tempfile::tempdir().unwrap();
        let out = place.path().join("dist");
        fs::create_dir(&out).unwrap();
        let mut staging = Staging::new(&out).unwrap();
        staging.write("half", b"", 0o644).unwrap();
        drop(staging);
        assert_eq!(names(place.path()), ["dist"]);
        assert!(names(&out).is_empty());
    }

    #[test]
    fn pk_03_a_place_that_cannot_be_written_is_named_in_one_line() {
        let refusal = Staging::new(Path::new("/proc/dist")).err().unwrap();
        let line = format!("{refusal:#}");
        assert!(line.starts_with("/proc/dist.partial cannot be made; --out names another place: "));
        assert!(!line.contains('\n'));
    }
}
