//! The configuration file: a TOML file whose keys are the names of the flags.
//!
//! A table stands for the beginning of a name: `interval` in `[ra]` is `--ra-interval`. A list is a
//! flag given several times, `true` a flag without a value. The keys become arguments of the
//! command line and go through the same parser, so that each value has one meaning and one error
//! message. Flags on the command line override the file.

use std::ffi::OsString;
use std::ops::Range;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Why a configuration file was refused.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// Path of the file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The file is not valid TOML.
    #[error("{}, line {line}: {message}", path.display())]
    Syntax {
        /// Path of the file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The parser's error message.
        message: String,
    },
    /// A key is not the name of a flag.
    #[error("{}, line {line}: there is no `{key}`{hint}", path.display())]
    Unknown {
        /// Path of the file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The key.
        key: String,
        /// A similar flag name as a suggestion, or empty.
        hint: String,
    },
    /// A value is not valid for its flag.
    #[error("{}, line {line}: {key}: {message}", path.display())]
    Value {
        /// Path of the file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The key.
        key: String,
        /// The error message.
        message: String,
    },
}

impl FileError {
    /// Line and key of what is wrong, as far as it has them.
    pub fn place(&self) -> (Option<usize>, Option<&str>) {
        match self {
            Self::Read { .. } => (None, None),
            Self::Syntax { line, .. } => (Some(*line), None),
            Self::Unknown { line, key, .. } | Self::Value { line, key, .. } => {
                (Some(*line), Some(key))
            }
        }
    }
}

/// A key of the file with its values.
#[derive(Debug)]
struct Entry {
    key: String,
    line: usize,
    values: Vec<String>,
}

/// The command line with the arguments of its configuration file appended, if it names one.
///
/// # Errors
/// If the file cannot be read or is not valid.
pub fn expand(
    command: &Command,
    args: Vec<OsString>,
    complaint: impl Fn(&clap::Error) -> String,
) -> Result<Vec<OsString>, FileError> {
    expand_with(
        command,
        args,
        |path| std::fs::read_to_string(path),
        complaint,
    )
}

/// The same, with the file read by `read`.
///
/// # Errors
/// If the file cannot be read or is not valid.
pub fn expand_with(
    command: &Command,
    args: Vec<OsString>,
    read: impl FnOnce(&Path) -> std::io::Result<String>,
    complaint: impl Fn(&clap::Error) -> String,
) -> Result<Vec<OsString>, FileError> {
    // An invalid command line is reported by the parser that runs next.
    let Ok(matches) = command.clone().try_get_matches_from(&args) else {
        return Ok(args);
    };
    let (own, flags) = match matches.subcommand() {
        Some(("run", run)) => (run, command.find_subcommand("run").unwrap_or(command)),
        Some(_) => return Ok(args),
        None => (&matches, command),
    };
    let Ok(Some(path)) = own.try_get_one::<PathBuf>("config") else {
        return Ok(args);
    };
    let text = read(path).map_err(|source| FileError::Read {
        path: path.clone(),
        source,
    })?;
    let mut all = args;
    for entry in entries(path, &text)? {
        let more = arguments(path, flags, own, &entry)?;
        check(path, command, &entry, &more, &complaint)?;
        all.extend(more);
    }
    Ok(all)
}

/// The effective values of a command line, in the format of the file.
pub fn effective(command: &Command, matches: &ArgMatches) -> String {
    let mut text = String::new();
    for arg in command.get_arguments().filter(|arg| is_key(arg)) {
        let (Some(name), id) = (arg.get_long(), arg.get_id().as_str()) else {
            continue;
        };
        let line = match arg.get_action() {
            ArgAction::SetTrue => matches.get_flag(id).then(|| "true".to_owned()),
            ArgAction::Count => match matches.get_count(id) {
                0 => None,
                count => Some(count.to_string()),
            },
            action => matches.get_raw(id).map(|values| {
                let values = values.map(|value| quote(&value.to_string_lossy()));
                let values: Vec<String> = values.collect();
                match action {
                    ArgAction::Append => format!("[{}]", values.join(", ")),
                    _ => values.join(", "),
                }
            }),
        };
        if let Some(line) = line {
            text += &format!("{name} = {line}\n");
        }
    }
    text
}

