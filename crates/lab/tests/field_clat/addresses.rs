//! Which of the host's addresses `clat` translates to, where the host has several kinds.

use std::net::Ipv6Addr;

use anyhow::{Result, ensure};
use ipnet::IpNet;
use lab::client_host::{ClientHost, announcing};
use lab::link::{add_address, lend_address, remove_address};
use lab::suite::Test;
use lab::topology::{Topology, UPLINK};

pub(crate) const TESTS: &[Test] = lab::tests![
    fc_03_source_address_choice_comes_before_the_filter,
    fc_03_a_local_network_is_left_when_dhcpv6_gives_an_address,
];

/// DHCPv6 gives a single global address. Beside it the link has a network of the site's own, or one
/// that is being renumbered away: neither leads to the NAT64 and back.
fn fc_03_source_address_choice_comes_before_the_filter() -> Result<()> {
    let net = ClientHost::new()?;
    let client = net.topology().client();
    make_single(&net)?;
    let _router = net.router(&announcing(600))?;
    for other in ["fd00:77::5/64", "2001:db8:99::5/64"] {
        let other: IpNet = other.parse()?;
        match other.addr().to_string().starts_with("fd") {
            true => add_address((client, UPLINK), other)?,
            false => lend_address((client, UPLINK), other, 600, 0)?,
        }
        let _clat = net.clat(&[])?;
        net.wait_for("running", ClientHost::is_running)?;
        ensure!(net.clat_address()? == own(), "{}", net.clat_address()?);
        net.ping()?;
        remove_address((client, UPLINK), other)?;
    }
    Ok(())
}

/// Router advertisements come first, DHCPv6 takes a second more.
fn fc_03_a_local_network_is_left_when_dhcpv6_gives_an_address() -> Result<()> {
    let net = ClientHost::new()?;
    let client = net.topology().client();
    add_address((client, UPLINK), "fd00:77::5/64".parse()?)?;
    remove_address((client, UPLINK), IpNet::new_assert(own().into(), 64))?;
    let _router = net.router(&announcing(600))?;
    let _clat = net.clat(&[])?;
    net.wait_for("running in the site's network", |status| {
        ClientHost::is_running(status) && status.contains("as fd00:77:")
    })?;
    add_address((client, UPLINK), IpNet::new_assert(own().into(), 128))?;
    net.wait_for("the global address", |status| {
        ClientHost::is_running(status) && status.contains(&format!("as {}", own()))
    })?;
    net.ping()
}

/// Makes the host's address a single one, as DHCPv6 gives it.
fn make_single(net: &ClientHost) -> Result<()> {
    let end = (net.topology().client(), UPLINK);
    add_address(end, "2001:db8:1::ffff/64".parse()?)?;
    remove_address(end, IpNet::new_assert(own().into(), 64))?;
    add_address(end, IpNet::new_assert(own().into(), 128))?;
    remove_address(end, "2001:db8:1::ffff/64".parse()?)
}

fn own() -> Ipv6Addr {
    Topology::client_address(0)
}
