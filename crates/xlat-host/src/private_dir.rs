//! Directories that only this user and root can change, and the files in them.
//!
//! A daemon with privileges reads and writes below paths that an administrator chose. Whoever else
//! could write there could lead it to another file by a link, or have it believe a file of theirs.
//! So every directory on the way is checked, the last one is held open, files are opened below it
//! without following links, and a file must be a regular one of this user or of root.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RawMode, Stat, fstat, lstat, mkdir, open, openat, readlink,
    renameat, stat, statat, unlinkat,
};
use rustix::io::Errno;
use rustix::process::geteuid;

/// A directory that only this user and root can change, held open.
#[derive(Debug)]
pub struct PrivateDir {
    dir: OwnedFd,
}

impl PrivateDir {
    /// Opens the directory `path`. Directories that are missing are made with these permissions.
    ///
    /// # Errors
    /// If it cannot be opened or made, or others may change it, or lead elsewhere on the way to it.
    pub fn create(path: &Path, mode: RawMode) -> io::Result<Self> {
        Self::reach(path, Some(Mode::from_raw_mode(mode)))
    }

    /// Opens the directory `path`.
    ///
    /// # Errors
    /// If it is missing, cannot be opened, or others may change it or lead elsewhere on the way.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::reach(path, None)
    }

    fn reach(path: &Path, make: Option<Mode>) -> io::Result<Self> {
        check_way(path, make, &mut { LINKS_MAX })?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = open(path, flags, Mode::empty())?;
        let found = fstat(&dir)?;
        check_owner(path, &found)?;
        if found.st_mode & OTHERS_WRITE != 0 {
            return Err(refuse(too_open(path)));
        }
        Ok(Self { dir })
    }

    /// Opens the file `name` to read it; `None` if there is none.
    ///
    /// # Errors
    /// If it cannot be read, or is no regular file of this user or root.
    pub fn read(&self, name: &str) -> io::Result<Option<File>> {
        match self.checked(name, OFlags::RDONLY) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Opens the file `name` to read it and to append to it, and makes it if it is missing, for its
    /// owner alone.
    ///
    /// # Errors
    /// If it cannot be opened, or is no regular file of this user or root.
    pub fn append(&self, name: &str) -> io::Result<File> {
        self.checked(name, OFlags::RDWR | OFlags::APPEND | OFlags::CREATE)
    }

    fn checked(&self, name: &str, flags: OFlags) -> io::Result<File> {
        // A pipe that nobody writes to must not make an open wait.
        let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match openat(&self.dir, name, flags, OWNER_ONLY) {
            Err(Errno::LOOP) => return Err(refuse("it is a symbolic link".into())),
            Err(Errno::NXIO) => return Err(refuse("it is no regular file".into())),
            opened => File::from(opened?),
        };
        let found = fstat(&file)?;
        if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
            return Err(refuse("it is no regular file".into()));
        }
        if found.st_nlink > 1 {
            return Err(refuse("the file has another name too (a hard link)".into()));
        }
        check_owner(Path::new(name), &found)?;
        if found.st_mode & OTHERS_WRITE != 0 {
            return Err(refuse("users other than its owner may write to it".into()));
        }
        Ok(file)
    }

    /// Makes the file `name`, for its owner alone, in place of one that is there.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn replace(&self, name: &str) -> io::Result<File> {
        self.remove(name)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        Ok(openat(&self.dir, name, flags | OFlags::NOFOLLOW, OWNER_ONLY)?.into())
    }

    /// Gives the file `old` the name `new`, in place of one that has it.
    ///
    /// # Errors
    /// If it cannot be renamed.
    pub fn rename(&self, old: &str, new: &str) -> io::Result<()> {
        Ok(renameat(&self.dir, old, &self.dir, new)?)
    }

    /// Removes the file `name`, if there is one.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        match unlinkat(&self.dir, name, AtFlags::empty()) {
            Err(error) if error != Errno::NOENT => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// True if `file` still is the one that has this name.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub fn is_named(&self, file: impl AsFd, name: &str) -> io::Result<bool> {
        let ours = fstat(file)?;
        match statat(&self.dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(now) => Ok((now.st_dev, now.st_ino) == (ours.st_dev, ours.st_ino)),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes the names of the files to disk.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&self.dir)?)
    }
}

