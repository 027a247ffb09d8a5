//! What the IPv4 side sees of clients that share the address of an interface: captures on the WAN,
//! errors and fragments, an exhausted pool, two WANs, and an address without a network.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ipnet::{IpNet, Ipv4Net};
use lab::binaries::Binaries;
use lab::capture::{Capture, wait_for};
use lab::installed::{Installed, PATIENCE, Setup};
use lab::ip::{IP, ip};
use lab::link::{
    add_address, add_route, join, remove, remove_address, remove_route, set_mtu,
    wait_for_link_local,
};
use lab::suite::Test;
use lab::topology::{MTU, SERVER, Topology, UPLINK, embedded};
use lab::traffic::content::Content;
use lab::traffic::packets::Seen;
use lab::traffic::ping::ping;
use lab::traffic::ra::{announced_pref64_lifetime, is_advertisement};
use lab::wait::wait_until;
use lab::wan::{OTHERS, PROVIDER, WAN, connect, install, net, receive, topology, udp};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::Ipv6RecvErr;
use serde_json::Value;

const TESTS: &[Test] = lab::tests![
    oa_10_log_list_and_whose_agree_with_a_capture_on_the_wan,
    oa_13_fragments_errors_and_pings_cross_at_the_address,
    oa_14_where_ports_are_used_up_clients_are_told_and_the_host_goes_on,
    oa_08_the_pool_follows_the_default_route_to_another_wan,
    oa_15_an_address_without_a_network_is_shared_too,
];

/// The private address that must never be seen.
const HIDDEN: Ipv4Addr = Ipv4Addr::new(192, 168, 64, 1);
/// A second provider's interface, address and router.
const SECOND: &str = "wan1";
const SECOND_WAN: Ipv4Addr = Ipv4Addr::new(203, 0, 112, 1);
const SECOND_PROVIDER: Ipv4Addr = Ipv4Addr::new(203, 0, 112, 2);

fn main() {
    lab::suite::run_with_programs(
        TESTS,
        &[("oa_15_an_address_without_a_network_is_shared_too", IP)],
    )
}

/// Protocol, external address and port, remote address and port.
type Line = (String, SocketAddr, SocketAddr);

