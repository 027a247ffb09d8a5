//! The main job on real packets: an IPv6-only client reaches an IPv4-only server through the real
//! `clat`, an IPv6-only network and the real `plat`.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::thread;

use anyhow::{Context, Result, bail};
use lab::binaries::Binaries;
use lab::capture::Capture;
use lab::installed::Installed;
use lab::suite::Test;
use lab::topology::{CLAT4, POOL, Plan, SERVER, Topology, UPLINK};
use lab::traffic::PATIENCE;
use lab::traffic::ping::ping;
use lab::traffic::pmtu::discover;
use lab::traffic::tcp::{Way, transfer};
use lab::traffic::traceroute::traceroute;
use lab::traffic::udp::{Echo, exchange, refused};

const TESTS: &[Test] = lab::tests![
    ping_reaches_the_server,
    only_ipv6_crosses_the_access_link,
    tcp_carries_64_mib_both_ways,
    udp_of_every_size_crosses_both_ways,
    udp_datagrams_of_4000_bytes_cross_in_fragments_both_ways,
    a_closed_udp_port_is_reported_as_connection_refused,
    a_traceroute_sees_each_router_and_the_server,
    a_small_ipv6_link_is_discovered_from_both_sides,
    a_small_ipv4_link_is_discovered_from_both_sides,
    tcp_crosses_small_links_both_ways,
    twenty_clients_at_once_have_an_address_each,
];

fn main() {
    lab::suite::run(TESTS)
}

fn ping_reaches_the_server() -> Result<()> {
    let installed = install(&Plan::default())?;
    let client = installed.topology.client();
    // The server answers without DF; more would be cut to the lowest IPv6 MTU of 1280, and
    // fragmented ICMP is not translated (RFC 7915 section 1.2).
    for size in [0, 56, 1232] {
        client.run(|| ping(SERVER, size, PATIENCE))?;
    }
    Ok(())
}

fn only_ipv6_crosses_the_access_link() -> Result<()> {
    let installed = install(&Plan::default())?;
    let client = installed.topology.client();
    let capture = Capture::start(&[(client, UPLINK), (client, "clat")], 128)?;
    client.run(|| ping(SERVER, 56, PATIENCE))?;
    let captured = capture.stop()?;
    let versions = |interface| {
        let packets = captured.packets.iter();
        let packets = packets.filter(move |packet| packet.interface == interface);
        packets
            .filter_map(|packet| packet.ip().first())
            .map(|first| first >> 4)
            .collect::<BTreeSet<_>>()
    };
    assert_eq!(versions(0), BTreeSet::from([6]), "access link");
    assert!(versions(1).contains(&4), "TUN");
    let outside = captured
        .packets
        .iter()
        .filter(|packet| packet.interface == 0);
    assert!(
        outside
            .clone()
            .all(|packet| packet.bytes[12..14] == [0x86, 0xdd])
    );
    Ok(())
}

fn tcp_carries_64_mib_both_ways() -> Result<()> {
    let installed = install(&Plan::default())?;
    for way in [Way::Download, Way::Upload] {
        tcp(&installed.topology, way, 64 << 20)?;
    }
    Ok(())
}

fn udp_of_every_size_crosses_both_ways() -> Result<()> {
    let installed = install(&Plan::default())?;
    udp_both_ways(&installed.topology, &(0..=1472).collect::<Vec<_>>())
}

fn udp_datagrams_of_4000_bytes_cross_in_fragments_both_ways() -> Result<()> {
    let installed = install(&Plan::with_routers())?;
    udp_both_ways(&installed.topology, &[4000; 20])
}

fn a_closed_udp_port_is_reported_as_connection_refused() -> Result<()> {
    let installed = install(&Plan::default())?;
    let network = &installed.topology;
    network.client().run(|| refused(SERVER.into(), PATIENCE))?;
    let client = pool_address(network)?;
    network.server.run(|| refused(client.into(), PATIENCE))?;
    Ok(())
}

fn a_traceroute_sees_each_router_and_the_server() -> Result<()> {
    let installed = install(&Plan::with_routers())?;
    let client = installed.topology.client();
    let hops = client.run(|| traceroute(SERVER, PATIENCE))?;
    let last = hops.last().context("hops")?;
    assert!(last.last && last.source == SERVER, "{hops:?}");
    let router4 = Ipv4Addr::new(203, 0, 113, 2);
    let before_last = hops.iter().rev().nth(1).context("a router")?;
    assert_eq!(before_last.source, router4, "{hops:?}");
    // At least clat, router6, plat, router4, and the server.
    assert!(hops.len() >= 5, "{hops:?}");
    Ok(())
}

