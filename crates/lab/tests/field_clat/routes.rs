//! IPv4 routes of other programs beside `clat`: link-local addressing, other CLATs, VPNs, containers.

use anyhow::{Result, ensure};
use lab::client_host::{ClientHost, announcing};
use lab::installed::PATIENCE;
use lab::ip::{IP, ip};
use lab::link::join;
use lab::namespace::Namespace;
use lab::nft::{NFT, nft};
use lab::suite::Test;
use lab::topology::{SERVER, UPLINK};
use lab::traffic::ping::ping;
use lab::tun::Tun;
use lab::wait::wait_until;

pub(crate) const TESTS: &[Test] = lab::tests![
    fc_07_a_link_local_default_route_is_no_native_ipv4,
    fc_07_a_link_local_default_route_that_comes_later_does_not_take_ipv4,
    fc_13_another_clat_on_the_uplink_is_named_and_left_alone,
    fc_13_another_clat_with_a_tun_is_named_and_left_alone,
    fc_25_the_routes_of_an_exit_node_are_not_native_ipv4,
    fc_26_containers_behind_a_masquerade_reach_ipv4,
    fc_27_chains_that_begin_to_drop_are_named_until_they_stop,
    fc_25_a_vpn_that_passes_over_default_routes_passes_over_ours,
];

/// What some of them need.
pub(crate) const PROGRAMS: &[(&str, &str)] = &[
    ("fc_07_a_link_local_default_route_is_no_native_ipv4", IP),
    (
        "fc_07_a_link_local_default_route_that_comes_later_does_not_take_ipv4",
        IP,
    ),
    (
        "fc_13_another_clat_on_the_uplink_is_named_and_left_alone",
        IP,
    ),
    ("fc_13_another_clat_with_a_tun_is_named_and_left_alone", IP),
    ("fc_25_the_routes_of_an_exit_node_are_not_native_ipv4", IP),
    ("fc_26_containers_behind_a_masquerade_reach_ipv4", IP),
    (
        "fc_27_chains_that_begin_to_drop_are_named_until_they_stop",
        NFT,
    ),
    (
        "fc_25_a_vpn_that_passes_over_default_routes_passes_over_ours",
        IP,
    ),
];

/// The route that the kernel takes to the server.
fn way_to_server(client: &Namespace) -> Result<String> {
    ip(client, &format!("-4 route get {SERVER}"))
}

fn fc_07_a_link_local_default_route_is_no_native_ipv4() -> Result<()> {
    let net = ClientHost::new()?;
    let client = net.topology().client();
    let _router = net.router(&announcing(600))?;
    // As avahi-autoipd and dhcpcd leave it where no DHCP server answers.
    ip(client, "address add 169.254.7.7/16 dev eth0")?;
    ip(
        client,
        "route add default dev eth0 scope link src 169.254.7.7 metric 1002",
    )?;
    let clat = net.clat(&[])?;
    net.wait_for("running", ClientHost::is_running)?;
    net.ping()?;
    clat.wait_for_line(
        "the IPv4 default route of eth0 (metric 1002) leads to no router",
        PATIENCE,
    )?;
    ensure!(way_to_server(client)?.contains("dev clat"));
    Ok(())
}

fn fc_07_a_link_local_default_route_that_comes_later_does_not_take_ipv4() -> Result<()> {
    let net = ClientHost::new()?;
    let client = net.topology().client();
    let _router = net.router(&announcing(600))?;
    let mut clat = net.clat(&[])?;
    net.wait_for("running", ClientHost::is_running)?;
    ip(client, "address add 169.254.7.7/16 dev eth0")?;
    let before = net.default_route()?;
    // No metric is better than 0.
    ip(
        client,
        "route add default dev eth0 scope link src 169.254.7.7",
    )?;
    clat.wait_for_line("the routes 0.0.0.0/1 and 128.0.0.0/1", PATIENCE)?;
    wait_until(|| Ok(way_to_server(client)?.contains("dev clat")))?;
    net.ping()?;
    ensure!(ip(client, "-4 route get 9.9.9.9")?.contains("dev clat"));
    ip(client, "route del default dev eth0 scope link")?;
    wait_until(|| Ok(net.default_route()? == before))?;
    net.ping()?;
    clat.stop(PATIENCE)
}

fn fc_13_another_clat_on_the_uplink_is_named_and_left_alone() -> Result<()> {
    let net = ClientHost::new()?;
    let client = net.topology().client();
    let _router = net.router(&announcing(600))?;
    let clat = net.clat(&[])?;
    net.wait_for("running", ClientHost::is_running)?;
    // NetworkManager's (ipv4.clat=auto) has no interface of its own.
    ip(client, "address add 192.0.0.5/32 dev eth0")?;
    ip(
        client,
        "route add default dev eth0 src 192.0.0.5 metric 100 mtu 1472",
    )?;
    net.wait_for("waiting", |status| {
        status.contains("waiting: another CLAT") && status.contains("192.0.0.5 on eth0")
    })?;
    clat.wait_for_line("192.0.0.5 on eth0 has the default route", PATIENCE)?;
    ensure!(
        !lab::link::exists(client, "clat")?,
        "the TUN is still there"
    );
    ip(client, "route del default dev eth0 metric 100")?;
    net.wait_for("running again", ClientHost::is_running)?;
    net.ping()
}

