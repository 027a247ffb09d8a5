//! The daemon's own view: its status, asked for with a deadline.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::Duration;

use doctor::{Check, Finding, Outcome, checks};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::daemon::control::{SCHEMA, socket_path};

/// What came of asking a daemon.
#[derive(Clone, Debug, PartialEq)]
pub enum Asked {
    /// Its status.
    Status(Value),
    /// None runs there.
    NotRunning,
    /// This user may not ask.
    NotAllowed,
    /// It took the request and has not answered in time.
    Hangs,
    /// It answered something else.
    Odd(String),
}

/// Longest status that is read, in bytes.
const STATUS_MAX: u64 = 1 << 20;

/// Asks the daemon of the instance `name` for what it knows, without letting it measure anything first.
pub async fn ask_status(run_dir: &Path, name: &str, patience: Duration) -> Asked {
    let asked = async {
        let path = socket_path(run_dir, name);
        let mut stream = match UnixStream::connect(path).await {
            Ok(stream) => stream,
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                return Ok(Asked::NotAllowed);
            }
            Err(_) => return Ok(Asked::NotRunning),
        };
        // A daemon that does not know `known` measures first.
        let request = json!({ "Status": { "json": true, "known": true } });
        stream.write_all(format!("{request}\n").as_bytes()).await?;
        let mut text = String::new();
        stream.take(STATUS_MAX).read_to_string(&mut text).await?;
        Ok::<_, io::Error>(read(&text))
    };
    match timeout(patience, asked).await {
        Err(_) => Asked::Hangs,
        Ok(Err(error)) => Asked::Odd(error.to_string()),
        Ok(Ok(asked)) => asked,
    }
}

fn read(text: &str) -> Asked {
    let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
    if first != "ok" {
        return Asked::Odd(first.to_owned());
    }
    match serde_json::from_str(rest) {
        Ok(status) => Asked::Status(status),
        Err(error) => Asked::Odd(error.to_string()),
    }
}

impl Asked {
    /// The status, if it has the form that this program knows. One without a number of its form is of a
    /// version before there was one, and has the same fields.
    pub fn status(&self) -> Option<&Value> {
        match self {
            Self::Status(status) => match &status["schema"] {
                Value::Null => Some(status),
                schema => (schema.as_u64() == Some(SCHEMA.into())).then_some(status),
            },
            _ => None,
        }
    }

    /// What it means that the daemon of `program` answered so, and what it says is wrong. What this
    /// program has looked at by itself is left out: the daemon may have seen it before.
    pub fn findings(&self, program: &str, version: &str, looked_at: &[&Check]) -> Vec<Finding> {
        let daemon = &checks::DAEMON;
        let finding = match self {
            Self::NotRunning => daemon
                .warn(format!(
                    "no {program} runs here; this is how a start would find the host"
                ))
                .remedy(format!("systemctl enable --now {program}")),
            Self::NotAllowed => {
                daemon.skipped(format!("only root and the user of {program} may ask it"))
            }
            Self::Hangs => daemon
                .fail(format!("{program} runs and does not answer"))
                .remedy(format!(
                    "restart it: systemctl restart {program}; its log may say what it was doing"
                )),
            Self::Odd(what) => daemon.fail(format!("{program} answers: {what}")),
            Self::Status(status) => return of_status(status, program, version, looked_at),
        };
        vec![finding]
    }
}

/// The checks in which this program's own look counts, where it could look: the daemon may have seen it
/// before.
pub fn looked_at(found: &[Finding]) -> Vec<&'static Check> {
    let own = [
        &checks::PATH,
        &checks::FORWARD_CHAINS,
        &checks::OTHER_CLAT,
        &checks::RP_FILTER,
        &checks::UPSTREAMS,
    ];
    let was_seen = found.iter().filter(|one| one.outcome != Outcome::Skipped);
    let seen = was_seen.map(|one| one.check);
    seen.filter(|check| own.contains(check)).collect()
}

/// Whether packets are translated in the kernel, as the status says.
pub fn fast_path(status: Option<&Value>) -> Finding {
    let check = &checks::FAST_PATH;
    let Some(fast_path) = status.and_then(|status| status.get("fast_path")) else {
        return check.skipped("no daemon that tells");
    };
    match fast_path["why_not"].as_str() {
        None => check.ok("it runs"),
        Some(why) if why.starts_with("detached") => check.warn(why),
        Some(why) => check.skipped(format!("it is off: {why}")),
    }
}

