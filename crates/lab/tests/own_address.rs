//! Clients share the address of an interface with the host: mapping, filtering, port forwards, and
//! what the host has of its own at the same address.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};

use anyhow::{Context, Result, ensure};
use ipnet::IpNet;
use lab::binaries::Binaries;
use lab::inspect::{difference, inspect};
use lab::installed::{Installed, PATIENCE, Setup};
use lab::link::add_address;
use lab::namespace::Namespace;
use lab::nft::{NFT, nft};
use lab::suite::Test;
use lab::topology::{Plan, SERVER, Topology, UPLINK, embedded};

const TESTS: &[Test] = lab::tests![
    oa_02_a_client_has_one_port_for_all_and_everybody_reaches_it,
    oa_06_a_port_forward_answers_from_outside_and_from_inside,
    oa_03_the_table_exchanges_addresses_and_nothing_is_left,
];

/// The edge towards the IPv4 router.
const WAN: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
/// Other hosts where the server is.
const OTHERS: [Ipv4Addr; 2] = [
    Ipv4Addr::new(198, 51, 100, 3),
    Ipv4Addr::new(198, 51, 100, 4),
];

fn main() {
    lab::suite::run_with_programs(
        TESTS,
        &[(
            "oa_03_the_table_exchanges_addresses_and_nothing_is_left",
            NFT,
        )],
    )
}

/// What a STUN server and its second address find out (RFC 5780), and what a stranger does.
fn oa_02_a_client_has_one_port_for_all_and_everybody_reaches_it() -> Result<()> {
    let log = tempfile::tempdir()?;
    let log = log.path().join("sessions.log");
    let flag = format!("--session-log={}", log.display());
    let net = install(&["--pool=eth0", &flag])?;
    let client = udp(
        net.topology.client(),
        Topology::client_address(0).into(),
        5000,
    )?;
    let mut seen = Vec::new();
    for (host, port) in [(SERVER, 3478), (SERVER, 3479), (OTHERS[0], 3478)] {
        let server = udp(&net.topology.server, host.into(), port)?;
        client.send_to(b"who am I", (embedded(host), port))?;
        let (_, from) = receive(&server)?;
        server.send_to(from.to_string().as_bytes(), from)?;
        let (answer, from) = receive(&client)?;
        ensure!(from == (embedded(host), port).into(), "{from} answers");
        seen.push(String::from_utf8(answer)?.parse::<SocketAddr>()?);
    }
    let external = seen[0];
    ensure!(seen == [external; 3], "not endpoint-independent: {seen:?}");
    ensure!(external.ip() == IpAddr::from(WAN), "{external}");
    ensure!((10_000..=32_767).contains(&external.port()), "{external}");

    let stranger = udp(&net.topology.server, OTHERS[1].into(), 9)?;
    stranger.send_to(b"let me in", external)?;
    let (text, from) = receive(&client)?;
    ensure!(text == b"let me in" && from == (embedded(OTHERS[1]), 9).into());
    client.send_to(b"you are in", from)?;
    let (text, from) = receive(&stranger)?;
    ensure!(text == b"you are in" && from == external, "{from}");

    let sessions = net.ask_plat(&["sessions"])?;
    ensure!(sessions.contains(&external.to_string()), "{sessions}");
    ensure!(!sessions.contains("192.168."), "{sessions}");
    let port = format!(
        "\"external\":\"{WAN}\",\"external_port\":{}",
        external.port()
    );
    lab::wait::wait_until(|| Ok(std::fs::read_to_string(&log)?.contains(&port)))?;
    let status = net.ask_plat(&["status"])?;
    let pool = format!("pool      {WAN} of eth0, ports 10000-32767");
    ensure!(status.contains(&pool), "{status}");
    ensure!(!std::fs::read_to_string(&log)?.contains("192.168."));
    Ok(())
}

