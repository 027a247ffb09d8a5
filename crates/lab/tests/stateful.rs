//! The stateful NAT64 on real packets: many clients behind one IPv4 address.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use lab::binaries::Binaries;
use lab::installed::{Installed, Setup};
use lab::namespace::Namespace;
use lab::suite::Test;
use lab::topology::{Plan, SERVER, Topology, embedded};
use lab::traffic::PATIENCE;
use lab::traffic::content::Content;
use lab::traffic::fragments::{Pieces, echo_request_v6, udp};
use lab::traffic::icmp::{IcmpSocket, identifier, pattern};
use lab::traffic::ping::ping;
use lab::traffic::pmtu::discover;
use lab::traffic::tcp::{Way, transfer};
use lab::traffic::traceroute::traceroute;
use lab::traffic::udp::{Echo, exchange, refused};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::Ipv6RecvErr;

const TESTS: &[Test] = lab::tests![
    np_01_clients_share_one_address_and_keep_apart,
    nt_11_all_sizes_and_protocols_cross_behind_a_clat,
    nf_01_udp_fragments_cross_backwards_both_ways,
    nf_05_icmp_fragments_cross_backwards,
    nh_01_two_clients_reach_each_other_through_their_external_addresses,
    a_port_forward_leads_to_its_client,
    ne_01_errors_from_both_sides_reach_who_caused_them,
    ne_03_a_traceroute_sees_the_routers_of_the_ipv4_side,
    x6_11_a_small_ipv4_link_is_discovered_through_the_shared_address,
    nu_11_cg_06_a_client_without_a_port_is_told_and_others_go_on,
    nu_05_nc_05_the_filter_keeps_strangers_out,
    nb_06_a_download_survives_a_restart,
    se_03_se_06_who_is_not_served_and_what_is_hidden_is_refused,
    cg_05_status_and_sessions_tell_what_is_there,
    ui_01_sessions_are_filtered_sorted_and_followed,
    cg_05_prometheus_gets_the_same_figures,
    cg_09_the_session_log_tells_who_had_which_port,
    cg_11_who_has_a_port_follows_from_the_prefix,
    pinned_workers_have_a_processor_each,
];

/// The one address that clients share.
const SHARED: Ipv4Addr = Ipv4Addr::new(192, 168, 64, 9);

fn main() {
    lab::suite::run(TESTS)
}

fn cg_11_who_has_a_port_follows_from_the_prefix() -> Result<()> {
    let flags = [
        "--pool=192.168.64.8/30",
        "--client=2001:db8:1::/48",
        "--subscriber-prefix=56",
        "--deterministic",
    ];
    let installed = install(2, &flags)?;
    let network = &installed.topology;
    let server = Mirror::start(&network.server)?;
    // 256 subscribers and four addresses: blocks of 512 ports are the widest that there are for all.
    for client in &network.clients {
        let mut seen = Vec::new();
        for _ in 0..20 {
            let socket = client.run(|| bind6(0))?;
            seen.push(server.ask(&socket)?);
        }
        let first = seen[0];
        let whole = |outside: &SocketAddr| {
            outside.ip() == first.ip() && outside.port() / 512 == first.port() / 512
        };
        ensure!(seen.iter().all(whole), "{seen:?}");
        let whose = installed.ask_plat(&["whose", &first.to_string()])?;
        ensure!(whose == "2001:db8:1::/56\n", "{whose}");
        // The first subscriber has the first block above the system ports.
        ensure!(
            first.ip() == Ipv4Addr::new(192, 168, 64, 8) && first.port() / 512 == 2,
            "{first}"
        );
    }
    let nobody = installed.ask_plat(&["whose", "192.168.64.8:80"]);
    ensure!(nobody.is_err(), "the system ports are nobody's");
    let log = installed.plat.log();
    ensure!(!log.contains("WARN"), "{log}");
    Ok(())
}

fn pinned_workers_have_a_processor_each() -> Result<()> {
    let installed = install(1, &["--pool", "192.168.64.9", "--pin"])?;
    let network = &installed.topology;
    network
        .client()
        .run(|| ping(embedded(SERVER), 56, PATIENCE))?;
    let threads = installed.plat.threads()?;
    let workers = threads
        .iter()
        .filter(|(name, _)| name.starts_with("tun-worker-"));
    let processors: Vec<&str> = workers.map(|(_, processors)| processors.as_str()).collect();
    let is_one = |processor: &&str| processor.parse::<u32>().is_ok();
    let different: BTreeSet<&&str> = processors.iter().collect();
    ensure!(
        !processors.is_empty()
            && processors.iter().all(is_one)
            && different.len() == processors.len(),
        "{threads:?}"
    );
    Ok(())
}

