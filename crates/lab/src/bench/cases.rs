//! What is measured: each case is a network with its translators running.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ipnet::{IpNet, Ipv4Net};
use lab::binaries::Binaries;
use lab::link::{add_address, add_route};
use lab::namespace::Namespace;
use lab::process::Daemon;
use lab::topology::{PREF64, Plan, SERVER, Topology, UPLINK, embedded};
use lab::traffic::PATIENCE;
use lab::traffic::ping::ping;
use tempfile::TempDir;

const TAYGA: &str = "/usr/sbin/tayga";
const READY: &str = "ready: ";
/// The client on its access link when it has native IPv4.
const NATIVE: Ipv4Addr = Ipv4Addr::new(10, 64, 0, 2);
const NATIVE_GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 64, 0, 1);
/// The client's IPv6 address for the second TAYGA.
const TAYGA_CLAT: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0xc1a7);

/// A way from the client to the server.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Kernel,
    Stateless,
    Stateful,
    Both,
    Tayga,
    TwoTaygas,
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
    /// All of them, the limit first.
    pub(crate) fn all() -> Vec<Self> {
        [
            ("kernel IPv4 forwarding", Kind::Kernel),
            ("plat, static map", Kind::Stateless),
            ("plat, stateful", Kind::Stateful),
            ("TAYGA", Kind::Tayga),
            ("clat and plat", Kind::Both),
            ("two TAYGAs", Kind::TwoTaygas),
        ]
        .map(|(name, kind)| Self { name, kind })
        .into()
    }

    /// False where a program is not installed.
    pub(crate) fn is_possible(&self) -> bool {
        !matches!(self.kind, Kind::Tayga | Kind::TwoTaygas) || Path::new(TAYGA).is_file()
    }

    /// Builds the network and starts the translators.
    pub(crate) fn start(&self, binaries: &Binaries) -> Result<Running> {
        let topology = Topology::new(&Plan::default())?;
        let directory = TempDir::new()?;
        let mut translators = Vec::new();
        let target: IpAddr = match self.kind {
            Kind::Kernel | Kind::Both | Kind::TwoTaygas => SERVER.into(),
            Kind::Stateless | Kind::Stateful | Kind::Tayga => embedded(SERVER).into(),
        };
        match self.kind {
            Kind::Kernel => native(&topology)?,
            Kind::Stateless => {
                let map = format!("--map=192.168.64.9={}", Topology::client_address(0));
                translators.push(plat(binaries, &topology, directory.path(), &map)?);
            }
            Kind::Stateful => {
                translators.push(plat(binaries, &topology, directory.path(), POOL)?);
            }
            Kind::Both => {
                translators.push(plat(binaries, &topology, directory.path(), POOL)?);
                translators.push(clat(binaries, &topology, directory.path())?);
            }
            Kind::Tayga => translators.push(tayga(&topology, directory.path())?),
            Kind::TwoTaygas => {
                translators.push(tayga(&topology, directory.path())?);
                translators.push(tayga_clat(&topology, directory.path())?);
            }
        }
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
}

const POOL: &str = "--pool=192.168.64.9";

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
) -> Result<Daemon> {
    let prefix = format!("--prefix={PREF64}");
    let mut flags = vec![prefix, clients.to_owned()];
    flags.extend(directories(directory, "plat"));
    let daemon = Daemon::start(&topology.edge, &binaries.plat, &flags)?;
    daemon.wait_for_line(READY, PATIENCE)?;
    Ok(daemon)
}

fn clat(binaries: &Binaries, topology: &Topology, directory: &Path) -> Result<Daemon> {
    let mut flags = vec![format!("--prefix={PREF64}")];
    flags.extend(directories(directory, "clat"));
    let daemon = Daemon::start(topology.client(), &binaries.clat, &flags)?;
    daemon.wait_for_line(READY, PATIENCE)?;
    Ok(daemon)
}

/// TAYGA on the edge, with the commands of its manual.
fn tayga(topology: &Topology, directory: &Path) -> Result<Daemon> {
    let lines = format!(
        "tun-device nat64\nipv4-addr 192.168.64.1\nprefix {PREF64}\n\
         dynamic-pool 192.168.64.0/24\ndata-dir {}\n",
        directory.display()
    );
    let edge = &topology.edge;
    edge.set_sysctl("ipv4/ip_forward", "1")?;
    edge.set_sysctl("ipv6/conf/all/forwarding", "1")?;
    let configuration = configuration(edge, directory, "nat64", &lines)?;
    ip(edge, &["link", "set", "nat64", "up"])?;
    ip(edge, &["route", "add", "192.168.64.0/24", "dev", "nat64"])?;
    ip(
        edge,
        &["-6", "route", "add", &PREF64.to_string(), "dev", "nat64"],
    )?;
    Daemon::start(
        edge,
        Path::new(TAYGA),
        &["--nodetach", "-c", &configuration],
    )
}

/// A second TAYGA on the client, as clatd sets it up.
fn tayga_clat(topology: &Topology, directory: &Path) -> Result<Daemon> {
    let lines = format!(
        "tun-device clat\nipv4-addr 192.0.0.2\nprefix {PREF64}\nmap 192.0.0.1 {TAYGA_CLAT}\n"
    );
    let client = topology.client();
    client.set_sysctl("ipv6/conf/all/forwarding", "1")?;
    client.set_sysctl("ipv4/ip_forward", "1")?;
    let configuration = configuration(client, directory, "clat", &lines)?;
    ip(client, &["link", "set", "clat", "up"])?;
    ip(client, &["address", "add", "192.0.0.1/32", "dev", "clat"])?;
    ip(
        client,
        &["route", "add", "default", "dev", "clat", "mtu", "1472"],
    )?;
    let host = format!("{TAYGA_CLAT}/128");
    ip(client, &["-6", "route", "add", &host, "dev", "clat"])?;
    let gateway = Topology::client_address(0);
    let to = IpNet::new_assert(TAYGA_CLAT.into(), 128);
    add_route(&topology.edge, to, gateway.into(), None)?;
    Daemon::start(
        client,
        Path::new(TAYGA),
        &["--nodetach", "-c", &configuration],
    )
}

/// Writes a file for TAYGA and makes its TUN.
fn configuration(
    namespace: &Namespace,
    directory: &Path,
    name: &str,
    lines: &str,
) -> Result<String> {
    let path = directory.join(format!("{name}.conf"));
    std::fs::write(&path, lines)?;
    let path = path.display().to_string();
    command(namespace, TAYGA, &["--mktun", "-c", &path])?;
    Ok(path)
}

fn ip(namespace: &Namespace, arguments: &[&str]) -> Result<()> {
    command(namespace, "ip", arguments)
}

fn command(namespace: &Namespace, program: &str, arguments: &[&str]) -> Result<()> {
    let mut process = Command::new(program);
    process.args(arguments);
    process.stdout(Stdio::null()).stderr(Stdio::piped());
    let output = namespace.spawn(process)?.wait_with_output()?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{program} {arguments:?}: {complaint}"
    );
    Ok(())
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
