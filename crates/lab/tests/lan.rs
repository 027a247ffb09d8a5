//! `clat --lan`: the IPv4 router of a network behind it (RFC 6877, wireline).

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Result, ensure};
use ipnet::{IpNet, Ipv4Net};
use lab::binaries::Binaries;
use lab::inspect::{ensure_unchanged, inspect};
use lab::installed::{Installed, PATIENCE, Setup};
use lab::link::{add_address, add_route, join, wait_for_link_local};
use lab::namespace::Namespace;
use lab::process::Daemon;
use lab::suite::Test;
use lab::topology::{PREF64, Plan, SERVER, Topology};
use lab::traffic::ping::ping;
use lab::traffic::tcp::{Way, transfer};
use lab::traffic::udp::{Echo, exchange};
use lab::wait::wait_until;
use tempfile::TempDir;

const TESTS: &[Test] = lab::tests![
    cl_03_cl_21_hosts_behind_the_clat_share_its_ipv4_address,
    cl_02_hosts_behind_the_clat_have_ipv6_addresses_of_their_own,
    a_lan_that_no_interface_is_in_is_said_and_nothing_stays,
    a_dry_run_shows_the_table,
];

/// The client's interface towards its LAN, and its address there.
const LAN: &str = "lan0";
const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 1);
const HOSTS: [Ipv4Addr; 2] = [
    Ipv4Addr::new(192, 168, 1, 10),
    Ipv4Addr::new(192, 168, 1, 11),
];

/// How long one echo request is waited for.
const SHORT: Duration = Duration::from_millis(300);

fn main() {
    lab::suite::run(TESTS)
}

fn cl_03_cl_21_hosts_behind_the_clat_share_its_ipv4_address() -> Result<()> {
    let net = Net::new()?;
    let client = net.topology().client();
    let before = inspect(client)?;
    let mut clat = net.clat(&["--lan=192.168.1.0/24"])?;
    let seen = net.talk()?;
    ensure!(seen.len() == 1, "the server saw {seen:?}");
    // This host itself is among those who share it.
    let server = &net.topology().server;
    let own = transfer(client, server, SERVER.into(), Way::Upload, 1000, PATIENCE)?;
    ensure!(seen.contains(&own.peer), "{} {seen:?}", own.peer);
    clat.stop(PATIENCE)?;
    ensure_unchanged(&before, client)?;

    let mut clat = net.clat(&["--lan=192.168.1.0/24"])?;
    clat.kill(PATIENCE)?;
    let run_dir = net.directory.path().join("run").display().to_string();
    let mut recover = Command::new(&net.binaries.clat);
    recover.args(["recover", "--run-dir", &run_dir]);
    ensure!(client.spawn(recover)?.wait()?.success(), "recover");
    ensure_unchanged(&before, client)
}

fn cl_02_hosts_behind_the_clat_have_ipv6_addresses_of_their_own() -> Result<()> {
    let net = Net::new()?;
    let (client, edge) = (net.topology().client(), &net.topology().edge);
    let delegated: IpNet = "2001:db8:77::/64".parse()?;
    add_route(edge, delegated, Topology::client_address(0).into(), None)?;
    let before = inspect(client)?;
    let flags = ["--lan=192.168.1.0/24", "--lan-prefix6=2001:db8:77::/64"];
    let mut clat = net.clat(&flags)?;
    let seen = net.talk()?;
    // The provider gives each IPv6 address an IPv4 address.
    ensure!(seen.len() == 2, "the server saw {seen:?}");
    let server = &net.topology().server;
    let own = transfer(client, server, SERVER.into(), Way::Upload, 1000, PATIENCE)?;
    ensure!(!seen.contains(&own.peer), "{} {seen:?}", own.peer);
    clat.stop(PATIENCE)?;
    ensure_unchanged(&before, client)
}

fn a_lan_that_no_interface_is_in_is_said_and_nothing_stays() -> Result<()> {
    let net = Net::new()?;
    let client = net.topology().client();
    let before = inspect(client)?;
    let mut clat = net.start(&["--lan=10.99.0.0/16"])?;
    let line = "no interface of this host has an address of --lan-network 10.99.0.0/16";
    clat.wait_for_line(line, PATIENCE)?;
    // It comes up later: nothing has to be told.
    add_address((client, LAN), "10.99.0.1/16".parse()?)?;
    clat.wait_for_line("ready: ", PATIENCE)?;
    clat.stop(PATIENCE)?;
    lab::link::remove_address((client, LAN), "10.99.0.1/16".parse()?)?;
    ensure_unchanged(&before, client)
}