fn np_01_clients_share_one_address_and_keep_apart() -> Result<()> {
    let installed = install(2, &["--pool", "192.168.64.9"])?;
    let network = &installed.topology;
    let server = Mirror::start(&network.server)?;
    let mut seen = Vec::new();
    for client in &network.clients {
        client.run(|| ping(embedded(SERVER), 56, PATIENCE))?;
        let socket = client.run(|| bind6(5000))?;
        let outside = server.ask(&socket)?;
        ensure!(outside.ip() == SHARED, "{outside}");
        let done = transfer_to_mirror(network, client)?;
        ensure!(done == SHARED, "{done}");
        seen.push(outside);
    }
    ensure!(seen[0] != seen[1], "two clients have {}", seen[0]);
    Ok(())
}

fn nt_11_all_sizes_and_protocols_cross_behind_a_clat() -> Result<()> {
    let topology = Topology::new(&Plan::with_routers())?;
    let setup = Setup::plat_alone(&["--pool", "192.168.64.9"]).with_clats();
    let installed = Installed::with(&Binaries::find()?, topology, setup)?;
    let network = &installed.topology;
    let (client, server) = (network.client(), &network.server);
    client.run(|| ping(SERVER, 1232, PATIENCE))?;
    for way in [Way::Download, Way::Upload] {
        let done = transfer(client, server, SERVER.into(), way, 16 << 20, PATIENCE)?;
        ensure!(done.peer == SHARED, "{}", done.peer);
    }
    let far = Echo::start(server, SERVER.into())?;
    let sizes = (0..=1472).step_by(7).chain([4000; 20]);
    client.run(|| exchange(far.address(), sizes, PATIENCE))?;
    Ok(())
}

fn nf_01_udp_fragments_cross_backwards_both_ways() -> Result<()> {
    let installed = install(1, &["--pool", "192.168.64.9"])?;
    let network = &installed.topology;
    let server = Mirror::start(&network.server)?;
    let client = network.client();
    let socket = client.run(|| bind6(5000))?;
    let content = Content::new(1).take(4000);
    let pieces = |id, datagram| Pieces {
        protocol: 17,
        datagram,
        size: 1200,
        id,
    };

    let from = SocketAddr::from((Topology::client_address(0), 5000));
    let to = in_prefix(server.address);
    let there = pieces(77, udp(from, to, &content));
    client.run(|| there.send_backwards_v6(Topology::client_address(0), embedded(SERVER)))?;
    let mut buffer = vec![0; 8192];
    let (length, outside) = server.socket.recv_from(&mut buffer).context("request")?;
    ensure!(buffer[..length] == content, "{length} bytes");

    let back = pieces(78, udp(server.address, outside, &content));
    network
        .server
        .run(|| back.send_backwards_v4(SERVER, SHARED))?;
    let (length, source) = socket.recv_from(&mut buffer).context("answer")?;
    ensure!(
        buffer[..length] == content && source == to,
        "{length} bytes from {source}"
    );
    let status = installed.ask_plat(&["status"])?;
    // All but the first piece came before it, each way.
    ensure!(
        status
            .lines()
            .any(|line| line.split_whitespace().eq(["held", "6", "packets"])),
        "{status}"
    );
    Ok(())
}

fn nf_05_icmp_fragments_cross_backwards() -> Result<()> {
    let installed = install(1, &["--pool", "192.168.64.9"])?;
    let client = installed.topology.client();
    let (own, target) = (Topology::client_address(0), embedded(SERVER));
    let id = identifier();
    client.run(|| {
        let socket = IcmpSocket::open(target.into())?;
        let request = Pieces {
            protocol: 58,
            datagram: echo_request_v6(own, target, id, &pattern(4000)),
            size: 1200,
            id: 77,
        };
        request.send_backwards_v6(own, target)?;
        let reply = socket.wait_for_echo(id, 1, Instant::now() + PATIENCE)?;
        ensure!(reply == pattern(4000), "the reply carries other data");
        // The kernel's own, in order.
        ping(target, 8000, PATIENCE)?;
        Ok(())
    })
}

