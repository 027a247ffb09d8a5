//! What `check` says of a configuration file: the values in force, what a start would choose and, if
//! it is asked for, how this host looks to a start.

use std::error::Error;
use std::fmt::Write as _;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};

use clap::{Args, Command};
use doctor::Outcome;
use serde::Serialize;
use serde_json::{Value, json};

use super::control::{SCHEMA, socket_path};
use super::exit::{self, Usage};
use super::file::{self, FileError};
use super::terminal;
use super::values::Values;
use super::waiting::Missing;

/// What is checked, and how that is shown.
#[derive(Args, Clone, Debug)]
pub struct CheckFlags {
    /// Configuration file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Check it against this host, too: interfaces, addresses, ports, privileges
    #[arg(long)]
    pub here: bool,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// What a configuration file comes to.
#[derive(Debug)]
pub struct Checked {
    /// The values in force.
    pub values: Values,
    /// What a start would choose.
    pub chosen: Vec<Choice>,
    /// How this host looks, if that was asked for.
    pub here: Option<Vec<Look>>,
}

/// Something that nobody has said, and that a start chooses.
#[derive(Clone, Debug, Serialize)]
pub struct Choice {
    /// What it is.
    name: &'static str,
    /// The choice, where it is known without a host.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    /// How it is chosen, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
}

impl Choice {
    /// The choice is known.
    pub fn value(name: &'static str, value: impl ToString) -> Self {
        Self {
            name,
            value: Some(value.to_string()),
            text: None,
        }
    }

    /// It depends on the host.
    pub fn text(name: &'static str, text: impl Into<String>) -> Self {
        Self {
            name,
            value: None,
            text: Some(text.into()),
        }
    }
}

/// How a part of this host looks to a start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Look {
    /// Which part.
    pub what: &'static str,
    /// What a start would make of it.
    pub verdict: Verdict,
    /// What was seen, for people.
    pub text: String,
}

/// What a start would make of what was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It goes on.
    Ok,
    /// It could not be looked at.
    Skipped,
    /// It goes on, with a warning.
    Warns,
    /// It waits.
    Waits,
    /// It ends.
    Refuses,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Skipped => "skip",
            Self::Warns => "warn",
            Self::Waits => "wait",
            Self::Refuses => "FAIL",
        }
    }
}

impl Look {
    /// A start would go on.
    pub fn ok(what: &'static str, text: impl Into<String>) -> Self {
        Self::new(what, Verdict::Ok, text)
    }

    /// The same with another verdict.
    pub fn new(what: &'static str, verdict: Verdict, text: impl Into<String>) -> Self {
        let text = text.into();
        Self {
            what,
            verdict,
            text,
        }
    }

    /// What a start would make of this outcome: it waits for what is [`Missing`], and ends for all
    /// other errors.
    pub fn of<T, E>(what: &'static str, fine: impl Into<String>, outcome: Result<T, E>) -> Self
    where
        E: AsRef<dyn Error + Send + Sync>,
    {
        let Err(error) = outcome else {
            return Self::ok(what, fine);
        };
        let error = error.as_ref();
        let verdict = match error.is::<Missing>() {
            true => Verdict::Waits,
            false => Verdict::Refuses,
        };
        Self::new(what, verdict, exit::message(error))
    }

    /// Whether a socket of this address can be had.
    pub fn port(protocol: Protocol, address: SocketAddr) -> Self {
        const WHAT: &str = "port";
        let (name, bound) = match protocol {
            Protocol::Tcp => ("TCP", TcpListener::bind(address).map(drop)),
            Protocol::Udp => ("UDP", UdpSocket::bind(address).map(drop)),
        };
        let text = format!("{name} port {} of {}", address.port(), address.ip());
        match bound.map_err(|error| error.kind()) {
            Ok(()) => Self::ok(WHAT, format!("{text} is free")),
            Err(ErrorKind::AddrInUse) => {
                Self::new(WHAT, Verdict::Refuses, format!("{text} is in use"))
            }
            Err(ErrorKind::PermissionDenied) => {
                let text = format!("{text}: this user may not listen there");
                Self::new(WHAT, Verdict::Skipped, text)
            }
            // That an address is missing is said of addresses.
            Err(kind) => Self::new(WHAT, Verdict::Skipped, format!("{text}: {kind}")),
        }
    }

    /// Whether a daemon of this instance runs: what it has is no conflict.
    pub fn runs(run_dir: &Path, name: &str) -> bool {
        std::os::unix::net::UnixStream::connect(socket_path(run_dir, name)).is_ok()
    }
}

impl From<doctor::Finding> for Look {
    fn from(finding: doctor::Finding) -> Self {
        let verdict = match finding.outcome {
            Outcome::Ok => Verdict::Ok,
            Outcome::Skipped => Verdict::Skipped,
            Outcome::Warn | Outcome::Follows => Verdict::Warns,
            Outcome::Fail => Verdict::Refuses,
        };
        let text = match finding.what_to_do().filter(|_| finding.outcome.is_fault()) {
            Some(remedy) => format!("{}; {remedy}", finding.evidence),
            None => finding.evidence.clone(),
        };
        Self::new(finding.check.id, verdict, text)
    }
}

/// A transport protocol with ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl CheckFlags {
    /// The arguments of the program with this file, as a start has them.
    pub fn arguments(&self, program: &str) -> Vec<std::ffi::OsString> {
        vec![program.into(), "--config".into(), self.file.clone().into()]
    }

