//! Text with positions: what was read, where, and in which encoding.

use std::fmt;
use std::sync::Arc;

use crate::Error;

/// A file as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its name, for messages and comments.
    pub name: String,
    /// Its contents.
    pub bytes: Vec<u8>,
}

/// A position in a file; lines and columns count from 1.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct At {
    /// The file's name.
    pub file: Arc<str>,
    /// The line.
    pub line: u32,
    /// The column, in characters.
    pub column: u32,
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// Part of a file, and where it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Word {
    pub(crate) text: String,
    pub(crate) at: At,
}

impl Word {
    /// True for this keyword, in capital letters or small ones.
    pub(crate) fn is(&self, keyword: &str) -> bool {
        self.text.eq_ignore_ascii_case(keyword)
    }
}

/// A directive as it was written, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) at: At,
    pub(crate) text: String,
}

impl Origin {
    /// A directive made of these words.
    pub(crate) fn of(words: &[Word]) -> Self {
        let mut text = String::new();
        for word in words {
            if !text.is_empty() {
                text.push(' ');
            }
            if text.len() > QUOTED_MAX {
                break;
            }
            text += &word.text;
        }
        let at = words.first().map(|word| word.at.clone());
        Self {
            at: at.unwrap_or_else(|| At {
                file: "".into(),
                line: 1,
                column: 1,
            }),
            text,
        }
    }

    /// The same place, described in other words.
    pub(crate) fn named(&self, text: impl Into<String>) -> Self {
        Self {
            at: self.at.clone(),
            text: text.into(),
        }
    }
}

/// Longest quotation of a directive, in bytes.
const QUOTED_MAX: usize = 100;

/// For a comment: on one line, and not too long.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", plain(&self.at.file), self.at.line)?;
        let mut letters = self.text.chars();
        for letter in letters.by_ref().take(QUOTED_MAX) {
            write!(f, "{}", if letter.is_control() { ' ' } else { letter })?;
        }
        match letters.next() {
            Some(_) => f.write_str(" ..."),
            None => Ok(()),
        }
    }
}

/// Text without control characters, which could end a comment.
pub(crate) fn plain(text: &str) -> String {
    let letters = text.chars();
    letters
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect()
}

/// A file's text. Bytes that are no text in its encoding are U+FFFD: in comments they do no harm.
#[derive(Clone, Debug)]
pub(crate) struct Text {
    pub(crate) name: Arc<str>,
    pub(crate) text: String,
}

impl Text {
    /// UTF-8, or what a byte order mark says.
    pub(crate) fn decode(file: &File) -> Result<Self, Error> {
        let text = match file.bytes.as_slice() {
            [0xef, 0xbb, 0xbf, rest @ ..] => String::from_utf8_lossy(rest).into_owned(),
            [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes),
            [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes),
            bytes => String::from_utf8_lossy(bytes).into_owned(),
        };
        let text = Self {
            name: plain(&file.name).into(),
            text,
        };
        match text.text.find('\0') {
            None => Ok(text),
            Some(offset) => Err(Error::new(
                &text.at(offset),
                "a NUL byte: this is no text in UTF-8 or UTF-16",
            )),
        }
    }

    /// The position of a byte.
    pub(crate) fn at(&self, offset: usize) -> At {
        let before = &self.text[..offset];
        let line_start = before.rfind('\n').map_or(0, |end| end + 1);
        At {
            file: Arc::clone(&self.name),
            line: number(before.matches('\n').count()),
            column: number(before[line_start..].chars().count()),
        }
    }

    /// Lines that are made of words, without comments: those begin with one of `comments` at the
    /// beginning of a word.
    pub(crate) fn lines<'a>(
        &'a self,
        comments: &'a [&'a str],
    ) -> impl Iterator<Item = Result<Vec<Word>, Error>> + 'a {
        let lines = self.text.split('\n').enumerate();
        let lines = lines.map(move |(index, line)| words(&self.name, index, line, comments));
        lines.filter(|line| line.as_ref().map_or(true, |words| !words.is_empty()))
    }
}

/// A place in a text that goes forward.
#[derive(Clone, Debug)]
pub(crate) struct Cursor<'a> {
    /// What is left of the text.
    pub(crate) rest: &'a str,
    file: &'a Arc<str>,
    line: usize,
    column: usize,
}

