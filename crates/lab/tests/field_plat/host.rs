//! What others do to the host `plat` runs on, and links that come late.

use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ipnet::IpNet;
use lab::binaries::Binaries;
use lab::capture::{Capture, Packet};
use lab::inspect::{difference, inspect};
use lab::installed::{Installed, PATIENCE, Setup};
use lab::ip::ip;
use lab::link::{add_address, set_down, set_mtu, set_up};
use lab::namespace::Namespace;
use lab::nft::nft;
use lab::suite::Test;
use lab::topology::{Plan, SERVER, Topology, UPLINK, embedded};
use lab::traffic::ping::ping;
use lab::traffic::solicit::Solicitor;
use lab::wait::wait_until;

pub(crate) const TESTS: &[Test] = lab::tests![
    fp_01_what_others_undo_on_the_host_is_restored_and_told,
    fp_01_proxy_entries_that_went_with_the_link_come_back,
    fp_01_a_reload_says_what_it_restored,
    fp_10_neighbours_are_answered_at_once_and_told_at_the_start,
    fp_10_a_neighbour_with_an_address_of_the_pool_is_named,
    fp_20_a_tun_that_does_not_forward_by_default_forwards,
    fp_22_many_destinations_leave_room_in_the_neighbour_table,
    fp_23_a_firewall_that_is_loaded_later_is_named_until_it_accepts,
    fp_24_an_uplink_that_comes_later_believes_routers,
    fp_22_a_flood_of_solicitations_leaves_room_in_the_neighbour_table,
];

/// Within this the host is as it should be: five seconds, and some for a machine under load.
const RESTORED: Duration = Duration::from_secs(8);
const TUN: &str = "nat64";
/// A pool in the subnet of the edge and the server.
const PROXY_ARP: [&str; 2] = ["--pool=198.51.100.64/29", "--egress=proxy-arp:eth0"];

fn fp_01_what_others_undo_on_the_host_is_restored_and_told() -> Result<()> {
    let installed = on(Topology::new(&Plan::default())?, &["--pool=192.168.64.9"])?;
    let edge = &installed.topology.edge;
    reaches(&installed, PATIENCE)?;
    let disturbances: [(&str, &dyn Fn() -> Result<()>); 6] = [
        ("ip link set nat64 up", &|| set_down(edge, TUN)),
        ("route add 192.168.64.9/32 dev nat64", &|| {
            ip(edge, "route flush proto 64").map(drop)
        }),
        ("route add 2001:db8:64::/96 dev nat64", &|| {
            ip(edge, "-6 route flush proto 64").map(drop)
        }),
        ("sysctl -w net.ipv4.ip_forward=1", &|| {
            edge.set_sysctl("ipv4/ip_forward", "0")
        }),
        ("sysctl -w net.ipv6.conf.all.forwarding=1", &|| {
            edge.set_sysctl("ipv6/conf/all/forwarding", "0")
        }),
        ("sysctl -w net.ipv4.conf.nat64.forwarding=1", &|| {
            edge.set_sysctl("ipv4/conf/nat64/forwarding", "0")
        }),
    ];
    for (step, disturb) in disturbances {
        disturb()?;
        let begin = Instant::now();
        reaches(&installed, PATIENCE)
            .map_err(|error| error.context(format!("after it was undone: {step}")))?;
        ensure!(begin.elapsed() < RESTORED, "{step}: {:?}", begin.elapsed());
    }
    // The MTU is no black hole for a ping.
    set_mtu(edge, TUN, 1300)?;
    wait_until(|| Ok(inspect(edge)?.contains("link nat64 mtu 1500 up true")))?;

    let log = installed.plat.log();
    let told = "restored what another program or the kernel undid: ";
    ensure!(
        log.contains(&format!("{told}ip link set nat64 up")),
        "{log}"
    );
    for what in ["ip_forward=1", "conf.all.forwarding=1", "mtu 1500"] {
        ensure!(log.contains(what), "{what} in {log}");
    }
    let status = installed.ask_plat(&["status"])?;
    ensure!(status.contains("\nrepaired "), "{status}");
    let json = installed.ask_plat(&["status", "--json"])?;
    ensure!(json.contains("\"repairs\":{\"links\":2,"), "{json}");
    let outcome = installed.ask_plat(&["reload"])?;
    ensure!(
        outcome == "the configuration has not changed\n",
        "{outcome}"
    );
    Ok(())
}

