//! The real binaries at their places in the network: a `plat` on the edge, a `clat` on each client.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use tempfile::TempDir;

use crate::binaries::Binaries;
use crate::process::Daemon;
use crate::topology::{POOL, PREF64, Plan, Topology, UPLINK};

/// How long a daemon may take to get ready and to stop.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A network with its daemons. They are killed before the network goes.
pub struct Deployment {
    /// One for each client, in their order.
    pub clats: Vec<Daemon>,
    /// The one on the edge.
    pub plat: Daemon,
    /// Where they run.
    pub topology: Topology,
    binaries: Binaries,
    directory: TempDir,
}

impl Deployment {
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
        let directory = tempfile::tempdir()?;
        let plat = start_plat(binaries, &topology, directory.path())?;
        let clats = (0..topology.clients.len())
            .map(|number| start_clat(binaries, &topology, number, directory.path()))
            .collect::<Result<Vec<_>>>()?;
        let deployment = Self {
            clats,
            plat,
            topology,
            binaries: binaries.clone(),
            directory,
        };
        deployment.wait_until_ready()?;
        Ok(deployment)
    }

    /// Starts `plat` again, with the same directories, in place of one that has ended (a running
    /// one is killed), and waits until it is ready.
    ///
    /// # Errors
    /// When it does not get ready.
    pub fn restart_plat(&mut self) -> Result<()> {
        let _ = self.plat.kill(PATIENCE);
        self.plat = start_plat(&self.binaries, &self.topology, self.directory.path())?;
        self.plat.wait_for_line(READY, PATIENCE)
    }

    /// The same for the `clat` of a client.
    ///
    /// # Errors
    /// When it does not get ready.
    pub fn restart_clat(&mut self, number: usize) -> Result<()> {
        let _ = self.clats[number].kill(PATIENCE);
        let directory = self.directory.path();
        self.clats[number] = start_clat(&self.binaries, &self.topology, number, directory)?;
        self.clats[number].wait_for_line(READY, PATIENCE)
    }

    fn wait_until_ready(&self) -> Result<()> {
        self.plat.wait_for_line(READY, PATIENCE)?;
        let mut clats = self.clats.iter();
        clats.try_for_each(|clat| clat.wait_for_line(READY, PATIENCE))
    }
}

/// What a daemon says when it translates.
const READY: &str = "ready: ";

fn start_plat(binaries: &Binaries, topology: &Topology, directory: &Path) -> Result<Daemon> {
    let mut arguments = vec![
        "--prefix".to_owned(),
        PREF64.to_string(),
        "--dynamic-pool".to_owned(),
        POOL.to_string(),
    ];
    arguments.extend(directories(directory, "plat"));
    Daemon::start(&topology.edge, &binaries.plat, &arguments)
}

fn start_clat(
    binaries: &Binaries,
    topology: &Topology,
    number: usize,
    directory: &Path,
) -> Result<Daemon> {
    let mut arguments = vec![
        "--prefix".to_owned(),
        PREF64.to_string(),
        "--uplink".to_owned(),
        UPLINK.to_owned(),
    ];
    arguments.extend(directories(directory, &format!("clat{number}")));
    Daemon::start(&topology.clients[number], &binaries.clat, &arguments)
}

fn directories(directory: &Path, name: &str) -> [String; 4] {
    let below = |kind: &str| directory.join(name).join(kind).display().to_string();
    [
        "--run-dir".to_owned(),
        below("run"),
        "--state-dir".to_owned(),
        below("state"),
    ]
}