fn of_status(status: &Value, program: &str, version: &str, looked_at: &[&Check]) -> Vec<Finding> {
    let daemon = &checks::DAEMON;
    let restart = format!("restart it after an upgrade: systemctl restart {program}");
    match &status["schema"] {
        Value::Null => {
            let text = format!("the {program} that runs is older than this program ({version})");
            return vec![daemon.warn(text).remedy(restart)];
        }
        schema if schema.as_u64() != Some(SCHEMA.into()) => {
            let text = format!(
                "the {program} that runs tells its status in form {schema}, this program \
                 ({version}) knows {SCHEMA}"
            );
            return vec![daemon.warn(text).remedy(restart)];
        }
        _ => {}
    }
    let mut findings = Vec::new();
    let runs = status["version"].as_str().unwrap_or(version);
    let seconds = status["uptime_s"].as_u64().unwrap_or(0);
    findings.push(if runs == version {
        daemon.ok(format!("{program} {version} has run for {seconds} s"))
    } else {
        let text = format!("{program} {runs} runs, this program is {version}");
        daemon.warn(text).remedy(restart)
    });
    let warnings = status["health"]["warnings"].as_array();
    for warning in warnings.into_iter().flatten() {
        let (what, text) = (&warning["what"], warning["text"].as_str().unwrap_or("?"));
        let check = check_of(what.as_str().unwrap_or_default());
        if looked_at.contains(&check) {
            continue;
        }
        findings.push(match warning["health"].as_str() {
            // What is there already goes on, and nothing new does.
            Some("degraded") if what == "full" => check.fail(text),
            Some("degraded") => check.warn(text),
            _ => check.fail(text),
        });
    }
    findings
}

/// The check that a finding of the daemon's health belongs to.
fn check_of(what: &str) -> &'static Check {
    match what {
        "path" | "replies" => &checks::PATH,
        "host" => &checks::HOST_SETUP,
        "forward" => &checks::FORWARD_CHAINS,
        "egress" => &checks::EGRESS,
        "full" | "conflict" => &checks::POOL,
        "dns64" => &checks::UPSTREAMS,
        "other-clat" => &checks::OTHER_CLAT,
        "rp-filter" => &checks::RP_FILTER,
        _ => &checks::DAEMON,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(status: Value) -> Vec<(&'static str, Outcome, String)> {
        let findings = Asked::Status(status).findings("plat", "2.0", &[&checks::PATH]);
        let one = |one: Finding| (one.check.id, one.outcome, one.evidence);
        findings.into_iter().map(one).collect()
    }

    #[test]
    fn dr_07_what_the_daemon_found_is_told_unless_it_was_looked_at() {
        let warning =
            |what, health| json!({ "what": what, "health": health, "text": "so", "for_s": 3 });
        let findings = seen(json!({
            "schema": 1, "version": "2.0", "uptime_s": 7, "unknown": {},
            "health": { "word": "broken", "warnings": [
                warning("egress", "broken"), warning("full", "degraded"),
                warning("path", "broken"), warning("news", "broken"),
            ] },
        }));
        let so = || "so".to_owned();
        let runs = "plat 2.0 has run for 7 s".to_owned();
        assert_eq!(
            findings,
            [
                ("daemon", Outcome::Ok, runs),
                ("egress", Outcome::Fail, so()),
                ("pool", Outcome::Fail, so()),
                ("daemon", Outcome::Fail, so()),
            ]
        );
    }

    #[test]
    fn dr_07_another_version_of_the_daemon_is_named_and_not_guessed_at() {
        let old = json!({ "version": "0.1.0", "uptime_s": 7 });
        assert!(Asked::Status(old.clone()).status().is_some());
        assert!(seen(old)[0].2.contains("older than this program"));
        let new = json!({ "schema": 9, "health": 7 });
        assert!(Asked::Status(new.clone()).status().is_none());
        assert!(seen(new)[0].2.contains("in form 9"));
        let other = json!({ "schema": 1, "version": "2.1", "health": { "word": "ok" } });
        assert_eq!(seen(other)[0].1, Outcome::Warn);
    }

    #[test]
    fn dr_07_replies_are_read_and_refusals_are_told() {
        assert_eq!(read("ok\n{\"a\":1}\n"), Asked::Status(json!({ "a": 1 })));
        assert_eq!(read("not a request\n"), Asked::Odd("not a request".into()));
        assert!(matches!(read("ok\nplat waits\n"), Asked::Odd(_)));
        assert_eq!(read(""), Asked::Odd(String::new()));
    }
}
