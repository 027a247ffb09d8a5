//! The real binaries at their places in the network: a `plat` on the edge, a `clat` on each client.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Result, ensure};
use tempfile::TempDir;

use crate::binaries::Binaries;
use crate::command::output;
use crate::namespace::Namespace;
use crate::process::Daemon;
use crate::topology::{POOL, PREF64, Plan, Topology, UPLINK};

/// How long a daemon may take to get ready and to stop.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Which daemons run, and how.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The flags of `plat` besides the prefix and its directories.
    pub plat: Vec<String>,
    /// A `clat` on each client; without, the clients' programs speak IPv6.
    pub clats: bool,
    /// The flags of each `clat` besides prefix, uplink and its directories.
    pub clat: Vec<String>,
}

impl Default for Setup {
    /// An IPv4 address for each client, and a `clat` on each.
    fn default() -> Self {
        Self {
            plat: vec!["--dynamic-pool".into(), POOL.to_string()],
            clats: true,
            clat: Vec::new(),
        }
    }
}

impl Setup {
    /// These flags of `plat`, and clients that speak IPv6.
    #[must_use]
    pub fn plat_alone(flags: &[&str]) -> Self {
        Self {
            plat: flags.iter().map(ToString::to_string).collect(),
            clats: false,
            clat: Vec::new(),
        }
    }

    /// The default with these flags of each `clat`.
    #[must_use]
    pub fn clats_with(flags: &[&str]) -> Self {
        Self {
            clat: flags.iter().map(ToString::to_string).collect(),
            ..Self::default()
        }
    }

    /// The same with a `clat` on each client.
    #[must_use]
    pub fn with_clats(self) -> Self {
        Self {
            clats: true,
            ..self
        }
    }
}

/// A network with its daemons. They are killed before the network goes.
pub struct Installed {
    /// One for each client, in their order.
    pub clats: Vec<Daemon>,
    /// The one on the edge.
    pub plat: Daemon,
    /// Where they run.
    pub topology: Topology,
    setup: Setup,
    binaries: Binaries,
    directory: TempDir,
}

impl Installed {
    /// Builds the network and starts everything; returns when all are ready.
    ///
    /// # Errors
    /// When the network cannot be built, or a daemon does not get ready.
    pub fn new(binaries: &Binaries, plan: &Plan) -> Result<Self> {
        Self::on(binaries, Topology::new(plan)?)
    }

    /// Starts everything on a network that is there already.
    ///
    /// # Errors
    /// When a daemon does not get ready.
    pub fn on(binaries: &Binaries, topology: Topology) -> Result<Self> {
        Self::with(binaries, topology, Setup::default())
    }

