//! Stopping, being killed, and starting again: the host is left as it was, and clients do not
//! notice more than a pause.

use std::net::IpAddr;

use anyhow::Result;
use lab::binaries::Binaries;
use lab::inspect::{difference, inspect};
use lab::installed::{Installed, PATIENCE};
use lab::suite::Test;
use lab::topology::{Plan, SERVER, Topology};
use lab::traffic::ping::ping;
use lab::traffic::tcp::{Way, transfer};
use rustix::process::Signal;

const TESTS: &[Test] = lab::tests![
    a_restart_of_plat_keeps_the_address_of_each_client,
    a_killed_plat_that_starts_again_keeps_the_address_of_each_client,
    after_sigterm_both_hosts_are_as_they_were,
    after_sigkill_a_new_start_works_and_cleans_up,
];

fn main() {
    lab::suite::run(TESTS)
}

fn a_restart_of_plat_keeps_the_address_of_each_client() -> Result<()> {
    keeps_addresses(|installed| installed.plat.stop(PATIENCE))
}

fn a_killed_plat_that_starts_again_keeps_the_address_of_each_client() -> Result<()> {
    keeps_addresses(|installed| {
        // The leases are saved at least once a minute, and when it is told to.
        installed.plat.signal(Signal::HUP)?;
        installed.plat.wait_for_line("4 leases saved", PATIENCE)?;
        installed.plat.kill(PATIENCE)
    })
}

fn after_sigterm_both_hosts_are_as_they_were() -> Result<()> {
    let network = Topology::new(&Plan::default())?;
    let before = [inspect(network.client())?, inspect(&network.edge)?];
    let mut installed = Installed::on(&Binaries::find()?, network)?;
    ping_server(&installed)?;
    let during = inspect(installed.topology.client())?;
    assert!(!difference(&before[0], &during).is_empty());
    installed.clats[0].stop(PATIENCE)?;
    installed.plat.stop(PATIENCE)?;
    let network = &installed.topology;
    let after = [inspect(network.client())?, inspect(&network.edge)?];
    assert_eq!(difference(&before[0], &after[0]), [""; 0], "client");
    assert_eq!(difference(&before[1], &after[1]), [""; 0], "edge");
    Ok(())
}

fn after_sigkill_a_new_start_works_and_cleans_up() -> Result<()> {
    let network = Topology::new(&Plan::default())?;
    let before = [inspect(network.client())?, inspect(&network.edge)?];
    let mut installed = Installed::on(&Binaries::find()?, network)?;
    ping_server(&installed)?;
    installed.clats[0].kill(PATIENCE)?;
    installed.plat.kill(PATIENCE)?;
    installed.restart_plat()?;
    installed.restart_clat(0)?;
    ping_server(&installed)?;
    installed.clats[0].stop(PATIENCE)?;
    installed.plat.stop(PATIENCE)?;
    let network = &installed.topology;
    let after = [inspect(network.client())?, inspect(&network.edge)?];
    assert_eq!(difference(&before[0], &after[0]), [""; 0], "client");
    assert_eq!(difference(&before[1], &after[1]), [""; 0], "edge");
    Ok(())
}

/// The clients come back in another order, so that an address is not kept by chance.
fn keeps_addresses(end: impl FnOnce(&mut Installed) -> Result<()>) -> Result<()> {
    let plan = Plan {
        clients: 4,
        ..Plan::default()
    };
    let mut installed = Installed::new(&Binaries::find()?, &plan)?;
    let order = [0, 1, 2, 3];
    let before = order.map(|number| seen_by_server(&installed.topology, number));
    end(&mut installed)?;
    installed.restart_plat()?;
    for (number, before) in order.into_iter().zip(before).rev() {
        let after = seen_by_server(&installed.topology, number)?;
        assert_eq!(after, before?, "client {number}");
    }
    Ok(())
}

fn seen_by_server(network: &Topology, number: usize) -> Result<IpAddr> {
    let client = &network.clients[number];
    let target = SERVER.into();
    let done = transfer(client, &network.server, target, Way::Upload, 1, PATIENCE)?;
    Ok(done.peer)
}

fn ping_server(installed: &Installed) -> Result<()> {
    let client = installed.topology.client();
    client.run(|| ping(SERVER, 56, PATIENCE))?;
    Ok(())
}
