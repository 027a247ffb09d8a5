//! Log lines on standard error, where systemd expects them.

use clap::ValueEnum;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

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
    let filter = EnvFilter::builder()
        .with_default_directive(level.into())
        .from_env_lossy();
    // The netlink crates log every message they see.
    let quiet = [
        "netlink_proto=warn",
        "rtnetlink=warn",
        "netlink_packet_route=warn",
    ];
    let filter = quiet
        .iter()
        .filter_map(|directive| directive.parse().ok())
        .fold(filter, EnvFilter::add_directive);
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| PlainStderr)
        .with_target(false);
    // The systemd journal records the time itself.
    let under_systemd = std::env::var_os("JOURNAL_STREAM").is_some();
    let done = match format {
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
        LogFormat::Text if under_systemd => lines.without_time().with_ansi(false).try_init(),
        LogFormat::Text => lines.with_ansi(false).try_init(),
    };
    // A test may have set up logging before; its choice stays.
    drop(done);
}
