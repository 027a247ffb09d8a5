//! What is measured: each case is a network with its translators running.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ipnet::{IpNet, Ipv4Net};
use lab::binaries::Binaries;
use lab::link::{add_address, add_route};
use lab::namespace::Namespace;
use lab::process::Daemon;
use lab::topology::{PREF64, Plan, SERVER, Topology, UPLINK, embedded};
use lab::traffic::PATIENCE;
use lab::traffic::ping::ping;
use tempfile::TempDir;

use super::taygas;

pub(crate) const KERNEL: &str = "kernel IPv4 forwarding";
pub(crate) const STATELESS: &str = "plat, static map";
pub(crate) const STATEFUL: &str = "plat, stateful";
/// The workers translate all packets.
pub(crate) const WORKERS: &str = "plat, stateful, --fast-path off";
pub(crate) const TAYGA: &str = "TAYGA";
pub(crate) const BOTH: &str = "clat and plat";
pub(crate) const TWO_TAYGAS: &str = "two TAYGAs";

const READY: &str = "ready: ";
/// Addresses for all parts of the state, or the client has a part of the ports of one.
const POOL: &str = "--pool=192.168.64.8/29";
/// The client on its access link when it has native IPv4.
const NATIVE: Ipv4Addr = Ipv4Addr::new(10, 64, 0, 2);
const NATIVE_GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 64, 0, 1);

/// A way from the client to the server.
pub(crate) struct Case {
    pub(crate) name: String,
    kind: Kind,
    /// Flags of `plat` and `clat` beyond those that they need here.
    plat: Vec<String>,
    clat: Vec<String>,
}

#[derive(Clone, PartialEq, Eq)]
enum Kind {
    Kernel,
    Stateless,
    Stateful,
    Both,
    Tayga(PathBuf),
    TwoTaygas(PathBuf),
}

/// A case that runs.
pub(crate) struct Running {
    pub(crate) topology: Topology,
    /// The server, as the client reaches it.
    pub(crate) target: IpAddr,
    pub(crate) translators: Vec<Daemon>,
    _directory: TempDir,
}

impl Case {
    /// All of them, the limit first, then by what is compared. The first of `taygas` is the peer.
    pub(crate) fn all(
        plat_flags: &[String],
        clat_flags: &[String],
        taygas: &[PathBuf],
    ) -> Vec<Self> {
        let mut cases = vec![
            Self::new(KERNEL, Kind::Kernel),
            Self::new(STATELESS, Kind::Stateless),
            Self::new(STATEFUL, Kind::Stateful),
        ];
        let mut with = |name: String, flags: &str| {
            cases.push(Self {
                plat: words(flags),
                ..Self::new(name, Kind::Stateful)
            });
        };
        with(WORKERS.to_owned(), "--fast-path off");
        for flags in plat_flags {
            with(format!("{STATEFUL}, {flags}"), flags);
        }
        cases.extend(peers(TAYGA, taygas, Kind::Tayga));
        cases.push(Self::new(BOTH, Kind::Both));
        cases.extend(clat_flags.iter().map(|flags| Self {
            clat: words(flags),
            ..Self::new(format!("{BOTH}, clat {flags}"), Kind::Both)
        }));
        cases.extend(peers(TWO_TAYGAS, taygas, Kind::TwoTaygas));
        cases
    }

    fn new(name: impl Into<String>, kind: Kind) -> Self {
        Self {
            name: name.into(),
            kind,
            plat: Vec::new(),
            clat: Vec::new(),
        }
    }

