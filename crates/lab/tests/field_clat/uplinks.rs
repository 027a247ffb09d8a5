//! Which uplink, router and prefix `clat` takes where several offer themselves.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use lab::client_host::{ClientHost, LAN, advertisement, announcing, resolver, synthesised};
use lab::inspect::{difference, ensure_unchanged, inspect};
use lab::installed::PATIENCE;
use lab::ip::ip6;
use lab::link::join;
use lab::link::link_local;
use lab::namespace::Namespace;
use lab::process::Daemon;
use lab::router::Router;
use lab::suite::Test;
use lab::topology::PREF64;
use lab::traffic::ra::RaOption;
use lab::tun::Tun;
use lab::wait::wait_until;
use rustix::process::Signal;

pub(crate) const TESTS: &[Test] = lab::tests![
    fc_01_routes_that_cover_the_prefix_do_not_lead_its_packets_away,
    fc_01_a_full_tunnel_vpn_does_not_take_the_ipv4_that_it_needs,
    fc_02_prefix_and_next_hop_are_of_one_router,
    fc_02_a_rogue_router_does_not_move_what_works,
    fc_02_a_prefix_that_covers_the_hosts_network_is_named_and_not_used,
    fc_11_a_resolver_that_falls_silent_does_not_end_it,
    fc_60_the_first_line_says_what_is_asked,
    fc_61_a_default_route_for_some_sources_leads_to_an_uplink,
    fc_62_sighup_with_nothing_changed_keeps_the_tun,
    fc_63_policy_rules_that_others_flush_come_back,
];

/// A VPN of OpenVPN's kind (`redirect-gateway ipv6`), and what an administrator bans.
fn fc_01_routes_that_cover_the_prefix_do_not_lead_its_packets_away() -> Result<()> {
    let net = ClientHost::new()?;
    let client = net.topology().client();
    let _router = net.router(&announcing(600))?;
    let mut clat = net.clat(&[])?;
    net.wait_for("running", ClientHost::is_running)?;
    let _tunnel = Tun::open(client, "tun0")?;
    let before = inspect(client)?;
    ip6(client, "route add 2000::/3 dev tun0")?;
    net.wait_for("a route of its own", |status| {
        ClientHost::is_running(status) && status.contains("IPv6 routes lead to tun0")
    })?;
    let json = net.status_json()?;
    ensure!(json.contains("\"routes_lead_to\":\"tun0\""), "{json}");
    net.ping()?;
    ip6(client, "route add default dev tun0 metric 1")?;
    ip6(client, "route add unreachable 2001:db8:64::/48")?;
    let (used, begin) = (clat.processor_time()?, Instant::now());
    while begin.elapsed() < Duration::from_secs(1) {
        net.ping()?;
        let status = net.status()?;
        ensure!(ClientHost::is_running(&status), "{status}");
    }
    let used = clat.processor_time()?.saturating_sub(used);
    ensure!(used < begin.elapsed() / 5, "{used:?} of processor time");
    let log = clat.log();
    ensure!(!log.contains("IPv4 is off"), "{log}");
    ensure!(log.lines().count() < 30, "{log}");
    for route in ["2000::/3 dev tun0", "unreachable 2001:db8:64::/48"] {
        ip6(client, &format!("route del {route}"))?;
    }
    ip6(client, "route del default dev tun0 metric 1")?;
    net.wait_for("its routes", |status| !status.contains("lead to tun0"))?;
    net.ping()?;
    // Those of the tunnel come with its link-local address.
    let is_left = |line: &String| !line.contains("tun0");
    let left = || {
        Ok(difference(&before, &inspect(client)?)
            .into_iter()
            .any(|line| is_left(&line)))
    };
    wait_until(|| left().map(|any| !any))?;
    clat.stop(PATIENCE)
}

/// A VPN of Tailscale's and Mullvad's kind: rules that come before the main table, and an endpoint
/// with an IPv4 address, behind the CLAT itself.
fn fc_01_a_full_tunnel_vpn_does_not_take_the_ipv4_that_it_needs() -> Result<()> {
    let net = ClientHost::new()?;
    let client = net.topology().client();
    let before = inspect(client)?;
    let _router = net.router(&announcing(600))?;
    let mut clat = net.clat(&[])?;
    net.wait_for("running", ClientHost::is_running)?;
    let tunnel = Tun::open(client, "tun0")?;
    ip6(client, "route add default dev tun0 table 52")?;
    ip6(client, "rule add priority 5270 lookup 52")?;
    net.wait_for("a route of its own", |status| {
        ClientHost::is_running(status) && status.contains("IPv6 routes lead to tun0")
    })?;
    net.ping()?;
    let log = clat.log();
    ensure!(!log.contains("IPv4 is off"), "{log}");
    // It starts with the VPN as well.
    clat.stop(PATIENCE)?;
    let mut clat = net.clat(&[])?;
    net.wait_for("running again", |status| {
        ClientHost::is_running(status) && status.contains("uplink    eth0")
    })?;
    net.ping()?;
    clat.stop(PATIENCE)?;
    ip6(client, "rule del priority 5270")?;
    drop(tunnel);
    ensure_unchanged(&before, client)
}