fn quote(value: &str) -> String {
    // An integer in TOML has no plus sign, no leading zeros and 63 bits.
    match value.parse::<i64>() {
        Ok(number) if number.to_string() == value => return value.to_owned(),
        _ => {}
    }
    let escaped = value.chars().map(|letter| match letter {
        '\\' | '"' => format!("\\{letter}"),
        letter if letter.is_control() => format!("\\u{:04X}", u32::from(letter)),
        letter => letter.to_string(),
    });
    format!("\"{}\"", escaped.collect::<String>())
}

/// True for flags that may be keys of the file.
fn is_key(arg: &Arg) -> bool {
    let is_action = matches!(
        arg.get_action(),
        ArgAction::Help | ArgAction::HelpLong | ArgAction::HelpShort | ArgAction::Version
    );
    !is_action && arg.get_id() != "config"
}

fn entries(path: &Path, text: &str) -> Result<Vec<Entry>, FileError> {
    let line_of = |span: Range<usize>| 1 + text[..span.start.min(text.len())].matches('\n').count();
    let table = DeTable::parse(text).map_err(|error| {
        let line = line_of(error.span().unwrap_or_default());
        let hint = text.lines().nth(line - 1).and_then(quoted);
        let hint = hint.map(|quoted| format!("; a text has quotes: {quoted}"));
        FileError::Syntax {
            path: path.into(),
            line,
            message: format!("{}{}", error.message(), hint.unwrap_or_default()),
        }
    })?;
    let mut entries = Vec::new();
    flatten("", table.get_ref(), &line_of, &mut entries).map_err(|(key, line)| {
        FileError::Value {
            path: path.into(),
            line,
            key,
            message: "a list has plain values in it".into(),
        }
    })?;
    entries.sort_by_key(|entry| entry.line);
    Ok(entries)
}

/// A line whose values lack quotes, with them.
fn quoted(line: &str) -> Option<String> {
    let (key, value) = line.split_once('=')?;
    let value = value.split('#').next().unwrap_or(value).trim();
    if value.is_empty() || value.contains(['"', '\'', '{']) {
        return None;
    }
    let list = value
        .strip_prefix('[')
        .and_then(|list| list.strip_suffix(']'));
    let quoted = match list {
        Some(list) => {
            let words = list.split(',').map(|word| format!("\"{}\"", word.trim()));
            format!("[{}]", words.collect::<Vec<_>>().join(", "))
        }
        None => format!("\"{value}\""),
    };
    Some(format!("{} = {quoted}", key.trim()))
}

/// Joins the names of nested tables. The error is the key and line of a list that contains lists or
/// tables.
fn flatten(
    prefix: &str,
    table: &DeTable<'_>,
    line_of: &impl Fn(Range<usize>) -> usize,
    into: &mut Vec<Entry>,
) -> Result<(), (String, usize)> {
    for (key, value) in table {
        let name = match prefix {
            "" => key.get_ref().to_string(),
            prefix => format!("{prefix}-{}", key.get_ref()),
        };
        if let DeValue::Table(inner) = value.get_ref() {
            flatten(&name, inner, line_of, into)?;
            continue;
        }
        let line = line_of(key.span());
        let Some(values) = values(value) else {
            return Err((name, line));
        };
        into.push(Entry {
            key: name,
            line,
            values,
        });
    }
    Ok(())
}

fn values(value: &Spanned<DeValue<'_>>) -> Option<Vec<String>> {
    match value.get_ref() {
        DeValue::Array(array) => array.iter().map(plain).collect(),
        _ => plain(value).map(|value| vec![value]),
    }
}

