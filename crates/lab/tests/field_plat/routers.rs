//! Other routers on the LAN, and a host with as many routes as routers have.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use lab::command::output;
use lab::installed::PATIENCE;
use lab::ip::{IP, ip};
use lab::process::Daemon;
use lab::suite::Test;
use lab::topology::{Plan, Topology};
use lab::wait::wait_until;

use super::host::on;

pub(crate) const TESTS: &[Test] = lab::tests![
    fp_45_a_router_program_that_starts_later_is_named_until_it_ends,
    fp_46_a_hundred_thousand_routes_that_flap_cost_little,
];

/// Tests that need a program of the system.
pub(crate) const PROGRAMS: [(&str, &str); 2] = [
    (
        "fp_45_a_router_program_that_starts_later_is_named_until_it_ends",
        RADVD,
    ),
    ("fp_46_a_hundred_thousand_routes_that_flap_cost_little", IP),
];

const RADVD: &str = "/usr/sbin/radvd";

fn fp_45_a_router_program_that_starts_later_is_named_until_it_ends() -> Result<()> {
    let flags = ["--lan=access", "--pool=192.168.64.9"];
    let installed = on(Topology::new(&Plan::with_routers())?, &flags)?;
    let edge = &installed.topology.edge;
    let directory = tempfile::tempdir()?;
    let below = |name: &str| directory.path().join(name).display().to_string();
    let (configuration, pid) = (below("radvd.conf"), below("radvd.pid"));
    std::fs::write(&configuration, "interface access { AdvSendAdvert on; };\n")?;
    let flags = ["-n", "-m", "stderr", "-C", &configuration, "-p", &pid];
    let mut radvd = Daemon::start(edge, Path::new(RADVD), &flags)?;
    let line = "another program of this host (radvd?) answers router solicitations on access now";
    installed
        .plat
        .wait_for_line(line, PATIENCE)
        .with_context(|| radvd.log())?;
    let told = "routers   another program of this host is one on access\n";
    let status = installed.ask_plat(&["status"])?;
    ensure!(status.contains(told), "{status}");
    radvd.stop(PATIENCE)?;
    let line = "no other program of this host answers router solicitations on access any more";
    installed.plat.wait_for_line(line, PATIENCE)?;
    wait_until(|| Ok(!installed.ask_plat(&["status"])?.contains(told)))?;
    let log = installed.plat.log();
    let lines = log.matches("answers router solicitations on access now");
    ensure!(lines.count() == 1, "{log}");
    Ok(())
}

/// A border router with half of the Internet's routes.
fn fp_46_a_hundred_thousand_routes_that_flap_cost_little() -> Result<()> {
    const ROUTES: u32 = 100_000;
    let topology = Topology::new(&Plan::with_routers())?;
    let mut lines = String::new();
    for number in 0..ROUTES {
        let [_, a, b, c] = (number + (16 << 16)).to_be_bytes();
        writeln!(lines, "route add {a}.{b}.{c}.0/24 via 203.0.113.2")?;
    }
    output(&topology.edge, IP, &["-batch", "-"], &lines)?;
    let flags = ["--lan=access", "--pool=192.168.64.9", "--egress=masquerade"];
    let installed = on(topology, &flags)?;
    let edge = &installed.topology.edge;
    let flap = |time: Duration| -> Result<Duration> {
        let (used, begin) = (installed.plat.processor_time()?, Instant::now());
        while begin.elapsed() < time {
            ip(edge, "route del 16.0.7.0/24")?;
            ip(edge, "route add 16.0.7.0/24 via 203.0.113.2")?;
        }
        Ok(installed.plat.processor_time()?.saturating_sub(used))
    };
    // The first look is made at once, and lasts for a good part of a second where nothing is
    // optimised, or for longer on a busy machine.
    let time = Duration::from_secs(2);
    let mut used = [time; 5];
    for window in &mut used {
        *window = flap(time)?;
        if *window < time / 10 {
            return Ok(());
        }
    }
    bail!("{used:?}, each of {time:?}")
}
