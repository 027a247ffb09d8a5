//! A flood of SYNs on a LAN, and the neighbour entries that outlast one. From forged addresses:
//! `neighbour_table.rs`.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Result, ensure};
use lab::binaries::Binaries;
use lab::flood::beside;
use lab::installed::Installed;
use lab::ip::ip;
use lab::link::set_down;
use lab::namespace::Namespace;
use lab::suite::Test;
use lab::topology::{Plan, SERVER, Topology, embedded};
use lab::traffic::packets::{SYN, tcp};
use lab::wait::wait_until;

use crate::host::on;

pub(crate) const TESTS: &[Test] = lab::tests![
    fp_22_a_flood_of_syns_to_many_addresses_and_ports_stalls_nobody,
    fp_22_the_kernel_keeps_the_way_to_the_tun,
    fp_22_the_kernel_keeps_the_way_to_the_tun_of_a_clat,
];

/// Those that need `ip`.
pub(crate) const WITH_IP: [&str; 2] = [TESTS[1].0, TESTS[2].0];

const LAN: &str = "--lan=client0";
const POOL: &str = "--pool=192.168.64.9";

/// What a worm does: one host, all addresses of a network and all ports.
fn fp_22_a_flood_of_syns_to_many_addresses_and_ports_stalls_nobody() -> Result<()> {
    let installed = on(Topology::new(&Plan::default())?, &[POOL, LAN])?;
    let scan = |number: u32| {
        let network = SERVER.to_bits() >> 8 << 8;
        let to = Ipv4Addr::from_bits(network + number % 256);
        let port = 1 + (number / 256) as u16;
        let source = (Topology::client_address(0), 2000 + (number % 50_000) as u16);
        tcp(source.into(), (embedded(to), port).into(), SYN, (1, 0), b"")
    };
    beside(&installed, Duration::from_secs(3), &scan)?.check()
}

/// A TUN that is set down loses its entries.
fn fp_22_the_kernel_keeps_the_way_to_the_tun() -> Result<()> {
    let installed = on(Topology::new(&Plan::default())?, &[POOL])?;
    let edge = &installed.topology.edge;
    let is_kept = || {
        let kept = kept(edge)?;
        Ok(kept.contains("0.0.0.0 dev nat64") && kept.contains("fe80::1 dev nat64"))
    };
    ensure!(is_kept()?, "{}", ip(edge, "neigh show nud all")?);
    set_down(edge, "nat64")?;
    wait_until(is_kept)
}

fn fp_22_the_kernel_keeps_the_way_to_the_tun_of_a_clat() -> Result<()> {
    let installed = Installed::new(&Binaries::find()?, &Plan::default())?;
    let client = installed.topology.client();
    let kept = kept(client)?;
    ensure!(kept.contains("0.0.0.0 dev clat"), "{kept}");
    ensure!(
        kept.contains("2001:db8:1:") && kept.lines().count() == 2,
        "{kept}"
    );
    Ok(())
}

fn kept(namespace: &Namespace) -> Result<String> {
    ip(namespace, "neigh show nud permanent")
}
