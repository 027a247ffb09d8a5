//! What configurations say, whoever's they are: values for our flags with where they come from, what
//! was left out and why, and what behaves differently.

use std::fmt::Display;
use std::str::FromStr;

use nat64::dynamic::map_file::Lease;
use xlat_core::addr::Pref64;

use crate::Error;
use crate::text::{At, Origin, Word};

/// A value of one of our flags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Text(String),
    Number(u64),
    Bool(bool),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<bool> for Value {
    fn from(on: bool) -> Self {
        Self::Bool(on)
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

/// A value, and where it comes from.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    pub(crate) key: &'static str,
    pub(crate) value: Value,
    pub(crate) from: Origin,
}

/// What a file has a NAT64 prefix for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// It translates packets.
    Translates,
    /// It tells hosts of it.
    Announces,
    /// It makes IPv6 addresses of it.
    Synthesises,
}

/// Everything that was found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) settings: Vec<Setting>,
    pub(crate) prefixes: Vec<(Pref64, Role, Origin)>,
    pub(crate) left_out: Vec<(Origin, String)>,
    /// Each once.
    pub(crate) differences: Vec<String>,
    pub(crate) leases: Vec<(Origin, Lease)>,
    pub(crate) errors: Vec<Error>,
    /// One of the files says how packets are translated.
    pub(crate) has_translator: bool,
}

impl Found {
    /// Carries a value over.
    pub(crate) fn set(&mut self, key: &'static str, value: impl Into<Value>, from: &Origin) {
        self.settings.push(Setting {
            key,
            value: value.into(),
            from: from.clone(),
        });
    }

    /// Carries a value over that is a switch of ours.
    pub(crate) fn switch(&mut self, key: &'static str, on: bool, from: &Origin) {
        self.set(key, if on { "on" } else { "off" }, from);
    }

    /// Leaves a directive out.
    pub(crate) fn leave(&mut self, from: &Origin, because: impl Into<String>) {
        self.left_out.push((from.clone(), because.into()));
    }

    /// Says what will be different.
    pub(crate) fn differs(&mut self, how: impl Into<String>) {
        let how = how.into();
        if !self.differences.contains(&how) {
            self.differences.push(how);
        }
    }

    pub(crate) fn error(&mut self, at: &At, message: impl Into<String>) {
        self.errors.push(Error::new(at, message));
    }

    /// A NAT64 prefix.
    pub(crate) fn prefix(&mut self, word: &Word, role: Role, from: &Origin) {
        if let Some(prefix) = self.parse::<Pref64>(word, "a NAT64 prefix") {
            self.prefixes.push((prefix, role, from.clone()));
        }
    }

    /// The meaning of a word, or an error.
    pub(crate) fn parse<T>(&mut self, word: &Word, what: &str) -> Option<T>
    where
        T: FromStr<Err: Display>,
    {
        match word.text.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                let text = &word.text;
                self.error(&word.at, format!("`{text}` is not {what}: {error}"));
                None
            }
        }
    }

    /// A number in a range, or an error.
    pub(crate) fn number(
        &mut self,
        word: &Word,
        range: std::ops::RangeInclusive<u64>,
    ) -> Option<u64> {
        match word.text.parse() {
            Ok(number) if range.contains(&number) => Some(number),
            _ => {
                let (text, low, high) = (&word.text, range.start(), range.end());
                self.error(
                    &word.at,
                    format!("`{text}` is no number from {low} to {high}"),
                );
                None
            }
        }
    }

    /// A yes or no in any of the usual words, or an error.
    pub(crate) fn boolean(&mut self, word: &Word) -> Option<bool> {
        let is_one_of = |words: [&str; 4]| words.iter().any(|one| word.is(one));
        if is_one_of(["yes", "on", "true", "1"]) {
            return Some(true);
        }
        if is_one_of(["no", "off", "false", "0"]) {
            return Some(false);
        }
        self.error(&word.at, format!("`{}` is neither yes nor no", word.text));
        None
    }

    /// Refuses a directive that the format does not have.
    pub(crate) fn unknown<'a>(
        &mut self,
        word: &Word,
        kind: &str,
        known: impl IntoIterator<Item = &'a str>,
    ) {
        let wanted = word.text.to_ascii_lowercase();
        let near = known.into_iter().map(|name| {
            let distance = strsim::damerau_levenshtein(&wanted, &name.to_ascii_lowercase());
            (distance, name)
        });
        let near = near.min().filter(|(distance, _)| *distance <= 3);
        let hint = near.map_or_else(String::new, |(_, name)| format!("; did you mean `{name}`?"));
        let text: String = word.text.chars().take(60).collect();
        self.error(&word.at, format!("there is no {kind} `{text}`{hint}"));
    }
}
