//! Default routes that move, flap and go.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use lab::binaries::Binaries;
use lab::capture::{Capture, Captured};
use lab::installed::{Installed, PATIENCE, Setup};
use lab::ip::ip;
use lab::link::{add_address, add_route, join, remove_route};
use lab::namespace::Namespace;
use lab::nft::nft;
use lab::suite::Test;
use lab::topology::{MTU, Plan, SERVER, Topology, UPLINK, embedded};
use lab::traffic::ping::ping;
use lab::traffic::ra::is_advertisement;
use lab::traffic::tcp::{Way, transfer};
use lab::wait::wait_until;

use super::host::on;

pub(crate) const TESTS: &[Test] = lab::tests![
    fp_02_losing_ipv4_withdraws_the_nat64_and_not_the_router,
    fp_02_a_default_route_that_is_replaced_withdraws_nothing,
    fp_03_masquerading_follows_the_default_route,
    oa_08_the_pool_is_the_address_of_the_default_routes_interface,
    fp_03_several_egress_interfaces_and_no_other,
    fp_03_a_named_egress_that_is_renamed_is_followed,
    fp_03_what_the_kernel_cannot_masquerade_does_not_leave,
    fp_11_the_private_pool_is_not_reached_from_outside,
    fp_21_a_plat_without_flags_starts_before_its_default_route,
];

/// The LAN of the edge in a network with routers, where the client's router is the host.
const LAN_FLAGS: [&str; 3] = ["--lan=access", "--ra-interval=4", "--pool=192.168.64.9"];
/// The edge's first and second uplink, and the routers behind them.
const WAN: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const WAN_ROUTER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
const OTHER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const OTHER_ROUTER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// An IPv6 router on the first uplink.
const WAN6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 4, 0, 0, 0, 0, 1);
const WAN6_ROUTER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 4, 0, 0, 0, 0, 2);

fn fp_02_losing_ipv4_withdraws_the_nat64_and_not_the_router() -> Result<()> {
    let topology = dual_stack()?;
    let installed = on(
        topology,
        &[&LAN_FLAGS[..], &["--egress=masquerade:eth0"]].concat(),
    )?;
    let network = &installed.topology;
    let router = network.router6.as_ref().context("router6")?;
    advertised(router, |lifetimes| lifetimes == (12, 16))?;

    remove_route(&network.edge, default4(), WAN_ROUTER.into())?;
    advertised(router, |lifetimes| lifetimes == (12, 0)).context("only IPv4 is lost")?;
    let line = "IPv4 is not reached: no IPv4 default route by eth0 for 5 s; the NAT64 prefix is \
                withdrawn, this host stays the default router";
    installed.plat.wait_for_line(line, PATIENCE)?;
    let status = installed.ask_plat(&["status"])?;
    let told =
        "egress    IPv4 is not reached: no IPv4 default route by eth0; withdrawn: NAT64 prefix";
    ensure!(status.contains(told), "{status}");

    remove_route(&network.edge, Ipv6Net::default().into(), WAN6_ROUTER.into())?;
    advertised(router, |lifetimes| lifetimes == (0, 0)).context("nothing is left")?;
    add_route(&network.edge, default4(), WAN_ROUTER.into(), None)?;
    advertised(router, |lifetimes| lifetimes == (12, 16)).context("IPv4 again")?;
    let status = installed.ask_plat(&["status"])?;
    let told = "egress    IPv4 by eth0; no IPv6 default route\n";
    ensure!(status.contains(told), "{status}");
    Ok(())
}

fn fp_02_a_default_route_that_is_replaced_withdraws_nothing() -> Result<()> {
    let flags = [
        "--lan=access",
        "--ra-interval=9",
        "--pool=192.168.64.9",
        "--egress=masquerade:eth0",
    ];
    let installed = on(dual_stack()?, &flags)?;
    let network = &installed.topology;
    let router = network.router6.as_ref().context("router6")?;
    let usual = (27, 32);
    advertised(router, |lifetimes| lifetimes == usual)?;
    let capture = Capture::start(&[(router, UPLINK)], 2048)?;
    // From now on a change could be announced at once (MIN_DELAY_BETWEEN_RAS).
    std::thread::sleep(Duration::from_millis(3100));
    // As a DHCP client that asks for another lease, or a dialler that reconnects.
    for (destination, gateway) in [
        (default4(), IpAddr::from(WAN_ROUTER)),
        (Ipv6Net::default().into(), WAN6_ROUTER.into()),
    ] {
        remove_route(&network.edge, destination, gateway)?;
        std::thread::sleep(Duration::from_millis(300));
        add_route(&network.edge, destination, gateway, None)?;
    }
    // Two of the regular ones are sent later than any withdrawal would be.
    for _ in 0..2 {
        advertised(router, |_| true)?;
    }
    let sent = lifetimes(&capture.stop()?);
    ensure!(
        !sent.is_empty() && sent.iter().all(|sent| *sent == usual),
        "{sent:?}"
    );
    let log = installed.plat.log();
    ensure!(!log.contains("withdrawn"), "{log}");
    Ok(())
}

