//! Both programs on this machine, with all that belongs to them.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::binaries::{self, Target};
use crate::contents::{self, Entry, Layout};
use crate::say;
use crate::source::PROGRAMS;

pub(crate) fn run(prefix: &Path, destdir: &Path, target: Option<Target>) -> Result<()> {
    ensure!(
        prefix.is_absolute(),
        "--prefix {} is no absolute path",
        prefix.display()
    );
    let target = target.map_or_else(Target::of_this_machine, Ok)?;
    let layout = Layout::new(prefix);
    let sbin = below(destdir, &prefix.join("sbin"));
    // Before minutes of compilation.
    fs::create_dir_all(&sbin).with_context(|| refusal(&sbin))?;
    tempfile::tempfile_in(&sbin).with_context(|| refusal(&sbin))?;
    let binaries = binaries::build(&target)?;
    for program in &PROGRAMS {
        let binary = binaries.read(program.name)?;
        for entry in contents::of(program.name, binary, &layout)? {
            put(&entry, destdir)?;
        }
    }
    Ok(())
}

/// Writes beside the final name first: a program that runs is not overwritten but replaced.
fn put(entry: &Entry, destdir: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let path = below(destdir, &entry.path);
    if entry.is_configuration && path.exists() {
        say(&format!("{} stays as it is", path.display()));
        return Ok(());
    }
    let folder = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder).with_context(|| refusal(&path))?;
    let mut file = tempfile::NamedTempFile::new_in(folder).with_context(|| refusal(&path))?;
    std::io::Write::write_all(&mut file, &entry.bytes).with_context(|| refusal(&path))?;
    let permissions = fs::Permissions::from_mode(entry.mode);
    file.as_file().set_permissions(permissions)?;
    file.persist(&path).with_context(|| refusal(&path))?;
    say(&path.display().to_string());
    Ok(())
}

fn below(destdir: &Path, path: &Path) -> std::path::PathBuf {
    destdir.join(path.strip_prefix("/").unwrap_or(path))
}

fn refusal(path: &Path) -> String {
    format!(
        "{} cannot be written; install as root, or elsewhere with --prefix or --destdir",
        path.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pk_04_a_configuration_file_of_the_administrator_stays() {
        let root = tempfile::tempdir().unwrap();
        let entry = |is_configuration, text: &str| Entry {
            path: "/etc/clat.toml".into(),
            mode: 0o644,
            bytes: text.into(),
            is_configuration,
        };
        let read = || fs::read_to_string(root.path().join("etc/clat.toml")).unwrap();
        put(&entry(true, "first"), root.path()).unwrap();
        assert_eq!(read(), "first");
        put(&entry(true, "second"), root.path()).unwrap();
        assert_eq!(read(), "first");
        put(&entry(false, "third"), root.path()).unwrap();
        assert_eq!(read(), "third");
    }
}
