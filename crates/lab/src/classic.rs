//! The network of the well-known how-to: a client that has nothing but a cable, a gateway with one
//! configuration file, an IPv4 server.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ipnet::{IpNet, Ipv4Net};
use tempfile::TempDir;

use crate::binaries::Binaries;
use crate::capture::Capture;
use crate::inspect::inspect;
use crate::installed::PATIENCE;
use crate::link::{add_address, add_route, join, set_down, set_up, wait_for_link_local};
use crate::namespace::Namespace;
use crate::process::Daemon;
use crate::topology::{MTU, UPLINK};
use crate::traffic::dns::{AAAA, Upstream, addresses, exchange};
use crate::traffic::ping::ping;
use crate::traffic::ra::announced_dns_server;

/// The gateway on the LAN, where its DNS64 is.
pub const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0x2001, 0x13c7, 0x100, 0xf101, 0, 0, 0, 1);
/// The gateway on the WAN: what servers see.
pub const GATEWAY4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
/// The resolver that the gateway asks.
const RESOLVER4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
/// A server with a public address; only within this network.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(9, 9, 9, 9);
/// Its name.
pub const NAME: &str = "v4.example";
const LAN: &str = "lan0";
const WAN: &str = "wan0";

/// The network with its daemons.
pub struct Classic {
    /// `clat` without flags.
    pub clat: Daemon,
    /// `plat` with its file.
    pub plat: Daemon,
    /// The client.
    pub client: Namespace,
    /// What the router advertisements have said.
    resolver: Ipv6Addr,
    server: Namespace,
    gateway: Namespace,
    _names: Upstream,
    _directory: TempDir,
}

/// A check, and what it says.
pub type Check = (&'static str, fn(&Classic) -> Result<String>);

/// What works from the client.
pub const CHECKS: &[Check] = &[
    ("the client configures itself", configured),
    ("ping to an IPv4 literal", ping_literal),
    ("a name with only an IPv4 address", by_name),
    ("an IPv4-only program by literal", by_literal),
];

impl Classic {
    /// Builds the network and starts everything.
    ///
    /// # Errors
    /// When the network cannot be built, or a daemon does not get ready.
    pub fn new(binaries: &Binaries) -> Result<Self> {
        let [client, gateway, server] = [
            Namespace::new("client")?,
            Namespace::new("gateway")?,
            Namespace::new("server")?,
        ];
        join((&client, UPLINK), (&gateway, LAN), MTU)?;
        join((&gateway, WAN), (&server, UPLINK), MTU)?;
        add_address((&gateway, LAN), IpNet::new_assert(GATEWAY6.into(), 64))?;
        let wan = |address: Ipv4Addr| IpNet::new_assert(address.into(), 24);
        add_address((&gateway, WAN), wan(GATEWAY4))?;
        add_address((&server, UPLINK), wan(RESOLVER4))?;
        add_address((&server, UPLINK), IpNet::new_assert(SERVER.into(), 32))?;
        let everywhere = IpNet::from(Ipv4Net::default());
        add_route(&gateway, everywhere, RESOLVER4.into(), None)?;
        wait_for_link_local(&gateway, PATIENCE)?;
        let names = Upstream::start(&server, RESOLVER4, SERVER, 1)?;

        let directory = TempDir::new()?;
        let file = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../examples/classic-topology/plat.toml")
            .display()
            .to_string();
        let mut flags = vec!["--config".to_owned(), file];
        flags.extend(directories(directory.path(), "plat"));
        let plat = Daemon::start(&gateway, &binaries.plat, &flags)?;
        plat.wait_for_line("ready: ", PATIENCE)?;

        // The cable is plugged in now: the kernel asks for routers.
        let heard = Capture::start(&[(&client, UPLINK)], 1500)?;
        client.set_sysctl(&format!("ipv6/conf/{UPLINK}/accept_ra"), "1")?;
        set_down(&client, UPLINK)?;
        set_up(&client, UPLINK)?;
        let clat = Daemon::start(
            &client,
            &binaries.clat,
            &directories(directory.path(), "clat"),
        )?;
        clat.wait_for_line("ready: ", PATIENCE)?;
        let heard = heard.stop()?;
        let mut heard = heard.packets.iter().map(|packet| packet.ip());
        let resolver = heard.find_map(announced_dns_server);
        Ok(Self {
            resolver: resolver.context("no router has announced a resolver")?,
            clat,
            plat,
            client,
            server,
            gateway,
            _names: names,
            _directory: directory,
        })
    }

    /// Captures both ends: the client's IPv4 side and its cable, and the gateway's WAN.
    ///
    /// # Errors
    /// Those of [`Capture::start`].
    pub fn capture(&self, most: usize) -> Result<Capture> {
        let ends = [
            (&self.client, "clat"),
            (&self.client, UPLINK),
            (&self.gateway, WAN),
        ];
        Capture::start(&ends, most)
    }

    /// A connection from the client, and where the server sees it come from.
    fn connect(&self, address: IpAddr) -> Result<IpAddr> {
        let listener = self.server.run(|| Ok(TcpListener::bind((SERVER, 0))?))?;
        let target = SocketAddr::from((address, listener.local_addr()?.port()));
        let mut stream = self
            .client
            .run(|| Ok(TcpStream::connect_timeout(&target, PATIENCE)?))
            .with_context(|| format!("TCP to {target}"))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let (mut served, peer) = listener.accept()?;
        served.write_all(b"hello")?;
        let mut text = [0; 5];
        stream.read_exact(&mut text)?;
        ensure!(&text == b"hello", "{text:?}");
        ensure!(peer.ip() == GATEWAY4, "the server saw {}", peer.ip());
        Ok(peer.ip())
    }
}

fn configured(network: &Classic) -> Result<String> {
    let end = Instant::now() + PATIENCE;
    loop {
        let facts = inspect(&network.client)?;
        let address = facts
            .iter()
            .find(|fact| fact.starts_with("200113c70100f101"));
        let route = facts
            .iter()
            .any(|fact| fact.starts_with("route Inet6 Unicast proto Ra len 0"));
        if let (Some(address), true) = (address, route) {
            let octets = address.as_bytes()[..32].chunks(4);
            let groups: Vec<_> = octets.map(String::from_utf8_lossy).collect();
            let address: Ipv6Addr = groups.join(":").parse()?;
            return Ok(format!("{address}, by router advertisements alone"));
        }
        ensure!(Instant::now() < end, "no address or no route: {facts:#?}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn ping_literal(network: &Classic) -> Result<String> {
    let time = network.client.run(|| ping(SERVER, 56, PATIENCE))?;
    Ok(format!("{SERVER} in {time:.2?}"))
}

fn by_name(network: &Classic) -> Result<String> {
    let resolver = network.resolver;
    ensure!(resolver == GATEWAY6, "{resolver} was announced");
    let answer = network.client.run(|| exchange(resolver, NAME, AAAA))?;
    let addresses = addresses(&answer);
    let address = *addresses.first().context("no address")?;
    ensure!(
        address == "64:ff9b::9.9.9.9".parse::<Ipv6Addr>()?,
        "{address}"
    );
    let peer = network.connect(address.into())?;
    Ok(format!(
        "{NAME} is {address}, says {resolver}, which was announced; the server sees {peer}"
    ))
}

fn by_literal(network: &Classic) -> Result<String> {
    let peer = network.connect(SERVER.into())?;
    Ok(format!("{SERVER} through clat; the server sees {peer}"))
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
