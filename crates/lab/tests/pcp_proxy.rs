//! IPv4 programs behind `clat` ask for external ports, by NAT-PMP (RFC 6886) and PCP (RFC 6887):
//! Debian's `natpmpc`, and literal bytes. `plat` is the PCP server.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ipnet::{IpNet, Ipv4Net};
use lab::binaries::Binaries;
use lab::client_host::LAN as PLAT_LAN;
use lab::inspect::{ensure_unchanged, inspect};
use lab::installed::{Installed, PATIENCE, Setup};
use lab::link::{add_address, add_route, join, wait_for_link_local};
use lab::namespace::Namespace;
use lab::process::Daemon;
use lab::suite::Test;
use lab::topology::{CLAT4, PREF64, Plan, SERVER, Topology};
use lab::traffic::ping::ping;
use lab::wait::wait_until;
use tempfile::TempDir;

const TESTS: &[Test] = lab::tests![
    pp_01_natpmpc_on_the_clats_host_gets_a_port_that_strangers_reach,
    pp_06_natpmpc_behind_a_clat_that_masquerades_gets_a_port,
    pp_06_natpmpc_at_a_shared_address_gets_a_port,
    pp_01_hosts_with_ipv6_addresses_of_their_own_get_ports,
    pp_03_a_pcp_client_gets_a_port_by_literal_bytes,
    pp_05_hosts_are_told_when_the_server_has_begun_anew,
    pp_07_only_the_hosts_of_a_network_ask_there,
    pp_09_where_no_server_answers_hosts_are_told_so,
];

const NATPMPC: &str = "/usr/bin/natpmpc";
const NEEDED: &[(&str, &str)] = &[
    (
        "pp_01_natpmpc_on_the_clats_host_gets_a_port_that_strangers_reach",
        NATPMPC,
    ),
    (
        "pp_06_natpmpc_behind_a_clat_that_masquerades_gets_a_port",
        NATPMPC,
    ),
    ("pp_06_natpmpc_at_a_shared_address_gets_a_port", NATPMPC),
    (
        "pp_01_hosts_with_ipv6_addresses_of_their_own_get_ports",
        NATPMPC,
    ),
];

const POOL: Ipv4Addr = Ipv4Addr::new(192, 168, 64, 9);
/// The client's interface towards its LAN, and its address there.
const LAN: &str = "lan0";
const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 1);
const HOST: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 10);
const SERVER_PORT: u16 = 5351;
const CLIENT_PORT: u16 = 5350;

fn main() {
    lab::suite::run_with_programs(TESTS, NEEDED)
}

fn pp_01_natpmpc_on_the_clats_host_gets_a_port_that_strangers_reach() -> Result<()> {
    let net = Net::new(&[])?;
    let client = net.topology().client();
    let before = inspect(client)?;
    let mut clat = net.clat(&[])?;
    let said = natpmpc(client, &["-g", &CLAT4.to_string()])?;
    ensure!(
        said.contains(&format!("Public IP address : {POOL}")),
        "{said}"
    );
    for (protocol, port) in [("udp", 6881), ("tcp", 6882)] {
        let external = net.map(client, CLAT4, protocol, port)?;
        net.reach(client, CLAT4, protocol, port, external)?;
        let status = net.status()?;
        let line = format!("{external} {protocol} leads to {CLAT4}:{port}, for ");
        ensure!(status.contains(&line), "{status}");
    }
    // Given back.
    let port = "6881";
    natpmpc(
        client,
        &["-g", &CLAT4.to_string(), "-a", port, port, "udp", "0"],
    )?;
    let status = net.status()?;
    ensure!(status.contains("1 ports held by IPv4 hosts"), "{status}");
    clat.stop(PATIENCE)?;
    ensure_unchanged(&before, client)
}

fn pp_06_natpmpc_behind_a_clat_that_masquerades_gets_a_port() -> Result<()> {
    let net = Net::new(&[])?;
    let client = net.topology().client();
    let before = inspect(client)?;
    let mut clat = net.clat(&["--lan=192.168.1.0/24"])?;
    // It finds its gateway itself.
    for protocol in ["udp", "tcp"] {
        let external = net.map_by_gateway(protocol, 6881)?;
        net.reach(&net.lan, HOST, protocol, 6881, external)?;
    }
    // What it sends from there has the same port outside.
    let external = net.map_by_gateway("udp", 6881)?;
    let server = net
        .topology()
        .server
        .run(|| Ok(UdpSocket::bind((SERVER, 0))?))?;
    server.set_read_timeout(Some(PATIENCE))?;
    let to = server.local_addr()?;
    net.lan
        .run(|| Ok(UdpSocket::bind((HOST, 6881))?.send_to(b"hello", to)?))?;
    let (_, seen) = server.recv_from(&mut [0; 64])?;
    ensure!(seen == SocketAddr::V4(external), "{seen} {external}");
    // This host has the same port for itself, at another one outside.
    let other = net.map(client, CLAT4, "udp", 6890)?;
    net.reach(client, CLAT4, "udp", 6890, other)?;
    clat.stop(PATIENCE)?;
    ensure_unchanged(&before, client)
}