fn oa_06_a_port_forward_answers_from_outside_and_from_inside() -> Result<()> {
    let own = Topology::client_address(0);
    let bind = format!("--bind=tcp:eth0:443=[{own}]:8443");
    let net = install(&["--pool=eth0", &bind])?;
    let network = &net.topology;
    let listener = network
        .client()
        .run(|| Ok(TcpListener::bind((own, 8443))?))?;
    for (from, to) in [
        (&network.server, IpAddr::from(WAN)),
        (&network.clients[1], embedded(WAN).into()),
        (network.client(), embedded(WAN).into()),
    ] {
        let mut stream = connect(from, (to, 443).into())?;
        let (mut accepted, peer) = listener.accept()?;
        stream.write_all(b"hello")?;
        let mut text = [0; 5];
        accepted.read_exact(&mut text)?;
        accepted.write_all(&text)?;
        stream.read_exact(&mut text)?;
        ensure!(&text == b"hello");
        let expected = match to {
            IpAddr::V4(_) => embedded(SERVER),
            IpAddr::V6(_) => embedded(WAN),
        };
        ensure!(peer.ip() == IpAddr::from(expected), "{peer}");
    }
    // Other ports of the address are the host's, which clients do not reach.
    let edge = &network.edge;
    let service = edge.run(|| Ok(TcpListener::bind((WAN, 22))?))?;
    let stream = connect(&network.server, (IpAddr::from(WAN), 22).into())?;
    let (_, peer) = service.accept()?;
    ensure!(peer == stream.local_addr()?, "{peer}");
    let refused = connect(
        &network.clients[1],
        (IpAddr::from(embedded(WAN)), 22).into(),
    );
    ensure!(refused.is_err(), "a client reached a service of the host");
    Ok(())
}

fn oa_03_the_table_exchanges_addresses_and_nothing_is_left() -> Result<()> {
    let topology = topology()?;
    let before = inspect(&topology.edge)?;
    let ruleset = nft(&topology.edge, "list ruleset")?;
    let flags = [
        "--pool=eth0:30000-33000",
        "--bind=udp:eth0:53=[2001:db8:1::2]:53",
    ];
    let setup = Setup::plat_alone(&flags);
    let mut net = Installed::with(&Binaries::find()?, topology, setup)?;
    let edge = &net.topology.edge;
    let during = nft(edge, "list table ip xlat_nat64")?;
    for part in [
        "type nat hook prerouting priority dstnat; policy accept;",
        "ip daddr 203.0.113.1 tcp dport 30000-33000 dnat to 192.168.64.1",
        "ip daddr 203.0.113.1 udp dport 30000-33000 dnat to 192.168.64.1",
        "ip daddr 203.0.113.1 udp dport 53 dnat to 192.168.64.1",
        "type nat hook postrouting priority srcnat; policy accept;",
        "oifname \"eth0\" ip saddr 192.168.64.1",
        "snat to 203.0.113.1",
        "oifname != \"nat64\" ip saddr 192.168.64.1 ct direction original drop",
        "oifname != \"nat64\" ip saddr 192.168.64.1 ct state invalid,untracked drop",
    ] {
        ensure!(during.contains(part), "{part} in {during}");
    }
    let reserved = edge.sysctl("ipv4/ip_local_reserved_ports")?;
    ensure!(reserved.trim() == "30000-33000", "{reserved}");
    net.plat.kill(PATIENCE)?;
    ensure!(
        nft(&net.topology.edge, "list ruleset")? == ruleset,
        "after SIGKILL"
    );
    net.restart_plat()?;
    net.plat.stop(PATIENCE)?;
    let after = inspect(&net.topology.edge)?;
    let left = difference(&before, &after);
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}

fn topology() -> Result<Topology> {
    let topology = Topology::new(&Plan {
        clients: 2,
        ..Plan::with_routers()
    })?;
    for other in OTHERS {
        let address = IpNet::new_assert(other.into(), 24);
        add_address((&topology.server, UPLINK), address)?;
    }
    Ok(topology)
}

fn install(flags: &[&str]) -> Result<Installed> {
    Installed::with(&Binaries::find()?, topology()?, Setup::plat_alone(flags))
}

fn udp(namespace: &Namespace, address: IpAddr, port: u16) -> Result<UdpSocket> {
    let socket = namespace.run(|| Ok(UdpSocket::bind((address, port))?))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

fn receive(socket: &UdpSocket) -> Result<(Vec<u8>, SocketAddr)> {
    let mut buffer = [0; 2048];
    let (length, from) = socket.recv_from(&mut buffer).context("no datagram")?;
    Ok((buffer[..length].to_vec(), from))
}

fn connect(namespace: &Namespace, to: SocketAddr) -> Result<TcpStream> {
    let stream = namespace.run(|| Ok(TcpStream::connect_timeout(&to, PATIENCE)?))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}
