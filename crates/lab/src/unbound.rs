//! Unbound, for tests beside which it is installed.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::installed::PATIENCE;
use crate::namespace::Namespace;
use crate::process::Daemon;

/// Where Debian has it.
pub const UNBOUND: &str = "/usr/sbin/unbound";

/// A running `unbound`.
pub struct Unbound {
    /// The process.
    pub daemon: Daemon,
    _directory: TempDir,
}

impl Unbound {
    /// Answers at `address` in the namespace. `lines` are more of its configuration, in which ZONE
    /// stands for a file with `zone`.
    ///
    /// # Errors
    /// When it does not start, with what it says.
    pub fn start(
        namespace: &Namespace,
        address: SocketAddr,
        lines: &str,
        zone: &str,
    ) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let path = |name: &str| directory.path().join(name).display().to_string();
        fs::write(path("zone"), zone)?;
        let text = format!(
            "server:\n interface: {}@{}\n access-control: 0.0.0.0/0 allow\n username: \"\"\n \
             chroot: \"\"\n pidfile: \"\"\n use-syslog: no\n do-daemonize: no\n\
             {}remote-control:\n control-enable: no\n",
            address.ip(),
            address.port(),
            lines.replace("ZONE", &path("zone"))
        );
        fs::write(path("unbound.conf"), text)?;
        let flags = ["-d", "-c", &path("unbound.conf")];
        let daemon = Daemon::start(namespace, Path::new(UNBOUND), &flags)?;
        daemon
            .wait_for_line("start of service", PATIENCE)
            .with_context(|| daemon.log())?;
        Ok(Self {
            daemon,
            _directory: directory,
        })
    }

    /// Answers at `address` what the resolver at `upstream` says. With `dns64` it makes addresses
    /// of that prefix, as we do.
    ///
    /// # Errors
    /// When it does not start, with what it says.
    pub fn forwarder(
        namespace: &Namespace,
        address: SocketAddr,
        upstream: SocketAddr,
        dns64: Option<ipnet::Ipv6Net>,
    ) -> Result<Self> {
        let modules = match dns64 {
            Some(prefix) => {
                format!(" module-config: \"dns64 iterator\"\n dns64-prefix: {prefix}\n")
            }
            None => " module-config: \"iterator\"\n".to_owned(),
        };
        let forward = format!(
            "{modules}forward-zone:\n name: \".\"\n forward-addr: {}@{}\n",
            upstream.ip(),
            upstream.port()
        );
        Self::start(namespace, address, &forward, "")
    }
}
