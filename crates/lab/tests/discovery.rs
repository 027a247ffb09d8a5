//! `clat` without flags: it finds out everything by itself and follows the network.
#![allow(clippy::print_stdout, reason = "the times are worth a look")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use lab::capture::Capture;
use lab::client_host::{
    ClientHost, LAN, RESOLVER, advertisement, announcing, directories, resolver, synthesised,
};
use lab::inspect::{difference, ensure_unchanged, inspect};
use lab::installed::PATIENCE;
use lab::link::{
    add_address, add_route, add_unreachable, exists, join, remove_address, remove_route, set_down,
    set_up, wait_for_link_local,
};
use lab::namespace::Namespace;
use lab::process::Daemon;
use lab::router::Router;
use lab::suite::Test;
use lab::topology::{PREF64, SERVER, Topology, UPLINK, embedded};
use lab::traffic::ping::ping;
use lab::traffic::ra::RaOption;
use lab::traffic::udp::Echo;
use lab::wait::wait_until;
use rustix::process::Signal;
use socket2::{Domain, Protocol, Socket, Type};
use tempfile::TempDir;

const TESTS: &[Test] = lab::tests![
    pd_18_a_prefix_that_routers_announce_is_used,
    pd_20_a_prefix_that_only_the_dns64_tells_is_used,
    pd_19_routers_come_before_the_dns64,
    pd_15_cl_11_a_withdrawn_prefix_ends_it_and_a_new_one_starts_it,
    pd_15_an_expired_prefix_ends_it,
    cl_12_a_changed_prefix_keeps_the_tun_and_its_ipv4_side,
    pd_05_a_captive_portal_is_no_dns64,
    without_nat64_nothing_is_changed,
    cl_11_an_uplink_that_goes_down_and_comes_back,
    cl_12_a_renumbered_uplink_moves_the_clat,
    cl_02_a_delegated_prefix_is_used_and_no_neighbour_is_told,
    cl_07_a_checksum_neutral_address_works_like_any_other,
    the_watchdog_of_systemd_is_fed,
    cl_16_the_mtu_that_routers_announce_is_followed,
    cl_09_native_ipv4_comes_and_goes,
    cl_05_an_address_that_another_host_has_is_not_taken,
    cl_13_two_uplinks_have_an_instance_each,
    cl_23_sigterm_and_sigkill_leave_the_host_as_it_was,
    a_stop_during_duplicate_address_detection_is_obeyed_at_once,
    pd_17_forged_advertisements_are_ignored_and_counted,
    pd_20_radvd_is_a_router_like_any_other,
    detect_says_what_was_found_and_how,
];

const RADVD: &str = "/usr/sbin/radvd";

fn main() {
    lab::suite::run_with_programs(TESTS, &[("pd_20_radvd_is_a_router_like_any_other", RADVD)])
}

fn pd_18_a_prefix_that_routers_announce_is_used() -> Result<()> {
    let net = ClientHost::new()?;
    let _router = net.router(&announcing(600))?;
    let begin = Instant::now();
    let clat = net.clat(&[])?;
    net.wait_for("running", ClientHost::is_running)?;
    took("IPv4 after the start", begin)?;
    net.ping()?;
    ensure!(net.has_default_route()?, "{}", net.default_route()?);
    let status = net.status()?;
    ensure!(status.contains("announced by router fe80::"), "{status}");
    drop(clat);
    Ok(())
}

fn pd_20_a_prefix_that_only_the_dns64_tells_is_used() -> Result<()> {
    let net = ClientHost::new()?;
    let dns = net.dns64(&synthesised(), 60)?;
    let _router = net.router(&advertisement(&[resolver()]))?;
    let begin = Instant::now();
    let _clat = net.clat(&[])?;
    net.wait_for("running", ClientHost::is_running)?;
    took("IPv4 after the start", begin)?;
    net.ping()?;
    let status = net.status()?;
    ensure!(status.contains("told by the network's DNS64"), "{status}");
    ensure!(dns.asked() == 1, "asked {} times", dns.asked());
    Ok(())
}

