//! `kill -9` at random moments: what is killed starts again, works, and leaves nothing.

use std::collections::BTreeSet;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use super::net::{Net, Program};
use super::{Found, Ground, Row};
use crate::installed::PATIENCE;

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "kill-clat",
        about: "kill -9 of clat at random moments: start, run, reload, stop",
        run: |ground| run(ground, Program::Clat),
    },
    Row {
        name: "kill-plat",
        about: "kill -9 of plat at random moments: start, run, reload, stop",
        run: |ground| run(ground, Program::Plat),
    },
];

/// What the program does when it is killed.
#[derive(Debug, Clone, Copy)]
enum Moment {
    Start,
    Run,
    Reload,
    Stop,
}

/// How long after the beginning of a run or a reload at most.
const LATEST: Duration = Duration::from_millis(60);

fn run(ground: &Ground<'_>, program: Program) -> Result<Found> {
    let mut random = ground.random();
    let mut net = Net::new(ground)?;
    let flow = net.flow()?;
    // How long a start and a stop take here, and which files are left of a run.
    let begin = Instant::now();
    net.stop_one(program)?;
    let stopping = begin.elapsed();
    let begin = Instant::now();
    net.start_ready(program)?;
    let starting = begin.elapsed();
    net.stop_one(program)?;
    let files = files(&net, program)?;
    for number in 0..ground.effort.kills {
        let (moment, limit) = match number % 4 {
            0 => (Moment::Start, starting),
            1 => (Moment::Run, LATEST),
            2 => (Moment::Reload, LATEST),
            _ => (Moment::Stop, stopping),
        };
        let delay = Duration::from_micros(random.below(limit.as_micros() as usize) as u64);
        let what = || format!("kill {number}, {delay:?} into {moment:?}");
        kill(&mut net, program, moment, delay, number).with_context(what)?;
        net.start_ready(program).with_context(what)?;
        flow.exchange(3).with_context(what)?;
        net.stop_one(program).with_context(what)?;
        let left = self::files(&net, program)?;
        ensure!(left == files, "{}: {left:?}, not {files:?}", what());
    }
    net.start_ready(program)?;
    flow.exchange(3)?;
    net.stop()?;
    let kills = ground.effort.kills;
    Ok(Found {
        what: format!("{kills} kills: every start after them works and every stop leaves nothing"),
        flow: None,
    })
}

fn kill(
    net: &mut Net,
    program: Program,
    moment: Moment,
    delay: Duration,
    number: u32,
) -> Result<()> {
    match moment {
        Moment::Start => net.start(program)?,
        Moment::Run => net.start_ready(program)?,
        Moment::Reload => {
            net.start_ready(program)?;
            net.change_file(number as usize / 4)?;
            net.daemon(program).signal(Signal::HUP)?;
        }
        Moment::Stop => {
            net.start_ready(program)?;
            net.daemon(program).signal(Signal::TERM)?;
        }
    }
    thread::sleep(delay);
    // One that was to stop may have done so.
    net.daemon(program).kill(PATIENCE)
}

/// The names in its run and state directories.
fn files(net: &Net, program: Program) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for kind in ["run", "state"] {
        list(&net.files(program, kind), &mut names)?;
    }
    Ok(names)
}

fn list(directory: &Path, names: &mut BTreeSet<String>) -> Result<()> {
    for entry in std::fs::read_dir(directory).with_context(|| directory.display().to_string())? {
        let path = entry?.path();
        names.insert(path.display().to_string());
        if path.is_dir() {
            list(&path, names)?;
        }
    }
    Ok(())
}
