//! `clat` where networks change at the wrong moment, and where others are careless.

use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use ipnet::{IpNet, Ipv6Net};
use lab::capture::Capture;
use lab::client_host::{
    ClientHost, LAN, RESOLVER, advertisement, announcing, directories, synthesised,
};
use lab::inspect::{difference, inspect};
use lab::installed::PATIENCE;
use lab::link::{
    add_address, add_blackhole, add_route, join, set_down, set_up, wait_for_link_local,
};
use lab::namespace::Namespace;
use lab::process::Daemon;
use lab::suite::Test;
use lab::topology::{PREF64, SERVER, Topology, UPLINK};
use lab::traffic::ping::ping;
use lab::traffic::ra::RaOption;
use lab::wait::wait_until;

const TESTS: &[Test] = lab::tests![
    a_link_that_flaps_is_not_taken_for_another_host,
    a_dns_server_that_the_host_hears_of_late_is_asked,
    an_uplink_that_comes_late_is_waited_for,
    the_advertisement_that_brought_ipv6_is_not_missed,
    a_network_that_others_ban_is_not_taken_for_ours,
    what_others_take_away_is_put_back,
    a_second_instance_of_the_same_name_is_refused,
    while_it_waits_the_host_is_as_it_was,
    the_whole_host_can_forward_as_older_kernels_do,
    neighbours_do_not_get_through_to_other_networks,
    routes_that_lead_nowhere_do_not_end_it,
    pd_12_a_black_hole_is_passed_over,
];

fn main() {
    lab::suite::run(TESTS)
}

fn a_link_that_flaps_is_not_taken_for_another_host() -> Result<()> {
    let net = ClientHost::new()?;
    let client = net.topology().client();
    client.set_sysctl("ipv6/conf/eth0/accept_dad", "1")?;
    let _router = net.router(&announcing(600))?;
    let mut clat = net.clat(&[])?;
    net.wait_for("running", ClientHost::is_running)?;
    let first = net.clat_address()?;
    clat.stop(PATIENCE)?;

    // A check that takes so long that the link goes down in its middle, four times.
    client.set_sysctl("ipv6/conf/eth0/dad_transmits", "40")?;
    let _clat = net.clat(&[])?;
    for _ in 0..4 {
        wait_until(|| has_address(client, first))?;
        set_down(client, UPLINK)?;
        wait_until(|| Ok(net.status()?.contains("no interface leads to IPv6")))?;
        set_up(client, UPLINK)?;
        net.give_address()?;
    }
    client.set_sysctl("ipv6/conf/eth0/dad_transmits", "1")?;
    set_down(client, UPLINK)?;
    set_up(client, UPLINK)?;
    net.give_address()?;
    net.wait_for("running again", ClientHost::is_running)?;
    let second = net.clat_address()?;
    ensure!(first == second, "{second} instead of {first}");
    Ok(())
}

fn a_dns_server_that_the_host_hears_of_late_is_asked() -> Result<()> {
    let net = ClientHost::new()?;
    let _dns = net.dns64(&synthesised(), 60)?;
    let _router = net.router(&advertisement(&[]))?;
    let file = net.directory.path().join("resolv.conf");
    std::fs::write(&file, "")?;
    let mount = format!("mount --bind {} /etc/resolv.conf", file.display());
    let flags = directories(net.directory.path()).join(" ");
    let run = format!("{mount} && exec {} {flags}", net.binaries.clat.display());
    let unshare = Path::new("/usr/bin/unshare");
    let _clat = Daemon::start(net.topology().client(), unshare, &["-m", "sh", "-c", &run])?;
    net.wait_for("waiting", |status| {
        status.contains("state     waiting: neither")
    })?;
    // It has given up asking routers and has nobody else to ask.
    let begin = Instant::now();
    std::fs::write(&file, format!("nameserver {RESOLVER}\n"))?;
    net.wait_for("running", ClientHost::is_running)?;
    ensure!(
        begin.elapsed() < Duration::from_secs(8),
        "{:?}",
        begin.elapsed()
    );
    net.ping()
}

fn an_uplink_that_comes_late_is_waited_for() -> Result<()> {
    let net = ClientHost::new()?;
    let (client, edge) = (net.topology().client(), &net.topology().edge);
    let mut clat = net.clat(&["--uplink=eth1"])?;
    net.wait_for("waiting", |status| {
        status.contains("state     waiting: there is no interface eth1 (--uplink)")
    })?;
    join((client, "eth1"), (edge, "second"), 1500)?;
    client.set_sysctl("ipv6/conf/eth1/accept_ra", "1")?;
    let of = |host| -> IpNet {
        IpNet::new_assert(Ipv6Addr::new(0x2001, 0xdb8, 8, 0, 0, 0, 0, host).into(), 64)
    };
    add_address((client, "eth1"), of(2))?;
    add_address((edge, "second"), of(1))?;
    let _router = lab::router::Router::start(edge, "second", &announcing(600))?;
    net.wait_for("running", ClientHost::is_running)?;
    net.ping()?;
    clat.stop(PATIENCE)
}

