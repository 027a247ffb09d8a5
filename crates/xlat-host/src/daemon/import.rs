//! `clat import` and `plat import`: files in, a configuration file out. What is between them is in
//! the crate `import`, without I/O.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use import::{FILE_MAX, File, Format, Imported, Includes, Options, Program};

use super::exit;

/// What is imported, and where it goes.
#[derive(Args, Clone, Debug)]
pub struct ImportFlags {
    /// Configuration files of other programs: several become one
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// Write to this new file instead of to standard output
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Format of the files [default: what their contents tell]
    #[arg(long, value_name = "FORMAT", value_parser = formats())]
    pub format: Option<Format>,
}

/// Nothing was imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A file cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The files are wrong; what is wrong was printed.
    #[error("nothing is imported: {0} errors")]
    Refused(usize),
    /// The output cannot be written.
    #[error("{}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Errors that are printed, at most.
const ERRORS_MAX: usize = 20;

impl ImportFlags {
    /// Reads the files. What is wrong with them is printed, each on a line.
    ///
    /// # Errors
    /// If a file cannot be read, or is refused.
    pub fn read(&self, program: Program, options: Options) -> Result<Imported, ImportError> {
        let files: Result<Vec<File>, ImportError> =
            self.files.iter().map(|path| open(path)).collect();
        let options = Options {
            format: self.format,
            ..options
        };
        import::import(program, &files?, &options, &Disk).map_err(|errors| {
            for error in errors.iter().take(ERRORS_MAX) {
                exit::complain(program.name(), &error.to_string());
            }
            ImportError::Refused(errors.len())
        })
    }

    /// Writes the configuration, as a new file or to standard output.
    ///
    /// # Errors
    /// If it cannot be written, or the file is there already.
    pub fn write(&self, imported: &Imported) -> Result<(), ImportError> {
        let Some(path) = &self.output else {
            return print(&imported.toml).map_err(|source| ImportError::Write {
                path: "standard output".into(),
                source,
            });
        };
        let failed = |source| ImportError::Write {
            path: path.clone(),
            source,
        };
        write_new(path, imported.toml.as_bytes()).map_err(failed)?;
        let (values, left_out) = (imported.values, imported.left_out);
        let line = format!(
            "{}: {values} values; {left_out} directives were not carried over, see its comments\n",
            path.display()
        );
        print(&line).map_err(failed)
    }
}

fn formats() -> impl TypedValueParser<Value = Format> {
    let names = PossibleValuesParser::new(Format::ALL.map(Format::name));
    names.try_map(|name| Format::of_name(&name).ok_or("no such format"))
}

fn print(text: &str) -> io::Result<()> {
    let mut output = io::stdout().lock();
    output.write_all(text.as_bytes())?;
    output.flush()
}

/// A file that was not there is there as a whole, or not at all.
fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    if written.is_err() {
        // It was ours: what is left of it would be read as a whole.
        drop(fs::remove_file(path));
    }
    written
}

/// Files that are named by others.
struct Disk;

impl Includes for Disk {
    fn find(&self, pattern: &str, from: &str) -> Result<Vec<File>, String> {
        let beside = Path::new(from).parent().unwrap_or(Path::new(""));
        let path = beside.join(pattern);
        if !pattern.contains(['*', '?', '[']) {
            return match open(&path) {
                Ok(file) => Ok(vec![file]),
                Err(error) => Err(error.to_string()),
            };
        }
        let paths = glob::glob(&path.to_string_lossy()).map_err(|error| error.to_string())?;
        let files = paths.map(|path| {
            let path = path.map_err(|error| error.to_string())?;
            open(&path).map_err(|error| error.to_string())
        });
        files.collect()
    }
}

fn open(path: &Path) -> Result<File, ImportError> {
    read_file(path).map_err(|source| ImportError::Read {
        path: path.into(),
        source,
    })
}

fn read_file(path: &Path) -> io::Result<File> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(FILE_MAX).unwrap_or(u64::MAX);
    fs::File::open(path)?
        .take(limit + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() > FILE_MAX {
        let line = format!("more than {} MiB are not read", FILE_MAX >> 20);
        return Err(io::Error::other(line));
    }
    Ok(File {
        name: path.display().to_string(),
        bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn im_08_includes_are_found_beside_their_file_and_by_patterns() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        for name in ["b.conf", "a.conf", "c.txt"] {
            fs::write(path(name), name).unwrap();
        }
        let names = |pattern: &str| {
            let files = Disk.find(pattern, &path("main")).unwrap();
            files
                .into_iter()
                .map(|file| String::from_utf8(file.bytes).unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(names("*.conf"), ["a.conf", "b.conf"]);
        assert_eq!(names(&path("c.txt")), ["c.txt"]);
        assert!(names("*.nothing").is_empty());
        let error = Disk.find("gone", &path("main")).unwrap_err();
        assert!(error.contains("/gone: No such file"), "{error}");
    }

    #[test]
    fn im_09_a_file_that_is_there_is_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.toml");
        write_new(&path, b"one").unwrap();
        assert!(write_new(&path, b"two").is_err());
        assert_eq!(fs::read(&path).unwrap(), b"one");
    }
}
