//! The form of a state file: a line with its kind and version, the contents, and a last line with
//! the checksum of all before it.
//!
//! ```text
//! 464xlat secret 2
//! 0123456789abcdef fedcba9876543210
//! end 1a2b3c4d
//! ```
//!
//! A file is read as bytes, and once to its end before anything in it is believed. Files of version
//! 1 have neither of the two lines; what makes one of them whole, their owner knows.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, Take, Write};

use crc32fast::Hasher;
use rustix::fs::{Mode, OFlags};

/// A state file whose checksum is right, or one of version 1.
#[derive(Debug)]
pub struct Saved {
    /// True for a file of version 1: nothing about it is checked yet.
    pub is_old: bool,
    /// The contents.
    pub body: Take<BufReader<File>>,
}

impl Saved {
    /// The contents as text.
    ///
    /// # Errors
    /// If they cannot be read, or are no text.
    pub fn text(mut self) -> io::Result<String> {
        let mut text = String::new();
        self.body.read_to_string(&mut text)?;
        Ok(text)
    }
}

/// Writes a file with the contents that `fill` writes; each of their lines must have an end.
///
/// # Errors
/// Those of the file and of `fill`, after which the file has no last line.
pub fn write(
    file: &mut impl Write,
    kind: &str,
    fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let mut summed = Summed {
        inner: &mut *file,
        sum: Hasher::new(),
    };
    writeln!(summed, "{TAG} {kind} {VERSION}")?;
    fill(&mut summed)?;
    let sum = summed.sum.finalize();
    writeln!(file, "{END}{sum:08x}")
}

/// Opens a file of this kind. The error says what is wrong with it, for people.
///
/// # Errors
/// That it is not whole, or of another kind or version.
pub fn open(file: File, kind: &str) -> Result<Saved, String> {
    let mut file = BufReader::new(file);
    match check(&mut file, kind) {
        Ok(Found::Current { start, len }) => rewind(file, start, len, false),
        Ok(Found::Old) => rewind(file, 0, u64::MAX, true),
        Err(Damage::Read(error)) => Err(error.to_string()),
        Err(Damage::Contents(reason)) => Err(reason.into()),
    }
}

/// All that can be read, in a file that nobody else sees and that goes with its descriptor: what comes
/// by a pipe can be read once only.
///
/// # Errors
/// Those of the source, and of the directory for such files (`TMPDIR`).
pub fn spool(mut from: impl Read) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = rustix::fs::open(std::env::temp_dir(), flags, Mode::RUSR | Mode::WUSR)?;
    let mut file = File::from(file);
    io::copy(&mut from, &mut file)?;
    file.rewind()?;
    Ok(file)
}

fn rewind(mut file: BufReader<File>, start: u64, len: u64, is_old: bool) -> Result<Saved, String> {
    let sought = file.seek(io::SeekFrom::Start(start));
    sought.map_err(|error| error.to_string())?;
    let body = file.take(len);
    Ok(Saved { is_old, body })
}

/// What a file is, as far as its first and last line say.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    /// Its contents begin at this byte and are so long.
    Current {
        start: u64,
        len: u64,
    },
    Old,
}

#[derive(Debug)]
enum Damage {
    Read(io::Error),
    Contents(&'static str),
}

impl From<io::Error> for Damage {
    fn from(error: io::Error) -> Self {
        Self::Read(error)
    }
}

fn check(file: &mut impl BufRead, kind: &str) -> Result<Found, Damage> {
    let mut line = Vec::new();
    read_line(file, &mut line)?;
    if line.is_empty() {
        return Err(Damage::Contents("it is empty"));
    }
    if line != format!("{TAG} {kind} {VERSION}\n").as_bytes() {
        return if line.starts_with(format!("{TAG} ").as_bytes()) {
            Err(Damage::Contents("of another kind or version"))
        } else {
            Ok(Found::Old)
        };
    }
    let start = line.len() as u64;
    let (mut sum, mut len) = (Hasher::new(), 0);
    // A line is summed up when the next one shows that it is not the last.
    loop {
        sum.update(&line);
        read_line(file, &mut line)?;
        if is_end(&line, &sum) {
            if file.fill_buf()?.is_empty() {
                return Ok(Found::Current { start, len });
            }
            return Err(Damage::Contents("it goes on after its end"));
        }
        if line.is_empty() {
            return Err(Damage::Contents(
                "its checksum is wrong or its end is missing",
            ));
        }
        len += line.len() as u64;
    }
}

/// Reads a line with its end. Without line ends it comes in pieces, to bound the memory.
fn read_line(file: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<()> {
    line.clear();
    file.take(LINE_MAX).read_until(b'\n', line)?;
    Ok(())
}

fn is_end(line: &[u8], sum: &Hasher) -> bool {
    let expected = || format!("{END}{:08x}\n", sum.clone().finalize());
    line.starts_with(END.as_bytes()) && line == expected().as_bytes()
}

/// A writer that computes the checksum of what it passes on.
struct Summed<'a, W> {
    inner: &'a mut W,
    sum: Hasher,
}

impl<W: Write> Write for Summed<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.sum.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

const TAG: &str = "464xlat";
const VERSION: u8 = 2;
const END: &str = "end ";
const LINE_MAX: u64 = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn written(body: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        write(&mut bytes, "map", |file| file.write_all(body.as_bytes())).unwrap();
        bytes
    }

    #[test]
    fn fp_14_a_file_has_a_version_and_the_crc_32_of_all_that_is_before_its_last_line() {
        // The checksum is what `python3 -c 'zlib.crc32(b"464xlat map 2\none\n")'` says.
        let bytes = written("one\n");
        assert_eq!(bytes, b"464xlat map 2\none\nend 6f4cac8f\n");
        assert_eq!(
            check(&mut &bytes[..], "map").unwrap(),
            Found::Current { start: 14, len: 4 }
        );
        let empty = written("");
        assert!(matches!(
            check(&mut &empty[..], "map").unwrap(),
            Found::Current { len: 0, .. }
        ));
    }

    #[test]
    fn fp_14_each_single_damage_is_found() {
        let bytes = written("one\nend 00000000\ntwo\n");
        let damaged =
            |bytes: &[u8]| !matches!(check(&mut &bytes[..], "map"), Ok(Found::Current { .. }));
        assert!(!damaged(&bytes));
        for at in 0..bytes.len() {
            for value in 0..=255 {
                let mut altered = bytes.clone();
                altered[at] = value;
                assert!(value == bytes[at] || damaged(&altered), "{at} {value}");
            }
            let mut shorter = bytes.clone();
            shorter.remove(at);
            assert!(damaged(&shorter), "without {at}");
            assert!(damaged(&bytes[..at]), "cut at {at}");
            let mut longer = bytes.clone();
            longer.insert(at, 0);
            assert!(damaged(&longer), "more at {at}");
        }
        assert!(damaged(&[&bytes[..], b"\n"].concat()));
        assert!(damaged(&[&bytes[..], &bytes].concat()));
    }

    #[test]
    fn a_file_of_version_1_is_told_from_one_of_another_kind() {
        let found = |text: &str| check(&mut text.as_bytes(), "map");
        for old in ["# comment\n", "plat sessions 1\nend 0\n"] {
            assert_eq!(found(old).unwrap(), Found::Old, "{old}");
        }
        for other in [
            "",
            "464xlat map 3\nend 0\n",
            "464xlat secret 2\n",
            "464xlat ",
        ] {
            assert!(found(other).is_err(), "{other}");
        }
    }
}
