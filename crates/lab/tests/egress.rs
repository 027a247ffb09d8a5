//! How translated packets leave towards IPv4: masqueraded, or from addresses of the link.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use ipnet::IpNet;
use lab::binaries::Binaries;
use lab::inspect::{difference, inspect};
use lab::installed::{Installed, PATIENCE, Setup};
use lab::link::{add_address, add_route, remove_address};
use lab::namespace::Namespace;
use lab::nft::{NFT, nft};
use lab::suite::Test;
use lab::topology::{Plan, SERVER, Topology, UPLINK, embedded};
use lab::traffic::ping::ping;
use lab::traffic::tcp::{Way, transfer};

const TESTS: &[Test] = lab::tests![
    plat_without_flags_shares_its_own_address_with_all_clients,
    a_changed_wan_address_is_followed,
    se_06_an_address_that_the_host_gets_later_is_hidden_too,
    se_02_a_forged_source_in_the_prefix_makes_no_ipv4_packet,
    neighbours_on_the_link_are_answered_for_the_pool,
    nothing_of_the_table_is_left_and_others_are_not_touched,
    a_chain_that_drops_what_is_forwarded_is_named,
    what_the_gateway_forwards_passes_its_filter_and_its_own_traffic_is_translated,
    a_strict_filter_in_the_way_of_answers_is_named,
];
/// The edge towards the IPv4 router.
const WAN: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);

fn main() {
    lab::suite::run_with_programs(
        TESTS,
        &[
            (
                "nothing_of_the_table_is_left_and_others_are_not_touched",
                NFT,
            ),
            ("a_chain_that_drops_what_is_forwarded_is_named", NFT),
            (
                "what_the_gateway_forwards_passes_its_filter_and_its_own_traffic_is_translated",
                NFT,
            ),
        ],
    )
}

fn plat_without_flags_shares_its_own_address_with_all_clients() -> Result<()> {
    let plan = Plan {
        clients: 3,
        ..Plan::with_routers()
    };
    let installed = install(&plan, &[])?;
    let network = &installed.topology;
    for client in &network.clients {
        for way in [Way::Download, Way::Upload] {
            let seen = seen_by_server(network, client, way)?;
            ensure!(seen == WAN, "the server saw {seen}");
        }
    }
    let log = installed.plat.log();
    ensure!(
        log.contains("clients share 203.0.113.1 of eth0 with this host: ports 10000-32767"),
        "{log}"
    );
    Ok(())
}

fn a_changed_wan_address_is_followed() -> Result<()> {
    let installed = install(&Plan::with_routers(), &[])?;
    let network = &installed.topology;
    let seen = seen_by_server(network, network.client(), Way::Upload)?;
    ensure!(seen == WAN, "the server saw {seen}");
    let new = Ipv4Addr::new(203, 0, 113, 77);
    let net = |address: Ipv4Addr| IpNet::new_assert(address.into(), 24);
    add_address((&network.edge, UPLINK), net(new))?;
    remove_address((&network.edge, UPLINK), net(WAN))?;
    // Without its first address the subnet's routes go.
    let far = IpAddr::from(Ipv4Addr::new(203, 0, 113, 2));
    if add_address((&network.edge, UPLINK), net(new)).is_ok() {
        let everywhere = IpNet::new_assert(Ipv4Addr::UNSPECIFIED.into(), 0);
        let _ = add_route(&network.edge, everywhere, far, None);
    }
    lab::wait::wait_until(|| {
        // A connection from the address before ends silently, and must not take all of the time.
        let soon = Duration::from_secs(2);
        let (client, server) = (network.client(), &network.server);
        let done = transfer(client, server, SERVER.into(), Way::Upload, 1 << 16, soon);
        Ok(done.is_ok_and(|done| done.peer == new))
    })
}

fn se_06_an_address_that_the_host_gets_later_is_hidden_too() -> Result<()> {
    let late = Ipv4Addr::new(203, 0, 113, 77);
    let reaches = |installed: &Installed| {
        let patience = Duration::from_millis(300);
        let client = installed.topology.client();
        client.run(|| ping(embedded(late), 56, patience)).is_ok()
    };
    for (flags, is_hidden) in [(&["--expose-host"][..], false), (&[], true)] {
        let setup = Setup::plat_alone(flags);
        let topology = Topology::new(&Plan::with_routers())?;
        let installed = Installed::with(&Binaries::find()?, topology, setup)?;
        let edge = &installed.topology.edge;
        add_address((edge, UPLINK), IpNet::new_assert(late.into(), 24))?;
        let end = Instant::now() + PATIENCE;
        while reaches(&installed) == is_hidden {
            ensure!(Instant::now() < end, "hidden: {is_hidden}");
        }
    }
    Ok(())
}