/// A router for NAT64 only, beside the default router, which knows nothing of NAT64.
fn fc_02_prefix_and_next_hop_are_of_one_router() -> Result<()> {
    let net = ClientHost::new()?;
    let client = net.topology().client();
    let second = second_router(&net)?;
    let address = link_local(&second, "eth0")?;
    ip6(client, "route del default")?;
    ip6(client, &format!("route add default via {address} dev eth0"))?;
    let mut only_nat64 = announcing(600);
    only_nat64.lifetime = 0;
    let _router = Router::start(&net.topology().edge, BRIDGE, &only_nat64)?;
    let _default = Router::start(&second, "eth0", &advertisement(&[]))?;
    let _clat = net.clat(&[])?;
    net.wait_for("running", ClientHost::is_running)?;
    net.ping()?;
    let edge = link_local(&net.topology().edge, BRIDGE)?;
    let status = net.status()?;
    ensure!(status.contains(&format!("by router {edge}")), "{status}");
    let json = net.status_json()?;
    let router = format!("\"router\":\"{edge}\"");
    ensure!(
        json.contains(&router) && !json.contains("routes_lead_to"),
        "{json}"
    );
    Ok(())
}

fn fc_02_a_rogue_router_does_not_move_what_works() -> Result<()> {
    let net = ClientHost::new()?;
    let rogue = second_router(&net)?;
    let _router = Router::start(&net.topology().edge, BRIDGE, &announcing(600))?;
    let clat = net.clat(&[])?;
    net.wait_for("running", ClientHost::is_running)?;
    net.ping()?;
    let lower = "2001:db8:63::/96".parse()?;
    let options = [lower, PREF64].map(|prefix| RaOption::pref64(prefix, 65528));
    let mut message = advertisement(&options).build();
    // High preference (RFC 4191 section 2.2).
    message[5] |= 0x08;
    let router = Router::start(&rogue, "eth0", &advertisement(&[]))?;
    router.announce_bytes(message);
    clat.wait_for_line("the NAT64 prefix 2001:db8:63::/96, announced by", PATIENCE)?;
    let status = net.status()?;
    ensure!(status.contains("2001:db8:64::/96, announced"), "{status}");
    let log = clat.log();
    ensure!(!log.contains("IPv4 goes on"), "{log}");
    net.ping()
}

fn fc_02_a_prefix_that_covers_the_hosts_network_is_named_and_not_used() -> Result<()> {
    let net = ClientHost::new()?;
    let covering = "2001:db8:1::/48".parse()?;
    let options = [covering, PREF64].map(|prefix| RaOption::pref64(prefix, 600));
    let router = net.router(&advertisement(&options[..1]))?;
    let clat = net.clat(&[])?;
    let line = "the NAT64 prefix 2001:db8:1::/48 covers this host's own 2001:db8:1::/64";
    clat.wait_for_line(line, PATIENCE)?;
    net.wait_for("waiting", |status| status.contains("state     waiting"))?;
    router.announce(&advertisement(&options));
    net.wait_for("running", ClientHost::is_running)?;
    let status = net.status()?;
    ensure!(status.contains("2001:db8:64::/96, announced"), "{status}");
    net.ping()
}

fn fc_11_a_resolver_that_falls_silent_does_not_end_it() -> Result<()> {
    let net = ClientHost::new()?;
    let dns = net.dns64(&synthesised(), 1)?;
    let _router = net.router(&advertisement(&[resolver()]))?;
    let clat = net.clat(&[])?;
    net.wait_for("running", ClientHost::is_running)?;
    // An answer holds for ten seconds at least.
    let begin = Instant::now();
    drop(dns);
    while begin.elapsed() < Duration::from_millis(11_500) {
        let status = net.status()?;
        ensure!(ClientHost::is_running(&status), "{status}");
        net.ping()?;
    }
    let log = clat.log();
    ensure!(!log.contains("no longer valid"), "{log}");
    // It is asked again soon.
    let other = net.dns64(&["2001:db8:46::192.0.0.170".parse()?], 60)?;
    net.wait_for("the new answer", |status| {
        status.contains("2001:db8:46::/96, told")
    })?;
    ensure!(other.asked() == 1);
    Ok(())
}

