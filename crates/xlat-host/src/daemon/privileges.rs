//! Least privilege: a daemon drops all capabilities except those it needs before it starts its
//! work.

use std::io;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Gid, getgroups};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_no_new_privs,
    set_thread_groups,
};

use super::flags::{RunFlags, StatusGroup};
use super::reservation::SHARED;
use crate::host::RUN_DIR_MODE;
use crate::private_dir::PrivateDir;

/// The capabilities of a running daemon: NET_ADMIN for the TUN, addresses, routes, sysctls below
/// `net/` and nftables; NET_RAW for ICMPv6 sockets; NET_BIND_SERVICE for a DNS64 or metrics on a
/// low port.
const NEEDED: CapabilitySet = CapabilitySet::NET_ADMIN
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::NET_BIND_SERVICE);

/// Drops all capabilities except those that a daemon with these flags needs, for this thread and
/// all threads and processes that it starts. Must be called before there are other threads.
///
/// # Errors
/// If the kernel refuses.
pub fn keep_what_is_needed(flags: &RunFlags) -> io::Result<()> {
    if let Some(StatusGroup(group)) = flags.status_group {
        join(Gid::from_raw(group));
    }
    keep(needed(flags.nice))?;
    confinement::set_mode(flags.confine.into());
    // Less than the watchdog of the units has.
    confinement::end_within(Duration::from_secs(20));
    confinement::enter_control();
    Ok(())
}

/// Drops all capabilities except those that undoing a daemon's changes takes: no more than the
/// daemon had when it made them.
///
/// # Errors
/// If the kernel refuses.
pub fn keep_to_recover() -> io::Result<()> {
    keep(NEEDED)
}

/// A member may give a file to its group without a privilege. Without CAP_SETGID this changes
/// nothing, and who binds the control socket says what follows.
fn join(group: Gid) {
    let Ok(mut groups) = getgroups() else { return };
    if !groups.contains(&group) {
        groups.push(group);
        let _ = set_thread_groups(&groups);
    }
}

/// From now on this daemon writes nothing but what is below these directories (those that are missing
/// are made), parameters of the network, and devices. `log` is the session log's file. Must be called
/// before there are other threads.
pub fn write_only_below(run_dir: &Path, state_dir: &Path, log: Option<&Path>) {
    // Whoever uses them says what is wrong with them.
    let _ = PrivateDir::create(run_dir, RUN_DIR_MODE);
    let _ = PrivateDir::create(state_dir, 0o700);
    let _ = PrivateDir::create(Path::new(SHARED), 0o700);
    let log = log.map(|log| std::fs::canonicalize(log).unwrap_or_else(|_| log.into()));
    let log = log.as_deref().and_then(Path::parent);
    let always = ["/proc/sys/net", "/dev", SHARED].map(Path::new);
    let all = always.into_iter().chain([run_dir, state_dir]).chain(log);
    let all: Vec<&Path> = all.filter(|path| *path != Path::new("")).collect();
    confinement::files::write_only_below(&all);
}

fn keep(needed: CapabilitySet) -> io::Result<()> {
    set_no_new_privs(true)?;
    let has = capabilities(None)?;
    Ok(set_capabilities(None, kept(has, needed))?)
}

fn needed(nice: Option<i8>) -> CapabilitySet {
    match nice {
        Some(..0) => NEEDED | CapabilitySet::SYS_NICE,
        _ => NEEDED,
    }
}

fn kept(has: CapabilitySets, needed: CapabilitySet) -> CapabilitySets {
    CapabilitySets {
        effective: has.effective & needed,
        permitted: has.permitted & needed,
        inheritable: CapabilitySet::empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn se_24_nothing_is_kept_that_is_not_needed_and_nothing_comes_to_it() {
        let all = CapabilitySets {
            effective: CapabilitySet::all(),
            permitted: CapabilitySet::all(),
            inheritable: CapabilitySet::all(),
        };
        // Bits 10, 12 and 13 of linux/capability.h.
        for nice in [None, Some(0), Some(5)] {
            let kept = kept(all, needed(nice));
            assert_eq!(kept.effective.bits(), 0x3400);
            assert_eq!(kept.permitted.bits(), 0x3400);
            assert_eq!(kept.inheritable.bits(), 0);
        }
        // And bit 23, SYS_NICE.
        assert_eq!(kept(all, needed(Some(-1))).effective.bits(), 0x0080_3400);
        let none = CapabilitySets {
            effective: CapabilitySet::empty(),
            permitted: CapabilitySet::NET_RAW,
            inheritable: CapabilitySet::empty(),
        };
        assert_eq!(kept(none, NEEDED), none);
    }
}