fn oa_10_log_list_and_whose_agree_with_a_capture_on_the_wan() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let log = directory.path().join("sessions.log");
    let flag = format!("--session-log={}", log.display());
    // What is logged, listed and computed from the port is the same.
    let net = install(&[
        &flag,
        "--session-log-level=sessions",
        "--client=2001:db8:1::/56",
        "--subscriber-prefix=64",
        "--deterministic",
    ])?;
    let network = &net.topology;
    let capture = Capture::start(&[(&network.edge, UPLINK)], 256)?;
    let listener = network
        .server
        .run(|| Ok(TcpListener::bind((SERVER, 8080))?))?;
    let outside = udp(&network.server, SERVER.into(), 5300)?;
    let mut open = Vec::new();
    for (number, client) in network.clients.iter().enumerate() {
        let own = Topology::client_address(number);
        for port in 7000..7003 {
            let socket = udp(client, own.into(), port)?;
            let name = format!("[{own}]:{port}");
            socket.send_to(name.as_bytes(), (embedded(SERVER), 5300))?;
            let (text, from) = receive(&outside)?;
            ensure!(text == name.as_bytes(), "{name}");
            outside.send_to(b"you are heard", from)?;
            receive(&socket)?;
            // Nobody listens there; it is seen all the same.
            socket.send_to(name.as_bytes(), (embedded(OTHERS[0]), 123))?;
        }
        let mut stream = connect(client, (IpAddr::from(embedded(SERVER)), 8080).into())?;
        let (mut accepted, _) = listener.accept()?;
        stream.write_all(stream.local_addr()?.to_string().as_bytes())?;
        accepted.read_exact(&mut [0; 8])?;
        open.push((stream, accepted));
        client.run(|| ping(embedded(OTHERS[1]), 56, PATIENCE))?;
    }
    let expected = 2 * (3 + 3 + 1 + 1);
    wait_until(|| Ok(log_lines(&log, "session-created")?.len() >= expected))?;
    let listed = net.ask_plat(&["sessions", "--json"])?;
    let captured = capture.stop()?;
    let packets = captured.packets.iter().filter(|packet| packet.outgoing);
    let seen: Vec<Seen> = packets
        .filter_map(|packet| Seen::parse(packet.ip()))
        .filter(|seen| [6, 17].contains(&seen.protocol) || seen.kind() == Some([8, 0]))
        .collect();
    ensure!(
        seen.iter()
            .all(|packet| packet.source == IpAddr::from(WAN) || packet.source.is_ipv6())
    );
    let on_the_wire: BTreeSet<Line> = seen
        .iter()
        .filter(|packet| packet.source.is_ipv4())
        .map(|packet| match packet.protocol {
            6 => ("tcp".into(), packet.from(), packet.to()),
            17 => ("udp".into(), packet.from(), packet.to()),
            _ => {
                let id = packet.identifier();
                let ends = (packet.source, packet.destination);
                ("icmp".into(), (ends.0, id).into(), (ends.1, id).into())
            }
        })
        .collect();
    ensure!(on_the_wire.len() == expected, "{on_the_wire:?}");
    let logged = lines(&log_lines(&log, "session-created")?)?;
    ensure!(
        logged == on_the_wire,
        "logged {logged:?}\nseen {on_the_wire:?}"
    );
    let listed: Vec<Value> = listed
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    let listed_ends = lines(&listed)?;
    ensure!(
        listed_ends == on_the_wire,
        "listed {listed_ends:?}\nseen {on_the_wire:?}"
    );
    // Each datagram says who sent it; log, list and the computation say the same.
    let created = log_lines(&log, "session-created")?;
    for packet in seen.iter().filter(|packet| packet.protocol == 17) {
        let client: SocketAddr = String::from_utf8(packet.data().to_vec())?.parse()?;
        for lines in [&created, &listed] {
            let is_it = |line: &&Value| {
                line["protocol"] == "udp" && line["external_port"] == packet.from().port()
            };
            let line = lines.iter().find(is_it).context("no line")?;
            ensure!(line["client"] == client.ip().to_string(), "{line} {client}");
            ensure!(line["client_port"] == client.port(), "{line} {client}");
        }
        let whose = net.ask_plat(&["whose", &packet.from().to_string()])?;
        let whose: IpNet = whose.trim().parse()?;
        ensure!(
            whose.prefix_len() == 64 && whose.contains(&client.ip()),
            "{whose} {client}"
        );
    }
    let nobody = net.ask_plat(&["whose", &format!("{WAN}:22")]);
    ensure!(nobody.is_err(), "the host's own ports are nobody's");
    Ok(())
}

