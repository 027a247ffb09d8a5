//! Clients share the address of an interface with the host: mapping, filtering, port forwards, and
//! what the host has of its own at the same address.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab::binaries::Binaries;
use lab::capture::{Capture, wait_for};
use lab::inspect::{difference, inspect};
use lab::installed::{Installed, PATIENCE, Setup};
use lab::link::{add_address, remove, remove_address};
use lab::nft::{NFT, nft};
use lab::process::Daemon;
use lab::suite::Test;
use lab::topology::{SERVER, Topology, UPLINK, embedded};
use lab::traffic::ping::ping;
use lab::traffic::ra::{announced_pref64_lifetime, is_advertisement};
use lab::wan::{
    NEXT, OTHERS, WAN, connect, default_route, install, net, receive, renumber, topology, udp,
};

const TESTS: &[Test] = lab::tests![
    oa_02_a_client_has_one_port_for_all_and_everybody_reaches_it,
    oa_06_a_port_forward_answers_from_outside_and_from_inside,
    oa_03_the_table_exchanges_addresses_and_nothing_is_left,
    oa_07_what_the_host_has_at_the_address_goes_on_beside_ten_thousand_sessions,
    oa_08_the_address_changes_in_the_middle_of_traffic,
    oa_11_a_start_without_an_address_waits_for_one,
    oa_12_what_cannot_be_is_refused_in_a_line,
];

/// An address that is not global.
const BEHIND: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 9);
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
    // Nothing is configured: this is what everybody gets.
    let net = install(&[&flag])?;
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

    // RFC 5780 section 4.4: filtering by port, then by address and port.
    let other_port = udp(&net.topology.server, SERVER.into(), 9)?;
    other_port.send_to(b"another port", external)?;
    let (text, from) = receive(&client)?;
    ensure!(text == b"another port" && from == (embedded(SERVER), 9).into());
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

fn oa_07_what_the_host_has_at_the_address_goes_on_beside_ten_thousand_sessions() -> Result<()> {
    let topology = topology()?;
    // A service in the range of clients, which was there before.
    let before = udp(&topology.edge, Ipv4Addr::UNSPECIFIED.into(), 20_000)?;
    let net = Installed::with(&Binaries::find()?, topology, Setup::plat_alone(&[]))?;
    let (edge, server) = (&net.topology.edge, &net.topology.server);
    let line = "left out: UDP port 20000, which a service of this host has";
    net.plat.wait_for_line(line, PATIENCE)?;
    let sockets: Vec<UdpSocket> = (0..100)
        .map(|number| {
            udp(
                net.topology.client(),
                Topology::client_address(0).into(),
                7000 + number,
            )
        })
        .collect::<Result<_>>()?;
    let sessions =
        || -> Result<usize> { Ok(net.ask_plat(&["sessions", "--json"])?.lines().count()) };
    // The TUN's queue is no longer than 500 packets.
    lab::wait::wait_until(|| {
        for socket in &sockets {
            for port in 1..=100 {
                let _ = socket.send_to(b"many", (embedded(SERVER), port));
            }
            std::thread::yield_now();
        }
        Ok(sessions()? >= 10_000)
    })?;

    let (ssh, dns) = (
        edge.run(|| Ok(TcpListener::bind((WAN, 22))?))?,
        udp(edge, WAN.into(), 53)?,
    );
    let outside = udp(server, SERVER.into(), 5300)?;
    for service in [&dns, &before] {
        let port = service.local_addr()?.port();
        outside.send_to(b"question", (WAN, port))?;
        let (_, from) = receive(service)?;
        service.send_to(b"answer", from)?;
        let (_, from) = receive(&outside)?;
        ensure!(from == (WAN, port).into(), "{from}");
    }
    let listener = server.run(|| Ok(TcpListener::bind((SERVER, 8022))?))?;
    for _ in 0..20 {
        let inward = connect(server, (IpAddr::from(WAN), 22).into())?;
        ensure!(ssh.accept()?.1 == inward.local_addr()?);
        let outward = connect(edge, (IpAddr::from(SERVER), 8022).into())?;
        let (_, peer) = listener.accept()?;
        ensure!(
            peer == outward.local_addr()? && peer.ip() == IpAddr::from(WAN),
            "{peer}"
        );
    }
    // A socket of the host that chooses no port has none of the clients'.
    let own = edge.run(|| Ok(UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?))?;
    own.set_read_timeout(Some(PATIENCE))?;
    own.send_to(b"question", (SERVER, 5300))?;
    let (_, from) = receive(&outside)?;
    ensure!(
        from.ip() == IpAddr::from(WAN) && from.port() > 32_767,
        "{from}"
    );
    outside.send_to(b"answer", from)?;
    receive(&own)?;
    ensure!(sessions()? >= 10_000);
    // One that takes a port of the clients is named.
    let _late = udp(edge, WAN.into(), 21_000)?;
    let line =
        "a service of this host listens on UDP port 21000, which clients have at 203.0.113.1";
    net.plat.wait_for_line(line, PATIENCE)
}