fn a_small_ipv6_link_is_discovered_from_both_sides() -> Result<()> {
    let installed = install(&Plan {
        router6: Some(1400),
        ..Plan::default()
    })?;
    // The IPv6 header is 20 bytes longer.
    assert_eq!(path_mtus(&installed.topology)?, (1380, 1380));
    Ok(())
}

fn a_small_ipv4_link_is_discovered_from_both_sides() -> Result<()> {
    let installed = install(&Plan {
        router4: Some(1400),
        ..Plan::default()
    })?;
    assert_eq!(path_mtus(&installed.topology)?, (1400, 1400));
    Ok(())
}

fn tcp_crosses_small_links_both_ways() -> Result<()> {
    let installed = install(&Plan {
        router6: Some(1400),
        router4: Some(1300),
        ..Plan::default()
    })?;
    for way in [Way::Download, Way::Upload] {
        tcp(&installed.topology, way, 4 << 20)?;
    }
    Ok(())
}

fn twenty_clients_at_once_have_an_address_each() -> Result<()> {
    let installed = install(&Plan {
        clients: 20,
        ..Plan::default()
    })?;
    let network = &installed.topology;
    let outcomes = thread::scope(|scope| {
        let start = |client| {
            scope.spawn(move || {
                transfer(
                    client,
                    &network.server,
                    SERVER.into(),
                    Way::Download,
                    1 << 20,
                    PATIENCE,
                )
            })
        };
        let threads = network.clients.iter().map(start).collect::<Vec<_>>();
        let ends = threads.into_iter().map(thread::ScopedJoinHandle::join);
        ends.map(|end| end.expect("no panic")).collect::<Vec<_>>()
    });
    let done = outcomes.into_iter().collect::<Result<Vec<_>>>()?;
    let peers = done.iter().map(|done| done.peer).collect::<BTreeSet<_>>();
    assert_eq!(peers.len(), 20, "{peers:?}");
    let in_pool = |peer: &IpAddr| matches!(peer, IpAddr::V4(peer) if POOL.contains(peer));
    assert!(peers.iter().all(in_pool), "{peers:?}");
    Ok(())
}

fn install(plan: &Plan) -> Result<Installed> {
    Installed::new(&Binaries::find()?, plan)
}

/// A transfer from or to the first client; the address that the server saw.
fn tcp(network: &Topology, way: Way, bytes: u64) -> Result<Ipv4Addr> {
    let (client, server) = (network.client(), &network.server);
    let done = transfer(client, server, SERVER.into(), way, bytes, PATIENCE)?;
    match done.peer {
        IpAddr::V4(peer) if POOL.contains(&peer) => Ok(peer),
        peer => bail!("the server saw {peer}"),
    }
}

fn pool_address(network: &Topology) -> Result<Ipv4Addr> {
    tcp(network, Way::Upload, 1)
}

fn udp_both_ways(network: &Topology, sizes: &[usize]) -> Result<()> {
    let (client, server) = (network.client(), &network.server);
    let sizes = || sizes.iter().copied();
    let far = Echo::start(server, SERVER.into())?;
    client.run(|| exchange(far.address(), sizes(), PATIENCE))?;
    let near = Echo::start(client, CLAT4.into())?;
    let target = SocketAddr::from((pool_address(network)?, near.address().port()));
    server.run(|| exchange(target, sizes(), PATIENCE))?;
    Ok(())
}

/// Path MTU from the client to the server, and back.
fn path_mtus(network: &Topology) -> Result<(u32, u32)> {
    let (client, server) = (network.client(), &network.server);
    let far = Echo::start(server, SERVER.into())?;
    let target = SocketAddrV4::new(SERVER, far.address().port());
    let there = client.run(|| discover(target, PATIENCE))?;
    let near = Echo::start(client, CLAT4.into())?;
    let target = SocketAddrV4::new(pool_address(network)?, near.address().port());
    let back = server.run(|| discover(target, PATIENCE))?;
    Ok((there.path, back.path))
}