fn oa_13_fragments_errors_and_pings_cross_at_the_address() -> Result<()> {
    let net = install(&[])?;
    let network = &net.topology;
    let (client, server, edge) = (network.client(), &network.server, &network.edge);
    let own = Topology::client_address(0);
    let inside = udp(client, own.into(), 5000)?;
    let outside = udp(server, SERVER.into(), 5300)?;
    // In three pieces both ways; the kernels cut and join them.
    let content = Content::new(1).take(4000);
    inside.send_to(&content, (embedded(SERVER), 5300))?;
    let (came, external) = receive(&outside)?;
    ensure!(came == content && external.ip() == IpAddr::from(WAN));
    outside.send_to(&content, external)?;
    ensure!(receive(&inside)?.0 == content);

    // A router's error shows its address: the hop limit ends at the provider's.
    let short = udp(client, own.into(), 5001)?;
    short.connect((embedded(SERVER), 5300))?;
    let is_exceeded = |packet: &[u8]| {
        let error = Seen::parse(packet).filter(|seen| seen.protocol == 58);
        error.is_some_and(|seen| {
            seen.kind() == Some([3, 0]) && seen.source == IpAddr::from(embedded(PROVIDER))
        })
    };
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| wait_for((client, UPLINK), PATIENCE, is_exceeded));
        for hops in (1..=8).cycle() {
            if waiting.is_finished() {
                break;
            }
            let _ = socket2::SockRef::from(&short).set_unicast_hops_v6(hops);
            let _ = short.send(b"too far");
            std::thread::sleep(Duration::from_millis(20));
        }
        waiting.join().expect("no panic")
    })?;

    // An error of the server's reaches the socket that it is about.
    let refused = udp(client, own.into(), 5002)?;
    refused.connect((embedded(SERVER), 5999))?;
    refused.send(b"nobody there")?;
    is_refused(&refused)?;
    // And one of the client's, by which the address answers.
    drop(inside);
    let asking = udp(server, SERVER.into(), 5301)?;
    asking.connect(external)?;
    asking.send(b"still there?")?;
    is_refused(&asking)?;

    // A narrow link behind the provider: its error shortens what the client sends.
    let router4 = network.router4.as_ref().context("router4")?;
    set_mtu(router4, "server", 1300)?;
    set_mtu(server, UPLINK, 1300)?;
    let long = udp(client, own.into(), 5003)?;
    long.connect((embedded(SERVER), 5300))?;
    let text = Content::new(2).take(1400);
    outside.set_read_timeout(Some(Duration::from_millis(200)))?;
    wait_until(|| {
        let _ = long.send(&text);
        Ok(receive(&outside).is_ok_and(|(came, _)| came == text))
    })?;

    // Pings of clients, of the host and to the host's address, which it answers itself.
    for other in &network.clients {
        other.run(|| ping(embedded(SERVER), 1000, PATIENCE))?;
    }
    edge.run(|| ping(SERVER, 1000, PATIENCE))?;
    server.run(|| ping(WAN, 1000, PATIENCE))?;
    Ok(())
}

fn oa_14_where_ports_are_used_up_clients_are_told_and_the_host_goes_on() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let log = directory.path().join("sessions.log");
    let flag = format!("--session-log={}", log.display());
    let flags = [
        "--pool=eth0:30000-30003",
        "--subscriber-ports=3",
        "--subscriber-network=0",
        "--queues=1",
        &flag,
    ];
    let net = install(&flags)?;
    let network = &net.topology;
    let outside = udp(&network.server, SERVER.into(), 5300)?;
    let ask = |number: usize, port: u16| -> Result<UdpSocket> {
        let own = Topology::client_address(number);
        let socket = udp(&network.clients[number], own.into(), port)?;
        socket.connect((embedded(SERVER), 5300))?;
        // Without it the kernel tells of refused ports only.
        setsockopt(&socket, Ipv6RecvErr, &true)?;
        socket.send(b"a port, please")?;
        Ok(socket)
    };
    let mut held = Vec::new();
    for (number, port) in [(0, 5000), (0, 5001), (0, 5002), (1, 5001)] {
        held.push(ask(number, port)?);
        let (_, from) = receive(&outside)?;
        ensure!((30_000..=30_003).contains(&from.port()), "{from}");
    }
    // One has as many as it may, and for the other none is left: both are told so at once.
    for (number, port, event) in [(0, 5003, "limit-reached"), (1, 5000, "pool-exhausted")] {
        let socket = ask(number, port)?;
        let told = socket.recv(&mut [0; 64]).err().context("an answer")?;
        ensure!(told.kind() == io::ErrorKind::HostUnreachable, "{told}");
        // The log has one such line a second.
        wait_until(|| {
            let _ = socket.send(b"a port, please");
            Ok(!log_lines(&log, event)?.is_empty())
        })
        .context(event)?;
    }
    // The host has its own ports at the same address, and who has one keeps it.
    let own = udp(&network.edge, WAN.into(), 0)?;
    own.send_to(b"from the host", (SERVER, 5300))?;
    let (text, from) = receive(&outside)?;
    ensure!(text == b"from the host" && from == own.local_addr()?);
    held[0].send(b"still here")?;
    let (text, from) = receive(&outside)?;
    ensure!(text == b"still here");
    outside.send_to(b"and you", from)?;
    held[0].recv(&mut [0; 64])?;
    Ok(())
}