fn nh_01_two_clients_reach_each_other_through_their_external_addresses() -> Result<()> {
    let installed = install(2, &["--pool", "192.168.64.9"])?;
    let network = &installed.topology;
    let server = Mirror::start(&network.server)?;
    let sockets = network.clients.iter().map(|client| client.run(|| bind6(0)));
    let sockets = sockets.collect::<Result<Vec<_>>>()?;
    let outside = [server.ask(&sockets[0])?, server.ask(&sockets[1])?];
    // An identifier leads to whoever has it outside, and that is the one who pings.
    let client = network.client();
    client.run(|| ping(embedded(SHARED), 56, PATIENCE))?;
    // Each sees the other under its external address, as a host outside would (RFC 4787 REQ-9).
    for (from, to) in [(0, 1), (1, 0)] {
        sockets[from].send_to(b"hairpin", in_prefix(outside[to]))?;
        let (length, source) = receive(&sockets[to])?;
        ensure!(
            length == 7 && source == in_prefix(outside[from]),
            "{source}"
        );
    }
    Ok(())
}

fn a_port_forward_leads_to_its_client() -> Result<()> {
    let client_address = Topology::client_address(1);
    let bind = format!("tcp:192.168.64.9:443=[{client_address}]:8443");
    let flags = ["--pool", "192.168.64.8/30", "--bind", &bind];
    let installed = install(2, &flags)?;
    let network = &installed.topology;
    let listener = network.clients[1].run(|| Ok(TcpListener::bind((client_address, 8443))?))?;
    let server = &network.server;
    let mut stream = server.run(|| connect((SHARED, 443).into()))?;
    let (mut accepted, source) = listener.accept()?;
    ensure!(source.ip() == embedded(SERVER), "{source}");
    accepted.write_all(b"from the client")?;
    drop(accepted);
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    ensure!(text == "from the client", "{text}");
    // Clients reach it by the same address.
    network.clients[0].run(|| connect(in_prefix((SHARED, 443).into())))?;
    Ok(())
}

fn ne_01_errors_from_both_sides_reach_who_caused_them() -> Result<()> {
    let installed = install(1, &["--pool", "192.168.64.9"])?;
    let network = &installed.topology;
    let client = network.client();
    client.run(|| refused(embedded(SERVER).into(), PATIENCE))?;
    // The client's socket is closed while its binding lives: its host answers, and the server
    // learns it.
    let server = Mirror::start(&network.server)?;
    let socket = client.run(|| bind6(0))?;
    let outside = server.ask(&socket)?;
    drop(socket);
    let SocketAddr::V4(outside) = outside else {
        bail!("{outside}");
    };
    server.expect_refusal(outside.into())
}

fn ne_03_a_traceroute_sees_the_routers_of_the_ipv4_side() -> Result<()> {
    let topology = Topology::new(&Plan::with_routers())?;
    let setup = Setup::plat_alone(&["--pool", "192.168.64.9"]).with_clats();
    let installed = Installed::with(&Binaries::find()?, topology, setup)?;
    let client = installed.topology.client();
    let hops = client.run(|| traceroute(SERVER, PATIENCE))?;
    let last = hops.last().context("hops")?;
    ensure!(last.last && last.source == SERVER, "{hops:?}");
    let router4 = Ipv4Addr::new(203, 0, 113, 2);
    ensure!(hops.iter().any(|hop| hop.source == router4), "{hops:?}");
    Ok(())
}

fn x6_11_a_small_ipv4_link_is_discovered_through_the_shared_address() -> Result<()> {
    let plan = Plan {
        router4: Some(1400),
        ..Plan::default()
    };
    let topology = Topology::new(&plan)?;
    let setup = Setup::plat_alone(&["--pool", "192.168.64.9"]).with_clats();
    let installed = Installed::with(&Binaries::find()?, topology, setup)?;
    let network = &installed.topology;
    let far = Echo::start(&network.server, SERVER.into())?;
    let SocketAddr::V4(target) = far.address() else {
        bail!("{}", far.address());
    };
    let there = network.client().run(|| discover(target, PATIENCE))?;
    ensure!(there.path == 1400, "{there:?}");
    for way in [Way::Download, Way::Upload] {
        let (client, server) = (network.client(), &network.server);
        transfer(client, server, SERVER.into(), way, 4 << 20, PATIENCE)?;
    }
    Ok(())
}