fn pd_19_routers_come_before_the_dns64() -> Result<()> {
    let net = ClientHost::new()?;
    let other: Ipv6Addr = "2001:db8:46::192.0.0.170".parse()?;
    let _dns = net.dns64(&[other], 60)?;
    let router = net.router(&advertisement(&[resolver()]))?;
    let _clat = net.clat(&[])?;
    net.wait_for("the DNS64's", |status| {
        status.contains("2001:db8:46::/96, told")
    })?;
    router.announce(&announcing(600));
    net.wait_for("the router's", |status| {
        status.contains("2001:db8:64::/96, announced")
    })?;
    net.ping()
}

fn pd_15_cl_11_a_withdrawn_prefix_ends_it_and_a_new_one_starts_it() -> Result<()> {
    let net = ClientHost::new()?;
    let router = net.router(&announcing(600))?;
    let _clat = net.clat(&[])?;
    net.wait_for("running", ClientHost::is_running)?;
    let begin = Instant::now();
    router.announce(&announcing(0));
    net.wait_for("the end", |status| {
        status.contains("state     waiting: neither")
    })?;
    took("off after the withdrawal", begin)?;
    ensure!(!net.has_default_route()?, "a default route is left");
    let begin = Instant::now();
    router.announce(&announcing(600));
    net.wait_for("running again", ClientHost::is_running)?;
    took("on after the announcement", begin)?;
    net.ping()
}

fn pd_15_an_expired_prefix_ends_it() -> Result<()> {
    let net = ClientHost::new()?;
    let router = net.router(&announcing(8))?;
    let _clat = net.clat(&[])?;
    net.wait_for("running", ClientHost::is_running)?;
    drop(router);
    net.wait_for("the end", |status| {
        status.contains("state     waiting: neither")
    })
}

fn cl_12_a_changed_prefix_keeps_the_tun_and_its_ipv4_side() -> Result<()> {
    let net = ClientHost::new()?;
    let other = "2001:db8:46::/96".parse()?;
    let router = net.router(&advertisement(&[RaOption::pref64(other, 600)]))?;
    let clat = net.clat(&[])?;
    net.wait_for("the first", |status| status.contains("2001:db8:46::/96"))?;
    let of_tun = |net: &ClientHost| -> Result<Vec<String>> {
        let facts = inspect(net.topology().client())?;
        let facts = facts.into_iter().filter(|fact| {
            !fact.starts_with('/') && (fact.contains("clat") || fact.contains("192.0.0.1"))
        });
        Ok(facts.collect())
    };
    let before = of_tun(&net)?;
    ensure!(!before.is_empty());
    router.announce(&advertisement(&[
        RaOption::pref64(other, 0),
        RaOption::pref64(PREF64, 600),
    ]));
    net.wait_for("the second", |status| status.contains("2001:db8:64::/96"))?;
    let after = of_tun(&net)?;
    ensure!(before == after, "{before:#?} {after:#?}");
    // SE-23: each of them was named with who told it.
    let line = "NAT64 prefix 2001:db8:64::/96, announced by router fe80::";
    clat.wait_for_line(line, PATIENCE)?;
    net.ping()
}

fn pd_05_a_captive_portal_is_no_dns64() -> Result<()> {
    let net = ClientHost::new()?;
    let dns = net.dns64(&["2001:db8::80".parse()?], 1)?;
    let _router = net.router(&advertisement(&[resolver()]))?;
    let _clat = net.clat(&[])?;
    let end = Instant::now() + PATIENCE;
    while dns.asked() < 2 {
        ensure!(Instant::now() < end, "asked {} times", dns.asked());
        thread::sleep(Duration::from_millis(20));
    }
    let status = net.status()?;
    ensure!(status.contains("state     waiting: neither"), "{status}");
    dns.say(&synthesised(), 60);
    net.wait_for("running", ClientHost::is_running)?;
    net.ping()
}