    /// Starts these daemons on a network that is there already.
    ///
    /// # Errors
    /// When a daemon does not get ready.
    pub fn with(binaries: &Binaries, topology: Topology, setup: Setup) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let plat = start_plat(binaries, &topology, &setup.plat, directory.path())?;
        let count = if setup.clats {
            topology.clients.len()
        } else {
            0
        };
        let clats = (0..count)
            .map(|number| start_clat(binaries, &topology, number, &setup.clat, directory.path()))
            .collect::<Result<Vec<_>>>()?;
        let installed = Self {
            clats,
            plat,
            topology,
            setup,
            binaries: binaries.clone(),
            directory,
        };
        installed.wait_until_ready()?;
        Ok(installed)
    }

    /// Starts `plat` again, with the same directories, in place of one that has ended (a running
    /// one is killed), and waits until it is ready.
    ///
    /// # Errors
    /// When it does not get ready.
    pub fn restart_plat(&mut self) -> Result<()> {
        let _ = self.plat.kill(PATIENCE);
        let (flags, directory) = (&self.setup.plat, self.directory.path());
        self.plat = start_plat(&self.binaries, &self.topology, flags, directory)?;
        self.plat.wait_for_line(READY, PATIENCE)
    }

    /// The same for the `clat` of a client.
    ///
    /// # Errors
    /// When it does not get ready.
    pub fn restart_clat(&mut self, number: usize) -> Result<()> {
        let _ = self.clats[number].kill(PATIENCE);
        let (flags, directory) = (&self.setup.clat, self.directory.path());
        self.clats[number] = start_clat(&self.binaries, &self.topology, number, flags, directory)?;
        self.clats[number].wait_for_line(READY, PATIENCE)
    }

    /// What `plat COMMAND` says about the running one: its standard output. It is empty where no
    /// session matches.
    ///
    /// # Errors
    /// When the command fails.
    pub fn ask_plat(&self, command: &[&str]) -> Result<String> {
        let run_dir = below(self.directory.path(), "plat", "run");
        ask(&self.topology.edge, &self.binaries.plat, command, &run_dir)
    }

    /// The same with a text for its standard input.
    ///
    /// # Errors
    /// When the command fails.
    pub fn give_plat(&self, command: &[&str], text: &str) -> Result<String> {
        let run_dir = below(self.directory.path(), "plat", "run");
        let words = [command, &["--run-dir", &run_dir]].concat();
        let plat = self.binaries.plat.display().to_string();
        output(&self.topology.edge, &plat, &words, text)
    }

    /// The sessions that `plat sessions` lists, a line each: without its heading and its total.
    ///
    /// # Errors
    /// When the command fails.
    pub fn sessions(&self) -> Result<String> {
        let list = self.ask_plat(&["sessions"])?;
        let is_session = |line: &&str| {
            let protocol = line.split_whitespace().next().unwrap_or_default();
            ["udp", "tcp", "icmp"].contains(&protocol)
        };
        Ok(list
            .lines()
            .filter(is_session)
            .map(|line| format!("{line}\n"))
            .collect())
    }

    /// What `clat COMMAND` says about the running one of a client: its standard output.
    ///
    /// # Errors
    /// When the command fails.
    pub fn ask_clat(&self, number: usize, command: &[&str]) -> Result<String> {
        let run_dir = below(self.directory.path(), &format!("clat{number}"), "run");
        let client = &self.topology.clients[number];
        ask(client, &self.binaries.clat, command, &run_dir)
    }

    /// Where the control socket of `plat` is.
    #[must_use]
    pub fn plat_run_dir(&self) -> String {
        below(self.directory.path(), "plat", "run")
    }

    /// Where a file of the daemons' may be put, to go with them.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    fn wait_until_ready(&self) -> Result<()> {
        self.plat.wait_for_line(READY, PATIENCE)?;
        let mut clats = self.clats.iter();
        clats.try_for_each(|clat| clat.wait_for_line(READY, PATIENCE))
    }
}

fn ask(namespace: &Namespace, program: &Path, command: &[&str], run_dir: &str) -> Result<String> {
    let mut process = Command::new(program);
    process.args(command).args(["--run-dir", run_dir]);
    process.stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = namespace.spawn(process)?.wait_with_output()?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    let is_none = complaint.contains("no session matches") && output.status.code() == Some(3);
    ensure!(
        output.status.success() || is_none,
        "{} {}: {}",
        program.display(),
        command.join(" "),
        complaint.trim()
    );
    Ok(String::from_utf8(output.stdout)?)
}

/// What a daemon says when it translates.
const READY: &str = "ready: ";

fn start_plat(
    binaries: &Binaries,
    topology: &Topology,
    flags: &[String],
    directory: &Path,
) -> Result<Daemon> {
    let mut arguments = vec!["--prefix".to_owned(), PREF64.to_string()];
    arguments.extend_from_slice(flags);
    arguments.extend(directories(directory, "plat"));
    Daemon::start(&topology.edge, &binaries.plat, &arguments)
}

fn start_clat(
    binaries: &Binaries,
    topology: &Topology,
    number: usize,
    flags: &[String],
    directory: &Path,
) -> Result<Daemon> {
    let mut arguments = vec![
        "--prefix".to_owned(),
        PREF64.to_string(),
        "--uplink".to_owned(),
        UPLINK.to_owned(),
    ];
    arguments.extend_from_slice(flags);
    arguments.extend(directories(directory, &format!("clat{number}")));
    Daemon::start(&topology.clients[number], &binaries.clat, &arguments)
}

fn directories(directory: &Path, name: &str) -> [String; 4] {
    [
        "--run-dir".to_owned(),
        below(directory, name, "run"),
        "--state-dir".to_owned(),
        below(directory, name, "state"),
    ]
}

fn below(directory: &Path, name: &str, kind: &str) -> String {
    directory.join(name).join(kind).display().to_string()
}