fn nu_11_cg_06_a_client_without_a_port_is_told_and_others_go_on() -> Result<()> {
    let flags = ["--pool", "192.168.64.9:2000-2003", "--subscriber-network=0"];
    let installed = install(1, &flags)?;
    let network = &installed.topology;
    let server = Mirror::start(&network.server)?;
    let client = network.client();
    let sockets = (0..4).map(|_| client.run(|| bind6(0)));
    let sockets = sockets.collect::<Result<Vec<_>>>()?;
    let ask = |socket: &UdpSocket| server.ask(socket);
    let mut ports = sockets.iter().map(ask).collect::<Result<Vec<_>>>()?;
    ports.sort();
    ports.dedup();
    ensure!(ports.len() == 4, "{ports:?}");
    let fifth = client.run(|| bind6(0))?;
    // Without this Linux keeps all but port unreachable to itself.
    setsockopt(&fifth, Ipv6RecvErr, &true)?;
    fifth.connect(in_prefix(server.address))?;
    fifth.send(b"?")?;
    let told = fifth.recv(&mut [0; 16]).expect_err("no port is left");
    // ICMPv6 1/3, address unreachable (RFC 6146 section 3.5.1.1).
    ensure!(told.kind() == ErrorKind::HostUnreachable, "{told}");
    for socket in &sockets {
        ask(socket).context("established sessions go on")?;
    }
    let status = installed.ask_plat(&["status"])?;
    ensure!(status.contains("udp 0 of 4 free"), "{status}");
    ensure!(status.contains("pool-exhausted"), "{status}");
    Ok(())
}