fn plain(value: &Spanned<DeValue<'_>>) -> Option<String> {
    match value.get_ref() {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Boolean(value) => Some(value.to_string()),
        DeValue::Integer(number) => Some(number.to_string()),
        DeValue::Float(number) => Some(number.to_string()),
        DeValue::Datetime(time) => Some(time.to_string()),
        DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

/// The arguments of one entry; none if the command line has the flag.
fn arguments(
    path: &Path,
    flags: &Command,
    given: &ArgMatches,
    entry: &Entry,
) -> Result<Vec<OsString>, FileError> {
    let names = |arg: &&Arg| {
        // An older name is hidden, and goes on to be read.
        let older = arg.get_all_aliases().unwrap_or_default();
        let is_it = arg.get_long() == Some(&entry.key) || older.contains(&entry.key.as_str());
        is_key(arg) && is_it
    };
    let Some(arg) = flags.get_arguments().find(names) else {
        return Err(unknown(path, flags, entry));
    };
    if given.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine) {
        return Ok(Vec::new());
    }
    let flag = format!("--{}", entry.key);
    let wrong = |message: &str| FileError::Value {
        path: path.into(),
        line: entry.line,
        key: entry.key.clone(),
        message: message.into(),
    };
    match arg.get_action() {
        ArgAction::SetTrue => match entry.values.as_slice() {
            [value] if value == "true" => Ok(vec![flag.into()]),
            [value] if value == "false" => Ok(Vec::new()),
            _ => Err(wrong("it is true or false")),
        },
        ArgAction::Count => match entry.values.as_slice() {
            [value] => {
                let count = value.parse::<u8>().map_err(|_| wrong("it is a number"))?;
                Ok(vec![flag.into(); count.into()])
            }
            _ => Err(wrong("it is a number")),
        },
        ArgAction::Append => Ok(each(&flag, arg, &entry.values)),
        _ if entry.values.len() == 1 => Ok(each(&flag, arg, &entry.values)),
        _ => Err(wrong("it has one value")),
    }
}

/// `--flag=value` for each value. A switch with `on` and `off` accepts `true` and `false` too.
fn each(flag: &str, arg: &Arg, values: &[String]) -> Vec<OsString> {
    let possible = arg.get_possible_values();
    let is_switch = possible.iter().any(|value| value.matches("on", false));
    let values = values.iter().map(|value| match value.as_str() {
        "true" if is_switch => "on",
        "false" if is_switch => "off",
        other => other,
    });
    values
        .map(|value| format!("{flag}={value}").into())
        .collect()
}

/// Parses the arguments of one entry alone, so that an error message can name its line. Missing or
/// conflicting flags are found later, when all are parsed together.
fn check(
    path: &Path,
    command: &Command,
    entry: &Entry,
    arguments: &[OsString],
    complaint: &impl Fn(&clap::Error) -> String,
) -> Result<(), FileError> {
    let name = OsString::from(command.get_name());
    let alone = std::iter::once(name).chain(arguments.iter().cloned());
    match command.clone().try_get_matches_from(alone) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::MissingRequiredArgument => Ok(()),
        Err(error) => Err(FileError::Value {
            path: path.into(),
            line: entry.line,
            key: entry.key.clone(),
            message: complaint(&error),
        }),
    }
}

fn unknown(path: &Path, flags: &Command, entry: &Entry) -> FileError {
    let names = flags.get_arguments().filter(|arg| is_key(arg));
    let names = names
        .filter_map(Arg::get_long_and_visible_aliases)
        .flatten();
    let nearest = names
        .map(|name| (distance(name, &entry.key), name))
        .min()
        .filter(|(distance, _)| *distance <= 3);
    FileError::Unknown {
        path: path.into(),
        line: entry.line,
        key: entry.key.clone(),
        hint: nearest.map_or(String::new(), |(_, name)| {
            format!("; did you mean `{name}`?")
        }),
    }
}