fn oa_08_the_address_changes_in_the_middle_of_traffic() -> Result<()> {
    let log = tempfile::tempdir()?;
    let log = log.path().join("sessions.log");
    let own = Topology::client_address(0);
    let (logs, bind) = (
        format!("--session-log={}", log.display()),
        format!("--bind=tcp:eth0:443=[{own}]:8443"),
    );
    let flags = [
        "--pool=eth0",
        &logs,
        &bind,
        "--lan=access",
        "--ra-interval=4",
    ];
    let net = install(&flags)?;
    let (network, server) = (&net.topology, &net.topology.server);
    let client = udp(network.client(), own.into(), 5000)?;
    let outside = udp(server, SERVER.into(), 3478)?;
    client.send_to(b"before", (embedded(SERVER), 3478))?;
    let (_, before) = receive(&outside)?;
    let listener = server.run(|| Ok(TcpListener::bind((SERVER, 8080))?))?;
    let stream = connect(
        network.client(),
        (IpAddr::from(embedded(SERVER)), 8080).into(),
    )?;
    let (_accepted, tcp_before) = listener.accept()?;
    ensure!(before.ip() == IpAddr::from(WAN) && tcp_before.ip() == IpAddr::from(WAN));

    let router6 = network.router6.as_ref().context("router6")?;
    let capture = Capture::start(&[(router6, UPLINK)], 2048)?;
    renumber(&network.edge, WAN, NEXT)?;
    let changed = Instant::now();
    client.set_read_timeout(Some(Duration::from_millis(10)))?;
    outside.set_read_timeout(Some(Duration::from_millis(10)))?;
    let after = loop {
        client.send_to(b"after", (embedded(SERVER), 3478))?;
        if let Ok((_, from)) = receive(&outside)
            && from.ip() == IpAddr::from(NEXT)
        {
            break from;
        }
        ensure!(changed.elapsed() < PATIENCE, "the address is not followed");
    };
    let downtime = changed.elapsed();
    ensure!(downtime < Duration::from_secs(1), "{downtime:?}");
    ensure!(after.port() == before.port(), "{before} became {after}");

    // Everybody reaches the client there, and its port forward.
    let stranger = udp(server, OTHERS[1].into(), 9)?;
    client.set_read_timeout(Some(PATIENCE))?;
    stranger.send_to(b"hello", after)?;
    let (_, from) = receive(&client)?;
    ensure!(from == (embedded(OTHERS[1]), 9).into(), "{from}");
    let service = network
        .client()
        .run(|| Ok(TcpListener::bind((own, 8443))?))?;
    let forwarded = connect(server, (IpAddr::from(NEXT), 443).into())?;
    let (_, peer) = service.accept()?;
    ensure!(
        peer == (embedded(SERVER), forwarded.local_addr()?.port()).into(),
        "{peer}"
    );

    // The connection by the address before has ended; the log tells from when to when.
    let sessions = net.ask_plat(&["sessions"])?;
    ensure!(sessions.contains(&after.to_string()), "{sessions}");
    ensure!(!sessions.contains(&WAN.to_string()), "{sessions}");
    let line = |event: &str, address: SocketAddr| {
        let (ip, port) = (address.ip(), address.port());
        (
            format!("\"event\":\"{event}\""),
            format!("\"external\":\"{ip}\",\"external_port\":{port}}}"),
        )
    };
    for (event, place) in [
        line("binding-created", before),
        line("binding-removed", before),
        line("binding-created", after),
        line("binding-removed", tcp_before),
    ] {
        lab::wait::wait_until(|| {
            let text = std::fs::read_to_string(&log)?;
            Ok(text
                .lines()
                .any(|line| line.contains(&event) && line.contains(&place)))
        })?;
    }
    drop(stream);
    let status = net.ask_plat(&["status"])?;
    ensure!(
        status.contains(&format!("pool      {NEXT} of eth0, ")),
        "{status}"
    );
    // What the hosts of the LAN hear, before, meanwhile and behind it.
    wait_for((router6, UPLINK), PATIENCE, is_advertisement)?;
    let captured = capture.stop()?;
    let all = captured.packets.iter().map(|packet| packet.ip());
    let told: Vec<_> = all
        .filter(|packet| is_advertisement(packet))
        .map(|packet| (packet[46..48] != [0, 0], announced_pref64_lifetime(packet)))
        .collect();
    let is_kept = |told: &(bool, Option<u16>)| told.0 && told.1.is_some_and(|left| left > 0);
    ensure!(!told.is_empty() && told.iter().all(is_kept), "{told:?}");
    Ok(())
}