fn without_nat64_nothing_is_changed() -> Result<()> {
    let net = ClientHost::new()?;
    let before = inspect(net.topology().client())?;
    let dns = net.dns64(&[], 0)?;
    let router = net.router(&advertisement(&[resolver()]))?;
    let _clat = net.clat(&[])?;
    net.wait_for("waiting", |status| {
        status.contains("state     waiting: neither")
    })?;
    let end = Instant::now() + PATIENCE;
    while dns.asked() == 0 || router.solicited() == 0 {
        ensure!(Instant::now() < end, "nobody was asked");
        thread::sleep(Duration::from_millis(20));
    }
    let during = inspect(net.topology().client())?;
    ensure!(
        difference(&before, &during).is_empty(),
        "{:?}",
        difference(&before, &during)
    );
    Ok(())
}

fn cl_11_an_uplink_that_goes_down_and_comes_back() -> Result<()> {
    let net = ClientHost::new()?;
    let _router = net.router(&announcing(600))?;
    let _clat = net.clat(&[])?;
    net.wait_for("running", ClientHost::is_running)?;
    let client = net.topology().client();
    set_down(client, UPLINK)?;
    net.wait_for("the end", |status| {
        status.contains("state     waiting: no interface")
    })?;
    ensure!(!net.has_default_route()?, "a default route is left");
    set_up(client, UPLINK)?;
    let begin = Instant::now();
    net.give_address()?;
    net.wait_for("running again", ClientHost::is_running)?;
    took("IPv4 after the link", begin)?;
    net.ping()
}

fn cl_12_a_renumbered_uplink_moves_the_clat() -> Result<()> {
    let net = ClientHost::new()?;
    let _router = net.router(&announcing(600))?;
    let _clat = net.clat(&[])?;
    net.wait_for("running", ClientHost::is_running)?;
    let (client, edge) = (net.topology().client(), &net.topology().edge);
    let new =
        |host: u16| IpNet::new_assert(Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, host).into(), 64);
    add_address((edge, LAN), new(1))?;
    add_address((client, UPLINK), new(2))?;
    remove_address((client, UPLINK), client_net())?;
    net.wait_for("the new address", |status| {
        status.contains("as 2001:db8:9:") && ClientHost::is_running(status)
    })?;
    net.ping()
}

fn cl_02_a_delegated_prefix_is_used_and_no_neighbour_is_told() -> Result<()> {
    let net = ClientHost::new()?;
    let _router = net.router(&announcing(600))?;
    let (client, edge) = (net.topology().client(), &net.topology().edge);
    let delegated: Ipv6Net = "2001:db8:700::/56".parse()?;
    add_route(
        edge,
        delegated.into(),
        Topology::client_address(0).into(),
        None,
    )?;
    add_unreachable(client, delegated)?;
    let before = inspect(client)?;
    let mut clat = net.clat(&[])?;
    net.wait_for("running", ClientHost::is_running)?;
    let address = net.clat_address()?;
    ensure!(
        address.segments()[..4] == [0x2001, 0xdb8, 0x700, 0xff],
        "{address}"
    );
    let status = net.status()?;
    ensure!(status.contains("in a delegated prefix"), "{status}");
    // The gateway serves a network a moment after its route is there.
    let short = Duration::from_millis(300);
    wait_until(|| Ok(client.run(|| ping(SERVER, 56, short)).is_ok()))?;
    clat.stop(PATIENCE)?;
    ensure_unchanged(&before, client)
}