fn fp_01_proxy_entries_that_went_with_the_link_come_back() -> Result<()> {
    let installed = on(Topology::new(&Plan::default())?, &PROXY_ARP)?;
    let edge = &installed.topology.edge;
    let before = proxies(edge)?;
    ensure!(before.len() == 8, "{before:?}");
    // The kernel forgets them with the link.
    set_down(edge, UPLINK)?;
    wait_until(|| Ok(proxies(edge)?.is_empty()))?;
    set_up(edge, UPLINK)?;
    wait_until(|| Ok(proxies(edge)? == before))?;
    let told = "undid: ip neighbour add proxy 198.51.100.64 dev eth0, and 7 more";
    installed.plat.wait_for_line(told, PATIENCE)
}

fn fp_01_a_reload_says_what_it_restored() -> Result<()> {
    let topology = Topology::new(&Plan::default())?;
    let before = inspect(&topology.edge)?;
    let mut installed = on(topology, &["--pool=192.168.64.9"])?;
    let edge = &installed.topology.edge;
    edge.set_sysctl("ipv4/ip_forward", "0")?;
    let outcome = installed.ask_plat(&["reload"])?;
    let expected = "restored on the host: sysctl -w net.ipv4.ip_forward=1";
    ensure!(outcome.contains(expected), "{outcome}");
    ensure!(edge.sysctl("ipv4/ip_forward")? == "1");
    installed.plat.stop(PATIENCE)?;
    let left = difference(&before, &inspect(&installed.topology.edge)?);
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}

fn fp_10_neighbours_are_answered_at_once_and_told_at_the_start() -> Result<()> {
    let topology = Topology::new(&Plan::default())?;
    let before = topology.edge.sysctl("ipv4/neigh/eth0/proxy_delay")?;
    ensure!(before != "0", "the kernel's default");
    let server = &topology.server;
    // It knows the gateway that did this before, which has gone.
    let known = "198.51.100.65 lladdr 02:00:00:00:00:99 dev eth0 nud stale";
    ip(server, &format!("neigh add {known}"))?;
    let capture = Capture::start(&[(server, UPLINK)], 64)?;
    let mut installed = on(topology, &PROXY_ARP)?;
    let server = &installed.topology.server;
    wait_until(|| Ok(!ip(server, "neigh show 198.51.100.65")?.contains("02:00:00:00:00:99")))?;
    let packets = capture.stop()?.packets;
    for last in 64..72 {
        let is_told = |packet: &&Packet| arp(packet) == Some((1, last, last));
        ensure!(
            packets.iter().any(|one| is_told(&one)),
            "{last} is not announced"
        );
    }

    let capture = Capture::start(&[(server, UPLINK)], 64)?;
    for last in 66..72 {
        let socket = server.run(|| Ok(UdpSocket::bind((SERVER, 0))?))?;
        socket.send_to(b"who has it?", (Ipv4Addr::new(198, 51, 100, last), 9))?;
        let told = format!("neigh show 198.51.100.{last}");
        wait_until(|| Ok(ip(server, &told)?.contains("lladdr")))?;
    }
    let packets = capture.stop()?.packets;
    for last in 66..72 {
        let time = |is_it: &dyn Fn((u8, u8, u8)) -> bool| {
            let packet = packets.iter().find(|packet| arp(packet).is_some_and(is_it));
            packet.map(|packet| packet.time).context("no ARP message")
        };
        let asked = time(&|arp| arp == (1, 2, last))?;
        let answered = time(&|arp| arp == (2, last, 2))?;
        let delay = answered.duration_since(asked)?;
        ensure!(delay < Duration::from_millis(100), "{last}: {delay:?}");
    }
    installed.plat.stop(PATIENCE)?;
    let after = installed
        .topology
        .edge
        .sysctl("ipv4/neigh/eth0/proxy_delay")?;
    ensure!(after == before, "{after}");
    Ok(())
}