/// Levenshtein distance: the number of letters to insert, delete or replace.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, letter) in one.chars().enumerate() {
        let mut corner = row[0];
        row[0] = at + 1;
        for (column, wanted) in other.iter().enumerate() {
            let change = corner + usize::from(letter != *wanted);
            corner = row[column + 1];
            row[column + 1] = change.min(corner + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory, Parser, ValueEnum};

    #[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
    enum Switch {
        On,
        Off,
    }

    #[derive(Debug, Parser)]
    struct Cli {
        #[arg(long)]
        config: Option<PathBuf>,
        #[arg(long)]
        map: Vec<String>,
        #[arg(long, default_value_t = 600)]
        ra_interval: u16,
        #[arg(long)]
        always: bool,
        #[arg(long, value_enum, default_value = "off")]
        ra_pref64: Switch,
        #[arg(long, visible_alias = "net")]
        lan: Option<String>,
        #[arg(long, requires = "lan")]
        lan_prefix6: Option<String>,
    }

    fn parse(text: &str, more: &[&str]) -> Result<Cli, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.toml");
        std::fs::write(&path, text).unwrap();
        let mut args: Vec<OsString> = vec!["x".into(), "--config".into(), path.clone().into()];
        args.extend(more.iter().map(OsString::from));
        let args = expand(&Cli::command(), args, |error| error.kind().to_string());
        let place = format!("{}, ", path.display());
        let args = args.map_err(|error| error.to_string().replace(&place, ""))?;
        Ok(Cli::try_parse_from(args).unwrap())
    }

    #[test]
    fn ui_10_a_text_without_quotes_gets_the_hint_to_quote_it() {
        for (text, line, expected) in [
            ("map = 2001:db8::/64\n", 1, "map = \"2001:db8::/64\""),
            ("# x\nlan = eth0 # to me\n", 2, "lan = \"eth0\""),
            (
                "map = [64:ff9b::/96, 10.0.0.0/8]\n",
                1,
                "map = [\"64:ff9b::/96\", \"10.0.0.0/8\"]",
            ),
        ] {
            let wrong = parse(text, &[]).unwrap_err();
            assert!(wrong.starts_with(&format!("line {line}: ")), "{wrong}");
            let hint = format!("; a text has quotes: {expected}");
            assert!(wrong.ends_with(&hint), "{wrong}");
            assert!(!wrong.contains('\n'), "{wrong}");
        }
        assert_eq!(quoted("map = \"2001:db8::/64"), None);
        assert_eq!(quoted("[ra"), None);
    }

    #[test]
    fn keys_are_flags_and_tables_their_beginnings() {
        let text = "always = true\nmap = [\"a\", \"b\"]\n[ra]\ninterval = 10\npref64 = true\n";
        let cli = parse(text, &[]).unwrap();
        assert!(cli.always && cli.ra_pref64 == Switch::On);
        assert_eq!((cli.map.join(" ").as_str(), cli.ra_interval), ("a b", 10));
        assert!(cli.config.is_some());
    }

    #[test]
    fn the_command_line_replaces_what_the_file_says() {
        let text = "map = [\"a\", \"b\"]\nra-interval = 10\n";
        let cli = parse(text, &["--map=c", "--ra-interval=20"]).unwrap();
        assert_eq!((cli.map.join(" ").as_str(), cli.ra_interval), ("c", 20));
    }

    #[test]
    fn a_key_may_need_another_one_and_may_have_two_names() {
        let text = "lan-prefix6 = \"p\"\nlan = \"l\"\n";
        let cli = parse(text, &[]).unwrap();
        assert_eq!(cli.lan.as_deref(), Some("l"));
        assert_eq!(cli.lan_prefix6.as_deref(), Some("p"));
        let cli = parse("net = \"l\"\n", &[]).unwrap();
        assert_eq!(cli.lan.as_deref(), Some("l"));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (text, expected) in [
            (
                "always = true\nra-intervall = 10\n",
                "line 2: there is no `ra-intervall`; did you mean `ra-interval`?",
            ),
            ("[ra]\nfoo = 1\n", "line 2: there is no `ra-foo`"),
            ("config = \"y\"\n", "line 1: there is no `config`"),
            ("\n\nra-interval = 99999\n", "line 3: ra-interval: "),
            (
                "ra-interval = [1, 2]\n",
                "line 1: ra-interval: it has one value",
            ),
            (
                "always = true\n[[map]]\nfrom = \"a\"\n",
                "line 2: map: a list has plain values in it",
            ),
            (
                "map = [\"a\", { to = \"b\" }]\n",
                "line 1: map: a list has plain values in it",
            ),
            (
                "[ra]\ninterval = [[1]]\n",
                "line 2: ra-interval: a list has plain values in it",
            ),
            ("always = 3\n", "line 1: always: it is true or false"),
            ("map = [\"a\"\nfoo", "line 2: "),
        ] {
            let error = parse(text, &[]).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
        let missing = vec!["x".into(), "--config".into(), "/nowhere/x.toml".into()];
        let error = expand(&Cli::command(), missing, |_| String::new()).unwrap_err();
        assert!(error.to_string().starts_with("/nowhere/x.toml: "));
    }

    #[test]
    fn the_effective_values_read_back_the_same() {
        let text = "always = true\nmap = [\"a\", \"b\"]\nra-interval = 10\n";
        let args = ["x", "--always", "--map=a", "--map=b", "--ra-interval=10"];
        let matches = Cli::command().get_matches_from(args);
        let effective = effective(&Cli::command(), &matches);
        for line in text.lines() {
            assert!(effective.contains(line), "{line} in {effective}");
        }
        assert!(effective.contains("ra-pref64 = \"off\""));
        let again = parse(&effective, &[]).unwrap();
        assert_eq!(again.map, ["a", "b"]);
        let odd = [
            "007",
            "+5",
            "-5",
            "18446744073709551615",
            "a\"b\\c\nd\u{7f}e",
        ];
        let args = odd.iter().map(|value| format!("--map={value}"));
        let args = std::iter::once("x".to_owned()).chain(args);
        let matches = Cli::command().get_matches_from(args);
        let effective = super::effective(&Cli::command(), &matches);
        assert_eq!(parse(&effective, &[]).unwrap().map, odd);
    }
}
