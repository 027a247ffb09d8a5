//! Lists of `jool` and `jool_siit` commands, as scripts have them.

use super::{ITERATIONS, Instance, Kind, PoolWords, global, read_json};
use crate::Includes;
use crate::found::{Found, Role};
use crate::text::{At, Origin, Text, Word, number, word};

pub(crate) fn read(text: &Text, includes: &dyn Includes, found: &mut Found) {
    found.has_translator = true;
    let mut reader = Reader {
        instance: None,
        name: None,
        found,
        includes,
    };
    for words in commands(text, reader.found) {
        reader.command(&words);
    }
    if let Some((instance, at)) = reader.instance {
        instance.finish(reader.found, &at);
    }
}

struct Reader<'a> {
    instance: Option<(Instance, At)>,
    name: Option<Word>,
    found: &'a mut Found,
    includes: &'a dyn Includes,
}

/// Options that have a value.
const VALUED: [&str; 6] = [
    "-i",
    "--instance",
    "-6",
    "--pool6",
    "--mark",
    "--max-iterations",
];

/// A command, taken apart.
#[derive(Default)]
struct Parts {
    plain: Vec<Word>,
    flags: Vec<Word>,
    valued: Vec<(String, Word)>,
}

impl Parts {
    fn value(&self, names: &[&str]) -> Option<&Word> {
        let mut valued = self.valued.iter();
        let pair = valued.find(|(name, _)| names.contains(&&**name));
        pair.map(|(_, value)| value)
    }

    fn protocol(&self) -> Option<Word> {
        let protocols = ["--tcp", "--udp", "--icmp"];
        let flag = self
            .flags
            .iter()
            .find(|flag| protocols.iter().any(|known| flag.is(known)))?;
        Some(Word {
            text: flag.text.trim_start_matches('-').into(),
            at: flag.at.clone(),
        })
    }
}

impl Reader<'_> {
    fn command(&mut self, words: &[Word]) {
        let from = Origin::of(words);
        let is_wrapper = |word: &Word| ["sudo", "exec"].contains(&&*word.text);
        let Some(start) = words.iter().position(|word| !is_wrapper(word)) else {
            return;
        };
        let (program, rest) = (&words[start], &words[start + 1..]);
        let kind = match program.text.rsplit('/').next() {
            Some("jool") => Kind::Nat64,
            Some("jool_siit") => Kind::Siit,
            Some("modprobe" | "rmmod" | "insmod") => {
                return self.found.leave(&from, "plat needs no kernel module");
            }
            _ => return self.found.leave(&from, "it is no command of Jool"),
        };
        if let Some(word) = rest
            .iter()
            .find(|word| word.text.contains(['$', '`', '|', '>', '&']))
        {
            let message = format!(
                "`{}`: the shell would replace it, and the import does not",
                word.text
            );
            return self.found.error(&word.at, message);
        }
        let Some(parts) = self.parts(rest) else {
            return;
        };
        match &self.instance {
            Some((instance, _)) if instance.kind != kind => {
                return self.found.error(
                    &program.at,
                    "both jool and jool_siit: import them one by one, for a plat each",
                );
            }
            Some(_) => {}
            None => self.instance = Some((Instance::new(kind), program.at.clone())),
        }
        self.mode(program, &parts, &from);
    }

    fn parts(&mut self, words: &[Word]) -> Option<Parts> {
        let mut parts = Parts::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            if !word.text.starts_with('-') {
                parts.plain.push(word.clone());
                continue;
            }
            let (name, value) = match word.text.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (&*word.text, None),
            };
            if !VALUED.contains(&name) {
                parts.flags.push(word.clone());
                continue;
            }
            let value = match value {
                Some(text) => Some(Word {
                    text,
                    at: word.at.clone(),
                }),
                None => words.next().cloned(),
            };
            let Some(value) = value else {
                let message = format!("{name} has no value");
                self.found.error(&word.at, message);
                return None;
            };
            parts.valued.push((name.to_owned(), value));
        }
        Some(parts)
    }

    fn named(&mut self, name: Option<&Word>) -> bool {
        let Some(name) = name else {
            return true;
        };
        match &self.name {
            Some(known) if known.text != name.text => {
                let message = format!(
                    "another instance than {} of line {}: import them one by one, for a plat each",
                    known.text, known.at.line
                );
                self.found.error(&name.at, message);
                false
            }
            _ => {
                self.name = Some(name.clone());
                true
            }
        }
    }

    fn mode(&mut self, program: &Word, parts: &Parts, from: &Origin) {
        let mut plain = parts.plain.iter();
        let (Some(mode), Some(operation)) = (plain.next(), plain.next()) else {
            return self.found.leave(from, "it changes nothing");
        };
        let arguments: Vec<&Word> = plain.collect();
        let mode_text = mode.text.to_ascii_lowercase();
        let name = match &*mode_text {
            "instance" => arguments.first().copied(),
            _ => None,
        };
        if !self.named(parts.value(&["-i", "--instance"]).or(name)) {
            return;
        }
        let Some((instance, _)) = &mut self.instance else {
            return;
        };
        let found = &mut *self.found;
        let operation_text = operation.text.to_ascii_lowercase();
        if ["display", "status", "query", "follow", "advertise", "proxy"]
            .contains(&&*operation_text)
        {
            return found.leave(from, "it changes nothing");
        }
        let kind = instance.kind;
        match (&*mode_text, &*operation_text, arguments.as_slice()) {
            ("instance", "add", _) => {
                if let Some(prefix) = parts.value(&["-6", "--pool6"]) {
                    found.prefix(prefix, Role::Translates, from);
                } else if kind == Kind::Nat64 {
                    found.error(&program.at, "--pool6 is missing: Jool would not start");
                }
            }
            ("global", "update", [key, value]) => {
                let from = from.named(format!("global update {} {}", key.text, value.text));
                global::set(instance, key, value, &from, found);
            }
            ("pool4", "add", [prefix, ports @ ..]) if kind == Kind::Nat64 && ports.len() < 2 => {
                if let Some(iterations) = parts.value(&["--max-iterations"]) {
                    let from = Origin {
                        at: iterations.at.clone(),
                        text: format!("--max-iterations {}", iterations.text),
                    };
                    found.leave(&from, ITERATIONS);
                }
                let words = PoolWords {
                    mark: parts.value(&["--mark"]).cloned(),
                    protocol: parts.protocol().unwrap_or_else(|| tcp(program)),
                    prefix: (*prefix).clone(),
                    ports: ports.first().map(|ports| (*ports).clone()),
                };
                instance.pool_entry(found, &words, from);
            }
            ("bib", "add", [one, two]) if kind == Kind::Nat64 => {
                let protocol = parts.protocol().unwrap_or_else(|| tcp(program));
                let is_v6 = |word: &Word| word.text.contains(':');
                let (v6, v4) = if is_v6(one) { (one, two) } else { (two, one) };
                instance.binding(found, [&protocol, v6, v4], from);
            }
            ("eamt", "add", [one, two]) if kind == Kind::Siit => {
                let is_v6 = |word: &Word| word.text.contains(':');
                let (v6, v4) = if is_v6(one) { (one, two) } else { (two, one) };
                instance.map(found, v6, v4, from);
            }
            ("denylist4" | "blacklist4", "add", [prefix]) if kind == Kind::Siit => {
                Instance::denied(found, prefix, from);
            }
            ("file", "handle", [path]) => self.file(path, kind),
            (
                "instance" | "pool4" | "bib" | "eamt" | "denylist4" | "blacklist4",
                "remove" | "flush",
                _,
            ) => {
                found.error(
                    &operation.at,
                    "the import does not follow what is removed again: import what is in force, as in \
                     `jool -i NAME file handle` or only the commands that add",
                );
            }
            ("instance" | "global" | "pool4" | "bib" | "eamt" | "denylist4" | "blacklist4", ..) => {
                found.error(&mode.at, "this is no command that Jool would accept");
            }
            _ => {
                let known = [
                    "instance",
                    "global",
                    "pool4",
                    "bib",
                    "eamt",
                    "denylist4",
                    "file",
                    "stats",
                    "session",
                ];
                match &*mode_text {
                    "stats" | "session" | "joold" | "address" => {
                        found.leave(from, "it changes nothing")
                    }
                    _ => found.unknown(mode, "mode of Jool", known),
                }
            }
        }
    }

    /// A JSON file that is loaded.
    fn file(&mut self, path: &Word, kind: Kind) {
        let files = match self.includes.find(&path.text, &path.at.file) {
            Ok(files) => files,
            Err(error) => return self.found.error(&path.at, format!("file handle: {error}")),
        };
        for file in &files {
            match Text::decode(file) {
                Ok(text) => read_json(&text, kind, self.found),
                Err(error) => self.found.errors.push(error),
            }
        }
        self.instance = None;
    }
}

