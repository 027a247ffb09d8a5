//! Log lines on standard error, where systemd expects them.

use std::ffi::OsStr;
use std::io::IsTerminal;
use std::time::SystemTime;

use clap::ValueEnum;
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{ParseError, Targets};
use tracing_subscriber::fmt;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use super::terminal::{PlainStderr, plain};

/// The form of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Sets up logging for the whole process; a second call does nothing. `verbosity` is the number
/// of `-v` minus the number of `-q`; the environment variable `RUST_LOG` overrides it.
pub fn init(format: LogFormat, verbosity: i8) {
    let level = match verbosity {
        ..=-2 => LevelFilter::ERROR,
        -1 => LevelFilter::WARN,
        0 => LevelFilter::INFO,
        1 => LevelFilter::DEBUG,
        2.. => LevelFilter::TRACE,
    };
    let wanted = std::env::var("RUST_LOG").unwrap_or_default();
    let (filter, refusal) = filter(&wanted, level);
    let lines = fmt::layer()
        .with_writer(|| PlainStderr)
        .with_ansi(false)
        .with_target(false);
    let lines = match format {
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
        // The systemd journal records the time itself.
        LogFormat::Text if std::env::var_os("JOURNAL_STREAM").is_some() => {
            lines.without_time().boxed()
        }
        LogFormat::Text if std::io::stderr().is_terminal() => {
            let short = Short::new(std::env::var_os("NO_COLOR").as_deref());
            // It writes colours, and all else in plain text.
            let lines = fmt::layer().with_writer(std::io::stderr);
            lines.event_format(short).boxed()
        }
        LogFormat::Text => lines.boxed(),
    };
    let done = tracing_subscriber::registry()
        .with(lines)
        .with(filter)
        .try_init();
    // A test may have set up logging before; its choice stays.
    drop(done);
    if let Some(refusal) = refusal {
        tracing::warn!("RUST_LOG is ignored: {refusal}: {wanted}");
    }
}

/// A line for a terminal: time of day (UTC), level and message.
#[derive(Clone, Copy, Debug)]
struct Short {
    coloured: bool,
}

impl Short {
    /// With colours, unless the environment variable `NO_COLOR` has a value (no-color.org).
    fn new(no_color: Option<&OsStr>) -> Self {
        let coloured = no_color.is_none_or(OsStr::is_empty);
        Self { coloured }
    }

    fn line(self, time: SystemTime, level: Level, message: &str) -> String {
        let (word, colour) = match level {
            Level::ERROR => ("error", "31"),
            Level::WARN => ("warn", "33"),
            Level::INFO => ("info", "32"),
            _ => ("debug", "2"),
        };
        let time = humantime::format_rfc3339_seconds(time).to_string();
        let time = time.split_once('T').map_or(time.as_str(), |(_, time)| time);
        let message = plain(message);
        match self.coloured {
            true => format!("\x1b[2m{time}\x1b[0m \x1b[{colour}m{word:<5}\x1b[0m {message}\n"),
            false => format!("{time} {word:<5} {message}\n"),
        }
    }
}

impl<S, N> FormatEvent<S, N> for Short
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &fmt::FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        let mut message = String::new();
        context.format_fields(Writer::new(&mut message), event)?;
        let level = *event.metadata().level();
        writer.write_str(&self.line(SystemTime::now(), level, &message))
    }
}

/// What `RUST_LOG` asks for, or else everything up to `level`; and why `RUST_LOG` cannot be read.
fn filter(wanted: &str, level: LevelFilter) -> (Targets, Option<ParseError>) {
    let usual = Targets::new().with_default(level);
    let (filter, refusal) = match wanted.trim() {
        "" => (usual, None),
        wanted => match wanted.parse() {
            Ok(filter) => (filter, None),
            Err(refusal) => (usual, Some(refusal)),
        },
    };
    // The netlink crates log every message they see.
    let quiet = ["netlink_proto", "rtnetlink", "netlink_packet_route"];
    let quiet = quiet.map(|target| (target, LevelFilter::WARN));
    (filter.with_targets(quiet), refusal)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn ui_10_a_line_on_a_terminal_is_short_and_obeys_no_color() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000);
        let line = |no_color: Option<&str>, message: &str| {
            Short::new(no_color.map(OsStr::new)).line(time, Level::WARN, message)
        };
        assert_eq!(
            line(Some("1"), "eth0 is down"),
            "14:13:20Z warn  eth0 is down\n"
        );
        assert_eq!(
            line(None, "eth0\x1b[2J"),
            "\x1b[2m14:13:20Z\x1b[0m \x1b[33mwarn \x1b[0m eth0\\u{1b}[2J\n"
        );
        assert_eq!(line(Some(""), "x"), line(None, "x"));
    }

    #[test]
    fn rust_log_overrides_the_level_and_is_ignored_where_it_cannot_be_read() {
        let lets = |wanted: &str, target: &str, level: Level| {
            let (filter, refusal) = filter(wanted, LevelFilter::INFO);
            (filter.would_enable(target, &level), refusal.is_some())
        };
        assert_eq!(lets("", "clat", Level::INFO), (true, false));
        assert_eq!(lets("", "clat", Level::DEBUG), (false, false));
        assert_eq!(lets("debug", "clat", Level::DEBUG), (true, false));
        assert_eq!(lets("clat=trace", "clat", Level::TRACE), (true, false));
        assert_eq!(lets("clat=trace", "plat", Level::ERROR), (false, false));
        assert_eq!(lets("trace", "rtnetlink", Level::INFO), (false, false));
        assert_eq!(lets("clat=loud", "clat", Level::INFO), (true, true));
    }
}
