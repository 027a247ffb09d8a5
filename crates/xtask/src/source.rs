//! The source tree: where it is, its version, and how old it is.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

/// The version of everything that is made.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// One line about each program, for package managers, and two or three more.
pub(crate) const PROGRAMS: [Program; 2] = [
    Program {
        name: "clat",
        summary: "464XLAT customer side: IPv4 for hosts on IPv6-only networks",
        description: "clat gives an IPv6-only host its IPv4 back (RFC 6877). It finds the NAT64 prefix of\n\
            the network by itself, follows the network, and undoes all its changes when it ends.",
    },
    Program {
        name: "plat",
        summary: "464XLAT provider side: NAT64, DNS64 and router advertisements",
        description: "plat translates between an IPv6-only network and IPv4 (RFC 6146, RFC 7915), and is the\n\
            network's router, DNS64 and PCP server where it is asked to.",
    },
];

/// What is known of a program without running it.
pub(crate) struct Program {
    pub(crate) name: &'static str,
    pub(crate) summary: &'static str,
    pub(crate) description: &'static str,
}

/// The root of the workspace.
pub(crate) fn root() -> PathBuf {
    let own = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    own.ancestors().nth(2).map_or(own.clone(), PathBuf::from)
}

/// A file of the source tree.
pub(crate) fn read(path: &str) -> Result<String> {
    let whole = root().join(path);
    std::fs::read_to_string(&whole).with_context(|| format!("{} cannot be read", whole.display()))
}

/// The time that every file gets: `SOURCE_DATE_EPOCH`, else that of the commit, else the epoch, so
/// that a second build makes the same bytes.
pub(crate) fn epoch() -> u32 {
    let given = std::env::var("SOURCE_DATE_EPOCH").ok();
    let given = given.and_then(|text| text.trim().parse().ok());
    given.or_else(commit_time).unwrap_or_default()
}

fn commit_time() -> Option<u32> {
    of_commit("%ct")?.parse().ok()
}

/// The commit that is built, for `--version`: `XLAT_COMMIT`, else what git says; none in an archive.
pub(crate) fn commit() -> Option<String> {
    std::env::var("XLAT_COMMIT")
        .ok()
        .or_else(|| of_commit("%h"))
}

/// What git says of the commit at hand.
fn of_commit(format: &str) -> Option<String> {
    let mut git = Command::new("git");
    git.arg("-C").arg(root());
    let output = git.args(["log", "-1", "--abbrev=12", &format!("--format={format}")]);
    let text = String::from_utf8(output.output().ok()?.stdout).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}
