//! Kinds of links on which neighbours have to find the CLAT's address: bridges, macvlans, switches
//! that snoop, networks without on-link prefixes.

use std::net::Ipv6Addr;
use std::time::Duration;

use anyhow::{Result, ensure};
use ipnet::{IpNet, Ipv6Net};
use lab::client_host::{ClientHost, LAN, RESOLVER, announcing};
use lab::command::output;
use lab::ip::ip6;
use lab::link::{add_address, add_route, join, link_local, remove, remove_address, remove_route};
use lab::namespace::Namespace;
use lab::nft::NFT;
use lab::router::Router;
use lab::suite::Test;
use lab::topology::{Topology, UPLINK};
use lab::traffic::ping::ping;
use lab::wait::wait_until;

use crate::neighbours::{neighbour, probe};
pub(crate) const TESTS: &[Test] = lab::tests![
    fc_40_a_bridge_is_the_uplink_and_gets_another_port,
    fc_41_a_macvlan_is_the_uplink,
    fc_42_a_switch_that_snoops_mld_passes_solicitations,
    fc_43_a_host_that_wants_the_address_later_does_not_get_it,
    fc_44_routers_are_answered_where_no_prefix_is_on_link,
    fc_45_an_uplink_is_replaced_by_another_of_the_same_name,
    fc_46_a_firewalls_reverse_path_filter_passes_the_clat,
];

/// A host of virtual machines: the link-layer address of a bridge is the lowest of its ports'.
fn fc_40_a_bridge_is_the_uplink_and_gets_another_port() -> Result<()> {
    let net = ClientHost::new()?;
    let (client, edge) = (net.topology().client(), &net.topology().edge);
    move_uplink(&net, "type bridge", "br0")?;
    ip6(client, &format!("link set {UPLINK} master br0"))?;
    give(&net, "br0")?;
    let _router = net.router(&announcing(600))?;
    let _clat = net.clat(&[])?;
    net.wait_for("running", ClientHost::is_running)?;
    net.ping()?;
    edge.set_sysctl("ipv6/neigh/client0/base_reachable_time_ms", "600000")?;
    let mac = "00:00:5e:00:53:01";
    ip6(client, "link add vnet0 type veth peer name vnet1")?;
    ip6(client, &format!("link set vnet0 address {mac}"))?;
    ip6(client, "link set vnet0 master br0")?;
    let address = net.clat_address()?;
    wait_until(|| Ok(neighbour(&net, address)?.contains(mac)))?;
    net.ping()
}

/// A container with an interface of its own on the host's network.
fn fc_41_a_macvlan_is_the_uplink() -> Result<()> {
    let net = ClientHost::new()?;
    move_uplink(
        &net,
        &format!("link {UPLINK} type macvlan mode bridge"),
        "mac0",
    )?;
    give(&net, "mac0")?;
    let _router = net.router(&announcing(600))?;
    let _clat = net.clat(&[])?;
    net.wait_for("running", ClientHost::is_running)?;
    ensure!(net.status()?.contains("uplink    mac0"));
    net.ping()?;
    probe(&net, 3)
}

/// It passes multicast to the ports whose hosts have reported that they listen (RFC 4541).
fn fc_42_a_switch_that_snoops_mld_passes_solicitations() -> Result<()> {
    let net = ClientHost::new()?;
    let (client, edge) = (net.topology().client(), &net.topology().edge);
    let switch = Namespace::new("switch")?;
    join((client, "eth1"), (&switch, "port0"), 1500)?;
    join((edge, "second"), (&switch, "port1"), 1500)?;
    // Queries are answered within a tenth of a second; then the switch stops to flood.
    ip6(
        &switch,
        "link add br0 type bridge mcast_snooping 1 mcast_querier 1 mcast_mld_version 2 \
         mcast_query_response_interval 10 mcast_startup_query_interval 50 mcast_query_interval 100",
    )?;
    for port in ["port0", "port1"] {
        ip6(&switch, &format!("link set {port} master br0"))?;
    }
    ip6(&switch, "link set br0 up")?;
    let of = |host: u16| -> IpNet {
        let address = Ipv6Addr::new(0x2001, 0xdb8, 8, 0, 0, 0, 0, host);
        IpNet::new_assert(address.into(), 64)
    };
    add_address((client, "eth1"), of(2))?;
    add_address((edge, "second"), of(1))?;
    add_route(client, "2001:db8:64::/96".parse()?, of(1).addr(), None)?;
    let _router = Router::start(edge, "second", &announcing(600))?;
    let _clat = net.clat(&["--uplink=eth1"])?;
    net.wait_for("running", ClientHost::is_running)?;
    let address = net.clat_address()?;
    let low = address.segments();
    let group = format!("ff02::1:ff{:02x}:{:x}", low[6] & 0xff, low[7]);
    wait_until(|| {
        let listeners = bridge(&switch)?;
        let mut lines = listeners.lines();
        Ok(lines.any(|line| line.contains(&group) && line.contains("port0")))
    })?;
    // The edge has to look for the address.
    ip6(edge, "neigh flush dev second")?;
    net.ping()
}

