//! Daemons without traffic: nothing wakes them up.

use std::time::{Duration, Instant};
use std::{iter, thread};

use anyhow::{Result, ensure};
use lab::binaries::Binaries;
use lab::installed::{Installed, Setup};
use lab::process::Daemon;
use lab::suite::Test;
use lab::topology::{Plan, SERVER, Topology};
use lab::traffic::PATIENCE;
use lab::traffic::ping::ping;

const TESTS: &[Test] = lab::tests![nobody_wakes_up_when_no_timer_is_due];

/// In which nothing may happen.
const QUIET: Duration = Duration::from_secs(2);
/// By then, what the set-up and the last packets have left is over: `plat` looks once more a second
/// after a packet, neighbours are asked whether they are still there, addresses are announced.
const SETTLED: Duration = Duration::from_secs(40);

fn main() {
    lab::suite::run(TESTS)
}

fn nobody_wakes_up_when_no_timer_is_due() -> Result<()> {
    let plan = Plan::default();
    // The session of the ping ends long after the test.
    let setup = Setup::plat_alone(&["--pool=192.168.64.9", "--icmp-timeout=10m"]).with_clats();
    let installed = Installed::with(&Binaries::find()?, Topology::new(&plan)?, setup)?;
    installed
        .topology
        .client()
        .run(|| ping(SERVER, 56, PATIENCE))?;
    let daemons: Vec<&Daemon> = iter::once(&installed.plat)
        .chain(&installed.clats)
        .collect();
    let deadline = Instant::now() + SETTLED;
    loop {
        let before = wakeups(&daemons)?;
        // Not a wait for something: the time in which nothing may happen.
        thread::sleep(QUIET);
        let after = wakeups(&daemons)?;
        if before == after {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "plat and clat had {before:?} wakeups and {after:?} {QUIET:?} later"
        );
    }
}

fn wakeups(daemons: &[&Daemon]) -> Result<Vec<u64>> {
    daemons.iter().map(|daemon| daemon.wakeups()).collect()
}