fn fp_10_a_neighbour_with_an_address_of_the_pool_is_named() -> Result<()> {
    let topology = Topology::new(&Plan::default())?;
    let taken = Ipv4Addr::new(198, 51, 100, 66);
    add_address(
        (&topology.server, UPLINK),
        IpNet::new_assert(taken.into(), 24),
    )?;
    let installed = on(topology, &PROXY_ARP)?;
    let line = "198.51.100.66 of the pool is in use by another host on eth0, ";
    installed.plat.wait_for_line(line, PATIENCE)?;
    let status = installed.ask_plat(&["status"])?;
    ensure!(
        status.contains("\nconflict  198.51.100.66 is also "),
        "{status}"
    );
    let log = installed.plat.log();
    ensure!(
        log.matches("is in use by another host").count() == 1,
        "{log}"
    );
    Ok(())
}

/// An ARP message: what it is, and the last byte of the sender's and the target's address.
fn arp(packet: &Packet) -> Option<(u8, u8, u8)> {
    let frame = packet.bytes.get(..42)?;
    (frame[12..14] == [8, 6]).then(|| (frame[21], frame[31], frame[41]))
}

/// A host whose administrator lets only chosen interfaces forward: an interface that is made later
/// takes the default.
fn fp_20_a_tun_that_does_not_forward_by_default_forwards() -> Result<()> {
    let topology = Topology::new(&Plan::default())?;
    topology.edge.set_sysctl("ipv4/ip_forward", "1")?;
    topology
        .edge
        .set_sysctl("ipv4/conf/default/forwarding", "0")?;
    let installed = on(topology, &["--pool=192.168.64.9"])?;
    reaches(&installed, PATIENCE)
}

fn fp_22_many_destinations_leave_room_in_the_neighbour_table() -> Result<()> {
    let installed = on(Topology::new(&Plan::default())?, &["--pool=192.168.64.9"])?;
    let edge = &installed.topology.edge;
    let socket = installed
        .topology
        .client()
        .run(|| Ok(UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?))?;
    for number in 1..=300_u32 {
        let somewhere = Ipv4Addr::from_bits(SERVER.to_bits() + (number << 8));
        socket.send_to(b"scan", (embedded(somewhere), 9))?;
    }
    reaches(&installed, PATIENCE)?;
    let entries = ip(edge, "-6 neigh show nud all dev nat64")?;
    let count = entries.lines().count();
    ensure!(count <= 2, "{count} entries");
    Ok(())
}

fn fp_22_a_flood_of_solicitations_leaves_room_in_the_neighbour_table() -> Result<()> {
    let flags = ["--pool=192.168.64.9", "--lan=client0"];
    let installed = on(Topology::new(&Plan::default())?, &flags)?;
    let (client, edge) = (installed.topology.client(), &installed.topology.edge);
    reaches(&installed, PATIENCE)?;
    let begin = Instant::now();
    client.run(|| {
        let solicitor = Solicitor::new(UPLINK)?;
        (0..1500_u16).try_for_each(|number| {
            // With a source link-layer address the kernel needs nothing else for an entry.
            let mut message = [133, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 0, 0, 0, 0, 0];
            message[14..].copy_from_slice(&number.to_be_bytes());
            let source = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 7, number);
            solicitor.send(source, 255, &message)
        })
    })?;
    let entries = ip(edge, "-6 neigh show nud all dev client0")?;
    let (count, seconds) = (entries.lines().count(), begin.elapsed().as_secs() + 1);
    let most = 200 + 100 * usize::try_from(seconds)? + 20;
    ensure!(
        count > 10 && count <= most,
        "{count} entries in {seconds} s"
    );
    let rules = nft(edge, "list table ip6 xlat_nat64")?;
    let rule = "iifname \"client0\" icmpv6 type nd-router-solicit limit rate over 100/second burst \
                200 packets drop";
    ensure!(rules.contains(rule), "{rules}");
    reaches(&installed, PATIENCE)
}