fn se_02_a_forged_source_in_the_prefix_makes_no_ipv4_packet() -> Result<()> {
    let map = format!("--map=192.168.64.9={}", Topology::client_address(0));
    let setup = Setup::plat_alone(&[&map]);
    let topology = Topology::new(&Plan::default())?;
    let installed = Installed::with(&Binaries::find()?, topology, setup)?;
    let network = &installed.topology;
    let forged = embedded(Ipv4Addr::new(198, 51, 100, 99));
    add_address(
        (network.client(), UPLINK),
        IpNet::new_assert(forged.into(), 128),
    )?;
    let server = network.server.run(|| Ok(UdpSocket::bind((SERVER, 0))?))?;
    server.set_read_timeout(Some(PATIENCE))?;
    let target = (embedded(SERVER), server.local_addr()?.port());
    let send = |from: Ipv6Addr, text: &[u8]| {
        let client = network.client();
        client.run(|| Ok(UdpSocket::bind((from, 0))?.send_to(text, target)?))
    };
    send(forged, b"forged")?;
    let end = Instant::now() + PATIENCE;
    while !installed
        .ask_plat(&["status", "--json"])?
        .contains("\"source-in-pref64\":1")
    {
        ensure!(Instant::now() < end, "it was not dropped");
    }
    send(Topology::client_address(0), b"honest")?;
    let mut text = [0; 16];
    let (length, source) = server.recv_from(&mut text)?;
    let expected = IpAddr::from(Ipv4Addr::new(192, 168, 64, 9));
    ensure!(
        &text[..length] == b"honest" && source.ip() == expected,
        "{source}"
    );
    Ok(())
}

fn neighbours_on_the_link_are_answered_for_the_pool() -> Result<()> {
    let topology = Topology::new(&Plan::default())?;
    let before = inspect(&topology.edge)?;
    let flags = ["--pool=198.51.100.64/29", "--egress=proxy-arp:eth0"];
    let setup = Setup::plat_alone(&flags).with_clats();
    let mut installed = Installed::with(&Binaries::find()?, topology, setup)?;
    let network = &installed.topology;
    let seen = seen_by_server(network, network.client(), Way::Download)?;
    let IpAddr::V4(address) = seen else {
        anyhow::bail!("{seen}");
    };
    ensure!(
        address.octets()[..3] == [198, 51, 100] && address.octets()[3] & 0xf8 == 64,
        "{seen}"
    );
    installed.plat.stop(PATIENCE)?;
    let after = inspect(&installed.topology.edge)?;
    ensure!(
        difference(&before, &after).is_empty(),
        "{:?}",
        difference(&before, &after)
    );
    Ok(())
}

fn nothing_of_the_table_is_left_and_others_are_not_touched() -> Result<()> {
    let topology = Topology::new(&Plan::with_routers())?;
    nft(
        &topology.edge,
        "add table ip theirs; add chain ip theirs nat { type nat hook postrouting priority 90; }",
    )?;
    let before = nft(&topology.edge, "list ruleset")?;
    let setup = Setup::plat_alone(&["--egress=masquerade"]);
    let mut installed = Installed::with(&Binaries::find()?, topology, setup)?;
    let during = nft(&installed.topology.edge, "list ruleset")?;
    for part in [
        "table ip xlat_nat64",
        "type nat hook postrouting priority srcnat; policy accept;",
        r#"oifname != "nat64" ip saddr 192.168.64.0-192.168.64.15 masquerade"#,
        r#"iifname != "nat64" ip daddr 192.168.64.0-192.168.64.15 ct state new ct status ! dnat drop"#,
        "type filter hook postrouting priority srcnat + 10; policy accept;",
        r#"oifname != "nat64" ip saddr 192.168.64.0-192.168.64.15 ct direction original drop"#,
        r#"oifname != "nat64" ip saddr 192.168.64.0-192.168.64.15 ct state invalid,untracked drop"#,
        "table ip theirs",
    ] {
        ensure!(during.contains(part), "{part} in {during}");
    }
    installed.plat.kill(PATIENCE)?;
    let after = nft(&installed.topology.edge, "list ruleset")?;
    ensure!(before == after, "after SIGKILL: {after}");
    installed.restart_plat()?;
    installed.plat.stop(PATIENCE)?;
    let after = nft(&installed.topology.edge, "list ruleset")?;
    ensure!(before == after, "after SIGTERM: {after}");
    Ok(())
}

