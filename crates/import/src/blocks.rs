//! The grammar that `radvd.conf` and `named.conf` share: statements of words that end with a
//! semicolon, some with statements in braces.

use crate::Error;
use crate::text::{At, Cursor, Origin, Text, Word, word};

/// A statement: words, then perhaps a block, then perhaps more words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Statement {
    pub(crate) words: Vec<Word>,
    pub(crate) block: Option<Vec<Statement>>,
}

impl Statement {
    /// Its first word; a statement that is a block alone has none.
    pub(crate) fn name(&self) -> Option<&Word> {
        self.words.first()
    }

    pub(crate) fn arguments(&self) -> &[Word] {
        self.words.get(1..).unwrap_or_default()
    }

    pub(crate) fn origin(&self) -> Origin {
        let mut origin = Origin::of(&self.words);
        if self.block.is_some() {
            origin.text += " { ... }";
        }
        origin
    }
}

/// What differs between the two.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dialect {
    /// Comments begin with `//` or `/*` too.
    pub(crate) has_c_comments: bool,
}

/// Blocks in blocks that are read, at most.
const DEPTH_MAX: usize = 24;

#[derive(Debug)]
enum Token {
    Word(Word),
    Open(At),
    Close(At),
    End,
}

/// The statements of a text.
///
/// # Errors
/// If a bracket, a quotation mark or a semicolon is missing, or a word is no text.
pub(crate) fn parse(text: &Text, dialect: Dialect) -> Result<Vec<Statement>, Error> {
    let mut lexer = Lexer {
        cursor: Cursor::new(text),
        dialect,
    };
    statements(&mut lexer, None, 0)
}

/// Statements up to the brace that closes the one that was opened at `open`, or the end of the file.
fn statements(
    lexer: &mut Lexer<'_>,
    open: Option<&At>,
    depth: usize,
) -> Result<Vec<Statement>, Error> {
    let mut all = Vec::new();
    let mut words: Vec<Word> = Vec::new();
    let mut block = None;
    loop {
        let token = lexer.token()?;
        let is_empty = words.is_empty() && block.is_none();
        match token {
            Some(Token::Word(word)) => words.push(word),
            Some(Token::Open(at)) if depth >= DEPTH_MAX => {
                return Err(Error::new(&at, "too many blocks in blocks"));
            }
            Some(Token::Open(at)) if block.is_some() => {
                return Err(Error::new(
                    &at,
                    "a second block: a semicolon is missing before",
                ));
            }
            Some(Token::Open(at)) => block = Some(statements(lexer, Some(&at), depth + 1)?),
            Some(Token::End) if is_empty => {}
            Some(Token::End) => all.push(Statement {
                words: std::mem::take(&mut words),
                block: block.take(),
            }),
            Some(Token::Close(at)) if open.is_none() => {
                return Err(Error::new(&at, "`}` closes no block"));
            }
            Some(Token::Close(_)) | None if !is_empty => {
                let at = words
                    .first()
                    .map_or_else(|| lexer.cursor.at(), |word| word.at.clone());
                let message = "the statement that begins here has no `;` at its end";
                return Err(Error::new(&at, message));
            }
            Some(Token::Close(_)) => return Ok(all),
            None => match open {
                Some(at) => return Err(Error::new(at, "`{` is never closed")),
                None => return Ok(all),
            },
        }
    }
}

struct Lexer<'a> {
    cursor: Cursor<'a>,
    dialect: Dialect,
}

