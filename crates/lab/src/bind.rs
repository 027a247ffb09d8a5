//! BIND as an authoritative server, for tests beside which it is installed.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::installed::PATIENCE;
use crate::namespace::Namespace;
use crate::process::Daemon;
use crate::topology::SERVER;

/// Where Debian has it.
pub const NAMED: &str = "/usr/sbin/named";
/// Where Debian has its client.
pub const DIG: &str = "/usr/bin/dig";

/// A running `named`.
pub struct Bind {
    _process: Daemon,
    _directory: TempDir,
}

impl Bind {
    /// Serves these zones (their names and texts) on [`SERVER`] in `namespace`, in the order in which
    /// they have their records.
    ///
    /// # Errors
    /// When it does not start, with what it says.
    pub fn start(namespace: &Namespace, zones: &[(&str, &str)]) -> Result<Self> {
        Self::start_with(namespace, zones, &[])
    }

    /// The same with more flags. `-T` makes it a server with habits of others.
    ///
    /// # Errors
    /// When it does not start, with what it says.
    pub fn start_with(
        namespace: &Namespace,
        zones: &[(&str, &str)],
        more: &[&str],
    ) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let path = |name: &str| directory.path().join(name).display().to_string();
        let mut configuration = format!(
            "options {{ directory \"{}\"; listen-on {{ {SERVER}; }}; listen-on-v6 {{ none; }}; \
             allow-query {{ any; }}; recursion no; dnssec-validation no; pid-file none; \
             session-keyfile none; rrset-order {{ order none; }}; }};\ncontrols {{ }};\n",
            directory.path().display()
        );
        for (name, text) in zones {
            fs::write(path(name), text)?;
            configuration += &format!("zone \"{name}\" {{ type primary; file \"{name}\"; }};\n");
        }
        fs::write(path("named.conf"), configuration)?;
        let file = path("named.conf");
        let flags = [&["-g", "-n", "1", "-c", &file], more].concat();
        let process = Daemon::start(namespace, Path::new(NAMED), &flags)?;
        process
            .wait_for_line("all zones loaded", PATIENCE)
            .with_context(|| process.log())?;
        Ok(Self {
            _process: process,
            _directory: directory,
        })
    }
}