fn fc_13_another_clat_with_a_tun_is_named_and_left_alone() -> Result<()> {
    let net = ClientHost::new()?;
    let client = net.topology().client();
    let _router = net.router(&announcing(600))?;
    // As systemd-networkd's and clatd's are.
    let _tun = Tun::open(client, "cl-eth0")?;
    ip(client, "address add 192.0.0.1/32 dev cl-eth0")?;
    ip(client, "link set cl-eth0 up")?;
    ip(client, "route add default dev cl-eth0 metric 2048")?;
    let _clat = net.clat(&[])?;
    net.wait_for("waiting", |status| {
        status.contains("waiting: another CLAT") && status.contains("192.0.0.1 on cl-eth0")
    })?;
    ensure!(!lab::link::exists(client, "clat")?, "a TUN beside it");
    let _always = ip(client, "link del cl-eth0")?;
    net.wait_for("running", ClientHost::is_running)
}

/// Tailscale routes to an exit node by a table of its own (52) and rules from 5210 on; what it sends
/// itself has a mark.
fn fc_25_the_routes_of_an_exit_node_are_not_native_ipv4() -> Result<()> {
    let net = ClientHost::new()?;
    let client = net.topology().client();
    let _router = net.router(&announcing(600))?;
    let _tun = Tun::open(client, "tailscale0")?;
    ip(client, "address add 100.64.0.7/32 dev tailscale0")?;
    ip(client, "link set tailscale0 up")?;
    ip(client, "route add default dev tailscale0 table 52")?;
    ip(
        client,
        "rule add pref 5210 fwmark 0x80000/0xff0000 lookup main",
    )?;
    ip(client, "rule add pref 5270 lookup 52")?;
    let _clat = net.clat(&[])?;
    net.wait_for("running", ClientHost::is_running)?;
    let marked = ip(client, &format!("route get {SERVER} mark 0x80000"))?;
    ensure!(marked.contains("dev clat"), "{marked}");
    ensure!(way_to_server(client)?.contains("dev tailscale0"));
    Ok(())
}

/// `docker run` on a host whose only IPv4 is the CLAT's.
fn fc_26_containers_behind_a_masquerade_reach_ipv4() -> Result<()> {
    let net = ClientHost::new()?;
    let client = net.topology().client();
    let _router = net.router(&announcing(600))?;
    let container = Namespace::new("container")?;
    join((&container, UPLINK), (client, "docker0"), 1500)?;
    ip(&container, "address add 172.17.0.2/16 dev eth0")?;
    ip(&container, "route add default via 172.17.0.1")?;
    ip(client, "address add 172.17.0.1/16 dev docker0")?;
    client.set_sysctl("ipv4/ip_forward", "1")?;
    let chain = "{ type nat hook postrouting priority srcnat; }";
    nft(
        client,
        &format!(
            "add table ip docker; add chain ip docker post {chain}; \
         add rule ip docker post ip saddr 172.17.0.0/16 oifname != docker0 masquerade"
        ),
    )?;
    let _clat = net.clat(&[])?;
    net.wait_for("running", ClientHost::is_running)?;
    container.run(|| ping(SERVER, 56, PATIENCE))?;
    Ok(())
}

/// wg-quick's rules for 0.0.0.0/0: the main table, but for its default routes; then its own table.
/// A firewall that is switched on, and off again.
fn fc_27_chains_that_begin_to_drop_are_named_until_they_stop() -> Result<()> {
    let net = ClientHost::new()?;
    let client = net.topology().client();
    let _router = net.router(&announcing(600))?;
    let clat = net.clat(&[])?;
    net.wait_for("running", ClientHost::is_running)?;
    ensure!(!net.status()?.contains("dropping"));
    let chain = "{ type filter hook forward priority filter; policy drop; }";
    nft(
        client,
        &format!("add table inet filter; add chain inet filter forward {chain}"),
    )?;
    let named = "chain forward of table inet filter";
    net.wait_for("the chain", |status| {
        status.contains(&format!("dropping  {named}"))
    })?;
    clat.wait_for_line(&format!("{named} drops forwarded packets"), PATIENCE)?;
    nft(client, "delete table inet filter")?;
    net.wait_for("no chain", |status| !status.contains("\ndropping"))?;
    clat.wait_for_line(&format!("{named} no longer drops"), PATIENCE)
}

fn fc_25_a_vpn_that_passes_over_default_routes_passes_over_ours() -> Result<()> {
    let net = ClientHost::new()?;
    let client = net.topology().client();
    let _router = net.router(&announcing(600))?;
    ip(client, "address add 169.254.7.7/16 dev eth0")?;
    ip(
        client,
        "route add default dev eth0 scope link src 169.254.7.7 metric 1002",
    )?;
    let _tun = Tun::open(client, "wg0")?;
    ip(client, "address add 10.9.0.2/32 dev wg0")?;
    ip(client, "link set wg0 up")?;
    ip(client, "route add default dev wg0 table 51820")?;
    ip(client, "rule add not fwmark 51820 table 51820")?;
    ip(client, "rule add table main suppress_prefixlength 0")?;
    let _clat = net.clat(&[])?;
    net.wait_for("running", ClientHost::is_running)?;
    ensure!(way_to_server(client)?.contains("dev wg0"));
    let own = ip(client, &format!("route get {SERVER} mark 51820"))?;
    ensure!(own.contains("dev clat"), "{own}");
    Ok(())
}