    /// The name of the case that this one is to be compared with.
    pub(crate) fn peer(&self) -> &'static str {
        match self.kind {
            Kind::Both | Kind::TwoTaygas(_) => TWO_TAYGAS,
            _ => TAYGA,
        }
    }

    /// Builds the network and starts the translators.
    pub(crate) fn start(&self, binaries: &Binaries) -> Result<Running> {
        let topology = Topology::new(&Plan::default())?;
        let directory = TempDir::new()?;
        let target: IpAddr = match self.kind {
            Kind::Kernel | Kind::Both | Kind::TwoTaygas(_) => SERVER.into(),
            Kind::Stateless | Kind::Stateful | Kind::Tayga(_) => embedded(SERVER).into(),
        };
        let translators = self.translators(binaries, &topology, directory.path())?;
        wait_for_ping(topology.client(), target).with_context(|| {
            let logs = translators.iter().map(Daemon::log);
            logs.collect::<Vec<_>>().join("\n")
        })?;
        Ok(Running {
            topology,
            target,
            translators,
            _directory: directory,
        })
    }

    fn translators(
        &self,
        binaries: &Binaries,
        topology: &Topology,
        directory: &Path,
    ) -> Result<Vec<Daemon>> {
        let plat = |clients: &str| plat(binaries, topology, directory, clients, &self.plat);
        Ok(match &self.kind {
            Kind::Kernel => {
                native(topology)?;
                Vec::new()
            }
            Kind::Stateless => {
                let map = format!("--map=192.168.64.9={}", Topology::client_address(0));
                vec![plat(&map)?]
            }
            Kind::Stateful => vec![plat(POOL)?],
            Kind::Both => vec![
                plat(POOL)?,
                clat(binaries, topology, directory, &self.clat)?,
            ],
            Kind::Tayga(tayga) => vec![taygas::on_edge(tayga, topology, directory)?],
            Kind::TwoTaygas(tayga) => vec![
                taygas::on_edge(tayga, topology, directory)?,
                taygas::on_client(tayga, topology, directory)?,
            ],
        })
    }
}

/// One case for each program; all but the first say which one it is.
fn peers(
    name: &str,
    taygas: &[PathBuf],
    kind: impl Fn(PathBuf) -> Kind,
) -> impl Iterator<Item = Case> {
    taygas.iter().enumerate().map(move |(number, tayga)| {
        let name = match number {
            0 => name.to_owned(),
            _ => format!("{name}, {}", tayga.display()),
        };
        Case::new(name, kind(tayga.clone()))
    })
}

fn words(flags: &str) -> Vec<String> {
    flags.split_whitespace().map(str::to_owned).collect()
}

/// Gives the client IPv4 on its access link, and the edge the way.
fn native(topology: &Topology) -> Result<()> {
    let (client, edge) = (topology.client(), &topology.edge);
    let net = |address: Ipv4Addr| IpNet::new_assert(address.into(), 24);
    add_address((client, UPLINK), net(NATIVE))?;
    add_address((edge, "client0"), net(NATIVE_GATEWAY))?;
    edge.set_sysctl("ipv4/ip_forward", "1")?;
    let everywhere = IpNet::from(Ipv4Net::default());
    add_route(client, everywhere, NATIVE_GATEWAY.into(), None)
}

fn plat(
    binaries: &Binaries,
    topology: &Topology,
    directory: &Path,
    clients: &str,
    more: &[String],
) -> Result<Daemon> {
    let prefix = format!("--prefix={PREF64}");
    let mut flags = vec![prefix, clients.to_owned()];
    flags.extend(directories(directory, "plat"));
    flags.extend_from_slice(more);
    let daemon = Daemon::start(&topology.edge, &binaries.plat, &flags)?;
    daemon.wait_for_line(READY, PATIENCE)?;
    Ok(daemon)
}

fn clat(
    binaries: &Binaries,
    topology: &Topology,
    directory: &Path,
    more: &[String],
) -> Result<Daemon> {
    let mut flags = vec![format!("--prefix={PREF64}")];
    flags.extend(directories(directory, "clat"));
    flags.extend_from_slice(more);
    let daemon = Daemon::start(topology.client(), &binaries.clat, &flags)?;
    daemon.wait_for_line(READY, PATIENCE)?;
    Ok(daemon)
}

fn wait_for_ping(client: &Namespace, target: IpAddr) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    loop {
        let answer = client.run(|| ping(target, 56, Duration::from_millis(300)));
        match answer {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() > end => {
                return Err(error).context("no way to the server");
            }
            Err(_) => {}
        }
    }
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