impl<'a> Cursor<'a> {
    /// At the beginning.
    pub(crate) fn new(text: &'a Text) -> Self {
        Self {
            rest: &text.text,
            file: &text.name,
            line: 0,
            column: 0,
        }
    }

    /// Where it is.
    pub(crate) fn at(&self) -> At {
        At {
            file: Arc::clone(self.file),
            line: number(self.line),
            column: number(self.column),
        }
    }

    /// Goes on by so many bytes, which end with a character.
    pub(crate) fn skip(&mut self, bytes: usize) {
        let (skipped, rest) = self.rest.split_at(bytes);
        for letter in skipped.chars() {
            match letter {
                '\n' => (self.line, self.column) = (self.line + 1, 0),
                _ => self.column += 1,
            }
        }
        self.rest = rest;
    }
}

fn utf16(bytes: &[u8], unit: impl Fn([u8; 2]) -> u16) -> String {
    let units = bytes.chunks(2).map(|pair| match *pair {
        [first, second] => unit([first, second]),
        _ => 0xfffd,
    });
    let letters = char::decode_utf16(units);
    letters
        .map(|letter| letter.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect()
}

/// The number of a line or column with this index.
pub(crate) fn number(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX).saturating_add(1)
}

/// Refuses text that was not readable.
pub(crate) fn word(text: &str, at: At) -> Result<Word, Error> {
    if text.contains(char::REPLACEMENT_CHARACTER) {
        let message = "these bytes are no UTF-8 text: save the file as UTF-8";
        return Err(Error::new(&at, message));
    }
    Ok(Word {
        text: text.to_owned(),
        at,
    })
}

fn words(name: &Arc<str>, index: usize, line: &str, comments: &[&str]) -> Result<Vec<Word>, Error> {
    let mut words = Vec::new();
    let mut column = 0;
    let mut rest = line;
    loop {
        let trimmed = rest.trim_start();
        column += rest.chars().count() - trimmed.chars().count();
        if trimmed.is_empty() || comments.iter().any(|mark| trimmed.starts_with(mark)) {
            return Ok(words);
        }
        let end = trimmed.find(char::is_whitespace).unwrap_or(trimmed.len());
        let at = At {
            file: Arc::clone(name),
            line: number(index),
            column: number(column),
        };
        words.push(word(&trimmed[..end], at)?);
        column += trimmed[..end].chars().count();
        rest = &trimmed[end..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(bytes: &[u8]) -> Result<Text, Error> {
        Text::decode(&File {
            name: "x".into(),
            bytes: bytes.into(),
        })
    }

    fn lines(bytes: &[u8]) -> Vec<Result<Vec<String>, String>> {
        let text = decode(bytes).unwrap();
        let lines = text.lines(&["#"]);
        lines
            .map(|line| match line {
                Ok(words) => Ok(words
                    .iter()
                    .map(|word| format!("{}@{}:{}", word.text, word.at.line, word.at.column))
                    .collect()),
                Err(error) => Err(error.to_string()),
            })
            .collect()
    }

    #[test]
    fn words_have_positions_and_comments_are_skipped() {
        let found = lines("a  b\r\n\n# c\n\td # e\nf#g".as_bytes());
        let expected = [vec!["a@1:1", "b@1:4"], vec!["d@4:2"], vec!["f#g@5:1"]];
        assert_eq!(
            found,
            expected.map(|words| Ok(words.into_iter().map(Into::into).collect()))
        );
    }

    #[test]
    fn other_encodings_are_read_or_refused_where_they_matter() {
        let utf16: Vec<u8> = "\u{feff}map ä"
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        assert_eq!(lines(&utf16), [Ok(vec!["map@1:1".into(), "ä@1:5".into()])]);
        assert_eq!(lines(b"\xef\xbb\xbfmap"), [Ok(vec!["map@1:1".into()])]);
        // Latin-1: harmless in a comment.
        assert_eq!(lines(b"map # Schl\xfcssel"), [Ok(vec!["map@1:1".into()])]);
        let error = lines(b"\nmap Schl\xfcssel")[0].clone().unwrap_err();
        assert!(
            error.starts_with("x:2:5: these bytes are no UTF-8"),
            "{error}"
        );
        let error = decode(b"a\nb\0").unwrap_err().to_string();
        assert!(error.starts_with("x:2:2: a NUL byte"), "{error}");
    }
}
