//! `cargo xtask`: what packagers run. [`dist`] makes everything that is released, [`install`] puts
//! one machine's own build where it belongs.

mod binaries;
mod contents;
mod deb;
mod dist;
#[cfg(test)]
mod document;
mod install;
#[cfg(test)]
mod openwrt;
mod output;
mod pages;
mod rpm;
mod sbom;
mod source;
mod tarball;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

use binaries::Target;

/// Builds what is released, and installs it
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make static programs, .deb, .rpm, archive, manual pages, completions, SBOM and SHA256SUMS
    Dist(Dist),
    /// Build both programs and install them with manual pages, completions, units and configuration
    Install(Install),
}

#[derive(Args, Debug)]
struct Dist {
    /// Target triple [default: musl of this machine where it is installed, else glibc, both static]
    #[arg(long, value_name = "TRIPLE")]
    target: Option<Target>,
    /// Directory for the result, which is replaced as a whole [default: dist in Cargo's target
    /// directory]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

#[derive(Args, Debug)]
struct Install {
    /// Where programs, pages and units go; configuration is in /etc if it is /usr or /usr/local
    #[arg(long, value_name = "DIR", default_value = "/usr/local")]
    prefix: PathBuf,
    /// Directory that stands for the root, for a packager's staging
    #[arg(long, value_name = "DIR", default_value = "/")]
    destdir: PathBuf,
    /// Target triple, as for dist
    #[arg(long, value_name = "TRIPLE")]
    target: Option<Target>,
}

fn main() -> ExitCode {
    match dispatch(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say_error(&format!("cargo xtask: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn dispatch(cli: Cli) -> Result<()> {
    match cli.command {
        Command::Dist(dist) => dist::run(dist.target, dist.out),
        Command::Install(install) => {
            install::run(&install.prefix, &install.destdir, install.target)
        }
    }
}

#[expect(clippy::print_stdout, reason = "the result of a command")]
fn say(line: &str) {
    println!("{line}");
}

#[expect(clippy::print_stderr, reason = "why a command failed")]
fn say_error(line: &str) {
    eprintln!("{line}");
}