fn fc_60_the_first_line_says_what_is_asked() -> Result<()> {
    let net = ClientHost::new()?;
    let _router = net.router(&advertisement(&[]))?;
    let clat = net.clat(&[])?;
    clat.wait_for_line("neither routers nor DNS", PATIENCE)?;
    let log = clat.log();
    let place = |text: &str| log.find(text).unwrap_or(usize::MAX);
    let first = place("waiting: the routers and DNS servers of eth0 are asked");
    ensure!(first < place("neither routers nor DNS"), "{log}");
    Ok(())
}

/// OpenWrt's netifd makes its default routes for the prefixes that the uplink gave.
fn fc_61_a_default_route_for_some_sources_leads_to_an_uplink() -> Result<()> {
    let net = ClientHost::new()?;
    let client = net.topology().client();
    ip6(client, "route del default")?;
    let source = "from 2001:db8:1::/64 via 2001:db8:1::1 dev eth0";
    ip6(client, &format!("route add default {source}"))?;
    let _router = net.router(&announcing(600))?;
    let _clat = net.clat(&[])?;
    net.wait_for("running", ClientHost::is_running)?;
    net.ping()
}

fn fc_62_sighup_with_nothing_changed_keeps_the_tun() -> Result<()> {
    let net = ClientHost::new()?;
    let router = net.router(&announcing(600))?;
    let clat = net.clat(&[])?;
    net.wait_for("running", ClientHost::is_running)?;
    let tun = index(net.topology().client(), "clat")?;
    let asked = router.solicited();
    clat.signal(Signal::HUP)?;
    clat.wait_for_line("restarting detection", PATIENCE)?;
    wait_until(|| Ok(router.solicited() > asked))?;
    net.ping()?;
    ensure!(index(net.topology().client(), "clat")? == tun);
    off_is_not_in(&clat)
}

/// Programs that manage rules may flush those of others (systemd-networkd with
/// `ManageForeignRoutingPolicyRules=`, its default).
fn fc_63_policy_rules_that_others_flush_come_back() -> Result<()> {
    let net = ClientHost::new()?;
    let client = net.topology().client();
    let _router = net.router(&announcing(600))?;
    let _tunnel = Tun::open(client, "tun0")?;
    ip6(client, "route add 2000::/3 dev tun0")?;
    let clat = net.clat(&[])?;
    net.wait_for("running", ClientHost::is_running)?;
    let is_there = || Ok(ip6(client, "rule list")?.contains("lookup 464 proto 64"));
    wait_until(is_there)?;
    ip6(client, "rule del priority 64 lookup 464")?;
    wait_until(is_there)?;
    ip6(client, "route flush table 464")?;
    wait_until(|| Ok(ip6(client, "route list table 464")?.contains("proto 64")))?;
    net.ping()?;
    off_is_not_in(&clat)
}

fn off_is_not_in(clat: &Daemon) -> Result<()> {
    let log = clat.log();
    ensure!(!log.contains("IPv4 is off"), "{log}");
    Ok(())
}

const BRIDGE: &str = "br0";

/// Makes the client's link one of several hosts, by a bridge at the edge, and adds one.
fn second_router(net: &ClientHost) -> Result<Namespace> {
    let (edge, second) = (&net.topology().edge, Namespace::new("second")?);
    ip6(edge, &format!("link add {BRIDGE} type bridge"))?;
    for key in ["accept_dad", "accept_ra"] {
        edge.set_sysctl(&format!("ipv6/conf/{BRIDGE}/{key}"), "0")?;
    }
    ip6(edge, &format!("link set {LAN} master {BRIDGE}"))?;
    join((edge, "second"), (&second, "eth0"), 1500)?;
    ip6(edge, &format!("link set second master {BRIDGE}"))?;
    ip6(edge, &format!("address del 2001:db8:1::1/64 dev {LAN}"))?;
    ip6(edge, &format!("link set {BRIDGE} up"))?;
    ip6(
        edge,
        &format!("address add 2001:db8:1::1/64 dev {BRIDGE} nodad"),
    )?;
    wait_until(|| Ok(link_local(edge, BRIDGE).is_ok() && link_local(&second, "eth0").is_ok()))?;
    Ok(second)
}

/// The number of an interface, which another one of the same name has not.
fn index(namespace: &Namespace, name: &str) -> Result<String> {
    let text = ip6(namespace, &format!("-o link show dev {name}"))?;
    Ok(text.split(':').next().unwrap_or_default().to_owned())
}
