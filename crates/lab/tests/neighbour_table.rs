//! A full neighbour table. All namespaces of the machine share it, so that nothing else may be tested
//! at the same time: this test has a target of its own.

use std::net::Ipv6Addr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::binaries::Binaries;
use lab::flood::beside;
use lab::installed::{Installed, Setup};
use lab::ip::{IP, ip};
use lab::link::link_local;
use lab::suite::Test;
use lab::topology::{Plan, SERVER, Topology, UPLINK, embedded};
use lab::traffic::packets::{SYN, tcp};

const TESTS: &[Test] = lab::tests![fp_22_a_flood_of_syns_from_forged_neighbours_stalls_nobody];

/// Long enough for entries to age: those that are five seconds old go when the table is full.
const TIME: Duration = Duration::from_secs(7);

fn main() {
    const NEEDED: &[(&str, &str)] = &[(TESTS[0].0, IP)];
    lab::suite::run_with_programs(TESTS, NEEDED)
}

/// Each from another address of the link. The answers make the kernel look for all of them.
fn fp_22_a_flood_of_syns_from_forged_neighbours_stalls_nobody() -> Result<()> {
    let setup = Setup::plat_alone(&["--pool=192.168.64.9", "--lan=client0"]);
    let installed = Installed::with(&Binaries::find()?, Topology::new(&Plan::default())?, setup)?;
    let (client, edge) = (installed.topology.client(), &installed.topology.edge);
    // All namespaces share the table: the client must not lose its router in it, as no other
    // machine would.
    let shown = ip(edge, "-br link show client0")?;
    let station = shown.split_whitespace().nth(2).context("an address")?;
    for router in [
        link_local(edge, "client0")?,
        installed.topology.edge_address(),
    ] {
        ip(
            client,
            &format!("neigh replace {router} lladdr {station} dev {UPLINK} nud permanent"),
        )?;
    }
    let forged = |number: u32| {
        let network = Topology::client_address(0).to_bits() >> 64 << 64;
        let source = Ipv6Addr::from_bits(network + 0x1_0000 + u128::from(number));
        let server = (embedded(SERVER), 9).into();
        tcp((source, 4000).into(), server, SYN, (1, 0), b"")
    };
    let flow = beside(&installed, TIME, &forged)?;
    let entries = ip(edge, "-6 neigh show nud all dev client0")?;
    let count = entries.lines().count();
    ensure!(count > 500, "only {count} entries: no flood");
    flow.check()
}