fn pp_06_natpmpc_at_a_shared_address_gets_a_port() -> Result<()> {
    let net = Net::new(&[])?;
    let client = net.topology().client();
    let before = inspect(client)?;
    let own = format!("--ipv6={}", Topology::client_address(0));
    let mut clat = net.clat(&[&own, "--lan=192.168.1.0/24"])?;
    for protocol in ["udp", "tcp"] {
        let external = net.map(client, CLAT4, protocol, 6881)?;
        net.reach(client, CLAT4, protocol, 6881, external)?;
        let external = net.map_by_gateway(protocol, 6881)?;
        net.reach(&net.lan, HOST, protocol, 6881, external)?;
    }
    clat.stop(PATIENCE)?;
    ensure_unchanged(&before, client)
}

fn pp_01_hosts_with_ipv6_addresses_of_their_own_get_ports() -> Result<()> {
    let net = Net::new(&[])?;
    let edge = &net.topology().edge;
    let delegated: IpNet = "2001:db8:77::/64".parse()?;
    add_route(edge, delegated, Topology::client_address(0).into(), None)?;
    let _clat = net.clat(&["--lan=192.168.1.0/24", "--lan-prefix6=2001:db8:77::/64"])?;
    let external = net.map_by_gateway("udp", 6881)?;
    net.reach(&net.lan, HOST, "udp", 6881, external)
}

/// RFC 6887 sections 11.1 and 13.3.
fn pp_03_a_pcp_client_gets_a_port_by_literal_bytes() -> Result<()> {
    let net = Net::new(&[])?;
    let client = net.topology().client();
    let _clat = net.clat(&[])?;
    let nonce = b"twelve bytes";
    let mut request = b"\x02\x01\0\0\0\0\x0e\x10".to_vec();
    request.extend(CLAT4.to_ipv6_mapped().octets());
    request.extend(nonce);
    request.extend(b"\x11\0\0\0\x1a\xe1\0\0\0\0\0\0\0\0\0\0\0\0\xff\xff\0\0\0\0");
    let response = ask(client, (CLAT4, CLAT4), &request)?;
    ensure!(
        response[..8] == *b"\x02\x81\0\0\0\0\x0e\x10",
        "{response:?}"
    );
    ensure!(response[24..42] == request[24..42] && response.len() == 60);
    ensure!(response[44..60] == POOL.to_ipv6_mapped().octets());
    let port = u16::from_be_bytes(response[42..44].try_into()?);
    net.reach(client, CLAT4, "udp", 6881, SocketAddrV4::new(POOL, port))?;
    // Not the holder, not the host.
    let mut spoofed = request.clone();
    spoofed[24] ^= 1;
    ensure!(ask(client, (CLAT4, CLAT4), &spoofed)?[3] == 2);
    let mut elsewhere = request.clone();
    elsewhere[23] ^= 8;
    ensure!(ask(client, (CLAT4, CLAT4), &elsewhere)?[3] == 12);
    request[4..8].fill(0);
    let response = ask(client, (CLAT4, CLAT4), &request)?;
    ensure!(response[..8] == *b"\x02\x81\0\0\0\0\0\0", "{response:?}");
    Ok(())
}

fn pp_05_hosts_are_told_when_the_server_has_begun_anew() -> Result<()> {
    // With one shard a suggested port is given whatever the key of the run is.
    let mut net = Net::new(&["--queues=1"])?;
    let _clat = net.clat(&["--lan=192.168.1.0/24"])?;
    let external = net.map_by_gateway("udp", 6881)?;
    let listen = || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, CLIENT_PORT))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(socket)
    };
    let far = net.lan.run(listen)?;
    let near = net.topology().client().run(listen)?;
    // It has run for longer than clocks may differ (RFC 6887 section 8.5); it forgets everything.
    wait_until(|| {
        let status: String = net.installed.ask_plat(&["status", "--json"])?;
        let uptime = status
            .split("\"uptime_s\":")
            .nth(1)
            .and_then(|rest| rest.split(',').next());
        Ok(uptime.context("no uptime")?.trim().parse::<u64>()? >= 5)
    })?;
    net.installed.plat.kill(PATIENCE)?;
    std::fs::remove_dir_all(net.installed.directory().join("plat"))?;
    net.installed.restart_plat()?;
    for socket in [far, near] {
        // What the start of `clat` announced has another epoch, or no address.
        let mut buffer = [0; 64];
        loop {
            let (length, from) = socket.recv_from(&mut buffer)?;
            ensure!(from.port() == SERVER_PORT, "{from}");
            if length == 12 && buffer[8..12] == POOL.octets() {
                ensure!(buffer[..4] == [0, 0x80, 0, 0], "{buffer:?}");
                break;
            }
        }
    }
    // It has been asked for again, for the rest of the time, without the host.
    wait_until(|| {
        Ok(net
            .installed
            .ask_plat(&["status"])?
            .contains("1 ports held by clients"))
    })?;
    net.reach(&net.lan, HOST, "udp", 6881, external)
}