impl Lexer<'_> {
    /// Skips white space and comments.
    fn skip_blank(&mut self) -> Result<(), Error> {
        loop {
            let blank = self.cursor.rest.len() - self.cursor.rest.trim_start().len();
            self.cursor.skip(blank);
            let has_c = self.dialect.has_c_comments;
            if self.cursor.rest.starts_with('#') || has_c && self.cursor.rest.starts_with("//") {
                let end = self
                    .cursor
                    .rest
                    .find('\n')
                    .unwrap_or(self.cursor.rest.len());
                self.cursor.skip(end);
            } else if has_c && self.cursor.rest.starts_with("/*") {
                let Some(end) = self.cursor.rest.find("*/") else {
                    return Err(Error::new(&self.cursor.at(), "`/*` is never closed"));
                };
                self.cursor.skip(end + 2);
            } else {
                return Ok(());
            }
        }
    }

    fn token(&mut self) -> Result<Option<Token>, Error> {
        self.skip_blank()?;
        let at = self.cursor.at();
        let Some(first) = self.cursor.rest.chars().next() else {
            return Ok(None);
        };
        let token = match first {
            '{' => Token::Open(at),
            '}' => Token::Close(at),
            ';' => Token::End,
            '"' => return self.quoted().map(Some),
            _ => {
                let ends = |letter: char| {
                    letter.is_whitespace() || matches!(letter, '{' | '}' | ';' | '"')
                };
                let mut end = self
                    .cursor
                    .rest
                    .find(ends)
                    .unwrap_or(self.cursor.rest.len());
                if self.dialect.has_c_comments {
                    let own = &self.cursor.rest[..end];
                    let comments = ["//", "/*"].iter().filter_map(|mark| own.find(mark));
                    end = comments.fold(end, usize::min);
                }
                let found = word(&self.cursor.rest[..end], at)?;
                self.cursor.skip(end);
                return Ok(Some(Token::Word(found)));
            }
        };
        self.cursor.skip(1);
        Ok(Some(token))
    }

    /// Text in quotation marks, in which a backslash takes the next character as it is.
    fn quoted(&mut self) -> Result<Token, Error> {
        let at = self.cursor.at();
        let mut text = String::new();
        let mut letters = self.cursor.rest.char_indices().skip(1);
        while let Some((offset, letter)) = letters.next() {
            match letter {
                '"' => {
                    self.cursor.skip(offset + 1);
                    return Ok(Token::Word(word(&text, at)?));
                }
                '\\' => text.extend(letters.next().map(|(_, letter)| letter)),
                '\n' => break,
                letter => text.push(letter),
            }
        }
        Err(Error::new(&at, "the quotation mark is never closed"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::File;

    fn shown(statements: &[Statement]) -> String {
        let shown = statements.iter().map(|statement| {
            let words: Vec<&str> = statement.words.iter().map(|word| &*word.text).collect();
            let block = statement
                .block
                .as_deref()
                .map(|block| format!("({})", shown(block)));
            format!("{}{}", words.join(","), block.unwrap_or_default())
        });
        shown.collect::<Vec<_>>().join(" ")
    }

    fn parsed(text: &str) -> Result<String, String> {
        let file = File {
            name: "x".into(),
            bytes: text.into(),
        };
        let text = Text::decode(&file).unwrap();
        let dialect = Dialect {
            has_c_comments: true,
        };
        let statements = parse(&text, dialect).map_err(|error| error.to_string())?;
        Ok(shown(&statements))
    }

    #[test]
    fn statements_are_words_and_blocks() {
        let text = "a b { c 1; d { }; ; } ;# x\n\"e f\" \"g\\\"h\"; /* i\n */ j//k\n;{ l; };";
        assert_eq!(parsed(text).unwrap(), "a,b(c,1 d()) e f,g\"h j (l)");
    }

    #[test]
    fn what_is_never_closed_is_named_where_it_was_opened() {
        for (text, error) in [
            ("a {\n b;\n", "x:1:3: `{` is never closed"),
            ("a;\n }", "x:2:2: `}` closes no block"),
            (
                "a { b }",
                "x:1:5: the statement that begins here has no `;` at its end",
            ),
            (
                "a;\nb",
                "x:2:1: the statement that begins here has no `;` at its end",
            ),
            ("a \"b\n\";", "x:1:3: the quotation mark is never closed"),
            ("/* a", "x:1:1: `/*` is never closed"),
            (
                "a { } { };",
                "x:1:7: a second block: a semicolon is missing before",
            ),
            (&"{".repeat(10_000), "x:1:25: too many blocks in blocks"),
        ] {
            assert_eq!(parsed(text).unwrap_err(), error);
        }
    }
}
