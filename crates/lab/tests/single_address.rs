//! `clat` on a host that has a single IPv6 address, as DHCPv6 gives: it shares the address with the
//! host's own connections.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ipnet::{IpNet, Ipv6Net};
use lab::capture::Capture;
use lab::client_host::{ClientHost, RESOLVER, announcing};
use lab::inspect::{ensure_unchanged, inspect};
use lab::installed::PATIENCE;
use lab::link::{add_address, remove_address, remove_route};
use lab::namespace::Namespace;
use lab::process::Daemon;
use lab::router::Router;
use lab::suite::Test;
use lab::topology::{SERVER, Topology, UPLINK, embedded};
use lab::traffic::ping::ping;
use lab::traffic::tcp::{Way, transfer};
use lab::traffic::traceroute::traceroute;
use lab::traffic::udp::{Echo, exchange, refused};
use socket2::{Domain, Socket, Type};

const TESTS: &[Test] = lab::tests![
    a_single_address_is_shared_by_ports,
    connections_of_the_host_and_of_the_clat_keep_apart,
    errors_find_back_through_a_shared_address,
    nothing_is_left_of_sharing,
    another_single_address_is_followed,
    an_address_of_the_hosts_that_is_asked_for_is_shared,
    ports_that_the_kernel_hands_out_are_reserved,
];

fn main() {
    lab::suite::run(TESTS)
}

fn a_single_address_is_shared_by_ports() -> Result<()> {
    let (net, _router) = client_host()?;
    let _clat = net.clat(&[])?;
    net.wait_for("running", ClientHost::is_running)?;
    ensure!(net.clat_address()? == own(2), "{}", net.clat_address()?);
    let status = net.status()?;
    ensure!(status.contains("shared with this host"), "{status}");
    let (client, server) = (net.topology().client(), &net.topology().server);
    let capture = Capture::start(&[(client, UPLINK)], 128)?;
    for size in [0, 56, 1200] {
        client.run(|| ping(SERVER, size, PATIENCE))?;
    }
    for way in [Way::Download, Way::Upload] {
        transfer(client, server, SERVER.into(), way, 4 << 20, PATIENCE)?;
    }
    let echo = Echo::start(server, SERVER.into())?;
    client.run(|| exchange(echo.address(), [0, 100, 1400, 4000], PATIENCE))?;
    let captured = capture.stop()?;
    let to_nat64 = |ip: &[u8]| ip.len() > 60 && ip[24..40] == embedded(SERVER).octets();
    let sent = captured.packets.iter().filter(|packet| packet.outgoing);
    let sent = sent.map(lab::capture::Packet::ip).filter(|ip| to_nat64(ip));
    let mut ports = 0;
    for ip in sent {
        ensure!(ip[8..24] == own(2).octets(), "it left as {:x?}", &ip[8..24]);
        if matches!(ip[6], 6 | 17) {
            let port = u16::from_be_bytes([ip[40], ip[41]]);
            ensure!(port >= 61000, "it left from port {port}");
            ports += 1;
        }
    }
    ensure!(ports > 100, "only {ports} packets with ports");
    Ok(())
}

/// The host's own connection to the same server has the same port at its end.
fn connections_of_the_host_and_of_the_clat_keep_apart() -> Result<()> {
    let (net, _router) = client_host()?;
    let _clat = net.clat(&["--shared-ports=61000-61001"])?;
    net.wait_for("running", ClientHost::is_running)?;
    let (client, server) = (net.topology().client(), &net.topology().server);
    let listener = server.run(|| Ok(TcpListener::bind((SERVER, 0))?))?;
    let port = listener.local_addr()?.port();
    let mut kept = Vec::new();
    for (from, to) in [
        (own(2).into(), IpAddr::from(embedded(SERVER))),
        (lab::topology::CLAT4.into(), SERVER.into()),
    ] {
        let connection = connect(client, (from, 61000), (to, port))?;
        kept.push((connection, listener.accept()?.0));
    }
    for (at, (near, far)) in kept.iter().enumerate() {
        use std::io::{Read as _, Write as _};
        let word = [b'a' + at as u8; 7];
        (&mut &*near).write_all(&word)?;
        let mut heard = [0; 7];
        far.set_read_timeout(Some(PATIENCE))?;
        (&mut &*far).read_exact(&mut heard)?;
        ensure!(heard == word, "{heard:?} instead of {word:?}");
        (&mut &*far).write_all(&word)?;
        near.set_read_timeout(Some(PATIENCE))?;
        (&mut &*near).read_exact(&mut heard)?;
        ensure!(heard == word, "{heard:?} instead of {word:?}");
    }
    Ok(())
}

