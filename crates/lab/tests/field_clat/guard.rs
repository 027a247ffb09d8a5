//! The table that keeps neighbours from the host's other networks, where others forward too.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use anyhow::{Result, ensure};
use ipnet::{IpNet, Ipv6Net};
use lab::client_host::{ClientHost, announcing, directories};
use lab::installed::PATIENCE;
use lab::ip::{IP, ip};
use lab::link::{add_address, add_route, join, wait_for_link_local};
use lab::namespace::Namespace;
use lab::process::Daemon;
use lab::suite::Test;
use lab::topology::{SERVER, Topology, UPLINK};
use lab::traffic::ping::ping;
use lab::wait::wait_until;
use tempfile::TempDir;

pub(crate) const TESTS: &[Test] = lab::tests![
    fc_06_virtual_machines_are_reached_whoever_begins_to_forward_first,
    fc_06_the_guard_comes_back_when_others_forward_no_more,
    fc_06_an_uplink_that_others_want_to_forward_too_is_theirs_as_well,
    fc_06_two_instances_on_one_uplink_let_each_others_packets_pass,
    fc_47_parameters_that_others_set_back_are_restored_at_once,
    fc_48_neighbours_are_kept_out_where_the_whole_host_forwards,
];

/// Tests that need a program of the system.
pub(crate) const PROGRAMS: &[(&str, &str)] = &[(
    "fc_06_two_instances_on_one_uplink_let_each_others_packets_pass",
    IP,
)];

/// libvirt and Docker set the first; the second is for administrators of single interfaces.
fn fc_06_virtual_machines_are_reached_whoever_begins_to_forward_first() -> Result<()> {
    let keys = [
        "all/forwarding".to_owned(),
        format!("{UPLINK}/force_forwarding"),
    ];
    for key in keys {
        let (net, machine) = with_machine()?;
        let client = net.topology().client();
        client.set_sysctl(&format!("ipv6/conf/{key}"), "1")?;
        client.set_sysctl("ipv6/conf/vnet0/force_forwarding", "1")?;
        wait_until(|| Ok(reach(&net, &machine).is_ok()))?;
        let _router = net.router(&announcing(600))?;
        let mut clat = net.clat(&[])?;
        net.wait_for("running", ClientHost::is_running)?;
        net.ping()?;
        wait_until(|| Ok(reach(&net, &machine).is_ok()))?;
        clat.stop(PATIENCE)?;
        wait_until(|| Ok(reach(&net, &machine).is_ok()))?;
    }
    Ok(())
}

fn fc_06_the_guard_comes_back_when_others_forward_no_more() -> Result<()> {
    let (net, machine) = with_machine()?;
    let client = net.topology().client();
    let _router = net.router(&announcing(600))?;
    let clat = net.clat(&[])?;
    net.wait_for("running", ClientHost::is_running)?;
    client.set_sysctl("ipv6/conf/vnet0/force_forwarding", "1")?;
    ensure!(reach(&net, &machine).is_err(), "a neighbour got through");
    if let Some(before) = carried_in_the_kernel(&net)? {
        net.ping()?;
        let grown = carried_in_the_kernel(&net)?.map(|now| now - before);
        ensure!(grown >= Some(2), "the guard stands in the way: {grown:?}");
        ensure!(reach(&net, &machine).is_err(), "a neighbour got through");
    }
    client.set_sysctl("ipv6/conf/all/forwarding", "1")?;
    wait_until(|| Ok(reach(&net, &machine).is_ok()))?;
    clat.wait_for_line("another program lets this host forward IPv6", PATIENCE)?;
    net.ping()?;
    client.set_sysctl("ipv6/conf/all/forwarding", "0")?;
    wait_until(|| Ok(reach(&net, &machine).is_err()))?;
    clat.wait_for_line("forwarded to the CLAT alone", PATIENCE)?;
    net.ping()
}

/// The parameter has the value that they write already.
fn fc_06_an_uplink_that_others_want_to_forward_too_is_theirs_as_well() -> Result<()> {
    let (net, machine) = with_machine()?;
    let client = net.topology().client();
    let key = format!("ipv6/conf/{UPLINK}/force_forwarding");
    let _router = net.router(&announcing(600))?;
    let mut clat = net.clat(&[])?;
    net.wait_for("running", ClientHost::is_running)?;
    client.set_sysctl("ipv6/conf/vnet0/force_forwarding", "1")?;
    for _ in 0..2 {
        ensure!(reach(&net, &machine).is_err(), "a neighbour got through");
        client.set_sysctl(&key, "1")?;
        wait_until(|| Ok(reach(&net, &machine).is_ok()))?;
        net.ping()?;
        // They want it no more, but the CLAT does.
        client.set_sysctl(&key, "0")?;
        wait_until(|| Ok(client.sysctl(&key)? == "1"))?;
        net.ping()?;
    }
    client.set_sysctl(&key, "1")?;
    clat.wait_for_line("stays as it is when this one ends", PATIENCE)?;
    wait_until(|| Ok(reach(&net, &machine).is_ok()))?;
    clat.stop(PATIENCE)?;
    ensure!(client.sysctl(&key)? == "1");
    reach(&net, &machine)
}