fn a_chain_that_drops_what_is_forwarded_is_named() -> Result<()> {
    let topology = Topology::new(&Plan::with_routers())?;
    let edge = &topology.edge;
    let families = ["ip", "ip6", "inet"];
    for family in families {
        let chain = "{ type filter hook forward priority 0; policy drop; }";
        nft(edge, &format!("add table {family} filter"))?;
        nft(edge, &format!("add chain {family} filter FORWARD {chain}"))?;
    }
    // As firewalld does it: the policy accepts, and the last rule rejects what is left.
    nft(edge, "add table inet firewalld")?;
    let chain = "{ type filter hook forward priority 10; policy accept; }";
    nft(
        edge,
        &format!("add chain inet firewalld filter_FORWARD {chain}"),
    )?;
    for rule in [
        "ct state established accept",
        "counter reject with icmpx admin-prohibited",
    ] {
        nft(
            edge,
            &format!("add rule inet firewalld filter_FORWARD {rule}"),
        )?;
    }
    let installed = Installed::with(&Binaries::find()?, topology, Setup::plat_alone(&[]))?;
    let log = installed.plat.log();
    let named = "chain filter_FORWARD of table inet firewalld drops forwarded packets";
    ensure!(log.contains(named), "{log}");
    for family in families {
        let named = format!("chain FORWARD of table {family} filter drops forwarded packets");
        let remedy = format!("nft insert rule {family} filter FORWARD iifname nat64 accept");
        ensure!(
            log.contains(&named) && log.contains(&remedy),
            "{family}: {log}"
        );
    }
    Ok(())
}

fn what_the_gateway_forwards_passes_its_filter_and_its_own_traffic_is_translated() -> Result<()> {
    let installed = install(&Plan::with_routers(), &[])?;
    let (network, edge) = (&installed.topology, &installed.topology.edge);
    nft(
        edge,
        "add table inet counts; \
         add chain inet counts forward { type filter hook forward priority 0; }; \
         add rule inet counts forward iifname \"nat64\" ip daddr 198.51.100.2 ct state new counter \
         comment \"new\"; \
         add rule inet counts forward oifname \"nat64\" ip6 saddr 2001:db8::/32 counter comment \
         \"six\"",
    )?;
    let seen = seen_by_server(network, network.client(), Way::Upload)?;
    ensure!(seen == WAN, "the server saw {seen}");
    let rules = nft(edge, "list table inet counts")?;
    for comment in ["new", "six"] {
        let is_counted = rules.lines().any(|line| {
            line.contains(&format!("comment \"{comment}\"")) && !line.contains("packets 0 ")
        });
        ensure!(is_counted, "nothing passed the rule {comment}: {rules}");
    }
    // The rules of the host hold for translated packets.
    nft(
        edge,
        "insert rule inet counts forward iifname \"nat64\" ip daddr 198.51.100.2 drop",
    )?;
    let refused = network
        .client()
        .run(|| ping(SERVER, 56, Duration::from_millis(300)));
    ensure!(refused.is_err(), "a dropped packet came through");
    nft(edge, "delete table inet counts")?;

    let target = embedded(SERVER);
    edge.run(|| ping(target, 56, PATIENCE)).map(drop)
}

fn a_strict_filter_in_the_way_of_answers_is_named() -> Result<()> {
    let topology = Topology::new(&Plan::with_routers())?;
    let edge = &topology.edge;
    edge.set_sysctl("ipv4/conf/all/rp_filter", "1")?;
    // The default route leads elsewhere.
    let installed = Installed::with(
        &Binaries::find()?,
        topology,
        Setup::plat_alone(&["--pool=192.168.64.9", "--egress=masquerade:client0"]),
    )?;
    let line = "sysctl net.ipv4.conf.client0.rp_filter=2";
    installed.plat.wait_for_line(line, PATIENCE)
}

fn install(plan: &Plan, flags: &[&str]) -> Result<Installed> {
    let setup = Setup::plat_alone(flags).with_clats();
    Installed::with(&Binaries::find()?, Topology::new(plan)?, setup)
}

fn seen_by_server(network: &Topology, client: &Namespace, way: Way) -> Result<IpAddr> {
    let done = transfer(
        client,
        &network.server,
        SERVER.into(),
        way,
        1 << 16,
        PATIENCE,
    )?;
    Ok(done.peer)
}