fn a_dry_run_shows_the_table() -> Result<()> {
    let net = Net::new()?;
    let mut process = Command::new(&net.binaries.clat);
    process.args(["--dry-run", "--lan=192.168.1.0/24"]);
    process.args(["--prefix", &PREF64.to_string()]);
    process.args(["--state-dir", &net.directory.path().display().to_string()]);
    process.stdout(Stdio::piped()).stderr(Stdio::piped());
    let process = net.topology().client().spawn(process)?;
    let output = process.wait_with_output()?;
    let text = String::from_utf8(output.stdout)?;
    for line in [
        "sysctl -w net.ipv4.conf.lan0.forwarding=1",
        "nft add rule ip xlat_clat postrouting oifname clat ip saddr 192.168.1.0-192.168.1.255 \
         masquerade",
    ] {
        ensure!(text.contains(line), "{line} in {text}");
    }
    Ok(())
}

/// A client with a LAN, and an edge with a running `plat`.
struct Net {
    installed: Installed,
    lan: Namespace,
    binaries: Binaries,
    directory: TempDir,
}

impl Net {
    fn new() -> Result<Self> {
        let binaries = Binaries::find()?;
        let setup = Setup {
            clats: false,
            ..Setup::default()
        };
        let installed = Installed::with(&binaries, Topology::new(&Plan::default())?, setup)?;
        let lan = Namespace::new("lan")?;
        let client = installed.topology.client();
        join((client, LAN), (&lan, "eth0"), 1500)?;
        wait_for_link_local(client, PATIENCE)?;
        let net = |address: Ipv4Addr| IpNet::new_assert(address.into(), 24);
        add_address((client, LAN), net(GATEWAY))?;
        for host in HOSTS {
            add_address((&lan, "eth0"), net(host))?;
        }
        add_route(&lan, Ipv4Net::default().into(), GATEWAY.into(), None)?;
        Ok(Self {
            installed,
            lan,
            binaries,
            directory: TempDir::new()?,
        })
    }

    fn topology(&self) -> &Topology {
        &self.installed.topology
    }

    fn start(&self, flags: &[&str]) -> Result<Daemon> {
        let below = |kind: &str| self.directory.path().join(kind).display().to_string();
        let mut all: Vec<String> = flags.iter().map(ToString::to_string).collect();
        all.push(format!("--prefix={PREF64}"));
        all.push(format!("--run-dir={}", below("run")));
        all.push(format!("--state-dir={}", below("state")));
        Daemon::start(self.topology().client(), &self.binaries.clat, &all)
    }

    fn clat(&self, flags: &[&str]) -> Result<Daemon> {
        let clat = self.start(flags)?;
        clat.wait_for_line("ready: ", PATIENCE)?;
        Ok(clat)
    }

    /// Both hosts of the LAN do what hosts do; the addresses that the server saw.
    fn talk(&self) -> Result<BTreeSet<IpAddr>> {
        let server = &self.topology().server;
        let lan = &self.lan;
        // The gateway serves a network a moment after its route is there.
        wait_until(|| Ok(lan.run(|| ping(SERVER, 56, SHORT)).is_ok()))?;
        let done = transfer(lan, server, SERVER.into(), Way::Download, 1 << 20, PATIENCE)?;
        let echo = Echo::start(server, SERVER.into())?;
        lan.run(|| exchange(echo.address(), [0, 100, 1400, 3000], PATIENCE))?;
        let mut seen = BTreeSet::from([done.peer]);
        for host in HOSTS {
            seen.insert(self.peer_of(host)?);
        }
        Ok(seen)
    }

    /// Who a connection from this address of the LAN's comes from, for the server.
    fn peer_of(&self, host: Ipv4Addr) -> Result<IpAddr> {
        use socket2::{Domain, Socket, Type};
        use std::net::{SocketAddr, TcpListener};

        let server = &self.topology().server;
        let listener = server.run(|| Ok(TcpListener::bind((SERVER, 0))?))?;
        let to = listener.local_addr()?;
        let socket = self.lan.run(|| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            socket.bind(&SocketAddr::from((host, 0)).into())?;
            socket.connect_timeout(&to.into(), PATIENCE)?;
            Ok(socket)
        })?;
        let (_, peer) = listener.accept()?;
        drop(socket);
        Ok(peer.ip())
    }
}
