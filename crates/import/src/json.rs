//! JSON (RFC 8259) with positions.

use crate::Error;
use crate::text::{At, Cursor, Text, Word, word};

/// A value, and where it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) at: At,
    pub(crate) value: Json,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Json {
    Null,
    /// `true`, `false` or a number, as it is written.
    Plain(String),
    String(String),
    Array(Vec<Node>),
    Object(Vec<(Word, Node)>),
}

impl Node {
    /// A plain value or a string, as a word.
    pub(crate) fn word(&self) -> Option<Word> {
        match &self.value {
            Json::Plain(text) | Json::String(text) => Some(Word {
                text: text.clone(),
                at: self.at.clone(),
            }),
            _ => None,
        }
    }
}

/// Values in values that are read, at most.
const DEPTH_MAX: usize = 24;

/// The value that a text is.
///
/// # Errors
/// If it is none.
pub(crate) fn parse(text: &Text) -> Result<Node, Error> {
    let mut reader = Reader(Cursor::new(text));
    let node = reader.node(0)?;
    reader.skip_blank();
    match reader.0.rest.is_empty() {
        true => Ok(node),
        false => Err(reader.error("something follows the end of the value")),
    }
}

struct Reader<'a>(Cursor<'a>);

impl Reader<'_> {
    fn error(&self, message: &str) -> Error {
        Error::new(&self.0.at(), message)
    }

    fn skip_blank(&mut self) {
        let blank = [' ', '\t', '\r', '\n'];
        let length = self.0.rest.len() - self.0.rest.trim_start_matches(blank).len();
        self.0.skip(length);
    }

    /// Skips blanks and this character, if it comes next.
    fn take(&mut self, letter: char) -> bool {
        self.skip_blank();
        let is_next = self.0.rest.starts_with(letter);
        if is_next {
            self.0.skip(letter.len_utf8());
        }
        is_next
    }

    fn node(&mut self, depth: usize) -> Result<Node, Error> {
        if depth > DEPTH_MAX {
            return Err(self.error("too many values in values"));
        }
        self.skip_blank();
        let at = self.0.at();
        let value = match self.0.rest.chars().next() {
            Some('{') => self.object(depth)?,
            Some('[') => self.array(depth)?,
            Some('"') => Json::String(self.string()?.text),
            _ => self.plain()?,
        };
        Ok(Node { at, value })
    }

    fn object(&mut self, depth: usize) -> Result<Json, Error> {
        self.take('{');
        let mut members = Vec::new();
        if self.take('}') {
            return Ok(Json::Object(members));
        }
        loop {
            self.skip_blank();
            let key = self.string()?;
            if !self.take(':') {
                return Err(self.error("`:` is missing"));
            }
            members.push((key, self.node(depth + 1)?));
            if self.take('}') {
                return Ok(Json::Object(members));
            }
            if !self.take(',') {
                return Err(self.error("`,` or `}` is missing"));
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<Json, Error> {
        self.take('[');
        let mut nodes = Vec::new();
        if self.take(']') {
            return Ok(Json::Array(nodes));
        }
        loop {
            nodes.push(self.node(depth + 1)?);
            if self.take(']') {
                return Ok(Json::Array(nodes));
            }
            if !self.take(',') {
                return Err(self.error("`,` or `]` is missing"));
            }
        }
    }

    fn string(&mut self) -> Result<Word, Error> {
        let at = self.0.at();
        if !self.0.rest.starts_with('"') {
            return Err(self.error("a string in quotation marks is missing"));
        }
        let mut text = String::new();
        let mut letters = self.0.rest.char_indices().skip(1);
        while let Some((offset, letter)) = letters.next() {
            match letter {
                '"' => {
                    self.0.skip(offset + 1);
                    return word(&text, at);
                }
                '\\' => match letters.next().map(|(_, letter)| letter) {
                    Some('n') => text.push('\n'),
                    Some('t') => text.push('\t'),
                    Some('r') => text.push('\r'),
                    Some(letter @ ('"' | '\\' | '/')) => text.push(letter),
                    Some('u') => {
                        let digits: String = letters.by_ref().take(4).map(|(_, one)| one).collect();
                        let code = u32::from_str_radix(&digits, 16).ok();
                        let Some(letter) = code.and_then(char::from_u32) else {
                            return Err(Error::new(&at, "this string has a bad `\\u`"));
                        };
                        text.push(letter);
                    }
                    _ => return Err(Error::new(&at, "this string has a bad `\\`")),
                },
                letter if letter.is_control() => break,
                letter => text.push(letter),
            }
        }
        Err(Error::new(&at, "this string is never closed"))
    }

    fn plain(&mut self) -> Result<Json, Error> {
        let ends = |letter: char| !letter.is_ascii_alphanumeric() && !"+-.".contains(letter);
        let end = self.0.rest.find(ends).unwrap_or(self.0.rest.len());
        let text = &self.0.rest[..end];
        let is_number = text.parse::<f64>().is_ok_and(f64::is_finite);
        let value = match text {
            "null" => Json::Null,
            "true" | "false" => Json::Plain(text.into()),
            _ if is_number => Json::Plain(text.into()),
            _ => return Err(self.error("a value is missing")),
        };
        self.0.skip(end);
        Ok(value)
    }
}