fn cl_07_a_checksum_neutral_address_works_like_any_other() -> Result<()> {
    let net = ClientHost::new()?;
    let _router = net.router(&announcing(600))?;
    let _clat = net.clat(&["--checksum-neutral"])?;
    net.wait_for("running", ClientHost::is_running)?;
    let address = net.clat_address()?;
    // Sums of 16-bit words: of the address and the NAT64 prefix, and of 192.0.0.1.
    let fold = |sum: u32| (sum & 0xffff) + (sum >> 16);
    let sum = |address: Ipv6Addr| -> u32 { address.segments().map(u32::from).iter().sum() };
    let six = fold(fold(sum(address) + sum(PREF64.network())));
    ensure!(six == 0xc000 + 0x0001, "{address}: {six:x}");
    net.ping()
}

fn the_watchdog_of_systemd_is_fed() -> Result<()> {
    let net = ClientHost::new()?;
    let socket = net.directory.path().join("notify");
    let systemd = UnixDatagram::bind(&socket)?;
    systemd.set_read_timeout(Some(PATIENCE))?;
    let clat = net.binaries.clat.display().to_string();
    let mut all = vec![
        format!("NOTIFY_SOCKET={}", socket.display()),
        "WATCHDOG_USEC=400000".to_owned(),
        clat,
    ];
    all.extend(directories(net.directory.path()));
    let _daemon = Daemon::start(net.topology().client(), Path::new("/usr/bin/env"), &all)?;
    let mut fed = 0;
    let mut buffer = [0; 4096];
    while fed < 3 {
        let length = systemd
            .recv(&mut buffer)
            .context("the watchdog is hungry")?;
        fed += u32::from(buffer[..length].starts_with(b"WATCHDOG=1"));
    }
    Ok(())
}

fn cl_16_the_mtu_that_routers_announce_is_followed() -> Result<()> {
    let net = ClientHost::new()?;
    net.topology()
        .client()
        .set_sysctl("ipv6/conf/eth0/accept_ra", "1")?;
    let with_mtu = |mtu| {
        let mut advertisement = announcing(600);
        advertisement.options.push(RaOption::mtu(mtu));
        advertisement
    };
    let router = net.router(&with_mtu(1400))?;
    let _clat = net.clat(&[])?;
    net.wait_for("the announced MTU", |status| {
        status.contains("eth0, MTU 1400")
    })?;
    ensure!(
        net.default_route()?.contains("Mtu(1372)"),
        "{}",
        net.default_route()?
    );
    router.announce(&with_mtu(1280));
    net.wait_for("the next MTU", |status| status.contains("eth0, MTU 1280"))?;
    ensure!(
        net.default_route()?.contains("Mtu(1252)"),
        "{}",
        net.default_route()?
    );
    net.ping()
}

fn cl_09_native_ipv4_comes_and_goes() -> Result<()> {
    let net = ClientHost::new()?;
    let _router = net.router(&announcing(600))?;
    let client = net.topology().client();
    let native = IpNet::new_assert(Ipv4Addr::new(10, 0, 0, 2).into(), 24);
    let everywhere = IpNet::from(Ipv4Net::default());
    let gateway = IpAddr::from(Ipv4Addr::new(10, 0, 0, 1));
    add_address((client, UPLINK), native)?;
    add_route(client, everywhere, gateway, None)?;
    let _clat = net.clat(&[])?;
    net.wait_for("waiting", |status| {
        status.contains("state     waiting: this host has native")
    })?;
    remove_route(client, everywhere, gateway)?;
    let begin = Instant::now();
    net.wait_for("running", ClientHost::is_running)?;
    took("IPv4 after the native one went", begin)?;
    net.ping()?;
    add_route(client, everywhere, gateway, None)?;
    net.wait_for("waiting again", |status| {
        status.contains("state     waiting: this host has native")
    })?;
    let routes = net.default_route()?;
    ensure!(!routes.contains("dev clat"), "{routes}");
    ensure!(routes.contains("dev eth0"), "{routes}");
    Ok(())
}