fn fp_03_masquerading_follows_the_default_route() -> Result<()> {
    let installed = Installed::with(
        &Binaries::find()?,
        two_uplinks()?,
        Setup::plat_alone(&["--egress=masquerade"]).with_clats(),
    )?;
    let network = &installed.topology;
    ensure!(seen_by_server(network)? == WAN);
    let capture = capture_outside(network)?;
    ip(
        &network.edge,
        "route replace default via 192.0.2.2 dev wan1",
    )?;
    wait_until(|| Ok(is_other_seen(network)))?;
    installed
        .plat
        .wait_for_line("IPv4 packets leave by wan1 now, before by eth0", PATIENCE)?;
    let private = private_sources(&capture.stop()?);
    ensure!(
        private == 0,
        "{private} packets of the pool left as they were"
    );
    let status = installed.ask_plat(&["status"])?;
    ensure!(status.contains("egress    IPv4 by wan1"), "{status}");
    Ok(())
}

/// Clients are seen by the address of the uplink that the default route uses: any, or one of those
/// that are named.
fn oa_08_the_pool_is_the_address_of_the_default_routes_interface() -> Result<()> {
    for flags in [&[][..], &["--pool=eth0", "--pool=wan1"], &["--pool=eth0"]] {
        let setup = Setup::plat_alone(flags).with_clats();
        let installed = Installed::with(&Binaries::find()?, two_uplinks()?, setup)?;
        let network = &installed.topology;
        ensure!(seen_by_server(network)? == WAN);
        let capture = capture_outside(network)?;
        ip(
            &network.edge,
            "route replace default via 192.0.2.2 dev wan1",
        )?;
        if flags.len() == 1 {
            let patience = Duration::from_millis(500);
            let passed = network.client().run(|| ping(SERVER, 56, patience));
            ensure!(passed.is_err(), "it left by an interface that is not named");
        } else {
            wait_until(|| Ok(is_other_seen(network)))?;
            let line = "the address 203.0.113.1 of eth0 is 192.0.2.1 of wan1 now";
            installed.plat.wait_for_line(line, PATIENCE)?;
            let status = installed.ask_plat(&["status"])?;
            ensure!(status.contains("pool      192.0.2.1 of wan1, "), "{status}");
        }
        let private = private_sources(&capture.stop()?);
        ensure!(
            private == 0,
            "{flags:?}: {private} packets of the pool left"
        );
    }
    Ok(())
}

fn fp_03_several_egress_interfaces_and_no_other() -> Result<()> {
    let pool = "--pool=192.168.64.9";
    let both = ["--egress=masquerade:eth0", "--egress=masquerade:wan1"];
    for (flags, is_named) in [(&both[..], true), (&both[..1], false)] {
        let flags = [&[pool], flags].concat();
        let setup = Setup::plat_alone(&flags).with_clats();
        let installed = Installed::with(&Binaries::find()?, two_uplinks()?, setup)?;
        let network = &installed.topology;
        ensure!(seen_by_server(network)? == WAN);
        let capture = capture_outside(network)?;
        ip(
            &network.edge,
            "route replace default via 192.0.2.2 dev wan1",
        )?;
        if is_named {
            wait_until(|| Ok(is_other_seen(network)))?;
        } else {
            let patience = Duration::from_millis(500);
            let passed = network.client().run(|| ping(SERVER, 56, patience));
            ensure!(passed.is_err(), "it left by an interface that is not named");
            let line = "IPv4 is not reached: no IPv4 default route by eth0 for 5 s";
            installed.plat.wait_for_line(line, PATIENCE)?;
        }
        let private = private_sources(&capture.stop()?);
        ensure!(
            private == 0,
            "{flags:?}: {private} packets of the pool left"
        );
    }
    Ok(())
}

