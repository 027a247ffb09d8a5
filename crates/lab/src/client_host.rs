//! A host that comes to an IPv6-only network: a client on which nothing runs yet.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use ipnet::{IpNet, Ipv6Net};
use tempfile::TempDir;

use crate::binaries::Binaries;
use crate::inspect::inspect;
use crate::installed::{Installed, PATIENCE, Setup};
use crate::link::{add_address, add_route};
use crate::process::Daemon;
use crate::router::Router;
use crate::topology::{PREF64, Plan, SERVER, Topology, UPLINK};
use crate::traffic::dns::FixedDns64;
use crate::traffic::ping::ping;
use crate::traffic::ra::{Advertisement, RaOption};

/// What the DNS64 of the laboratory is on: the edge's address on the client's link.
pub const RESOLVER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);

/// The edge's interface towards the client.
pub const LAN: &str = "client0";

/// A client, and an edge with a running `plat`; `clat` is the test's to start.
pub struct ClientHost {
    installed: Installed,
    /// The programs.
    pub binaries: Binaries,
    /// Where its `clat` keeps its files.
    pub directory: TempDir,
}

impl ClientHost {
    /// The network, with addresses and routes but without router advertisements.
    ///
    /// # Errors
    /// When the network cannot be built or `plat` does not start.
    pub fn new() -> Result<Self> {
        Self::with(Setup {
            clats: false,
            ..Setup::default()
        })
    }

    /// The same with another `plat`.
    ///
    /// # Errors
    /// When the network cannot be built or `plat` does not start.
    pub fn with(setup: Setup) -> Result<Self> {
        let binaries = Binaries::find()?;
        let topology = Topology::new(&Plan::default())?;
        Ok(Self {
            installed: Installed::with(&binaries, topology, setup)?,
            binaries,
            directory: TempDir::new()?,
        })
    }

    /// The network.
    #[must_use]
    pub fn topology(&self) -> &Topology {
        &self.installed.topology
    }

    /// Lets the edge advertise on the client's link.
    ///
    /// # Errors
    /// When there is no raw socket to be had.
    pub fn router(&self, advertisement: &Advertisement) -> Result<Router> {
        Router::start(&self.topology().edge, LAN, advertisement)
    }

    /// Lets the edge answer for `ipv4only.arpa`, with this lifetime in seconds.
    ///
    /// # Errors
    /// When the port is taken.
    pub fn dns64(&self, addresses: &[Ipv6Addr], lifetime: u32) -> Result<FixedDns64> {
        FixedDns64::start(&self.topology().edge, RESOLVER, addresses, lifetime)
    }