fn pp_07_only_the_hosts_of_a_network_ask_there() -> Result<()> {
    let net = Net::new(&[])?;
    let _clat = net.clat(&["--lan=192.168.1.0/24"])?;
    let (lan, client) = (&net.lan, net.topology().client());
    // A host that pretends to be of another network, and one that asks from the wrong side.
    let stranger = Ipv4Addr::new(10, 9, 9, 9);
    add_address((lan, "eth0"), IpNet::new_assert(stranger.into(), 24))?;
    let way_back = IpNet::new_assert(Ipv4Addr::new(10, 9, 9, 0).into(), 24);
    add_route(client, way_back, HOST.into(), None)?;
    for (namespace, pair) in [(lan, (stranger, GATEWAY)), (lan, (HOST, CLAT4))] {
        ensure!(!is_answered(namespace, pair)?, "{pair:?}");
    }
    // The hosts that may.
    ensure!(is_answered(lan, (HOST, GATEWAY))?);
    ensure!(is_answered(client, (CLAT4, CLAT4))?);
    Ok(())
}

fn pp_09_where_no_server_answers_hosts_are_told_so() -> Result<()> {
    let net = Net::new(&["--pcp=off"])?;
    let client = net.topology().client();
    let server = format!("--pcp={}", Topology::client_address(0));
    // One that does not exist, and none.
    let mut clat = net.clat(&[&server.replace("::2", "::99")])?;
    let response = ask(client, (CLAT4, CLAT4), &[0, 0])?;
    ensure!(response[..4] == [0, 0x80, 0, 3], "{response:?}");
    clat.stop(PATIENCE)?;
    let _clat = net.clat(&["--pcp=off"])?;
    ensure!(!is_answered(client, (CLAT4, CLAT4))?);
    Ok(())
}

/// A client with a LAN, and an edge whose `plat` gives ports.
struct Net {
    installed: Installed,
    lan: Namespace,
    binaries: Binaries,
    directory: TempDir,
}

