//! The command line of `cargo lab`.

use std::path::PathBuf;

use clap::Parser;

/// Builds a 464XLAT network on this machine, runs the real clat and plat in it, and shows what
/// works.
///
/// An IPv6-only client reaches an IPv4-only server: client -- router -- edge -- router -- server,
/// each a network namespace that is gone afterwards. Nothing has to be installed. Needs root, or a
/// system that allows unprivileged user namespaces.
#[derive(Debug, Parser)]
#[command(name = "lab", bin_name = "cargo lab", version)]
pub(crate) struct Cli {
    /// Open a shell inside the client instead of running the checks.
    #[arg(long)]
    pub(crate) shell: bool,

    /// Write what crosses the client's IPv4 side and its IPv6 access link to this pcapng file.
    #[arg(long, value_name = "FILE")]
    pub(crate) capture: Option<PathBuf>,

    /// Size of each TCP transfer in MiB.
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub(crate) mib: u64,
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