fn cl_05_an_address_that_another_host_has_is_not_taken() -> Result<()> {
    let net = ClientHost::new()?;
    let client = net.topology().client();
    client.set_sysctl("ipv6/conf/eth0/accept_dad", "1")?;
    let _router = net.router(&announcing(600))?;
    let mut clat = net.clat(&[])?;
    net.wait_for("running", ClientHost::is_running)?;
    let first = net.clat_address()?;
    clat.stop(PATIENCE)?;
    add_address(
        (&net.topology().edge, LAN),
        IpNet::new_assert(first.into(), 128),
    )?;
    let _clat = net.clat(&[])?;
    net.wait_for("running with another address", ClientHost::is_running)?;
    let second = net.clat_address()?;
    ensure!(first != second, "both are {first}");
    net.ping()
}

fn cl_13_two_uplinks_have_an_instance_each() -> Result<()> {
    let net = ClientHost::new()?;
    let (client, edge) = (net.topology().client(), &net.topology().edge);
    join((client, "eth1"), (edge, "second"), 1500)?;
    let of =
        |host: u16| IpNet::new_assert(Ipv6Addr::new(0x2001, 0xdb8, 8, 0, 0, 0, 0, host).into(), 64);
    add_address((client, "eth1"), of(2))?;
    add_address((edge, "second"), of(1))?;
    client.set_sysctl("ipv6/conf/eth1/accept_ra", "1")?;
    wait_for_link_local(client, PATIENCE)?;
    let before = inspect(client)?;
    // Both wait for their networks, and go at the same time.
    let mut first = net.clat(&["--uplink", UPLINK])?;
    let other = TempDir::new()?;
    let dirs = directories(other.path());
    let mut flags = vec!["--uplink", "eth1", "--tun", "clat1"];
    flags.extend(dirs.iter().map(String::as_str));
    let mut second = Daemon::start(client, &net.binaries.clat, &flags)?;
    let _router = net.router(&announcing(600))?;
    let _other_router = Router::start(edge, "second", &announcing(600))?;
    first.wait_for_line("ready: this host", PATIENCE)?;
    second.wait_for_line("ready: this host", PATIENCE)?;
    let routes = net.default_route()?;
    for (tun, uplink) in [("clat", UPLINK), ("clat1", "eth1")] {
        let of_tun = |line: &&str| line.ends_with(&format!("dev {tun}"));
        ensure!(
            routes.lines().filter(of_tun).count() == 1,
            "{tun}: {routes}"
        );
        let capture = Capture::start(&[(client, uplink)], 64)?;
        echo_through(&net, tun)?;
        let captured = capture.stop()?;
        let to_server = |ip: &[u8]| ip.len() > 40 && ip[24..40] == embedded(SERVER).octets();
        let sent = captured.packets.iter().filter(|packet| packet.outgoing);
        let count = sent.filter(|packet| to_server(packet.ip())).count();
        ensure!(count >= 3, "{count} packets of {tun} left by {uplink}");
    }
    let both = ["192.0.0.1", "192.0.0.3"];
    let has = |address: &&str| routes.contains(&format!("PrefSource(Inet({address}))"));
    ensure!(both.iter().all(has), "{routes}");
    first.stop(PATIENCE)?;
    echo_through(&net, "clat1")?;
    second.stop(PATIENCE)?;
    let kept = |line: &String| !line.contains("Len 0") && !line.contains(" len 0 ");
    let changed = difference(&before, &inspect(client)?);
    // The route that the other router announced came meanwhile.
    let changed: Vec<_> = changed.into_iter().filter(kept).collect();
    ensure!(changed.is_empty(), "{changed:?}");
    Ok(())
}

