//! What `clat` says on the link for its address: answers to neighbours, and announcements.

use std::net::Ipv6Addr;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use lab::capture::Capture;
use lab::client_host::{ClientHost, LAN, advertisement, announcing, resolver, synthesised};
use lab::installed::PATIENCE;
use lab::ip::{IP, ip6};
use lab::process::Daemon;
use lab::router::Router;
use lab::suite::Test;
use lab::topology::{SERVER, UPLINK};
use lab::traffic::ping::ping;
use lab::wait::wait_until;

pub(crate) const TESTS: &[Test] = lab::tests![
    fc_04_a_new_link_layer_address_is_announced_and_answered_with,
    fc_04_a_new_link_layer_address_is_no_other_network,
    fc_05_unicast_probes_of_a_router_are_answered,
];

/// Bonds that fail over, bridges that get a port and administrators change it.
fn fc_04_a_new_link_layer_address_is_announced_and_answered_with() -> Result<()> {
    let (net, _router, clat) = running()?;
    let (client, edge) = (net.topology().client(), &net.topology().edge);
    let address = net.clat_address()?;
    // The edge does not find out by itself.
    edge.set_sysctl("ipv6/neigh/client0/base_reachable_time_ms", "600000")?;
    net.ping()?;
    let capture = Capture::start(&[(edge, LAN)], 128)?;
    for mac in ["02:00:00:00:0a:01", "02:00:00:00:0a:02"] {
        ip6(client, &format!("link set {UPLINK} address {mac}"))?;
        wait_until(|| Ok(neighbour(&net, address)?.contains(mac)))?;
        net.ping()?;
        // A neighbour that does not know the address yet.
        ip6(edge, &format!("neigh del {address} dev {LAN}"))?;
        net.ping()?;
        let found = neighbour(&net, address)?;
        ensure!(found.contains(mac), "{found}");
        clat.wait_for_line(&format!("link-layer address {mac}"), PATIENCE)?;
    }
    let packets = capture.stop()?.packets;
    let announced = packets.iter().filter(|packet| {
        let ip = packet.ip();
        let is_to_all = ip.get(24..26) == Some(&[0xff, 2]) && ip.get(39) == Some(&1);
        let is_unsolicited = ip.get(40..45) == Some(&[136, 0, ip[42], ip[43], 0x20]);
        is_to_all && is_unsolicited && ip.get(48..64) == Some(&address.octets())
    });
    let last = |mac: u8| move |packet: &&lab::capture::Packet| packet.ip().get(71) == Some(&mac);
    let announced: Vec<_> = announced.collect();
    for mac in [1, 2] {
        let count = announced.iter().copied().filter(last(mac)).count();
        ensure!(count > 0, "{mac}: {announced:?}");
    }
    Ok(())
}

/// The prefix is of the DNS, which does not answer just now.
fn fc_04_a_new_link_layer_address_is_no_other_network() -> Result<()> {
    let net = ClientHost::new()?;
    let client = net.topology().client();
    let dns = net.dns64(&synthesised(), 600)?;
    let _router = net.router(&advertisement(&[resolver()]))?;
    let clat = net.clat(&[])?;
    net.wait_for("running", ClientHost::is_running)?;
    drop(dns);
    let mac = "02:00:00:00:0a:03";
    ip6(client, &format!("link set {UPLINK} address {mac}"))?;
    clat.wait_for_line(&format!("link-layer address {mac}"), PATIENCE)?;
    // Until the edge hears of it, what it sends goes to the old one.
    let address = net.clat_address()?;
    wait_until(|| Ok(neighbour(&net, address)?.contains(mac)))?;
    net.ping()?;
    ensure!(!clat.log().contains("IPv4 is off"), "{}", clat.log());
    Ok(())
}

fn fc_05_unicast_probes_of_a_router_are_answered() -> Result<()> {
    let (net, _router, _clat) = running()?;
    probe(&net, 10)
}

/// A router checks its neighbours by unicast, from its link-local address (RFC 4861 section 7.3):
/// the edge's kernel does so for this number of times, and never finds the CLAT unreachable.
pub(crate) fn probe(net: &ClientHost, cycles: usize) -> Result<()> {
    let (client, edge) = (net.topology().client(), &net.topology().edge);
    let address = net.clat_address()?.to_string();
    for (key, value) in [
        ("base_reachable_time_ms", "150"),
        ("delay_first_probe_time", "0"),
        ("retrans_time_ms", "200"),
    ] {
        edge.set_sysctl(&format!("ipv6/neigh/{LAN}/{key}"), value)?;
    }
    // What is reachable now counts as such for the time that was set before.
    ip6(edge, &format!("neigh flush dev {LAN}"))?;
    let watch = format!("exec {IP} -6 monitor neigh dev {LAN} >&2");
    let monitor = Daemon::start(edge, Path::new("/bin/sh"), &["-c", &watch])?;
    let count = |state: &str| {
        let log = monitor.log();
        let lines = log.lines().filter(|line| line.contains(&address));
        lines.filter(|line| line.contains(state)).count()
    };
    wait_until(|| {
        client.run(|| ping(SERVER, 56, PATIENCE))?;
        ensure!(count("FAILED") == 0, "{}", monitor.log());
        Ok(count("PROBE") >= cycles && count("REACHABLE") >= cycles)
    })
    .with_context(|| monitor.log())
}

/// What the edge knows about a neighbour.
pub(crate) fn neighbour(net: &ClientHost, address: Ipv6Addr) -> Result<String> {
    ip6(
        &net.topology().edge,
        &format!("neigh show {address} dev {LAN}"),
    )
}

/// A `clat` that runs, with an address of its own in the uplink's network.
fn running() -> Result<(ClientHost, Router, Daemon)> {
    let net = ClientHost::new()?;
    let router = net.router(&announcing(600))?;
    let clat = net.clat(&[])?;
    net.wait_for("running", ClientHost::is_running)?;
    Ok((net, router, clat))
}
