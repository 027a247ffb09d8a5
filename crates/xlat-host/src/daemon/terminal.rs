//! Text for a terminal or a log, with names in it that others have chosen.
//!
//! The kernel lets an interface have control characters in its name, and a terminal obeys them.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::io::{self, Write};

/// The text with control characters other than line ends and tabs written out, as `\u{1b}`.
pub fn plain(text: &str) -> Cow<'_, str> {
    if !text.contains(is_control) {
        return Cow::Borrowed(text);
    }
    let mut plain = String::new();
    for c in text.chars() {
        if is_control(c) {
            // A string takes all that is written to it.
            let _ = write!(plain, "{}", c.escape_unicode());
        } else {
            plain.push(c);
        }
    }
    Cow::Owned(plain)
}

fn is_control(c: char) -> bool {
    c.is_control() && !matches!(c, '\n' | '\t')
}

/// Standard error, to which whole lines are written, in plain text.
#[derive(Debug)]
pub(super) struct PlainStderr;

impl Write for PlainStderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        io::stderr().lock().write_all(plain(&text).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// A word of a command line, quoted for the shell where that is needed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Word<'a>(pub(crate) &'a str);

impl fmt::Display for Word<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_plain(self.0) {
            return f.write_str(self.0);
        }
        write!(f, "'{}'", self.0.replace('\'', r"'\''"))
    }
}

/// The name of an interface in an `nft` command, quoted for the shell and for `nft` where that is
/// needed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NftName<'a>(pub(crate) &'a str);

impl fmt::Display for NftName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_plain(self.0) {
            return f.write_str(self.0);
        }
        Word(&format!("\"{}\"", self.0)).fmt(f)
    }
}

fn is_plain(word: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_./:@%+=,-".contains(c);
    !word.is_empty() && word.chars().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn se_25_a_name_does_not_command_the_terminal() {
        assert_eq!(plain("eth0 läuft\n\tso\n"), "eth0 läuft\n\tso\n");
        assert_eq!(
            plain("a\x1b[2Jb\rc\x7f\u{9b}d\0"),
            r"a\u{1b}[2Jb\u{d}c\u{7f}\u{9b}d\u{0}"
        );
    }

    #[test]
    fn se_29_what_a_dry_run_prints_is_one_word_for_the_shell() {
        let names = [
            "eth0",
            "wan.7",
            "a;reboot",
            "$(reboot)",
            "`id`",
            "it's",
            "a|b&c",
            "",
            "*",
            "a\"b",
            "~",
        ];
        for name in names {
            let command = format!("printf %s {}", Word(name));
            let shell = std::process::Command::new("sh")
                .args(["-c", &command])
                .output();
            assert_eq!(shell.unwrap().stdout, name.as_bytes(), "{command}");
        }
        assert_eq!(NftName("eth0").to_string(), "eth0");
        assert_eq!(NftName("a;b").to_string(), "'\"a;b\"'");
    }
}
