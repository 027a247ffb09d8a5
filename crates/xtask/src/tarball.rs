//! Archives whose bytes depend on nothing but their contents and the time of the source.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tar::{Builder, EntryType, Header};

use crate::binaries::Target;
use crate::contents::{self, Entry};
use crate::source::{self, VERSION};

/// A file of an archive.
pub(crate) struct File {
    pub(crate) path: String,
    pub(crate) mode: u32,
    pub(crate) bytes: Vec<u8>,
}

impl File {
    pub(crate) fn text(path: &str, text: String) -> Self {
        Self {
            path: path.to_owned(),
            mode: 0o644,
            bytes: text.into_bytes(),
        }
    }
}

/// The files in their order, each behind the folders that lead to it; all belong to root.
pub(crate) fn archive(files: &[File]) -> Result<Vec<u8>> {
    let mut archive = Builder::new(Vec::new());
    let mut folders = BTreeSet::new();
    for file in files {
        for folder in folders_of(&file.path) {
            if folders.insert(folder.clone()) {
                let name = format!("{}/", folder.display());
                append(&mut archive, EntryType::Directory, &name, 0o755, &[])?;
            }
        }
        append(
            &mut archive,
            EntryType::Regular,
            &file.path,
            file.mode,
            &file.bytes,
        )?;
    }
    Ok(archive.into_inner()?)
}

fn folders_of(path: &str) -> Vec<PathBuf> {
    let above = Path::new(path).ancestors().skip(1);
    let mut folders: Vec<PathBuf> = above
        .filter(|folder| !folder.as_os_str().is_empty())
        .map(Path::to_owned)
        .collect();
    folders.reverse();
    folders
}

fn append(
    archive: &mut Builder<Vec<u8>>,
    kind: EntryType,
    path: &str,
    mode: u32,
    bytes: &[u8],
) -> Result<()> {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    // Not `set_path`, which takes the `./` away that dpkg's archives have.
    let name = &mut header.as_old_mut().name;
    let name = name.get_mut(..path.len());
    let name = name.with_context(|| format!("{path} is too long for an archive"))?;
    name.copy_from_slice(path.as_bytes());
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_username("root")?;
    header.set_groupname("root")?;
    header.set_mtime(source::epoch().into());
    header.set_size(bytes.len() as u64);
    header.set_cksum();
    Ok(archive.append(&header, bytes)?)
}

/// The name of the archive for machines without a package manager that we know.
pub(crate) fn file_name(target: &Target) -> String {
    format!("464xlat-{VERSION}-{}.tar.gz", target.name())
}

/// Both programs as they lie below a prefix, and `install.sh`.
pub(crate) fn package(target: &Target, entries: &[Entry]) -> Result<Vec<u8>> {
    let folder = format!("464xlat-{VERSION}-{}", target.name());
    let mut files = vec![File {
        path: format!("{folder}/install.sh"),
        mode: 0o755,
        bytes: source::read("packaging/install.sh")?.into_bytes(),
    }];
    let local = Path::new("/usr/local");
    files.extend(entries.iter().map(|entry| {
        let inside = entry.path.strip_prefix(local);
        let inside = inside.or_else(|_| entry.path.strip_prefix("/"));
        let inside = inside.unwrap_or(&entry.path);
        File {
            path: format!("{folder}/{}", inside.display()),
            mode: entry.mode,
            bytes: entry.bytes.clone(),
        }
    }));
    for program in source::PROGRAMS {
        let path = format!("packaging/openrc/{}", program.name);
        files.push(File {
            path: format!("{folder}/etc/init.d/{}", program.name),
            mode: 0o755,
            bytes: source::read(&path)?.into_bytes(),
        });
    }
    contents::compress(&archive(&files)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pk_01_an_archive_has_its_folders_first_and_belongs_to_root() {
        let file = File {
            path: "./usr/sbin/clat".to_owned(),
            mode: 0o755,
            bytes: b"program".to_vec(),
        };
        let bytes = archive(&[file]).unwrap();
        assert_eq!(
            bytes,
            archive(&[File {
                path: "./usr/sbin/clat".to_owned(),
                mode: 0o755,
                bytes: b"program".to_vec(),
            }])
            .unwrap()
        );
        let mut read = tar::Archive::new(bytes.as_slice());
        let names: Vec<(String, u64)> = read
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let name = String::from_utf8(entry.path_bytes().to_vec()).unwrap();
                (name, entry.header().uid().unwrap())
            })
            .collect();
        let expected = ["./", "./usr/", "./usr/sbin/", "./usr/sbin/clat"];
        assert_eq!(names, expected.map(|name| (name.to_owned(), 0)));
    }
}
