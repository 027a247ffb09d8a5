//! The lines of a journal: `2 CRC32 NUMBER JSON`, each whole by itself.
//!
//! The checksum covers number and JSON. Numbers grow, so that a line which is missing moves no
//! other, and a line that comes twice is seen. Lines of version 1 are the JSON alone; their numbers
//! are their places in the file.

use serde::{Deserialize, Serialize};

use super::Undo;

/// What a line says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Line {
    /// The change in the line of this number was undone.
    Done { done: usize },
    /// A change to undo.
    Change {
        #[serde(flatten)]
        undo: Undo,
        /// Number of the changed interface.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        link: Option<u32>,
    },
}

impl Line {
    fn is_plausible(&self) -> bool {
        match self {
            Self::Done { .. } => true,
            Self::Change { undo, .. } => undo.is_plausible(),
        }
    }
}

/// The text of a line, with its end.
pub(super) fn format(number: usize, line: &Line) -> serde_json::Result<String> {
    let covered = format!("{number} {}", serde_json::to_string(line)?);
    let sum = crc32fast::hash(covered.as_bytes());
    Ok(format!("{VERSION} {sum:08x} {covered}\n"))
}

/// What the bytes of a journal hold.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// The lines that are whole and plausible, with their numbers.
    pub(super) lines: Vec<(usize, Line)>,
    /// The others, for people: place in the file, from 1, and what is there.
    pub(super) damaged: Vec<String>,
    /// The number of the next line.
    pub(super) next: usize,
}

/// Reads a journal. Total: any bytes will do.
pub(super) fn parse(bytes: &[u8]) -> Contents {
    let mut contents = Contents::default();
    let text = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    if text.is_empty() {
        return contents;
    }
    // The rest of a line of version 2 can look like one of version 1, which all come first.
    let mut may_be_old = true;
    for (place, bytes) in text.split(|byte| *byte == b'\n').enumerate() {
        may_be_old &= bytes.starts_with(b"{");
        let line = std::str::from_utf8(bytes).ok();
        let line = line.and_then(|line| {
            if may_be_old {
                Some((place, serde_json::from_str(line).ok()?))
            } else {
                parse_line(line)
            }
        });
        match line {
            Some((number, line)) if number >= contents.next && line.is_plausible() => {
                contents.lines.push((number, line));
                contents.next = number + 1;
            }
            _ => contents.damaged.push(describe(place, bytes)),
        }
    }
    contents
}

fn parse_line(line: &str) -> Option<(usize, Line)> {
    let (version, rest) = line.split_once(' ')?;
    let (sum, covered) = rest.split_once(' ')?;
    let is_whole = version == VERSION
        && sum.len() == 8
        && u32::from_str_radix(sum, 16) == Ok(crc32fast::hash(covered.as_bytes()));
    if !is_whole {
        return None;
    }
    let (number, json) = covered.split_once(' ')?;
    let number = number.parse().ok().filter(|number| *number < NUMBER_MAX)?;
    Some((number, serde_json::from_str(json).ok()?))
}

fn describe(place: usize, bytes: &[u8]) -> String {
    let start = String::from_utf8_lossy(&bytes[..bytes.len().min(NAMED_MAX)]);
    format!("line {}: {:?}", place + 1, start)
}

const VERSION: &str = "2";
/// No journal has so many lines.
const NUMBER_MAX: usize = 1 << 40;
/// Bytes of a damaged line that are shown.
const NAMED_MAX: usize = 80;
