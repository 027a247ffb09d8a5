//! The right to make namespaces: as root, or as root of a user namespace of our own.
//!
//! What is missing is said in one sentence, with what to type: it is the reason of an ignored test
//! and the last line of `cargo lab`.

use std::fmt;
use std::fs::OpenOptions;
use std::io::ErrorKind;

use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid};

use crate::namespace::Namespace;

/// Why the laboratory cannot be built here.
#[derive(Debug)]
pub struct Missing(String);

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Missing {}

/// Sees to it that this process may make network namespaces and TUN devices. Without root it
/// becomes root of a user namespace, which only works before the first thread is started.
///
/// # Errors
/// What is missing, and what to do.
pub fn acquire() -> Result<(), Missing> {
    if !geteuid().is_root() {
        enter_user_namespace()?;
    }
    Namespace::new("probe").map_err(|error| {
        Missing(format!(
            "network namespaces are not allowed here ({error:#}); in a container, start it with \
             --cap-add NET_ADMIN --cap-add SYS_ADMIN --device /dev/net/tun"
        ))
    })?;
    let tun = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/net/tun");
    tun.map(drop).map_err(|error| {
        Missing(format!(
            "/dev/net/tun cannot be opened ({error}); as root: {}; in a container, start it with \
             --device /dev/net/tun",
            match error.kind() {
                ErrorKind::PermissionDenied => "chmod 666 /dev/net/tun",
                _ => "modprobe tun",
            }
        ))
    })
}

fn enter_user_namespace() -> Result<(), Missing> {
    let (user, group) = (geteuid(), getegid());
    let missing = |error: &dyn fmt::Display| {
        Missing(format!(
            "not root, and user namespaces are not allowed here ({error}); run it with sudo, or \
             as root: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0 \
             user.max_user_namespaces=1000"
        ))
    };
    unshare(CloneFlags::CLONE_NEWUSER).map_err(|error| missing(&error))?;
    let maps = [
        ("setgroups", "deny".to_owned()),
        ("uid_map", format!("0 {user} 1")),
        ("gid_map", format!("0 {group} 1")),
    ];
    for (file, content) in maps {
        std::fs::write(format!("/proc/self/{file}"), content)
            .map_err(|error| missing(&format!("{file}: {error}")))?;
    }
    Ok(())
}