/// Three datagrams to the server and back, by this interface.
fn echo_through(net: &ClientHost, interface: &str) -> Result<()> {
    let (client, server) = (net.topology().client(), &net.topology().server);
    let echo = Echo::start(server, SERVER.into())?;
    client.run(|| {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
        socket.bind_device(Some(interface.as_bytes()))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.connect(&echo.address().into())?;
        let socket = std::net::UdpSocket::from(socket);
        for _ in 0..3 {
            socket.send(b"ping")?;
            let mut buffer = [0; 16];
            let length = socket.recv(&mut buffer)?;
            ensure!(&buffer[..length] == b"ping");
        }
        Ok(())
    })
}

fn cl_23_sigterm_and_sigkill_leave_the_host_as_it_was() -> Result<()> {
    let net = ClientHost::new()?;
    let _router = net.router(&announcing(600))?;
    let before = inspect(net.topology().client())?;
    let mut clat = net.clat(&[])?;
    net.wait_for("running", ClientHost::is_running)?;
    clat.kill(PATIENCE)?;
    let mut clat = net.clat(&[])?;
    net.wait_for("running after SIGKILL", ClientHost::is_running)?;
    clat.stop(PATIENCE)?;
    let after = inspect(net.topology().client())?;
    ensure!(
        difference(&before, &after).is_empty(),
        "{:?}",
        difference(&before, &after)
    );
    let left = std::fs::read_dir(net.directory.path().join("run"))?.count();
    ensure!(left == 0, "{left} files in the run directory");
    Ok(())
}

fn a_stop_during_duplicate_address_detection_is_obeyed_at_once() -> Result<()> {
    let net = ClientHost::new()?;
    let client = net.topology().client();
    client.set_sysctl("ipv6/conf/eth0/accept_dad", "1")?;
    // Forty probes, one a second: it would take longer than anybody waits.
    client.set_sysctl("ipv6/conf/eth0/dad_transmits", "40")?;
    let before = inspect(client)?;
    let _router = net.router(&announcing(600))?;
    let mut clat = net.clat(&["--verbose"])?;
    let end = Instant::now() + PATIENCE;
    while !exists(client, "clat")? || difference(&before, &inspect(client)?).len() < 5 {
        ensure!(Instant::now() < end, "nothing begins");
        thread::sleep(Duration::from_millis(20));
    }
    let begin = Instant::now();
    clat.signal(Signal::TERM)?;
    clat.wait(PATIENCE)?;
    ensure!(
        begin.elapsed() < Duration::from_secs(2),
        "{:?}",
        begin.elapsed()
    );
    let after = inspect(client)?;
    ensure!(
        difference(&before, &after).is_empty(),
        "{:?}",
        difference(&before, &after)
    );
    Ok(())
}

fn pd_17_forged_advertisements_are_ignored_and_counted() -> Result<()> {
    let net = ClientHost::new()?;
    let router = net.router(&advertisement(&[]))?;
    let _clat = net.clat(&[])?;
    net.wait_for("waiting", |status| {
        status.contains("state     waiting: neither")
    })?;
    let mut zero = announcing(600).build();
    zero.extend([5, 0, 0, 0, 0, 0, 0, 0]);
    router.announce_bytes(zero.clone());
    router.announce_bytes(zero);
    // A length code that is reserved, and a prefix that nothing can be sent to.
    let mut code = announcing(600).build();
    let place = code.len() - 13;
    code[place] |= 7;
    router.announce_bytes(code);
    let absurd = "fe80::/64".parse()?;
    router.announce(&advertisement(&[RaOption::pref64(absurd, 600)]));
    // From behind a router, and from an address that may be anywhere.
    let edge = &net.topology().edge;
    let good = announcing(600).build();
    shout(edge, 64, None, &good)?;
    shout(edge, 64, None, &good)?;
    shout(edge, 255, Some(RESOLVER), &good)?;
    net.wait_for("the count", |status| {
        status.contains("ignored   7 router advertisements")
    })?;
    let status = net.status()?;
    ensure!(status.contains("state     waiting: neither"), "{status}");
    router.announce(&announcing(600));
    net.wait_for("running", ClientHost::is_running)
}