fn fc_43_a_host_that_wants_the_address_later_does_not_get_it() -> Result<()> {
    let net = ClientHost::new()?;
    let edge = &net.topology().edge;
    let _router = net.router(&announcing(600))?;
    let _clat = net.clat(&[])?;
    net.wait_for("running", ClientHost::is_running)?;
    let address = net.clat_address()?;
    edge.set_sysctl(&format!("ipv6/conf/{LAN}/accept_dad"), "1")?;
    ip6(edge, &format!("address add {address}/64 dev {LAN}"))?;
    wait_until(|| Ok(ip6(edge, &format!("address show dev {LAN}"))?.contains("dadfailed")))?;
    ip6(edge, &format!("address del {address}/64 dev {LAN}"))?;
    net.ping()
}

/// Hotels and campuses isolate hosts: prefixes are for addresses only (L flag 0, RFC 4861 section
/// 6.3.4), and everything goes to the router, which asks from its global address.
fn fc_44_routers_are_answered_where_no_prefix_is_on_link() -> Result<()> {
    let net = ClientHost::new()?;
    let (client, edge) = (net.topology().client(), &net.topology().edge);
    let own = IpNet::new_assert(Topology::client_address(0).into(), 64);
    remove_route(client, Ipv6Net::default().into(), RESOLVER.into())?;
    remove_address((client, UPLINK), own)?;
    ip6(
        client,
        &format!("address add {own} dev {UPLINK} noprefixroute nodad"),
    )?;
    let router = link_local(edge, LAN)?;
    ip6(
        client,
        &format!("route add default via {router} dev {UPLINK}"),
    )?;
    let _router = net.router(&announcing(600))?;
    let _clat = net.clat(&[])?;
    net.wait_for("running", ClientHost::is_running)?;
    net.ping()?;
    let address = net.clat_address()?;
    ip6(edge, &format!("neigh del {address} dev {LAN}"))?;
    // Nothing answers: what counts is that the edge knows where to send it.
    let short = Duration::from_millis(10);
    wait_until(|| {
        let _ = edge.run(|| ping(address, 56, short));
        Ok(neighbour(&net, address)?.contains("lladdr"))
    })
}

/// A USB modem that resets: another interface with the name, the address and the router of the old.
fn fc_45_an_uplink_is_replaced_by_another_of_the_same_name() -> Result<()> {
    let net = ClientHost::new()?;
    let (client, edge) = (net.topology().client(), &net.topology().edge);
    let router = net.router(&announcing(600))?;
    let _clat = net.clat(&[])?;
    net.wait_for("running", ClientHost::is_running)?;
    net.ping()?;
    drop(router);
    remove(client, UPLINK)?;
    join((client, UPLINK), (edge, LAN), 1500)?;
    add_address((edge, LAN), IpNet::new_assert(RESOLVER.into(), 64))?;
    net.give_address()?;
    let _router = net.router(&announcing(600))?;
    wait_until(|| Ok(client.run(short_ping).is_ok()))?;
    net.wait_for("running", ClientHost::is_running)?;
    net.ping()
}

/// firewalld does this by default (`IPv6_rpfilter=yes`).
fn fc_46_a_firewalls_reverse_path_filter_passes_the_clat() -> Result<()> {
    const RULES: &str = "\
table inet firewall {
    chain prerouting {
        type filter hook prerouting priority mangle + 10; policy accept;
        icmpv6 type { nd-router-advert, nd-neighbor-solicit } accept
        meta nfproto ipv6 fib saddr . mark . iif oif missing drop
    }
}
";
    let net = ClientHost::new()?;
    let client = net.topology().client();
    output(client, NFT, &["-f", "-"], RULES)?;
    let _router = net.router(&announcing(600))?;
    let _clat = net.clat(&[])?;
    net.wait_for("running", ClientHost::is_running)?;
    net.ping()?;
    probe(&net, 2)
}

fn short_ping() -> Result<()> {
    let short = Duration::from_millis(200);
    ping(lab::topology::SERVER, 56, short)?;
    Ok(())
}

/// Makes another interface for the uplink to be, and takes address and router from the old one.
fn move_uplink(net: &ClientHost, link: &str, name: &str) -> Result<()> {
    let client = net.topology().client();
    client.set_sysctl("ipv6/conf/default/accept_dad", "0")?;
    let own = IpNet::new_assert(Topology::client_address(0).into(), 64);
    remove_route(client, Ipv6Net::default().into(), RESOLVER.into())?;
    remove_address((client, UPLINK), own)?;
    ip6(client, &format!("link add name {name} {link}"))?;
    ip6(client, &format!("link set {name} up"))?;
    Ok(())
}

/// Gives the new uplink address and router.
fn give(net: &ClientHost, name: &str) -> Result<()> {
    let client = net.topology().client();
    let own = IpNet::new_assert(Topology::client_address(0).into(), 64);
    wait_until(|| Ok(ip6(client, &format!("address show dev {name}"))?.contains("inet6 fe80")))?;
    add_address((client, name), own)?;
    net.give_router()
}

/// The multicast listeners that a switch knows.
fn bridge(switch: &Namespace) -> Result<String> {
    output(switch, "/usr/sbin/bridge", &["mdb", "show"], "")
}
