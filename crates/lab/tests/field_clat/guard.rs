//! The table that keeps neighbours from the host's other networks, where others forward too.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use anyhow::{Result, ensure};
use ipnet::{IpNet, Ipv6Net};
use lab::client_host::{ClientHost, announcing};
use lab::installed::PATIENCE;
use lab::link::{add_address, add_route, join, wait_for_link_local};
use lab::namespace::Namespace;
use lab::suite::Test;
use lab::topology::{Topology, UPLINK};
use lab::traffic::ping::ping;

use crate::tools::wait_until;

pub(crate) const TESTS: &[Test] = lab::tests![
    fc_06_virtual_machines_are_reached_whoever_begins_to_forward_first,
    fc_06_the_guard_comes_back_when_others_forward_no_more,
];

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
        reach(&net, &machine)?;
        let _router = net.router(&announcing(600))?;
        let mut clat = net.clat(&[])?;
        net.wait_for("running", ClientHost::is_running)?;
        net.ping()?;
        reach(&net, &machine)?;
        clat.stop(PATIENCE)?;
        reach(&net, &machine)?;
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
    client.set_sysctl("ipv6/conf/all/forwarding", "1")?;
    wait_until(|| Ok(reach(&net, &machine).is_ok()))?;
    clat.wait_for_line("another program lets this host forward IPv6", PATIENCE)?;
    net.ping()?;
    client.set_sysctl("ipv6/conf/all/forwarding", "0")?;
    wait_until(|| Ok(reach(&net, &machine).is_err()))?;
    clat.wait_for_line("forwarded to the CLAT alone", PATIENCE)?;
    net.ping()
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