/// Docker sets a policy of DROP when it starts, and a firewall's own chain may be what drops.
fn fp_23_a_firewall_that_is_loaded_later_is_named_until_it_accepts() -> Result<()> {
    let installed = on(Topology::new(&Plan::default())?, &["--pool=192.168.64.9"])?;
    let edge = &installed.topology.edge;
    nft(
        edge,
        "add table ip filter; \
         add chain ip filter REFUSE; \
         add rule ip filter REFUSE counter reject; \
         add chain ip filter FORWARD { type filter hook forward priority 0; }; \
         add rule ip filter FORWARD ct state established accept; \
         add rule ip filter FORWARD iifname lan0 accept; \
         add rule ip filter FORWARD jump REFUSE; \
         add table ip6 docker; \
         add chain ip6 docker FORWARD { type filter hook forward priority 0; policy drop; }",
    )?;
    for named in ["ip filter", "ip6 docker"] {
        let line = format!("chain FORWARD of table {named} drops forwarded packets");
        installed.plat.wait_for_line(&line, PATIENCE)?;
    }
    let status = installed.ask_plat(&["status"])?;
    let line = "dropping  chain FORWARD of table ip filter\n";
    ensure!(status.contains(line), "{status}");
    // What the log advises.
    for table in ["ip filter", "ip6 docker"] {
        for name in ["iifname", "oifname"] {
            nft(
                edge,
                &format!("insert rule {table} FORWARD {name} nat64 accept"),
            )?;
        }
        let line = format!("chain FORWARD of table {table} no longer drops translated packets");
        installed.plat.wait_for_line(&line, PATIENCE)?;
    }
    let status = installed.ask_plat(&["status"])?;
    ensure!(!status.contains("\ndropping"), "{status}");
    reaches(&installed, PATIENCE)
}

/// A modem or a dialled line is an interface that is made when it is connected.
fn fp_24_an_uplink_that_comes_later_believes_routers() -> Result<()> {
    let topology = Topology::new(&Plan::default())?;
    let edge = &topology.edge;
    edge.set_sysctl("ipv6/conf/all/forwarding", "0")?;
    ensure!(edge.sysctl("ipv6/conf/default/accept_ra")? == "1");
    let before = inspect(edge)?;
    let mut installed = on(topology, &["--pool=192.168.64.9"])?;
    ip(
        &installed.topology.edge,
        "link add wwan0 type veth peer name far0",
    )?;
    let accepts = installed
        .topology
        .edge
        .sysctl("ipv6/conf/wwan0/accept_ra")?;
    ensure!(accepts == "2", "{accepts}");
    ip(&installed.topology.edge, "link del wwan0")?;
    installed.plat.stop(PATIENCE)?;
    let left = difference(&before, &inspect(&installed.topology.edge)?);
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}

/// Waits until the client reaches the server.
fn reaches(installed: &Installed, patience: Duration) -> Result<()> {
    let end = Instant::now() + patience;
    let client = installed.topology.client();
    loop {
        let once = client.run(|| ping(embedded(SERVER), 56, Duration::from_millis(200)));
        match once {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() > end => {
                return Err(error.context(installed.plat.log()));
            }
            Err(_) => {}
        }
    }
}

fn proxies(namespace: &Namespace) -> Result<Vec<String>> {
    let facts = inspect(namespace)?;
    let proxies = facts
        .into_iter()
        .filter(|fact| fact.ends_with("proxy true"));
    Ok(proxies.collect())
}

pub(crate) fn on(topology: Topology, flags: &[&str]) -> Result<Installed> {
    Installed::with(&Binaries::find()?, topology, Setup::plat_alone(flags))
}