fn errors_find_back_through_a_shared_address() -> Result<()> {
    let (net, _router) = client_host()?;
    let _clat = net.clat(&[])?;
    net.wait_for("running", ClientHost::is_running)?;
    let client = net.topology().client();
    client.run(|| refused(SERVER.into(), PATIENCE))?;
    let hops = client.run(|| traceroute(SERVER, PATIENCE))?;
    let last = hops.last().context("no hops")?;
    ensure!(last.last && last.source == SERVER, "{hops:?}");
    Ok(())
}

fn nothing_is_left_of_sharing() -> Result<()> {
    let (net, _router) = client_host()?;
    let client = net.topology().client();
    let before = inspect(client)?;
    for end in [Daemon::stop, Daemon::kill] {
        let mut clat = net.clat(&[])?;
        net.wait_for("running", ClientHost::is_running)?;
        end(&mut clat, PATIENCE)?;
        let run_dir = net.directory.path().join("run").display().to_string();
        net.ask(&["recover", "--run-dir", &run_dir])?;
        ensure_unchanged(&before, client)?;
    }
    Ok(())
}

fn another_single_address_is_followed() -> Result<()> {
    let (net, _router) = client_host()?;
    let _clat = net.clat(&[])?;
    net.wait_for("running", ClientHost::is_running)?;
    let client = net.topology().client();
    add_address((client, UPLINK), single(7))?;
    remove_address((client, UPLINK), single(2))?;
    net.wait_for("the new address", |status| {
        status.contains(&format!("as {}", own(7))) && ClientHost::is_running(status)
    })?;
    net.ping()
}

fn an_address_of_the_hosts_that_is_asked_for_is_shared() -> Result<()> {
    let net = ClientHost::new()?;
    let _router = net.router(&announcing(600))?;
    let address = Topology::client_address(0).to_string();
    let _clat = net.clat(&["--ipv6", &address])?;
    net.wait_for("running", ClientHost::is_running)?;
    let status = net.status()?;
    ensure!(status.contains("shared with this host"), "{status}");
    net.ping()
}

fn ports_that_the_kernel_hands_out_are_reserved() -> Result<()> {
    let (net, _router) = client_host()?;
    let client = net.topology().client();
    client.set_sysctl("ipv4/ip_local_reserved_ports", "8080")?;
    let reserved = || client.run(|| Ok(std::fs::read_to_string(RESERVED)?.trim().to_owned()));
    let mut clat = net.clat(&["--shared-ports=40000-41000"])?;
    net.wait_for("running", ClientHost::is_running)?;
    ensure!(reserved()? == "8080,40000-41000", "{}", reserved()?);
    net.ping()?;
    clat.stop(PATIENCE)?;
    ensure!(reserved()? == "8080", "{}", reserved()?);
    Ok(())
}

const RESERVED: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";

/// A host that got a single address by DHCPv6, and its router from advertisements.
fn client_host() -> Result<(ClientHost, Router)> {
    let net = ClientHost::new()?;
    let client = net.topology().client();
    let old = IpNet::new_assert(Topology::client_address(0).into(), 64);
    remove_route(client, Ipv6Net::default().into(), RESOLVER.into())?;
    remove_address((client, UPLINK), old)?;
    client.set_sysctl("ipv6/conf/eth0/accept_ra", "1")?;
    add_address((client, UPLINK), single(2))?;
    let router = net.router(&announcing(600))?;
    let end = Instant::now() + PATIENCE;
    let is_default = |fact: &String| fact.starts_with("route Inet6 ") && fact.contains(" len 0 ");
    while !inspect(client)?.iter().any(is_default) {
        ensure!(Instant::now() < end, "the kernel takes no router");
        thread::sleep(Duration::from_millis(10));
    }
    Ok((net, router))
}

/// An address of the client's network.
fn own(host: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, host)
}

fn single(host: u16) -> IpNet {
    IpNet::new_assert(own(host).into(), 128)
}

fn connect(
    client: &Namespace,
    from: (IpAddr, u16),
    to: (IpAddr, u16),
) -> Result<std::net::TcpStream> {
    client.run(|| {
        let (from, to) = (SocketAddr::from(from), SocketAddr::from(to));
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
        socket.bind(&from.into())?;
        socket.connect_timeout(&to.into(), Duration::from_secs(5))?;
        Ok(socket.into())
    })
}