fn nu_05_nc_05_the_filter_keeps_strangers_out() -> Result<()> {
    let flags = ["--pool", "192.168.64.9", "--filtering", "address-dependent"];
    let installed = install(1, &flags)?;
    let network = &installed.topology;
    let server = Mirror::start(&network.server)?;
    let socket = network.client().run(|| bind6(0))?;
    let outside = server.ask(&socket)?;
    // The same address from another port may; another address may not.
    let known = network.server.run(|| Ok(UdpSocket::bind((SERVER, 0))?))?;
    known.send_to(b"known", outside)?;
    ensure!(receive(&socket)?.0 == 5);
    let stranger = network.edge.run(|| Ok(UdpSocket::bind("0.0.0.0:0")?))?;
    stranger.send_to(b"stranger", outside)?;
    known.send_to(b"last", outside)?;
    let (length, from) = receive(&socket)?;
    ensure!(length == 4, "{length} bytes from {from}");
    let status = installed.ask_plat(&["status", "--json"])?;
    ensure!(status.contains(r#""filtered":1"#), "{status}");
    Ok(())
}

fn nb_06_a_download_survives_a_restart() -> Result<()> {
    let mut installed = install(1, &["--pool", "192.168.64.9"])?;
    let listener = installed
        .topology
        .server
        .run(|| Ok(TcpListener::bind((SERVER, 0))?))?;
    let target = in_prefix(listener.local_addr()?);
    let mut stream = installed.topology.client().run(|| connect(target))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let (mut sending, peer) = listener.accept()?;
    const PART: usize = 1 << 20;
    // More than the buffers of both ends hold by far; the server sends no part before it is asked
    // to, so that most of it crosses after the restart.
    let (ask, asked) = std::sync::mpsc::channel::<u8>();
    let serving = thread::spawn(move || {
        asked
            .iter()
            .try_for_each(|number| sending.write_all(&vec![number; PART]))
    });
    let mut chunk = vec![0; PART];
    let mut part = |number: u8| -> Result<()> {
        ask.send(number)?;
        stream.read_exact(&mut chunk)?;
        ensure!(chunk.iter().all(|byte| *byte == number));
        Ok(())
    };
    for number in 0..4 {
        part(number)?;
    }
    installed.plat.stop(PATIENCE)?;
    let before = received(&installed.topology)?;
    installed.restart_plat()?;
    for number in 4..32 {
        part(number).context("after the restart")?;
    }
    let crossed = received(&installed.topology)? - before;
    ensure!(
        crossed > 28 * PART as u64,
        "{crossed} bytes after the restart"
    );
    drop(ask);
    serving.join().expect("no panic")?;
    ensure!(stream.read(&mut chunk)? == 0, "more than was sent");
    let sessions = installed.ask_plat(&["sessions"])?;
    ensure!(sessions.contains(&peer.to_string()), "{sessions}");
    Ok(())
}

fn se_03_se_06_who_is_not_served_and_what_is_hidden_is_refused() -> Result<()> {
    let served = format!("{}/128", Topology::client_address(0));
    let flags = [
        "--pool",
        "192.168.64.9",
        "--client",
        &served,
        "--deny",
        "198.51.100.0/24:99",
    ];
    let installed = install(2, &flags)?;
    let network = &installed.topology;
    let own = Ipv4Addr::new(198, 51, 100, 1);
    let on_edge = network.edge.run(|| Ok(TcpListener::bind((own, 0))?))?;
    let port = on_edge.local_addr()?.port();
    let [first, second] = [&network.clients[0], &network.clients[1]];
    first.run(|| ping(embedded(SERVER), 56, PATIENCE))?;
    let refusals = [
        (
            first,
            SocketAddr::from((embedded(own), port)),
            "the gateway itself",
        ),
        (first, (embedded(SERVER), 99).into(), "a denied port"),
        (
            second,
            (embedded(SERVER), 80).into(),
            "a client that is not served",
        ),
    ];
    for (client, target, what) in refusals {
        let error = client.run(|| match TcpStream::connect_timeout(&target, PATIENCE) {
            Ok(_) => bail!("{what} was reached"),
            Err(error) => Ok(error),
        })?;
        // ICMPv6 1/1, administratively prohibited.
        ensure!(
            error.kind() == ErrorKind::PermissionDenied,
            "{what}: {error}"
        );
    }
    Ok(())
}

fn cg_05_status_and_sessions_tell_what_is_there() -> Result<()> {
    let installed = install(1, &["--pool", "192.168.64.9"])?;
    let network = &installed.topology;
    let server = Mirror::start(&network.server)?;
    let empty = installed.ask_plat(&["sessions"])?;
    ensure!(empty.is_empty(), "{empty}");
    let socket = network.client().run(|| bind6(5000))?;
    let outside = server.ask(&socket)?;
    let client = Topology::client_address(0);
    let lines = installed.ask_plat(&["sessions"])?;
    ensure!(lines.starts_with("PROTOCOL CLIENT "), "{lines}");
    ensure!(lines.ends_with("\n1 of 1 sessions\n"), "{lines}");
    ensure!(lines.lines().count() == 3, "{lines}");
    for part in ["udp", &format!("[{client}]:5000"), &outside.to_string()] {
        ensure!(lines.contains(part), "{part} in {lines}");
    }
    let json = installed.ask_plat(&["sessions", "--json", "--client", "2001:db8:1::/48"])?;
    let expected = format!(
        r#"{{"schema":1,"protocol":"udp","client":"{client}","client_port":5000,"external":"192.168.64.9","external_port":{},"remote":"198.51.100.2","remote_port":{},"state":null,"expires_in_s":"#,
        outside.port(),
        server.address.port()
    );
    ensure!(json.starts_with(&expected), "{json}");
    let nobody = installed.ask_plat(&["sessions", "--client", "2001:db8:ffff::1"])?;
    ensure!(nobody.is_empty(), "{nobody}");
    let status = installed.ask_plat(&["status"])?;
    ensure!(status.contains("udp 1, tcp 0, icmp 0"), "{status}");
    ensure!(
        status.contains(&format!("{client}/128 behind 192.168.64.9: 1 sessions")),
        "{status}"
    );
    let json = installed.ask_plat(&["status", "--json"])?;
    ensure!(
        json.contains(r#""sessions":{"udp":1,"tcp":0,"icmp":0}"#),
        "{json}"
    );
    Ok(())
}

fn ui_01_sessions_are_filtered_sorted_and_followed() -> Result<()> {
    let installed = install(1, &["--pool", "192.168.64.9", "--fast-path=off"])?;
    let network = &installed.topology;
    let server = Mirror::start(&network.server)?;
    let first = network.client().run(|| bind6(5001))?;
    server.ask(&first)?;
    let json = |flags: &[&str]| installed.ask_plat(&[&["sessions", "--json"], flags].concat());
    let client = Topology::client_address(0);
    let (one, other) = (format!("[{client}]:5001"), format!("[{client}]:5002"));

    let mut follower = Command::new(&Binaries::find()?.plat);
    let run_dir = installed.plat_run_dir();
    follower.args([
        "sessions",
        "--follow",
        "--run-dir",
        &run_dir,
        "--client",
        &other,
    ]);
    let mut follower = network.edge.spawn({
        follower.stdout(Stdio::piped());
        follower
    })?;
    let followed = follower.stdout.take().context("no output")?;
    let mut followed = BufReader::new(followed).lines();
    let heading = followed.next().context("no heading")??;
    ensure!(heading.starts_with("TIME "), "{heading}");

    let second = network.client().run(|| bind6(5002))?;
    server.ask(&first)?;
    let outside = server.ask(&second)?;
    let news = followed.next().context("no news")??;
    let words: Vec<&str> = news.split_whitespace().skip(1).take(4).collect();
    ensure!(
        words == ["created", "udp", &other, &outside.to_string()],
        "{news}"
    );
    drop(followed);
    // Who follows ends with the next change that it cannot print; a signal does not wait for one.
    follower.kill()?;
    follower.wait()?;

    ensure!(json(&[])?.lines().count() == 2);
    ensure!(
        json(&["--protocol", "udp", "--client", &one])?
            .lines()
            .count()
            == 1
    );
    ensure!(json(&["--external", &outside.to_string()])?.contains(":5002,"));
    ensure!(json(&["--remote", "198.51.100.0/24"])?.lines().count() == 2);
    ensure!(json(&["--limit", "1"])?.lines().count() == 1);
    let sorted = json(&["--sort", "client"])?;
    let ports: Vec<_> = sorted.split("\"client_port\":").skip(1).collect();
    ensure!(
        ports.len() == 2 && ports[0].starts_with("5001,"),
        "{sorted}"
    );
    ensure!(json(&["--sort", "client", "--limit", "1"])?.contains(":5001,"));
    for none in [
        &["--protocol", "tcp"][..],
        &["--state", "established"],
        &["--remote", "203.0.113.1"],
        &["--sort", "bytes", "--client", "2001:db8:ffff::/48"],
    ] {
        let nothing = json(none)?;
        ensure!(nothing.is_empty(), "{none:?}: {nothing}");
    }
    Ok(())
}

fn cg_05_prometheus_gets_the_same_figures() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let log = format!("--session-log={}", directory.path().join("log").display());
    let flags = [
        "--pool=192.168.64.9",
        "--metrics=[::1]:9464",
        "--lan=client0",
        "--dns64=2001:db8:1::1",
        "--dns64-upstream=198.51.100.2",
        &log,
    ];
    let installed = install(1, &flags)?;
    let network = &installed.topology;
    let server = Mirror::start(&network.server)?;
    let socket = network.client().run(|| bind6(5000))?;
    server.ask(&socket)?;
    let client = network.client();
    client.run(|| ping(embedded(SERVER), 56, PATIENCE))?;
    let page = || {
        network.edge.run(|| {
            let mut stream = connect((Ipv6Addr::LOCALHOST, 9464).into())?;
            stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        })
    };
    let mut text = page()?;
    let end = Instant::now() + PATIENCE;
    for line in [
        r#"plat_sessions{protocol="udp"} 1"#,
        r#"plat_free_ports{protocol="udp"} 65534"#,
        r#"plat_ports{protocol="udp"} 65535"#,
        "plat_subscribers 1",
        r#"xlat_icmp_total{family="ipv4",kind="echo-request"} 1"#,
        r#"xlat_icmp_total{family="ipv6",kind="echo-reply"} 1"#,
        "# TYPE xlat_packets_total counter",
    ] {
        // A worker counts a packet after it has sent it: the answer may be here before.
        while !text.lines().any(|one| one == line) {
            ensure!(Instant::now() < end, "{line} in {text}");
            text = page()?;
        }
    }
    // The dashboard shows nothing else than what is there.
    let dashboard = include_str!("../../../examples/grafana/464xlat.json");
    for name in dashboard.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')) {
        let is_metric = ["xlat_", "plat_"]
            .iter()
            .any(|start| name.starts_with(start));
        // A histogram has several series.
        let family = ["_bucket", "_count", "_sum"]
            .iter()
            .find_map(|end| name.strip_suffix(end))
            .unwrap_or(name);
        if is_metric {
            ensure!(text.contains(&format!("# TYPE {family} ")), "{name}");
        }
    }
    Ok(())
}

fn cg_09_the_session_log_tells_who_had_which_port() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("sessions.log");
    let path_text = path.display().to_string();
    let flags = [
        "--pool",
        "192.168.64.9",
        "--session-log",
        &path_text,
        "--udp-timeout=1s",
        "--allow-short-timeouts",
    ];
    let installed = install(1, &flags)?;
    let network = &installed.topology;
    let server = Mirror::start(&network.server)?;
    let socket = network.client().run(|| bind6(5000))?;
    let outside = server.ask(&socket)?;
    let end = Instant::now() + PATIENCE;
    let text = loop {
        let text = std::fs::read_to_string(&path)?;
        if text.contains("binding-removed") {
            break text;
        }
        ensure!(Instant::now() < end, "no end of the binding: {text}");
        thread::sleep(Duration::from_millis(20));
    };
    let client = Topology::client_address(0);
    let who = format!(
        r#""protocol":"udp","client":"{client}","client_port":5000,"external":"192.168.64.9","external_port":{}}}"#,
        outside.port()
    );
    let lines: Vec<&str> = text.lines().collect();
    ensure!(lines.len() == 2, "{text}");
    ensure!(
        lines[0].contains(r#""event":"binding-created","nat_event":10"#),
        "{text}"
    );
    ensure!(
        lines[1].contains(r#""event":"binding-removed","nat_event":11"#),
        "{text}"
    );
    ensure!(lines.iter().all(|line| line.ends_with(&who)), "{text}");
    ensure!(!text.contains("198.51.100.2"), "a destination in {text}");
    Ok(())
}

/// Bytes that the client's access link has received.
fn received(network: &Topology) -> Result<u64> {
    let path = "/proc/thread-self/net/dev";
    let text = network
        .client()
        .run(|| Ok(std::fs::read_to_string(path)?))?;
    let line = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("eth0:"));
    let figure = line.and_then(|line| line.split_whitespace().next());
    Ok(figure.context("no eth0")?.parse()?)
}

fn install(clients: u8, flags: &[&str]) -> Result<Installed> {
    let plan = Plan {
        clients,
        ..Plan::default()
    };
    let setup = Setup::plat_alone(flags);
    Installed::with(&Binaries::find()?, Topology::new(&plan)?, setup)
}

/// A UDP server that tells each client under which address and port it is seen.
struct Mirror {
    address: SocketAddr,
    socket: UdpSocket,
}

impl Mirror {
    fn start(server: &Namespace) -> Result<Self> {
        let socket = server.run(|| Ok(UdpSocket::bind((SERVER, 0))?))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(Self {
            address: socket.local_addr()?,
            socket,
        })
    }

    /// Where the server sees the client's socket; the client has got an answer.
    fn ask(&self, client: &UdpSocket) -> Result<SocketAddr> {
        client.send_to(b"who am I?", in_prefix(self.address))?;
        let (_, outside) = receive(&self.socket)?;
        self.socket.send_to(b"answer", outside)?;
        let (length, source) = receive(client)?;
        ensure!(length == 6 && source == in_prefix(self.address), "{source}");
        Ok(outside)
    }

    /// Waits for "connection refused" about a datagram to `target`.
    fn expect_refusal(&self, target: SocketAddr) -> Result<()> {
        self.socket.connect(target)?;
        self.socket.send(b"anybody there?")?;
        match self.socket.recv(&mut [0; 16]) {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
            other => bail!("instead of a refusal: {other:?}"),
        }
    }
}

fn receive(socket: &UdpSocket) -> Result<(usize, SocketAddr)> {
    socket
        .recv_from(&mut [0; 2048])
        .context("nothing came in time")
}

fn bind6(port: u16) -> Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// An IPv4 socket address as clients see it.
fn in_prefix(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(v4) => (embedded(v4), address.port()).into(),
        IpAddr::V6(_) => address,
    }
}

fn connect(target: SocketAddr) -> Result<TcpStream> {
    TcpStream::connect_timeout(&target, PATIENCE).with_context(|| format!("TCP to {target}"))
}

fn transfer_to_mirror(network: &Topology, client: &Namespace) -> Result<IpAddr> {
    let listener = network.server.run(|| Ok(TcpListener::bind((SERVER, 0))?))?;
    let target = in_prefix(listener.local_addr()?);
    let _stream = client.run(|| connect(target))?;
    Ok(listener.accept()?.1.ip())
}