/// Opens the log file `path` to append to it, and makes it if it is missing. It may be a pipe, which
/// nobody needs to read yet, and a link, if this user or root has made it.
///
/// # Errors
/// If it cannot be opened, or another user could have put it there.
pub fn open_log(path: &Path) -> io::Result<File> {
    let parent = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    check_way(parent, None, &mut { LINKS_MAX })?;
    let is_shared = stat(parent)?.st_mode & OTHERS_WRITE != 0;
    let mut flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC;
    match lstat(path) {
        Ok(found) if FileType::from_raw_mode(found.st_mode) == FileType::Symlink => {
            check_owner(path, &found)?;
        }
        _ => flags |= OFlags::NOFOLLOW,
    }
    let file = open_unblocked(path, flags)?;
    let found = fstat(&file)?;
    if is_shared {
        check_owner(path, &found)?;
    }
    match FileType::from_raw_mode(found.st_mode) {
        FileType::RegularFile if found.st_nlink > 1 => {
            return Err(refuse("the file has another name too (a hard link)".into()));
        }
        FileType::RegularFile | FileType::Fifo | FileType::CharacterDevice => {}
        _ => return Err(refuse("it is no file, pipe or terminal".into())),
    }
    // From now on a slow reader makes the thread of the log wait, which nobody else waits for.
    rustix::fs::fcntl_setfl(&file, OFlags::APPEND)?;
    Ok(file)
}

/// Opens a file to write to it, which may be a pipe without a reader, and waits for nobody.
fn open_unblocked(path: &Path, flags: OFlags) -> io::Result<File> {
    let flags = flags | OFlags::NONBLOCK;
    match open(path, flags, OWNER_ONLY) {
        Err(Errno::NXIO) => {
            // A pipe opens for writing while somebody has it open for reading: we do, so long.
            let read = (flags - OFlags::WRONLY - OFlags::CREATE - OFlags::APPEND) | OFlags::RDONLY;
            let _reader = open(path, read, Mode::empty())?;
            Ok(open(path, flags, OWNER_ONLY)?.into())
        }
        opened => Ok(opened?.into()),
    }
}

/// Checks each directory on the way to `path`, and each link: nobody but this user and root can
/// lead it elsewhere. Directories that are missing are made.
fn check_way(path: &Path, make: Option<Mode>, links: &mut u8) -> io::Result<()> {
    let path = std::path::absolute(path)?;
    let mut way = PathBuf::new();
    for component in path.components() {
        way.push(component);
        if component == Component::ParentDir {
            continue;
        }
        let mut found = lstat(&way);
        if let (Err(Errno::NOENT), Some(mode)) = (&found, make) {
            make_dir(&way, mode)?;
            found = lstat(&way);
        }
        let found = found?;
        check_owner(&way, &found)?;
        if FileType::from_raw_mode(found.st_mode) == FileType::Symlink {
            *links = links.checked_sub(1).ok_or(Errno::LOOP)?;
            let target = readlink(&way, Vec::new())?;
            let target = Path::new(OsStr::from_bytes(target.as_bytes()));
            let target = way.parent().unwrap_or(Path::new("/")).join(target);
            check_way(&target, make, links)?;
            continue;
        }
        // In a directory like /tmp nobody can replace what belongs to another user.
        let is_sticky = Mode::from_raw_mode(found.st_mode).contains(Mode::SVTX);
        if found.st_mode & WORLD_WRITES != 0 && !is_sticky {
            return Err(refuse(too_open(&way)));
        }
    }
    Ok(())
}

fn make_dir(path: &Path, mode: Mode) -> io::Result<()> {
    match mkdir(path, mode) {
        // Another instance was faster.
        Err(Errno::EXIST) => Ok(()),
        made => Ok(made?),
    }
}

/// The user of this process, root, and the owner of `/` are trusted: where root has no number in a
/// user namespace, the last is root.
fn check_owner(path: &Path, found: &Stat) -> io::Result<()> {
    let owner = found.st_uid;
    if owner == geteuid().as_raw() || owner == 0 || owner == stat("/")?.st_uid {
        return Ok(());
    }
    Err(refuse(format!(
        "{} belongs to user {owner}, who is not trusted here",
        path.display()
    )))
}

fn too_open(path: &Path) -> String {
    let path = path.display();
    format!("users other than its owner may write to {path}; `chmod go-w {path}`")
}

fn refuse(reason: String) -> io::Error {
    io::Error::other(reason)
}

