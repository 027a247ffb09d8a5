//! The command line of `cargo lab`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use lab_bench::Bench;

/// Builds a 464XLAT network on this machine, runs the real clat and plat in it, and shows what
/// works.
///
/// An IPv6-only client reaches an IPv4-only server: client -- router -- edge -- router -- server,
/// each a network namespace that is gone afterwards. Nothing has to be installed. Needs root, or a
/// system that allows unprivileged user namespaces.
#[derive(Debug, Parser)]
#[command(
    name = "lab",
    bin_name = "cargo lab",
    version,
    args_conflicts_with_subcommands = true
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,

    /// Open a shell inside the client instead of running the checks.
    #[arg(long)]
    pub(crate) shell: bool,

    /// Show the network of the well-known how-to instead: one configuration file on the gateway, and
    /// a client that has nothing but a cable.
    #[arg(long, conflicts_with = "shell")]
    pub(crate) classic: bool,

    /// Write what crosses the client's IPv4 side and its IPv6 access link to this pcapng file; with
    /// `--classic` also what crosses the gateway's WAN.
    #[arg(long, value_name = "FILE")]
    pub(crate) capture: Option<PathBuf>,

    /// Size of each TCP transfer in MiB.
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub(crate) mib: u64,
}

/// What else the laboratory does.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Sends the traffic of many subscribers through the stateful plat for a while, and looks
    /// whether every answer reaches whom it belongs to and nothing is left in the end.
    Soak(Soak),
    /// Starts plat again and again with state files that were damaged at random, and looks whether
    /// every start succeeds and nothing altered is taken up.
    Restarts(Restarts),
    /// Attacks both programs: kills, damaged files, floods, changed messages, slow clients, forged
    /// answers; a table in the end, and exit code 1 when a row fails.
    Attack(Attack),
    /// Runs the command blocks of pages of the documentation, and compares what they print with what
    /// the pages show.
    Page(Page),
    /// Measures clat and plat beside the kernel's own forwarding and TAYGA, where it is installed.
    Bench(Bench),
}

#[derive(Debug, Args)]
pub(crate) struct Soak {
    /// How long, in seconds.
    #[arg(long, value_name = "N", default_value_t = 60)]
    pub(crate) seconds: u64,

    /// Subscribers.
    #[arg(long, value_name = "N", default_value_t = 1000,
          value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pub(crate) subscribers: u32,

    /// Sessions of all of them together at any time.
    #[arg(long, value_name = "N", default_value_t = 200_000,
          value_parser = clap::value_parser!(u32).range(1..=400_000))]
    pub(crate) sessions: u32,

    /// How long a session lives after its last packet, in seconds.
    #[arg(long, value_name = "N", default_value_t = 15,
          value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) lifetime: u64,
}

#[derive(Debug, Args)]
pub(crate) struct Restarts {
    /// State files to damage; each start has one to three.
    #[arg(long, value_name = "N", default_value_t = 500)]
    pub(crate) files: u32,

    /// Networks at the same time, each with a plat of its own.
    #[arg(long, value_name = "N", default_value_t = 6,
          value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) networks: u32,

    /// Where the random numbers begin; another one each time unless given.
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct Attack {
    /// Only these rows, or those whose names begin so.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) rows: Vec<String>,

    /// Two or three minutes instead of a quarter of an hour.
    #[arg(long)]
    pub(crate) quick: bool,

    /// Again and again for so long, each time with the next seed, until a row fails.
    #[arg(long, value_name = "N")]
    pub(crate) hours: Option<f64>,

    /// The machine has other work: the flow beside an attack must go on, however late it is.
    #[arg(long)]
    pub(crate) busy: bool,

    /// Show the rows and attack nothing.
    #[arg(long)]
    pub(crate) list: bool,

    /// Where the random numbers begin; another one each time unless given.
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct Page {
    /// Files in Markdown.
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