/// Two NAT64 prefixes on one link: an instance for each.
fn fc_06_two_instances_on_one_uplink_let_each_others_packets_pass() -> Result<()> {
    let (net, machine) = with_machine()?;
    let client = net.topology().client();
    client.set_sysctl("ipv6/conf/vnet0/force_forwarding", "1")?;
    let _router = net.router(&announcing(600))?;
    let mut first = net.clat(&[])?;
    net.wait_for("running", ClientHost::is_running)?;
    let directory = TempDir::new()?;
    let dirs = directories(directory.path());
    let mut flags = vec!["--tun=clat1"];
    flags.extend(dirs.iter().map(String::as_str));
    let mut second = Daemon::start(client, &net.binaries.clat, &flags)?;
    second.wait_for_line("ready: this host", PATIENCE)?;
    net.ping()?;
    ip(
        client,
        &format!("route add {SERVER}/32 dev clat1 src 192.0.0.3"),
    )?;
    net.ping()?;
    ensure!(reach(&net, &machine).is_err(), "a neighbour got through");
    // The uplink goes on forwarding, and guarding, for the other one alone.
    first.stop(PATIENCE)?;
    net.ping()?;
    wait_until(|| Ok(reach(&net, &machine).is_err()))?;
    second.stop(PATIENCE)?;
    let key = format!("ipv6/conf/{UPLINK}/force_forwarding");
    ensure!(client.sysctl(&key)? == "0");
    Ok(())
}

/// `sysctl --system`, or a network manager that knows better.
fn fc_47_parameters_that_others_set_back_are_restored_at_once() -> Result<()> {
    let net = ClientHost::new()?;
    let client = net.topology().client();
    let _router = net.router(&announcing(600))?;
    let mut clat = net.clat(&[])?;
    net.wait_for("running", ClientHost::is_running)?;
    for dev in [UPLINK, "clat"] {
        let key = format!("ipv6/conf/{dev}/force_forwarding");
        client.set_sysctl(&key, "0")?;
        wait_until(|| Ok(client.sysctl(&key)? == "1"))?;
    }
    net.ping()?;
    clat.wait_for_line("undid: sysctl -w net.ipv6.conf.", PATIENCE)?;
    net.wait_for("the repairs", |status| {
        status.contains("repaired  2 changes")
    })?;
    clat.stop(PATIENCE)?;
    let key = format!("ipv6/conf/{UPLINK}/force_forwarding");
    ensure!(client.sysctl(&key)? == "0");
    Ok(())
}

/// Before Linux 6.17 a single interface cannot forward.
fn fc_48_neighbours_are_kept_out_where_the_whole_host_forwards() -> Result<()> {
    let (net, machine) = with_machine()?;
    let client = net.topology().client();
    let key = "ipv6/conf/all/forwarding";
    let _router = net.router(&announcing(600))?;
    let mut clat = net.clat(&["--forwarding=host"])?;
    net.wait_for("running", ClientHost::is_running)?;
    net.ping()?;
    ensure!(client.sysctl(key)? == "1");
    ensure!(reach(&net, &machine).is_err(), "a neighbour got through");
    // libvirt writes what is there already.
    client.set_sysctl(key, "1")?;
    wait_until(|| Ok(reach(&net, &machine).is_ok()))?;
    net.ping()?;
    clat.stop(PATIENCE)?;
    ensure!(client.sysctl(key)? == "1");
    reach(&net, &machine)
}

/// A host with a virtual machine, whose network the edge has a route to.
fn with_machine() -> Result<(ClientHost, Namespace)> {
    let net = ClientHost::new()?;
    let machine = Namespace::new("machine")?;
    let (client, edge) = (net.topology().client(), &net.topology().edge);
    join((client, "vnet0"), (&machine, "eth0"), 1500)?;
    add_address((client, "vnet0"), of_machines(1))?;
    add_address((&machine, "eth0"), of_machines(2))?;
    let default = Ipv6Net::default().into();
    add_route(&machine, default, of_machines(1).addr(), None)?;
    let through: IpAddr = Topology::client_address(0).into();
    add_route(edge, of_machines(0).trunc(), through, None)?;
    wait_for_link_local(&machine, PATIENCE)?;
    wait_for_link_local(client, PATIENCE)?;
    Ok((net, machine))
}

/// Packets that the kernel has translated; `None` where it does not.
fn carried_in_the_kernel(net: &ClientHost) -> Result<Option<u64>> {
    let status = net.status()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("fast path on: "));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.map(str::parse).transpose()?)
}

/// Pings the machine from the edge, through the host.
fn reach(net: &ClientHost, _machine: &Namespace) -> Result<()> {
    let short = Duration::from_millis(700);
    let edge = &net.topology().edge;
    edge.run(|| ping(of_machines(2).addr(), 56, short))?;
    Ok(())
}

fn of_machines(host: u16) -> IpNet {
    let address = Ipv6Addr::new(0x2001, 0xdb8, 0x77, 0, 0, 0, 0, host);
    IpNet::new_assert(address.into(), 64)
}