impl Net {
    fn new(flags: &[&str]) -> Result<Self> {
        let binaries = Binaries::find()?;
        let (pool, link) = (POOL.to_string(), format!("--lan={PLAT_LAN}"));
        let mut all = vec!["--pool", &pool, &link];
        all.extend(flags);
        let topology = Topology::new(&Plan::default())?;
        let installed = Installed::with(&binaries, topology, Setup::plat_alone(&all))?;
        let lan = Namespace::new("lan")?;
        let client = installed.topology.client();
        join((client, LAN), (&lan, "eth0"), 1500)?;
        wait_for_link_local(client, PATIENCE)?;
        let net = |address: Ipv4Addr| IpNet::new_assert(address.into(), 24);
        add_address((client, LAN), net(GATEWAY))?;
        add_address((&lan, "eth0"), net(HOST))?;
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

    fn clat(&self, flags: &[&str]) -> Result<Daemon> {
        let below = |kind: &str| self.directory.path().join(kind).display().to_string();
        let mut all: Vec<String> = flags.iter().map(ToString::to_string).collect();
        all.push(format!("--prefix={PREF64}"));
        all.push(format!("--run-dir={}", below("run")));
        all.push(format!("--state-dir={}", below("state")));
        let clat = Daemon::start(self.topology().client(), &self.binaries.clat, &all)?;
        clat.wait_for_line("ready: ", PATIENCE)?;
        // It serves a network a moment after its route is there.
        let client = self.topology().client();
        if !flags.contains(&"--pcp=off") {
            wait_until(|| is_answered(client, (CLAT4, CLAT4)))?;
        }
        if flags.iter().any(|flag| flag.starts_with("--lan=")) {
            let short = Duration::from_millis(300);
            wait_until(|| Ok(self.lan.run(|| ping(SERVER, 56, short)).is_ok()))?;
            wait_until(|| is_answered(&self.lan, (HOST, GATEWAY)))?;
        }
        Ok(clat)
    }

    fn status(&self) -> Result<String> {
        let run_dir = self.directory.path().join("run").display().to_string();
        let mut process = Command::new(&self.binaries.clat);
        process
            .args(["status", "--run-dir", &run_dir])
            .stdout(Stdio::piped());
        let output = self
            .topology()
            .client()
            .spawn(process)?
            .wait_with_output()?;
        Ok(String::from_utf8(output.stdout)?)
    }

    /// What is outside of this port of the client's, by `natpmpc`.
    fn map(
        &self,
        host: &Namespace,
        gateway: Ipv4Addr,
        protocol: &str,
        port: u16,
    ) -> Result<SocketAddrV4> {
        let (gateway, port) = (gateway.to_string(), port.to_string());
        external(&natpmpc(
            host,
            &["-g", &gateway, "-a", &port, &port, protocol, "120"],
        )?)
    }

    /// The same of a host of the LAN, which finds its gateway itself.
    fn map_by_gateway(&self, protocol: &str, port: u16) -> Result<SocketAddrV4> {
        let port = port.to_string();
        external(&natpmpc(&self.lan, &["-a", &port, &port, protocol, "120"])?)
    }

    /// Somebody to whom the host has never sent anything reaches its port, and is answered.
    fn reach(
        &self,
        host: &Namespace,
        address: Ipv4Addr,
        protocol: &str,
        port: u16,
        external: SocketAddrV4,
    ) -> Result<()> {
        let server = &self.topology().server;
        if protocol == "tcp" {
            let listener = host.run(|| Ok(TcpListener::bind((address, port))?))?;
            let to = SocketAddr::V4(external);
            let stranger = server.run(|| Ok(TcpStream::connect_timeout(&to, PATIENCE)?))?;
            let (_, from) = listener.accept()?;
            ensure!(from == stranger.local_addr()?, "{from}");
            return Ok(());
        }
        let service = host.run(|| Ok(UdpSocket::bind((address, port))?))?;
        service.set_read_timeout(Some(PATIENCE))?;
        let stranger = server.run(|| Ok(UdpSocket::bind((SERVER, 0))?))?;
        stranger.set_read_timeout(Some(PATIENCE))?;
        stranger.send_to(b"hello", external)?;
        let mut buffer = [0; 64];
        let (length, from) = service.recv_from(&mut buffer).context("no stranger")?;
        ensure!(&buffer[..length] == b"hello" && from == stranger.local_addr()?);
        service.send_to(b"and hello", from)?;
        let (_, answerer) = stranger.recv_from(&mut buffer).context("no answer")?;
        ensure!(answerer == SocketAddr::V4(external), "{answerer}");
        Ok(())
    }
}

fn natpmpc(host: &Namespace, arguments: &[&str]) -> Result<String> {
    lab::command::output(host, NATPMPC, arguments, "")
}

/// Address and port that `natpmpc` was given.
fn external(said: &str) -> Result<SocketAddrV4> {
    let after = |words: &str| {
        said.split(words)
            .nth(1)
            .and_then(|rest| rest.split_whitespace().next())
    };
    let address = after("Public IP address : ").with_context(|| said.to_owned())?;
    let port = after("Mapped public port ").with_context(|| said.to_owned())?;
    Ok(SocketAddrV4::new(address.parse()?, port.parse()?))
}

/// What the gateway answers, asked again and again.
fn ask(host: &Namespace, (from, to): (Ipv4Addr, Ipv4Addr), request: &[u8]) -> Result<Vec<u8>> {
    host.run(|| {
        let socket = UdpSocket::bind((from, 0))?;
        socket.set_read_timeout(Some(Duration::from_millis(250)))?;
        let mut answer = None;
        wait_until(|| {
            let _ = socket.send_to(request, (to, SERVER_PORT));
            let mut buffer = [0; 1200];
            answer = socket
                .recv_from(&mut buffer)
                .ok()
                .map(|(length, source)| (buffer[..length].to_vec(), source));
            Ok(answer.is_some())
        })?;
        let (message, source) = answer.context("an answer")?;
        ensure!(source.ip() == IpAddr::V4(to), "{source}");
        Ok(message)
    })
}

/// True if a NAT-PMP request with an unknown opcode, which the proxy answers itself, is answered.
fn is_answered(host: &Namespace, (from, to): (Ipv4Addr, Ipv4Addr)) -> Result<bool> {
    host.run(|| {
        let socket = UdpSocket::bind((from, 0))?;
        socket.set_read_timeout(Some(Duration::from_millis(200)))?;
        for _ in 0..3 {
            let _ = socket.send_to(&[0, 9], (to, SERVER_PORT));
            if socket.recv_from(&mut [0; 64]).is_ok() {
                return Ok(true);
            }
        }
        Ok(false)
    })
}