fn oa_08_the_pool_follows_the_default_route_to_another_wan() -> Result<()> {
    let topology = topology()?;
    let (edge, router4) = (&topology.edge, topology.router4.as_ref());
    let router4 = router4.context("router4")?;
    join((edge, SECOND), (router4, "second"), MTU)?;
    add_address((edge, SECOND), net(SECOND_WAN))?;
    add_address((router4, "second"), net(SECOND_PROVIDER))?;
    wait_for_link_local(edge, PATIENCE)?;
    let own = Topology::client_address(0);
    let bind = format!("--bind=tcp:eth0:443=[{own}]:8443");
    let flags = [
        "--pool=eth0",
        "--pool=wan1",
        &bind,
        "--lan=access",
        "--ra-interval=4",
    ];
    let setup = Setup::plat_alone(&flags);
    let net = Installed::with(&Binaries::find()?, topology, setup)?;
    let network = &net.topology;
    let (edge, server) = (&network.edge, &network.server);
    let router6 = network.router6.as_ref().context("router6")?;
    let client = udp(network.client(), own.into(), 5000)?;
    let outside = udp(server, SERVER.into(), 3478)?;
    client.send_to(b"first", (embedded(SERVER), 3478))?;
    let (_, first) = receive(&outside)?;
    ensure!(first.ip() == IpAddr::from(WAN), "{first}");
    let ends = [(edge, UPLINK), (edge, SECOND), (router6, UPLINK)];
    let capture = Capture::start(&ends, 2048)?;

    let all = IpNet::from(Ipv4Net::default());
    remove_route(edge, all, PROVIDER.into())?;
    add_route(edge, all, SECOND_PROVIDER.into(), None)?;
    let by_second = SocketAddr::from((SECOND_WAN, first.port()));
    seen_by(&client, &outside, by_second)?;
    // Everybody reaches the client there too, and its port forward.
    let stranger = udp(server, OTHERS[1].into(), 9)?;
    stranger.send_to(b"hello", by_second)?;
    client.set_read_timeout(Some(PATIENCE))?;
    let (_, from) = receive(&client)?;
    ensure!(from == (embedded(OTHERS[1]), 9).into(), "{from}");
    let service = network
        .client()
        .run(|| Ok(TcpListener::bind((own, 8443))?))?;
    let _forwarded = connect(server, (IpAddr::from(SECOND_WAN), 443).into())?;
    service.accept()?;
    let status = net.ask_plat(&["status"])?;
    let shown = format!("pool      {SECOND_WAN} of {SECOND}, ");
    ensure!(status.contains(&shown), "{status}");
    wait_for((router6, UPLINK), PATIENCE, is_advertisement)?;
    let captured = capture.stop()?;
    let packets = || {
        let all = captured.packets.iter();
        all.map(|packet| (packet.interface, packet.outgoing, packet.ip()))
    };
    for (interface, _, packet) in packets().filter(|(end, outgoing, _)| *end < 2 && *outgoing) {
        let source = Seen::parse(packet).map(|seen| seen.source);
        ensure!(source != Some(HIDDEN.into()), "shown by {interface}");
    }
    let told: Vec<_> = packets()
        .filter(|(_, _, packet)| is_advertisement(packet))
        .map(|(_, _, packet)| announced_pref64_lifetime(packet))
        .collect();
    let is_kept = |lifetime: &Option<u16>| lifetime.is_some_and(|left| left > 0);
    ensure!(!told.is_empty() && told.iter().all(is_kept), "{told:?}");

    // Its interface vanishes, and the route with it.
    remove(edge, SECOND)?;
    add_route(edge, all, PROVIDER.into(), None)?;
    seen_by(&client, &outside, first)
}

