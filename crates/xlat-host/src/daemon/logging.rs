//! Log lines on standard error, where systemd expects them.

use clap::ValueEnum;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::{ParseError, Targets};
use tracing_subscriber::fmt;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use super::terminal::PlainStderr;

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
    use tracing::Level;

    use super::*;

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
