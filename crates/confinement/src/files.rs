//! Where a daemon may write: Landlock, where the kernel has it.
//!
//! Reading stays with the permissions of the files: a daemon reads its configuration, certificates
//! and `/etc/resolv.conf`, which may be links to anywhere. Threads that are no control thread open no
//! files at all (`calls.rs`).

use std::path::Path;

use landlock::{
    ABI, AccessFs, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError,
    RulesetStatus,
};
use tracing::warn;

use crate::{Mode, mode};

/// From now on the calling thread, and the threads that it will start, write nowhere but below these
/// directories, and run no program. Those that are missing are left out. True if the kernel sees to
/// that.
pub fn write_only_below(directories: &[&Path]) -> bool {
    if mode() != Mode::Enforce {
        return false;
    }
    match restrict(directories) {
        Ok(RulesetStatus::NotEnforced) => {
            warn!("{CONSEQUENCE}: this kernel has no Landlock");
            false
        }
        Ok(_) => true,
        Err(error) => {
            warn!("{CONSEQUENCE}: {error}");
            false
        }
    }
}

fn restrict(directories: &[&Path]) -> Result<RulesetStatus, RulesetError> {
    let writes = AccessFs::from_write(VERSION);
    let ruleset = Ruleset::default().handle_access(writes | AccessFs::Execute)?;
    let mut rules = ruleset.create()?;
    for directory in directories {
        if let Ok(opened) = PathFd::new(directory) {
            rules = rules.add_rule(PathBeneath::new(opened, writes))?;
        }
    }
    Ok(rules.restrict_self()?.ruleset)
}

const CONSEQUENCE: &str = "files can be written outside of the daemon's directories";
/// The version of Linux 6.2, which has all rights of files that are named here.
const VERSION: ABI = ABI::V3;