/// As by PPP: one address, a peer, and a route by the interface alone.
fn oa_15_an_address_without_a_network_is_shared_too() -> Result<()> {
    let topology = topology()?;
    let (edge, router4) = (&topology.edge, topology.router4.as_ref());
    let router4 = router4.context("router4")?;
    remove_address((edge, UPLINK), net(WAN))?;
    remove_address((router4, "edge"), net(PROVIDER))?;
    ip(
        edge,
        &format!("address add {WAN} peer {PROVIDER}/32 dev {UPLINK}"),
    )?;
    ip(
        router4,
        &format!("address add {PROVIDER} peer {WAN}/32 dev edge"),
    )?;
    // There is no layer below that would ask for addresses.
    router4.set_sysctl("ipv4/conf/edge/proxy_arp", "1")?;
    ip(edge, &format!("route add default dev {UPLINK}"))?;
    let own = Topology::client_address(0);
    let bind = format!("--bind=tcp:eth0:443=[{own}]:8443");
    let setup = Setup::plat_alone(&["--pool=eth0", &bind]);
    let net = Installed::with(&Binaries::find()?, topology, setup)?;
    let network = &net.topology;
    let server = &network.server;
    let client = udp(network.client(), own.into(), 5000)?;
    let outside = udp(server, SERVER.into(), 3478)?;
    client.send_to(b"first", (embedded(SERVER), 3478))?;
    let (_, seen) = receive(&outside)?;
    ensure!(seen.ip() == IpAddr::from(WAN), "{seen}");
    let stranger = udp(server, OTHERS[1].into(), 9)?;
    stranger.send_to(b"hello", seen)?;
    receive(&client)?;
    let service = network
        .client()
        .run(|| Ok(TcpListener::bind((own, 8443))?))?;
    for (from, to) in [
        (server, IpAddr::from(WAN)),
        (&network.clients[1], embedded(WAN).into()),
    ] {
        let _stream = connect(from, (to, 443).into())?;
        service.accept()?;
    }
    Ok(())
}

/// Sends until the server sees the client at this address and port.
fn seen_by(client: &UdpSocket, outside: &UdpSocket, expected: SocketAddr) -> Result<()> {
    outside.set_read_timeout(Some(Duration::from_millis(20)))?;
    wait_until(|| {
        client.send_to(b"where am I?", (embedded(SERVER), 3478))?;
        let seen = receive(outside).ok().map(|(_, from)| from);
        let is_it = seen.is_some_and(|seen| seen.ip() == expected.ip());
        ensure!(!is_it || seen == Some(expected), "{seen:?}, not {expected}");
        Ok(is_it)
    })
}

fn is_refused(socket: &UdpSocket) -> Result<()> {
    let error = socket.recv(&mut [0; 64]).err().context("an error")?;
    ensure!(error.kind() == io::ErrorKind::ConnectionRefused, "{error}");
    Ok(())
}

/// The lines of the log with this event.
fn log_lines(log: &std::path::Path, event: &str) -> Result<Vec<Value>> {
    let text = std::fs::read_to_string(log)?;
    // The last line may not be whole yet.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let all = whole.lines().map(serde_json::from_str::<Value>);
    let mut all = all.collect::<Result<Vec<_>, _>>()?;
    all.retain(|line| line["event"] == event);
    Ok(all)
}

fn lines(all: &[Value]) -> Result<BTreeSet<Line>> {
    all.iter().map(line).collect()
}

fn line(line: &Value) -> Result<Line> {
    let text = |key: &str| line[key].as_str().with_context(|| format!("{key}: {line}"));
    let end = |address: &str, port: &str| -> Result<SocketAddr> {
        let number = line[port].as_u64().context("a port")?;
        Ok((text(address)?.parse::<IpAddr>()?, u16::try_from(number)?).into())
    };
    let protocol = text("protocol")?.to_owned();
    let (external, mut remote) = (
        end("external", "external_port")?,
        end("remote", "remote_port")?,
    );
    if protocol == "icmp" {
        remote.set_port(external.port());
    }
    Ok((protocol, external, remote))
}