/// The router speaks once. Who begins to listen when the kernel has taken that up is too late.
fn the_advertisement_that_brought_ipv6_is_not_missed() -> Result<()> {
    let net = ClientHost::new()?;
    let (client, edge) = (net.topology().client(), &net.topology().edge);
    client.set_sysctl("ipv6/conf/eth0/accept_ra", "1")?;
    lab::link::remove_route(client, Ipv6Net::default().into(), RESOLVER.into())?;
    let _clat = net.clat(&[])?;
    net.wait_for("waiting", |status| {
        status.contains("state     waiting: no interface leads to IPv6")
    })?;
    let once = announcing(600).build();
    edge.run(|| {
        let socket = socket2::Socket::new(
            socket2::Domain::IPV6,
            socket2::Type::RAW,
            Some(socket2::Protocol::ICMPV6),
        )?;
        socket.bind_device(Some(LAN.as_bytes()))?;
        socket.set_multicast_hops_v6(255)?;
        let index = nix::net::if_::if_nametoindex(LAN)?;
        let all_nodes = "ff02::1".parse()?;
        let to = std::net::SocketAddrV6::new(all_nodes, 0, 0, index);
        socket.send_to(&once, &std::net::SocketAddr::from(to).into())?;
        Ok(())
    })?;
    let begin = Instant::now();
    net.wait_for("running", ClientHost::is_running)?;
    ensure!(
        begin.elapsed() < Duration::from_secs(3),
        "{:?}",
        begin.elapsed()
    );
    net.ping()
}

fn a_network_that_others_ban_is_not_taken_for_ours() -> Result<()> {
    let net = ClientHost::new()?;
    let _router = net.router(&announcing(600))?;
    let client = net.topology().client();
    add_blackhole(client, "2001:db8:bad::/48".parse()?)?;
    // A network of the site's own: it does not reach the world.
    lab::link::add_unreachable(client, "fd00:5::/48".parse()?)?;
    let _clat = net.clat(&[])?;
    net.wait_for("running", ClientHost::is_running)?;
    let status = net.status()?;
    ensure!(
        status.contains("stable address in the uplink's /64"),
        "{status}"
    );
    net.ping()
}

fn what_others_take_away_is_put_back() -> Result<()> {
    let net = ClientHost::new()?;
    let _router = net.router(&announcing(600))?;
    let client = net.topology().client();
    let _clat = net.clat(&[])?;
    net.wait_for("running", ClientHost::is_running)?;
    let own: IpNet = "192.0.0.1/32".parse()?;
    lab::link::remove_address((client, "clat"), own)?;
    wait_until(|| Ok(net.default_route()?.contains("192.0.0.1")))?;
    net.ping()?;
    set_down(client, "clat")?;
    wait_until(|| net.has_default_route())?;
    net.ping()
}

fn a_second_instance_of_the_same_name_is_refused() -> Result<()> {
    let net = ClientHost::new()?;
    // The first one waits for its network.
    let _first = net.clat(&[])?;
    net.wait_for("waiting", |status| status.contains("state     waiting"))?;
    let mut second = net.clat(&[])?;
    second.wait_for_line("another process already runs", PATIENCE)?;
    ensure!(second.wait(PATIENCE)?.code() == Some(1));
    ensure!(net.status()?.contains("state     waiting"));
    Ok(())
}

fn while_it_waits_the_host_is_as_it_was() -> Result<()> {
    let net = ClientHost::new()?;
    let client = net.topology().client();
    let before = inspect(client)?;
    let router = net.router(&announcing(600))?;
    let _clat = net.clat(&[])?;
    net.wait_for("running", ClientHost::is_running)?;
    router.announce(&announcing(0));
    net.wait_for("waiting", |status| {
        status.contains("state     waiting: neither")
    })?;
    wait_until(|| Ok(difference(&before, &inspect(client)?).is_empty()))?;
    router.announce(&announcing(600));
    net.wait_for("running again", ClientHost::is_running)?;
    net.ping()
}