/// By udev at a late stage of the boot, or by an administrator.
fn fp_03_a_named_egress_that_is_renamed_is_followed() -> Result<()> {
    let flags = ["--pool=192.168.64.9", "--egress=masquerade:eth0"];
    let installed = on(Topology::new(&Plan::with_routers())?, &flags)?;
    let network = &installed.topology;
    let reaches = |patience| {
        let pinged = network
            .client()
            .run(|| ping(embedded(SERVER), 56, patience));
        pinged.is_ok()
    };
    ensure!(reaches(PATIENCE));
    let short = Duration::from_millis(300);
    for (old, new) in [("eth0", "wan7"), ("wan7", "eth0")] {
        ip(&network.edge, &format!("link set {old} name {new}"))?;
        let line = format!("egress {old} is now called {new}: followed");
        installed.plat.wait_for_line(&line, PATIENCE)?;
        wait_until(|| Ok(reaches(short)))?;
        let told = format!("egress    IPv4 by {new}");
        wait_until(|| Ok(installed.ask_plat(&["status"])?.contains(&told)))?;
    }
    Ok(())
}

/// Rules that exempt traffic from connection tracking, for speed, exempt it from masquerading, too.
fn fp_03_what_the_kernel_cannot_masquerade_does_not_leave() -> Result<()> {
    let installed = on(Topology::new(&Plan::with_routers())?, &[])?;
    let network = &installed.topology;
    nft(
        &network.edge,
        "add table ip quick; \
         add chain ip quick pre { type filter hook prerouting priority raw; }; \
         add rule ip quick pre iifname nat64 notrack",
    )?;
    let router = network.router4.as_ref().context("router4")?;
    let capture = Capture::start(&[(router, "edge")], 512)?;
    let patience = Duration::from_millis(300);
    let answered = network
        .client()
        .run(|| ping(embedded(SERVER), 56, patience));
    ensure!(answered.is_err(), "an untracked packet was answered");
    nft(&network.edge, "delete table ip quick")?;
    network
        .client()
        .run(|| ping(embedded(SERVER), 56, PATIENCE))?;
    let private = private_sources(&capture.stop()?);
    ensure!(
        private == 0,
        "{private} packets of the pool left as they were"
    );
    Ok(())
}

fn fp_11_the_private_pool_is_not_reached_from_outside() -> Result<()> {
    let inside = Topology::client_address(0);
    let bind = format!("--bind=udp:192.168.64.9:5000=[{inside}]:5000");
    let flags = ["--pool=192.168.64.9", "--egress=masquerade:eth0", &bind];
    // The router on the link has a static route to the pool.
    let installed = on(Topology::new(&Plan::with_routers())?, &flags)?;
    let network = &installed.topology;
    let server = network
        .client()
        .run(|| Ok(UdpSocket::bind((inside, 5000))?))?;
    server.set_read_timeout(Some(PATIENCE))?;
    let router = network.router4.as_ref().context("router4")?;
    let outside = router.run(|| Ok(UdpSocket::bind((WAN_ROUTER, 0))?))?;
    for _ in 0..3 {
        outside.send_to(b"past masquerading", ("192.168.64.9", 5000))?;
    }
    // What the administrator forwards gets in.
    nft(
        &network.edge,
        "add table ip forward; \
         add chain ip forward pre { type nat hook prerouting priority dstnat; }; \
         add rule ip forward pre iifname eth0 udp dport 5000 dnat to 192.168.64.9",
    )?;
    outside.send_to(b"forwarded", (WAN, 5000))?;
    let mut text = [0; 32];
    let (length, from) = server.recv_from(&mut text)?;
    ensure!(&text[..length] == b"forwarded", "{:?}", &text[..length]);
    // And its answer leaves with the address that was asked.
    outside.set_read_timeout(Some(PATIENCE))?;
    network
        .client()
        .run(|| Ok(server.send_to(b"answer", from)?))?;
    let (length, from) = outside.recv_from(&mut text)?;
    ensure!(&text[..length] == b"answer" && from.ip() == WAN, "{from}");
    Ok(())
}

