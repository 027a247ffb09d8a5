//! The restart soak: the real `plat` is started again and again with state files that were damaged
//! at random. Every start succeeds, what is damaged is set aside and named, and nothing of it is
//! taken up; what is whole is taken up as it was.
//!
//! Some runs are killed: their journal is damaged as well, and no line of it that was altered may
//! be carried out on the host.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow, ensure};

use crate::binaries::Binaries;
use crate::inspect::{Facts, inspect};
use crate::installed::{Installed, PATIENCE, Setup};
use crate::random::Random;
use crate::topology::{Plan, Topology};

/// What to run.
#[derive(Debug, Clone, Copy)]
pub struct Restarts {
    /// State files to damage.
    pub files: u32,
    /// Networks at the same time, each with a `plat`.
    pub networks: u32,
    /// Where the random numbers begin.
    pub seed: u64,
}

/// What was done.
#[derive(Debug, Clone, Copy, Default)]
pub struct Outcome {
    /// Starts with damaged files.
    pub starts: u32,
    /// Damaged files.
    pub files: u32,
    /// Those of them that were journals of a killed `plat`.
    pub journals: u32,
}

/// Secret, leases, sessions.
const FILES: [&str; 3] = ["secret", "dynamic.map", "sessions"];
const FLAGS: [&str; 5] = [
    "--pool=192.168.64.9",
    "--dynamic-pool=192.168.65.0/24",
    "--queues=1",
    "--shards=1",
    "--max-sessions=1000",
];
/// Of so many runs one is killed.
const KILLED: usize = 4;

/// Runs it.
///
/// # Errors
/// When a start fails, or takes up what it must not.
pub fn run(binaries: &Binaries, restarts: &Restarts) -> Result<Outcome> {
    let all = Mutex::new(Outcome::default());
    let add = |one: Outcome| {
        let mut all = all
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        all.starts += one.starts;
        all.files += one.files;
        all.journals += one.journals;
        all.files < restarts.files
    };
    let work = |number: u32| {
        let mut random = Random::new(restarts.seed ^ u64::from(number + 1) << 32);
        let mut gateway = Gateway::new(binaries)?;
        while add(gateway.round(&mut random)?) {}
        gateway.finish()
    };
    thread::scope(|scope| {
        let networks =
            (0..restarts.networks.max(1)).map(|number| scope.spawn(move || work(number)));
        let networks: Vec<_> = networks.collect();
        networks.into_iter().try_for_each(|one| {
            let ended = one.join();
            ended.map_err(|_| anyhow!("a thread panicked"))?
        })
    })?;
    let all = all.into_inner();
    Ok(all.unwrap_or_else(std::sync::PoisonError::into_inner))
}

/// A `plat` with leases and sessions, and its files as they were when it ended.
struct Gateway {
    installed: Installed,
    state: PathBuf,
    journal: PathBuf,
    whole: [Vec<u8>; 3],
    /// The host without it, and with it.
    without: Facts,
    with: Facts,
}

impl Gateway {
    fn new(binaries: &Binaries) -> Result<Self> {
        let topology = Topology::new(&Plan::default())?;
        let without = inspect(&topology.edge)?;
        let mut installed = Installed::with(binaries, topology, Setup::plat_alone(&FLAGS))?;
        let with = inspect(&installed.topology.edge)?;
        installed.plat.stop(PATIENCE)?;
        let state = installed.directory().join("plat/state");
        let journal = installed.directory().join("plat/run/nat64.journal");
        fill(&state)?;
        installed.restart_plat()?;
        installed.plat.stop(PATIENCE)?;
        let read = |name: &str| std::fs::read(state.join(name)).context(name.to_owned());
        let whole = [read(FILES[0])?, read(FILES[1])?, read(FILES[2])?];
        for (name, bytes) in FILES[1..].iter().zip(&whole[1..]) {
            ensure!(entries(bytes).len() == ENTRIES, "{name}: {}", text(bytes));
        }
        Ok(Self {
            installed,
            state,
            journal,
            whole,
            without,
            with,
        })
    }

    /// One start with one or more damaged files, and its end.
    fn round(&mut self, random: &mut Random) -> Result<Outcome> {
        let damaged = damage_some(random, &self.whole);
        for (name, bytes) in FILES.iter().zip(&damaged) {
            let _ = std::fs::remove_file(self.state.join(format!("{name}.damaged")));
            std::fs::write(self.state.join(name), bytes)?;
        }
        self.installed.restart_plat()?;
        let what = |error: anyhow::Error| {
            let files = damaged.iter().map(|bytes| text(bytes));
            let files: Vec<String> = files.collect();
            error.context(format!("{files:?}: {}", self.installed.plat.log()))
        };
        self.check_start(&damaged).map_err(what)?;
        let is_killed = random.below(KILLED) == 0;
        if is_killed {
            self.installed.plat.kill(PATIENCE)?;
            let mut bytes = std::fs::read(&self.journal).context("the journal")?;
            random.damage(&mut bytes);
            std::fs::write(&self.journal, bytes)?;
        } else {
            self.installed.plat.stop(PATIENCE)?;
            self.check_end(&damaged)?;
        }
        let files = damaged.iter().zip(&self.whole);
        let files = files.filter(|(damaged, whole)| damaged != whole).count() as u32;
        Ok(Outcome {
            starts: 1,
            files: files + u32::from(is_killed),
            journals: is_killed.into(),
        })
    }