    /// Prints what came of the check. Returns the exit code, or what is wrong with the file.
    ///
    /// # Errors
    /// It cannot be printed.
    pub fn report(
        &self,
        command: &Command,
        checked: Result<Checked, Usage>,
    ) -> io::Result<Result<u8, Usage>> {
        let program = command.get_name();
        let text = match (&checked, self.json) {
            (Ok(checked), true) => format!("{}\n", checked.to_json(program)),
            (Ok(checked), false) => checked.to_text(),
            (Err(usage), true) => format!("{}\n", self.fault(command, usage)),
            (Err(_), false) => String::new(),
        };
        exit::print(&terminal::plain(&text))?;
        Ok(checked.map(|checked| checked.exit_code()))
    }

    /// What is wrong with the file, and where.
    fn fault(&self, command: &Command, usage: &Usage) -> Value {
        let args = self.arguments(command.get_name());
        let read = file::expand(command, args, exit::one_line);
        let place = read.as_ref().err().map(FileError::place);
        let (line, key) = place.unwrap_or_default();
        json!({
            "schema": SCHEMA,
            "program": command.get_name(),
            "valid": false,
            "error": { "file": self.file, "line": line, "key": key, "text": usage.0 },
        })
    }
}

impl Checked {
    fn exit_code(&self) -> u8 {
        let mut verdicts = self.here.iter().flatten().map(|look| look.verdict);
        let has = |wanted| verdicts.clone().any(|verdict| verdict == wanted);
        if has(Verdict::Refuses) {
            return exit::SYSTEM;
        }
        match verdicts.any(|verdict| verdict == Verdict::Waits) {
            true => exit::NOTHING,
            false => exit::DONE,
        }
    }

    fn to_text(&self) -> String {
        let mut text = self.values.to_string();
        for Choice {
            name,
            value,
            text: how,
        } in &self.chosen
        {
            let choice = value.as_ref().or(how.as_ref());
            let choice = choice.map_or("", String::as_str);
            let _ = match choice.starts_with(name) {
                true => writeln!(text, "# {choice}"),
                false => writeln!(text, "# {name}: {choice}"),
            };
        }
        if let Some(here) = &self.here {
            text.push_str("# on this host:\n");
            for Look {
                what,
                verdict,
                text: seen,
            } in here
            {
                let seen = seen.replace('\n', " ");
                let _ = writeln!(text, "#   {:<4}  {what}: {seen}", verdict.word());
            }
        }
        text
    }

    fn to_json(&self, program: &str) -> Value {
        let mut document = json!({
            "schema": SCHEMA,
            "program": program,
            "valid": true,
            "values": self.values.to_json(),
            "chosen": self.chosen,
        });
        if let Some(here) = &self.here {
            document["here"] = json!(here);
        }
        document
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(verdicts: &[Verdict]) -> Checked {
        let here = verdicts.iter().map(|one| Look::new("port", *one, "seen"));
        Checked {
            values: Values::default(),
            chosen: vec![
                Choice::value("ipv4", "192.0.2.1"),
                Choice::text("ipv6", "one of this host"),
            ],
            here: Some(here.collect()),
        }
    }

    #[test]
    fn ui_13_the_worst_that_a_start_would_meet_is_the_exit_code() {
        use Verdict::{Ok, Refuses, Skipped, Waits, Warns};
        assert_eq!(checked(&[]).exit_code(), exit::DONE);
        assert_eq!(checked(&[Ok, Skipped, Warns]).exit_code(), exit::DONE);
        assert_eq!(checked(&[Waits, Ok]).exit_code(), exit::NOTHING);
        assert_eq!(checked(&[Waits, Refuses]).exit_code(), exit::SYSTEM);
    }

    #[test]
    fn ui_13_what_is_said_of_the_host_is_a_comment_of_the_file() {
        let text = checked(&[Verdict::Ok, Verdict::Refuses]).to_text();
        let expected = "# ipv4: 192.0.2.1\n# ipv6: one of this host\n# on this host:\n\
                        #   ok    port: seen\n#   FAIL  port: seen\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn ui_13_a_port_is_free_or_in_use() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = taken.local_addr().expect("bound");
        assert_eq!(Look::port(Protocol::Tcp, address).verdict, Verdict::Refuses);
        drop(taken);
        assert_eq!(Look::port(Protocol::Tcp, address).verdict, Verdict::Ok);
    }

    #[test]
    fn ui_13_a_start_waits_for_what_is_missing_and_ends_for_the_rest() {
        let missing = Err::<(), anyhow::Error>(Missing("no wan0".into()).into());
        assert_eq!(Look::of("x", "", missing).verdict, Verdict::Waits);
        let refused = Err::<(), _>(anyhow::anyhow!("no"));
        assert_eq!(Look::of("x", "", refused).verdict, Verdict::Refuses);
    }
}
