//! Other routers on the LAN.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use lab::installed::PATIENCE;
use lab::process::Daemon;
use lab::suite::Test;
use lab::topology::{Plan, Topology};
use lab::wait::wait_until;

use super::host::on;

pub(crate) const TESTS: &[Test] =
    lab::tests![fp_45_a_router_program_that_starts_later_is_named_until_it_ends];

/// Tests that need a program of the system.
pub(crate) const PROGRAMS: &[(&str, &str)] = &[(
    "fp_45_a_router_program_that_starts_later_is_named_until_it_ends",
    RADVD,
)];

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