/// What Jool takes without a protocol.
fn tcp(program: &Word) -> Word {
    Word {
        text: "tcp".into(),
        at: program.at.clone(),
    }
}

/// The commands of a script, with quotation marks taken off. What is wrong goes to `found`.
fn commands(text: &Text, found: &mut Found) -> Vec<Vec<Word>> {
    let mut all = vec![Vec::new()];
    for (index, line) in text.text.lines().enumerate() {
        let (line, goes_on) = match line.strip_suffix('\\') {
            Some(line) => (line, true),
            None => (line, false),
        };
        words_of(text, index, line, found, &mut all);
        if !goes_on {
            all.push(Vec::new());
        }
    }
    all.retain(|words| !words.is_empty());
    all
}

/// The words of a line go to the last command; a semicolon begins another.
fn words_of(text: &Text, index: usize, line: &str, found: &mut Found, all: &mut Vec<Vec<Word>>) {
    let mut letters = line.chars().enumerate().peekable();
    loop {
        while letters
            .next_if(|(_, letter)| letter.is_whitespace())
            .is_some()
        {}
        let Some(&(column, first)) = letters.peek() else {
            return;
        };
        if first == '#' {
            return;
        }
        if letters.next_if(|(_, letter)| *letter == ';').is_some() {
            all.push(Vec::new());
            continue;
        }
        let at = At {
            file: text.name.clone(),
            line: number(index),
            column: number(column),
        };
        let (mut part, mut quote) = (String::new(), None);
        while let Some((_, letter)) =
            letters.next_if(|(_, one)| quote.is_some() || !one.is_whitespace() && *one != ';')
        {
            match (quote, letter) {
                (Some(mark), letter) if mark == letter => quote = None,
                (None, '"' | '\'') => quote = Some(letter),
                (_, letter) => part.push(letter),
            }
        }
        if quote.is_some() {
            found.error(&at, "the quotation mark is never closed");
            return;
        }
        match word(&part, at) {
            Ok(word) => all
                .last_mut()
                .into_iter()
                .for_each(|words| words.push(word.clone())),
            Err(error) => found.errors.push(error),
        }
    }
}