fn fp_21_a_plat_without_flags_starts_before_its_default_route() -> Result<()> {
    let topology = Topology::new(&Plan::with_routers())?;
    remove_route(&topology.edge, default4(), WAN_ROUTER.into())?;
    let installed = on(topology, &[])?;
    let network = &installed.topology;
    let line = "IPv4 is not reached: there is no IPv4 default route";
    installed.plat.wait_for_line(line, PATIENCE)?;
    add_route(&network.edge, default4(), WAN_ROUTER.into(), None)?;
    installed
        .plat
        .wait_for_line("IPv4 is reached by eth0", PATIENCE)?;
    network
        .client()
        .run(|| ping(embedded(SERVER), 56, PATIENCE))
        .map(drop)
}

/// A network with routers, whose edge has an IPv6 default route, too.
fn dual_stack() -> Result<Topology> {
    let topology = Topology::new(&Plan::with_routers())?;
    let router = topology.router4.as_ref().context("router4")?;
    let net = |address: Ipv6Addr| IpNet::new_assert(address.into(), 64);
    add_address((&topology.edge, UPLINK), net(WAN6))?;
    add_address((router, "edge"), net(WAN6_ROUTER))?;
    add_route(
        &topology.edge,
        Ipv6Net::default().into(),
        WAN6_ROUTER.into(),
        None,
    )?;
    Ok(topology)
}

/// A network with routers, whose edge has a second way to the IPv4 router.
fn two_uplinks() -> Result<Topology> {
    let topology = Topology::new(&Plan::with_routers())?;
    let router = topology.router4.as_ref().context("router4")?;
    join((&topology.edge, "wan1"), (router, "edge1"), MTU)?;
    let net = |address: Ipv4Addr| IpNet::new_assert(address.into(), 24);
    add_address((&topology.edge, "wan1"), net(OTHER))?;
    add_address((router, "edge1"), net(OTHER_ROUTER))?;
    Ok(topology)
}

fn default4() -> IpNet {
    Ipv4Net::default().into()
}

fn capture_outside(network: &Topology) -> Result<Capture> {
    let router = network.router4.as_ref().context("router4")?;
    Capture::start(&[(router, "edge"), (router, "edge1")], 512)
}

/// Packets with a source in the private pool.
fn private_sources(captured: &Captured) -> usize {
    let packets = captured.packets.iter().filter(|packet| !packet.outgoing);
    let packets = packets.map(lab::capture::Packet::ip);
    packets
        .filter(|ip| ip.len() >= 20 && ip[0] >> 4 == 4 && ip[12..15] == [192, 168, 64])
        .count()
}

fn seen_by_server(network: &Topology) -> Result<IpAddr> {
    seen_within(network, PATIENCE)
}

/// Whether the server sees the other address. A connection from the one before ends silently, and
/// must not take all of the time.
fn is_other_seen(network: &Topology) -> bool {
    seen_within(network, Duration::from_secs(2)).is_ok_and(|seen| seen == OTHER)
}

fn seen_within(network: &Topology, patience: Duration) -> Result<IpAddr> {
    let (client, server) = (network.client(), &network.server);
    let target = SERVER.into();
    let done = transfer(client, server, target, Way::Upload, 1 << 12, patience)?;
    Ok(done.peer)
}

/// Waits for an advertisement with such a router lifetime and lifetime of the NAT64 prefix, in
/// seconds.
fn advertised(router: &Namespace, is_it: impl Fn((u16, u16)) -> bool) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    let mut capture = Capture::start(&[(router, UPLINK)], 2048)?;
    let mut all = Vec::new();
    loop {
        std::thread::sleep(Duration::from_millis(100));
        // The next one listens before this one is over.
        let next = Capture::start(&[(router, UPLINK)], 2048)?;
        let some = lifetimes(&std::mem::replace(&mut capture, next).stop()?);
        if some.iter().any(|one| is_it(*one)) {
            return Ok(());
        }
        all.extend(some);
        ensure!(Instant::now() < end, "no such advertisement: {all:?}");
    }
}

/// Router lifetime and lifetime of the NAT64 prefix of each advertisement, in seconds.
fn lifetimes(captured: &Captured) -> Vec<(u16, u16)> {
    let packets = captured.packets.iter().map(lab::capture::Packet::ip);
    let packets = packets.filter(|packet| is_advertisement(packet));
    let number = |bytes: &[u8], at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    let lifetimes = packets.filter_map(|packet| {
        // The options follow each other in units of eight bytes; PREF64 has two of them.
        let mut pref64 = packet[56..].windows(16).step_by(8);
        let pref64 = pref64.find(|option| option[..2] == [38, 2])?;
        Some((number(packet, 46), number(pref64, 2) & !7))
    });
    lifetimes.collect()
}
