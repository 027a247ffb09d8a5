//! Several gateways: routing daemons carry the truth about each to its neighbours.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::installed::PATIENCE;
use lab::ip::{IP, ip, ip6};
use lab::scale_out::{BIRD, PREFIX, ScaleOut, ZEBRA};
use lab::suite::Test;
use lab::topology::{SERVER, embedded};
use lab::traffic::ping::ping;
use lab::wait::wait_until;

const ROUTED: &str = "sc_02_bird_and_frr_announce_what_each_gateway_can_serve";

const TESTS: &[Test] = lab::tests![sc_02_bird_and_frr_announce_what_each_gateway_can_serve];

fn main() {
    match nix::unistd::geteuid().is_root() {
        true => {
            lab::suite::run_with_programs(TESTS, &[(ROUTED, BIRD), (ROUTED, ZEBRA), (ROUTED, IP)])
        }
        // Its daemons become another user.
        false => {
            lab::suite::run_with_programs(TESTS, &[(ROUTED, "FRR, for which root is needed,")])
        }
    }
}

fn sc_02_bird_and_frr_announce_what_each_gateway_can_serve() -> Result<()> {
    let mut network = ScaleOut::new()?;
    network.start_routers()?;
    network.start_bird_on_gateway(0)?;
    network.start_frr_on_gateway(1)?;
    network.start_plats()?;
    let is_served_by = |network: &ScaleOut, gateways: &[usize]| {
        wait_until(|| {
            let seen = (network.served_by()?, network.pools_in_core()?);
            Ok(seen.0 == gateways && seen.1 == gateways)
        })
        .with_context(|| format!("served by {:?}", network.served_by()))
        .with_context(|| network.routing_logs())
    };
    is_served_by(&network, &[0, 1])?;
    let reach = |patience| network.client.run(|| ping(embedded(SERVER), 56, patience));
    reach(PATIENCE).context("through two gateways")?;

    network.withhold_default_from(&[0])?;
    network.plats[0].wait_for_line("routes of prefix and pool are withdrawn", PATIENCE)?;
    is_served_by(&network, &[1])?;
    reach(PATIENCE).context("through the other gateway")?;
    let gateway = &network.gateways[0];
    ensure!(!ip6(gateway, "route show")?.contains(PREFIX));
    ensure!(!ip(gateway, "route show")?.contains("dev nat64"));
    // What comes all the same is translated, and does not go back where it came from.
    let way = ip6(gateway, "route get 2001:db8:64::c633:6402")?;
    ensure!(way.contains("dev nat64"), "{way}");
    let status = network.ask(0, &["status"])?;
    ensure!(
        status.contains("routes    withdrawn: prefix and pool"),
        "{status}"
    );
    ensure!(status.contains("broken"), "{status}");

    network.withhold_default_from(&[0, 1])?;
    network.plats[1].wait_for_line("routes of prefix and pool are withdrawn", PATIENCE)?;
    is_served_by(&network, &[])?;
    ensure!(reach(Duration::from_millis(200)).is_err());

    network.withhold_default_from(&[])?;
    is_served_by(&network, &[0, 1])?;
    reach(PATIENCE).context("through two gateways again")?;
    ensure!(ip(&network.gateways[0], "rule show")?.lines().count() == 3);

    network.plats[1].kill(PATIENCE)?;
    is_served_by(&network, &[0])?;
    reach(PATIENCE).context("after a gateway was killed")?;
    Ok(())
}