fn the_whole_host_can_forward_as_older_kernels_do() -> Result<()> {
    let net = ClientHost::new()?;
    let client = net.topology().client();
    client.set_sysctl("ipv6/conf/eth0/accept_ra", "1")?;
    let before = inspect(client)?;
    let _router = net.router(&announcing(600))?;
    let mut clat = net.clat(&["--forwarding=host"])?;
    net.wait_for("running", ClientHost::is_running)?;
    let read = |key: &str| {
        let path = format!("/proc/sys/net/ipv6/conf/{key}");
        client.run(|| Ok(std::fs::read_to_string(&path)?.trim().to_owned()))
    };
    ensure!(read("all/forwarding")? == "1");
    ensure!(read("eth0/accept_ra")? == "2");
    net.ping()?;
    clat.stop(PATIENCE)?;
    let changed = difference(&before, &inspect(client)?);
    // A default route that was announced meanwhile is the kernel's own.
    let ours = changed.iter().filter(|line| !line.contains(" len 0 "));
    let ours: Vec<_> = ours.collect();
    ensure!(ours.is_empty(), "{ours:?}");
    Ok(())
}

/// The uplink forwards, but for the CLAT alone.
fn neighbours_do_not_get_through_to_other_networks() -> Result<()> {
    let net = ClientHost::new()?;
    let _router = net.router(&announcing(600))?;
    let (client, edge) = (net.topology().client(), &net.topology().edge);
    let inside = Namespace::new("inside")?;
    join((client, "inside0"), (&inside, "eth0"), 1500)?;
    let of = |host| -> IpNet {
        IpNet::new_assert(
            Ipv6Addr::new(0x2001, 0xdb8, 0x77, 0, 0, 0, 0, host).into(),
            64,
        )
    };
    add_address((client, "inside0"), of(1))?;
    add_address((&inside, "eth0"), of(2))?;
    add_route(&inside, Ipv6Net::default().into(), of(1).addr(), None)?;
    let through = Topology::client_address(0).into();
    add_route(edge, "2001:db8:77::/64".parse()?, through, None)?;
    wait_for_link_local(&inside, PATIENCE)?;
    client.run(|| ping(of(2).addr(), 56, PATIENCE))?;
    let _clat = net.clat(&[])?;
    net.wait_for("running", ClientHost::is_running)?;
    net.ping()?;
    // An answer would not be forwarded in any case: what counts is what gets there.
    let capture = Capture::start(&[(&inside, "eth0")], 64)?;
    let short = Duration::from_millis(500);
    ensure!(edge.run(|| ping(of(2).addr(), 56, short)).is_err());
    client.run(|| ping(of(2).addr(), 56, PATIENCE))?;
    let captured = capture.stop()?;
    let from = |packet: &&lab::capture::Packet, whom: IpAddr| match whom {
        IpAddr::V6(whom) => packet.ip().get(8..24) == Some(&whom.octets()[..]),
        IpAddr::V4(_) => false,
    };
    let all = || captured.packets.iter();
    ensure!(all().any(|packet| from(&packet, of(1).addr())));
    let through = all().filter(|packet| from(packet, RESOLVER.into())).count();
    ensure!(through == 0, "{through} packets of a neighbour got through");
    Ok(())
}

fn routes_that_lead_nowhere_do_not_end_it() -> Result<()> {
    let net = ClientHost::new()?;
    let router = net.router(&announcing(600))?;
    let client = net.topology().client();
    let _clat = net.clat(&[])?;
    net.wait_for("running", ClientHost::is_running)?;
    // What a VPN does that lets nothing past it.
    lab::link::remove_route(client, Ipv6Net::default().into(), RESOLVER.into())?;
    add_blackhole(client, Ipv6Net::default())?;
    net.wait_for("waiting", |status| {
        status.contains("state     waiting: no interface leads to IPv6")
    })?;
    lab::link::remove_blackhole(client, Ipv6Net::default())?;
    net.give_router()?;
    router.announce(&announcing(600));
    net.wait_for("running again", ClientHost::is_running)?;
    net.ping()
}

fn pd_12_a_black_hole_is_passed_over() -> Result<()> {
    let net = ClientHost::new()?;
    // The better one by the rules (RFC 7050 section 3), and nobody translates it.
    let lower: Ipv6Net = "2001:db8:63::/96".parse()?;
    let options = [lower, PREF64].map(|prefix| RaOption::pref64(prefix, 600));
    let _router = net.router(&advertisement(&options))?;
    let _clat = net.clat(&[&format!("--probe={SERVER}")])?;
    net.wait_for("running", ClientHost::is_running)?;
    let status = net.status()?;
    ensure!(status.contains("2001:db8:64::/96, announced"), "{status}");
    net.ping()
}

fn has_address(namespace: &Namespace, address: Ipv6Addr) -> Result<bool> {
    let wanted: String = address
        .octets()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    namespace.run(|| {
        let all = std::fs::read_to_string("/proc/thread-self/net/if_inet6")?;
        Ok(all.contains(&wanted))
    })
}