    /// Starts `clat` on the client.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn clat(&self, flags: &[&str]) -> Result<Daemon> {
        let dirs = directories(self.directory.path());
        let mut all = flags.to_vec();
        all.extend(dirs.iter().map(String::as_str));
        Daemon::start(self.topology().client(), &self.binaries.clat, &all)
    }

    /// What `clat status` says.
    ///
    /// # Errors
    /// When no `clat` runs.
    pub fn status(&self) -> Result<String> {
        let run_dir = self.directory.path().join("run").display().to_string();
        self.ask(&["status", "--run-dir", &run_dir])
    }

    /// The same as JSON.
    ///
    /// # Errors
    /// When no `clat` runs.
    pub fn status_json(&self) -> Result<String> {
        let run_dir = self.directory.path().join("run").display().to_string();
        self.ask(&["status", "--json", "--run-dir", &run_dir])
    }

    /// What a command of `clat` prints.
    ///
    /// # Errors
    /// When it fails.
    pub fn ask(&self, command: &[&str]) -> Result<String> {
        let mut process = Command::new(&self.binaries.clat);
        process.args(command);
        process.stdout(Stdio::piped()).stderr(Stdio::piped());
        let process = self.topology().client().spawn(process)?;
        let output = process.wait_with_output()?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "clat {command:?}: {complaint}");
        Ok(String::from_utf8(output.stdout)?)
    }

    /// True if that status says that IPv4 is reached.
    #[must_use]
    pub fn is_running(status: &str) -> bool {
        status.contains("state     reaching IPv4")
    }

    /// Waits until the status is as wanted.
    ///
    /// # Errors
    /// When it is not in time.
    pub fn wait_for(&self, what: &str, wanted: impl Fn(&str) -> bool) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        loop {
            // It may not have made its socket yet.
            let status = self.status().unwrap_or_default();
            if wanted(&status) {
                return Ok(());
            }
            if Instant::now() > end {
                bail!("{what} did not come: {status}");
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// The IPv6 address that the network sees.
    ///
    /// # Errors
    /// When no `clat` runs.
    pub fn clat_address(&self) -> Result<Ipv6Addr> {
        let status = self.status()?;
        let line = status.lines().find(|line| line.starts_with("address"));
        let address = line.and_then(|line| line.rsplit(' ').next());
        Ok(address.context("no address")?.parse()?)
    }

    /// Pings the server by its IPv4 address.
    ///
    /// # Errors
    /// Without an answer.
    pub fn ping(&self) -> Result<()> {
        self.topology()
            .client()
            .run(|| ping(SERVER, 56, PATIENCE))?;
        Ok(())
    }

    /// Gives the client back what the kernel takes when its link goes down: address and router.
    ///
    /// # Errors
    /// When it has them.
    pub fn give_address(&self) -> Result<()> {
        let own = IpNet::new_assert(Topology::client_address(0).into(), 64);
        add_address((self.topology().client(), UPLINK), own)?;
        self.give_router()
    }

    /// Gives the client its router.
    ///
    /// # Errors
    /// When it has one.
    pub fn give_router(&self) -> Result<()> {
        let default = Ipv6Net::default().into();
        add_route(self.topology().client(), default, RESOLVER.into(), None)
    }

    /// The client's IPv4 default routes.
    ///
    /// # Errors
    /// When the client cannot be looked at.
    pub fn default_route(&self) -> Result<String> {
        let facts = inspect(self.topology().client())?;
        let is_default =
            |fact: &&String| fact.starts_with("route Inet ") && fact.contains(" len 0 ");
        let routes = facts.iter().filter(is_default).cloned();
        Ok(routes.collect::<Vec<_>>().join("\n"))
    }

    /// True if one of them leads to `clat`.
    ///
    /// # Errors
    /// When the client cannot be looked at.
    pub fn has_default_route(&self) -> Result<bool> {
        Ok(self.default_route()?.contains("dev clat"))
    }
}

/// Flags that let `clat` keep its files below this directory.
#[must_use]
pub fn directories(directory: &Path) -> [String; 4] {
    let below = |kind: &str| directory.join(kind).display().to_string();
    [
        "--run-dir".to_owned(),
        below("run"),
        "--state-dir".to_owned(),
        below("state"),
    ]
}

/// A router's advertisement with these options.
#[must_use]
pub fn advertisement(options: &[RaOption]) -> Advertisement {
    Advertisement {
        lifetime: 1800,
        options: options.to_vec(),
        ..Advertisement::default()
    }
}

/// The laboratory's prefix with this lifetime in seconds.
#[must_use]
pub fn announcing(lifetime: u16) -> Advertisement {
    advertisement(&[RaOption::pref64(PREF64, lifetime)])
}

/// The option that announces the edge as DNS server.
#[must_use]
pub fn resolver() -> RaOption {
    RaOption::dns_server(RESOLVER, 600)
}

/// What a DNS64 with the laboratory's prefix makes of `ipv4only.arpa`.
#[must_use]
pub fn synthesised() -> [Ipv6Addr; 2] {
    [170, 171].map(|last| crate::topology::embedded(Ipv4Addr::new(192, 0, 0, last)))
}