/// Most links on the way to a directory, as in the kernel.
const LINKS_MAX: u8 = 40;
const OWNER_ONLY: Mode = Mode::RUSR.union(Mode::WUSR);
const OTHERS_WRITE: RawMode = 0o022;
const WORLD_WRITES: RawMode = 0o002;

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::io::{Read, Write};
    use std::os::unix::fs::{PermissionsExt, chown, symlink};
    use std::time::Duration;

    use super::*;

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[track_caller]
    fn assert_refused<T>(result: io::Result<T>, reason: &str) {
        let Err(error) = result else {
            panic!("not refused: {reason}")
        };
        assert!(error.to_string().contains(reason), "{error}");
    }

    /// A user that is neither this one nor root; `None` where the test may not make files of theirs.
    fn give_away(path: &Path) -> Option<()> {
        chown(path, Some(12_345), None).ok()
    }

    #[test]
    fn se_28_a_directory_that_others_can_change_or_replace_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("run/plat");
        PrivateDir::create(&path, 0o755).unwrap();
        PrivateDir::open(&path).unwrap();
        for mode in [0o775, 0o757, 0o1777] {
            set_mode(&path, mode);
            assert_refused(PrivateDir::open(&path), "chmod go-w");
        }
        set_mode(&path, 0o755);
        // Who can write to the directory above can replace this one.
        set_mode(&root.path().join("run"), 0o777);
        assert_refused(PrivateDir::open(&path), "chmod go-w");
        // Not in a sticky one.
        set_mode(&root.path().join("run"), 0o1777);
        PrivateDir::open(&path).unwrap();
        let link = root.path().join("link");
        symlink(&path, &link).unwrap();
        PrivateDir::open(&link).unwrap();
        if give_away(&path).is_some() {
            assert_refused(PrivateDir::open(&path), "belongs to user 12345");
            assert_refused(PrivateDir::open(&link), "belongs to user 12345");
        }
    }

    #[test]
    fn se_28_a_link_of_another_user_on_the_way_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let (target, link) = (root.path().join("etc"), root.path().join("tmp"));
        fs::create_dir_all(target.join("plat")).unwrap();
        symlink(&target, &link).unwrap();
        PrivateDir::open(&link.join("plat")).unwrap();
        if std::os::unix::fs::lchown(&link, Some(12_345), None).is_ok() {
            assert_refused(
                PrivateDir::open(&link.join("plat")),
                "belongs to user 12345",
            );
            assert_refused(open_log(&link.join("log")), "belongs to user 12345");
            assert!(!target.join("log").exists());
        }
        let circle = root.path().join("circle");
        symlink(&circle, &circle).unwrap();
        assert!(PrivateDir::open(&circle).is_err());
    }

    #[test]
    fn se_28_a_file_that_others_could_have_put_there_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let dir = PrivateDir::open(root.path()).unwrap();
        assert!(dir.read("file").unwrap().is_none());
        let (path, other) = (root.path().join("file"), root.path().join("other"));
        fs::write(&other, "untouched").unwrap();
        let refused = |reason: &str| {
            assert_refused(dir.read("file"), reason);
            assert_refused(dir.append("file"), reason);
            fs::remove_file(&path).unwrap();
        };
        symlink(&other, &path).unwrap();
        refused("symbolic link");
        fs::hard_link(&other, &path).unwrap();
        refused("hard link");
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, Mode::RWXU).unwrap();
        refused("no regular file");
        fs::write(&path, "").unwrap();
        set_mode(&path, 0o620);
        refused("may write to it");
        fs::write(&path, "").unwrap();
        if give_away(&path).is_some() {
            refused("belongs to user 12345");
        }
        // A link in the way of a new file goes; what it leads to stays.
        symlink(&other, &path).unwrap();
        writeln!(dir.replace("file").unwrap(), "new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new\n");
        assert_eq!(fs::read(&other).unwrap(), b"untouched");
    }

    #[test]
    fn se_28_a_log_is_opened_where_nobody_else_could_have_put_it() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("sessions.log");
        writeln!(open_log(&path).unwrap(), "one").unwrap();
        writeln!(open_log(&path).unwrap(), "two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"one\ntwo\n");
        // The administrator's own link, as /dev/stdout is one.
        let link = root.path().join("link");
        symlink(&path, &link).unwrap();
        writeln!(open_log(&link).unwrap(), "three").unwrap();
        fs::hard_link(&path, root.path().join("second")).unwrap();
        assert_refused(open_log(&path), "hard link");
        fs::remove_file(root.path().join("second")).unwrap();
        // In /tmp a file of somebody else is not ours to write to.
        set_mode(root.path(), 0o1777);
        open_log(&path).unwrap();
        if give_away(&path).is_some() {
            assert_refused(open_log(&path), "belongs to user 12345");
            set_mode(root.path(), 0o755);
            open_log(&path).unwrap();
        }
        set_mode(root.path(), 0o777);
        assert_refused(open_log(&path), "chmod go-w");
    }

    #[test]
    fn se_29_a_pipe_without_a_reader_does_not_make_the_log_wait() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, Mode::RWXU).unwrap();
        let (sender, opened) = std::sync::mpsc::channel();
        let theirs = path.clone();
        std::thread::spawn(move || sender.send(open_log(&theirs)));
        let log = opened.recv_timeout(Duration::from_secs(10)).unwrap();
        let mut log = log.unwrap();
        assert_eq!(
            log.write(b"lost").unwrap_err().kind(),
            io::ErrorKind::BrokenPipe
        );
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        let mut reader = File::from(open(&path, flags, Mode::empty()).unwrap());
        log.write_all(b"read").unwrap();
        let mut buffer = [0; 8];
        assert_eq!(reader.read(&mut buffer).unwrap(), 4);
    }
}
