//! Who is served, and which hosts can reach a NAT64 prefix at all.

use std::net::{Ipv6Addr, SocketAddr, UdpSocket};

use anyhow::{Result, ensure};
use ipnet::{IpNet, Ipv6Net};
use lab::binaries::Binaries;
use lab::fake_host::{fake_host4, fake_host6};
use lab::fixture::{Fixture, shown};
use lab::installed::{Installed, PATIENCE, Setup};
use lab::link::{add_address, add_route, add_unreachable, join};
use lab::namespace::Namespace;
use lab::process::Daemon;
use lab::suite::Test;
use lab::topology::{PREF64, Plan, SERVER, Topology, embedded};
use lab::traffic::packets::udp;
use lab::traffic::ping::ping;

pub(crate) const TESTS: &[Test] = lab::tests![
    fp_12_only_the_hosts_own_networks_are_served_unless_told_otherwise,
    fp_12_neighbours_on_the_uplink_are_no_clients,
    fp_42_a_delegated_prefix_is_served,
    fp_13_a_prefix_out_of_the_lans_network_is_refused,
];

/// A host somewhere that routes the NAT64 prefix to us.
const STRANGER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xbad, 0, 0, 0, 0, 7);

fn fp_12_only_the_hosts_own_networks_are_served_unless_told_otherwise() -> Result<()> {
    let to: SocketAddr = (fake_host4(7), 53).into();
    let packet = |from: Ipv6Addr| udp((from, 4000).into(), shown(to), b"relay");
    let mut open = Fixture::new(&["--client=::/0"])?;
    let seen = open.out(&packet(STRANGER))?;
    ensure!(seen.to() == to, "{seen:?}");
    drop(open);

    for pool in ["--pool=192.168.64.9", "--dynamic-pool=192.168.64.0/24"] {
        let mut fixture = Fixture::with_pool(&[pool])?;
        fixture.inside.send(&packet(STRANGER))?;
        fixture.wait_for_count("denied", 1)?;
        let seen = fixture.out(&packet(fake_host6(1, 7)))?;
        ensure!(seen.to() == to, "{seen:?}");
        // A network behind this host that is added later is served at once.
        let network = Ipv6Net::new(STRANGER, 48)?.trunc();
        let gateway = Topology::client_address(0).into();
        let edge = &fixture.installed.topology.edge;
        add_route(edge, network.into(), gateway, None)?;
        let line = "clients are those of this host's own networks: ";
        fixture
            .installed
            .plat
            .wait_for_line("2001:db8:bad::/48", PATIENCE)?;
        let seen = fixture.out(&packet(STRANGER))?;
        ensure!(seen.to() == to, "{seen:?}");
        let log = fixture.installed.plat.log();
        ensure!(log.matches(line).count() >= 2, "{log}");
    }
    Ok(())
}

fn fp_12_neighbours_on_the_uplink_are_no_clients() -> Result<()> {
    let topology = Topology::new(&Plan::default())?;
    let (edge, wan) = (&topology.edge, Namespace::new("wan")?);
    join((edge, "wan0"), (&wan, "edge"), 1500)?;
    let address = |host: u16| Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, host);
    add_address((edge, "wan0"), IpNet::new(address(1).into(), 64)?)?;
    add_address((&wan, "edge"), IpNet::new(address(2).into(), 64)?)?;
    add_route(edge, Ipv6Net::default().into(), address(2).into(), None)?;
    add_route(&wan, PREF64.into(), address(1).into(), None)?;
    let setup = Setup::plat_alone(&["--pool=192.168.64.9", "--lan=client0"]);
    let installed = Installed::with(&Binaries::find()?, topology, setup)?;
    let send = || -> Result<()> {
        let socket = UdpSocket::bind((address(2), 0))?;
        socket.send_to(b"relay", (embedded(SERVER), 53))?;
        Ok(())
    };
    wan.run(send)?;
    let client = installed.topology.client();
    client.run(|| ping(embedded(SERVER), 56, PATIENCE))?;
    let sessions = installed.ask_plat(&["sessions"])?;
    ensure!(sessions.contains("2001:db8:1::2"), "{sessions}");
    ensure!(!sessions.contains("2001:db8:ffff::2"), "{sessions}");
    let status = installed.ask_plat(&["status"])?;
    ensure!(status.contains("\nclients   2001:db8:1::/64, "), "{status}");
    Ok(())
}

/// As systemd-networkd and dhcpcd leave it on the host: an `unreachable` route.
fn fp_42_a_delegated_prefix_is_served() -> Result<()> {
    let to: SocketAddr = (fake_host4(7), 53).into();
    let mut fixture = Fixture::new(&[])?;
    let edge = &fixture.installed.topology.edge;
    add_unreachable(edge, Ipv6Net::new(STRANGER, 48)?.trunc())?;
    fixture
        .installed
        .plat
        .wait_for_line("2001:db8:bad::/48", PATIENCE)?;
    let seen = fixture.out(&udp((STRANGER, 4000).into(), shown(to), b"delegated"))?;
    ensure!(seen.to() == to, "{seen:?}");
    Ok(())
}

fn fp_13_a_prefix_out_of_the_lans_network_is_refused() -> Result<()> {
    let topology = Topology::new(&Plan::default())?;
    let program = Binaries::find()?.plat;
    // The network of client0 is 2001:db8:1::/64.
    let reason = "2001:db8:1:0:64::/96 lies in 2001:db8:1::/64, which is on the link of client0";
    let start = |more: &[&str]| -> Result<(Daemon, tempfile::TempDir)> {
        let directory = tempfile::tempdir()?;
        let place = |name: &str| format!("--{name}-dir={}", directory.path().join(name).display());
        let places = [place("run"), place("state")];
        let flags = ["--prefix=2001:db8:1:0:64::/96", "--pool=192.168.64.9"];
        let mut all = [&flags[..], more].concat();
        all.extend(places.iter().map(String::as_str));
        Ok((Daemon::start(&topology.edge, &program, &all)?, directory))
    };
    let (mut plat, _directory) = start(&["--lan=client0"])?;
    let status = plat.wait(PATIENCE)?;
    ensure!(status.code() == Some(1), "{status}: {}", plat.log());
    ensure!(plat.log().contains(reason), "{}", plat.log());
    // Hosts that are told that nothing is on the link ask the router; and nobody knows whether the
    // hosts of a network without --lan are clients.
    for flags in [&["--lan=client0", "--ra-on-link=off"][..], &[]] {
        let (mut plat, _directory) = start(flags)?;
        plat.wait_for_line("ready: ", PATIENCE)?;
        ensure!(plat.log().contains(reason), "{}", plat.log());
        plat.stop(PATIENCE)?;
    }
    Ok(())
}