fn oa_11_a_start_without_an_address_waits_for_one() -> Result<()> {
    let topology = topology()?;
    let (wan, behind) = (net(WAN), net(BEHIND));
    remove_address((&topology.edge, UPLINK), wan)?;
    let setup = Setup::plat_alone(&["--pool=eth0"]);
    let net = Installed::with(&Binaries::find()?, topology, setup)?;
    let line = "there is no IPv4 address of eth0 yet: clients reach IPv4 when there is one";
    net.plat.wait_for_line(line, PATIENCE)?;
    let edge = &net.topology.edge;
    // Another NAT stands before it.
    add_address((edge, UPLINK), behind)?;
    let line = "192.0.2.9 of eth0 is no public address: another NAT stands before this host";
    net.plat.wait_for_line(line, PATIENCE)?;
    add_address((edge, UPLINK), wan)?;
    remove_address((edge, UPLINK), behind)?;
    default_route(edge)?;
    net.plat
        .wait_for_line("clients share 203.0.113.1 of eth0", PATIENCE)?;
    let client = net.topology.client();
    lab::wait::wait_until(|| {
        Ok(client
            .run(|| ping(embedded(SERVER), 56, Duration::from_millis(200)))
            .is_ok())
    })?;
    // The interface vanishes: nothing of the clients leaves, and plat goes on.
    remove(edge, UPLINK)?;
    net.plat
        .wait_for_line("203.0.113.1 of eth0 is gone", PATIENCE)?;
    ensure!(
        net.ask_plat(&["status"])?
            .contains("pool      ports 10000-32767")
    );
    Ok(())
}

fn oa_12_what_cannot_be_is_refused_in_a_line() -> Result<()> {
    let net = install(&["--bind=tcp:eth0:443=[2001:db8:1::2]:443"])?;
    let edge = &net.topology.edge;
    let _service = edge.run(|| Ok(TcpListener::bind((Ipv4Addr::UNSPECIFIED, 25))?))?;
    let directory = tempfile::tempdir()?;
    let below = |kind: &str| format!("--{kind}-dir={}/{kind}", directory.path().display());
    let binaries = Binaries::find()?;
    for (flags, complaint) in [
        (
            &["--tun=second"][..],
            "another plat shares ports 10000-10999",
        ),
        (
            &[
                "--pool=eth0:40000-40999",
                "--bind=tcp:eth0:25=[2001:db8:1::2]:25",
            ],
            "a service of this host listens on TCP port 25",
        ),
        (
            &["--pool=eth0:32768-60999"],
            "leave this host 0 of the ports 32768-60999",
        ),
        (
            &["--pool=eth0", "--pool=eth0"],
            "--pool eth0 is given twice",
        ),
        (
            &["--pool=eth0", "--pool=wan1:5-6"],
            "must have the same ports",
        ),
        (&["--pool=eth0", "--pool=192.0.2.1"], "do not go together"),
        (
            &["--pool=eth0", "--egress=masquerade"],
            "does not go with a pool",
        ),
        (
            &["--pool=eth0", "--bind=tcp:wan1:80=[2001:db8:1::2]:80"],
            "names no interface of --pool",
        ),
    ] {
        let mut all = vec![
            "--prefix=2001:db8:65::/96".to_owned(),
            below("run"),
            below("state"),
        ];
        all.extend(flags.iter().map(ToString::to_string));
        let mut plat = Daemon::start(edge, &binaries.plat, &all)?;
        let status = plat.wait(PATIENCE)?;
        let log = plat.log();
        ensure!(
            status.code() == Some(2) && log.contains(complaint),
            "{flags:?}: {log}"
        );
    }
    Ok(())
}