/// Sends a message of neighbour discovery to all nodes, with this hop limit and from this address.
fn shout(edge: &Namespace, hops: u32, from: Option<Ipv6Addr>, message: &[u8]) -> Result<()> {
    edge.run(|| {
        let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
        socket.bind_device(Some(LAN.as_bytes()))?;
        socket.set_multicast_hops_v6(hops)?;
        if let Some(from) = from {
            socket.bind(&SocketAddr::from((from, 0)).into())?;
        }
        let index = nix::net::if_::if_nametoindex(LAN)?;
        let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
        let to = SocketAddrV6::new(all_nodes, 0, 0, index);
        socket.send_to(message, &SocketAddr::from(to).into())?;
        Ok(())
    })
}

fn pd_20_radvd_is_a_router_like_any_other() -> Result<()> {
    let net = ClientHost::new()?;
    let edge = &net.topology().edge;
    let _dns = net.dns64(&synthesised(), 60)?;
    let configuration = net.directory.path().join("radvd.conf");
    // Older versions know no NAT64 prefix.
    std::fs::write(
        &configuration,
        "interface client0 { AdvSendAdvert on; MinRtrAdvInterval 3; MaxRtrAdvInterval 4; \
         prefix 2001:db8:1::/64 { }; RDNSS 2001:db8:1::1 { }; };\n",
    )?;
    let configuration = configuration.display().to_string();
    let pid = net.directory.path().join("radvd.pid").display().to_string();
    let flags = ["-n", "-m", "stderr", "-C", &configuration, "-p", &pid];
    let radvd = Daemon::start(edge, Path::new(RADVD), &flags)?;
    let _clat = net.clat(&[])?;
    net.wait_for("running", ClientHost::is_running)
        .with_context(|| radvd.log())?;
    net.ping()
}

fn detect_says_what_was_found_and_how() -> Result<()> {
    let net = ClientHost::new()?;
    let before = inspect(net.topology().client())?;
    let _dns = net.dns64(&synthesised(), 60)?;
    let mut announced = announcing(600);
    announced.options.push(resolver());
    let _router = net.router(&announced)?;
    let text = net.ask(&["detect"])?;
    for line in [
        "uplink        eth0",
        // The router that announced the prefix.
        "gateway       fe80::",
        "NAT64 prefix  2001:db8:64::/96, announced by router fe80::",
        "DNS servers   2001:db8:1::1",
        "CLAT address  one of 2001:db8:1::/64",
        "MTU           1500, for IPv4 1472",
        "native IPv4   no",
        "verdict       clat would run",
    ] {
        ensure!(text.contains(line), "{line} in\n{text}");
    }
    let json = net.ask(&["detect", "--json"])?;
    ensure!(json.contains(r#""works":true"#), "{json}");
    // A host that has run it before knows its address.
    let mut clat = net.clat(&[])?;
    net.wait_for("running", ClientHost::is_running)?;
    let address = net.clat_address()?;
    clat.stop(PATIENCE)?;
    let state = net.directory.path().join("state").display().to_string();
    let text = net.ask(&["detect", "--state-dir", &state])?;
    let line = format!("CLAT address  {address}, stable address in the uplink's /64");
    ensure!(text.contains(&line), "{line} in\n{text}");
    let after = inspect(net.topology().client())?;
    ensure!(
        difference(&before, &after).is_empty(),
        "{:?}",
        difference(&before, &after)
    );
    Ok(())
}

/// Prints how long it took, which must not be long even on a busy machine.
fn took(what: &str, begin: Instant) -> Result<()> {
    let time = begin.elapsed();
    println!("{what}: {time:?}");
    ensure!(time < Duration::from_secs(5), "{what}: {time:?}");
    Ok(())
}

fn client_net() -> IpNet {
    IpNet::new_assert(Topology::client_address(0).into(), 64)
}
