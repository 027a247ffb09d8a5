//! Clients of the DNS64 that share a link: what one does is not felt by the others.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ipnet::IpNet;
use lab::dns64_fixture::{Dns64Fixture, RESOLVER};
use lab::installed::PATIENCE;
use lab::link::add_address;
use lab::suite::Test;
use lab::topology::{Topology, UPLINK};
use lab::traffic::dns::kind::AAAA;
use lab::traffic::dns::{Message, question};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn6, bind, connect, socket};

pub(crate) const TESTS: &[Test] = lab::tests![
    fp_05_a_flood_of_one_host_is_not_felt_by_its_neighbours,
    fp_05_idle_connections_make_room,
];

/// A neighbour on the first client's link.
const NEIGHBOUR: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x77);

/// Both hosts are the same namespace with two addresses: the DNS64 cannot tell.
fn with_neighbour() -> Result<Dns64Fixture> {
    let net = Dns64Fixture::new(&[])?;
    let address = IpNet::new(IpAddr::V6(NEIGHBOUR), 64)?;
    add_address((net.topology().client(), UPLINK), address)?;
    Ok(net)
}

fn fp_05_a_flood_of_one_host_is_not_felt_by_its_neighbours() -> Result<()> {
    let net = with_neighbour()?;
    let client = net.topology().client();
    let query = question("ipv4only.arpa", AAAA);
    let flooder = Topology::client_address(0);
    let (flood, calm) = client.run(|| {
        let open = |address: Ipv6Addr| -> Result<UdpSocket> {
            let socket = UdpSocket::bind((address, 0))?;
            socket.connect((RESOLVER, 53))?;
            socket.set_read_timeout(Some(Duration::from_millis(200)))?;
            Ok(socket)
        };
        Ok((open(flooder)?, open(NEIGHBOUR)?))
    })?;
    let is_over = AtomicBool::new(false);
    let answered = thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                let _ = flood.send(&query);
                thread::sleep(Duration::from_micros(200));
            }
        });
        let ask = || {
            net.installed
                .plat
                .wait_for_line("more queries a second than --dns64-rate allows", PATIENCE)?;
            let mut answered = 0;
            for _ in 0..100 {
                calm.send(&query)?;
                answered += usize::from(calm.recv(&mut [0; 512]).is_ok());
            }
            Ok::<_, anyhow::Error>(answered)
        };
        let answered = ask();
        // The flood ends whatever came of it, or the scope would wait for it for ever.
        is_over.store(true, Ordering::Relaxed);
        answered
    })?;
    // A datagram may be lost to a full receive buffer.
    ensure!(answered >= 98, "{answered} of 100");
    let log = net.installed.plat.log();
    let lines = log.lines().filter(|line| line.contains("is not answered"));
    let lines: Vec<&str> = lines.collect();
    let [line] = lines.as_slice() else {
        anyhow::bail!("one line about one client: {lines:?}");
    };
    ensure!(
        line.contains(&format!("client {flooder} is not answered")),
        "{line}"
    );
    Ok(())
}

/// A program that opens connections and forgets them.
fn fp_05_idle_connections_make_room() -> Result<()> {
    let net = with_neighbour()?;
    let client = net.topology().client();
    let own = Topology::client_address(0);
    let mut idle = client.run(|| (0..80).map(|_| connection(own)).collect::<Result<Vec<_>>>())?;
    for address in [NEIGHBOUR, own] {
        let mut stream = client.run(|| connection(address))?;
        let query = Message::query("ipv4only.arpa", AAAA).to_bytes();
        stream.write_all(&(query.len() as u16).to_be_bytes())?;
        stream.write_all(&query)?;
        let mut length = [0; 2];
        stream
            .read_exact(&mut length)
            .with_context(|| format!("{address} is not served"))?;
    }
    // The oldest are the ones that went.
    ensure!(
        idle[0].read(&mut [0; 1]).unwrap_or(0) == 0,
        "the first stays"
    );
    Ok(())
}

/// A connection from an address.
fn connection(from: Ipv6Addr) -> Result<TcpStream> {
    let (domain, kind) = (AddressFamily::Inet6, SockType::Stream);
    let socket = socket(domain, kind, SockFlag::SOCK_CLOEXEC, None)?;
    let address = |ip: Ipv6Addr, port| match SocketAddr::from((ip, port)) {
        SocketAddr::V6(address) => SockaddrIn6::from(address),
        SocketAddr::V4(_) => unreachable!("an IPv6 address"),
    };
    let descriptor = std::os::fd::AsRawFd::as_raw_fd(&socket);
    bind(descriptor, &address(from, 0))?;
    connect(descriptor, &address(RESOLVER, 53))?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}