    /// What the log says was taken up, and where the damaged files are.
    fn check_start(&self, damaged: &[Vec<u8>; 3]) -> Result<()> {
        let log = self.installed.plat.log();
        for (number, name) in FILES.iter().enumerate() {
            let is_damaged = damaged[number] != self.whole[number];
            let named = log.matches(&format!("/{name} is damaged (")).count();
            ensure!(
                named == usize::from(is_damaged),
                "{name} is named {named} times"
            );
            let aside = std::fs::read(self.state.join(format!("{name}.damaged")));
            match is_damaged {
                true => ensure!(
                    aside? == damaged[number],
                    "{name} is not set aside as it was"
                ),
                false => ensure!(aside.is_err(), "{name} is set aside"),
            }
        }
        for (number, what) in [(1, "leases restored"), (2, "sessions restored")] {
            let is_whole = damaged[number] == self.whole[number];
            let expected = log.contains(&format!(" {ENTRIES} {what}"));
            ensure!(
                expected == is_whole && log.contains(what) == is_whole,
                "{what}"
            );
        }
        let secret = std::fs::read(self.state.join(FILES[0]))?;
        let is_same = secret == self.whole[0];
        ensure!(is_same == (damaged[0] == self.whole[0]), "the secret");
        Ok(())
    }

    /// What it took up is what it has in the end, and no more.
    fn check_end(&self, damaged: &[Vec<u8>; 3]) -> Result<()> {
        for number in [1, 2] {
            let saved = std::fs::read(self.state.join(FILES[number]))?;
            let expected = match damaged[number] == self.whole[number] {
                true => entries(&self.whole[number]),
                false => BTreeSet::new(),
            };
            ensure!(
                entries(&saved) == expected,
                "{}: {}",
                FILES[number],
                text(&saved)
            );
        }
        // Of a damaged journal something may be left of what it set up, and nothing else.
        let left = inspect(&self.installed.topology.edge)?;
        let strange = left.difference(&self.without);
        let strange: Vec<&String> = strange.filter(|fact| !self.with.contains(*fact)).collect();
        ensure!(strange.is_empty(), "{strange:?}");
        Ok(())
    }

    /// The last start is one without damage.
    fn finish(mut self) -> Result<()> {
        for (name, bytes) in FILES.iter().zip(&self.whole) {
            std::fs::write(self.state.join(name), bytes)?;
        }
        let _ = std::fs::remove_file(&self.journal);
        self.installed.restart_plat()?;
        self.installed.plat.stop(PATIENCE)?;
        self.check_end(&self.whole.clone())
    }
}

/// Leases and sessions.
const ENTRIES: usize = 9;

/// Files of the version before, which the daemon reads.
fn fill(state: &Path) -> Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let expires = now + 280;
    let lines = |line: &dyn Fn(usize) -> String| (1..=ENTRIES).map(line).collect::<String>();
    let map = lines(&|n| format!("192.168.65.{} 2001:db8:1::{n} {now}\n", n + 10));
    let map = format!("# IPv4 IPv6 last-use (seconds since 1970)\n{map}");
    std::fs::write(state.join("dynamic.map"), map)?;
    let sessions = lines(&|n| {
        format!(
            "udp 2001:db8:1::7 {0} 192.168.64.9 {0} 198.51.100.2 53 2001:db8:64::/96 - {expires}\n",
            2000 + n
        )
    });
    let sessions = format!("plat sessions 1\n{sessions}end {ENTRIES}\n");
    Ok(std::fs::write(state.join("sessions"), sessions)?)
}

/// The lines of a file about clients, without the time at their end.
fn entries(bytes: &[u8]) -> BTreeSet<String> {
    let text = text(bytes);
    let lines = text.lines().filter(|line| line.contains("2001:db8:1::"));
    let lines = lines.filter_map(|line| line.rsplit_once(' '));
    lines.map(|(entry, _)| entry.to_owned()).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The files, of which at least one is not as it was.
fn damage_some(random: &mut Random, whole: &[Vec<u8>; 3]) -> [Vec<u8>; 3] {
    loop {
        let mut files = whole.clone();
        for file in &mut files {
            let times = [0, 1, 1, 2, 3][random.below(5)];
            (0..times).for_each(|_| random.damage(file));
        }
        if files != *whole {
            return files;
        }
    }
}
