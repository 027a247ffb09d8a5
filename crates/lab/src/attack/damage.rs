//! Files of a run that was killed, damaged before the next start.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use super::net::{Net, Program};
use super::{Found, Ground, Row};
use crate::inspect::inspect;
use crate::installed::PATIENCE;
use crate::random::Random;
use crate::restarts::{self, Restarts};

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "damage-clat",
        about: "damaged journal and state of a killed clat",
        run: clat,
    },
    Row {
        name: "damage-plat",
        about: "damaged journal, secret, leases and sessions of plat",
        run: plat,
    },
];

fn plat(ground: &Ground<'_>) -> Result<Found> {
    let outcome = restarts::run(
        ground.binaries,
        &Restarts {
            files: ground.effort.files,
            networks: 2,
            seed: ground.seed,
        },
    )?;
    Ok(Found {
        what: format!(
            "{} files, {} of them journals: {} starts, all succeed, nothing altered is believed",
            outcome.files, outcome.journals, outcome.starts
        ),
        flow: None,
    })
}

fn clat(ground: &Ground<'_>) -> Result<Found> {
    let mut random = ground.random();
    let mut net = Net::new(ground)?;
    let flow = net.flow()?;
    let with = inspect(net.host(Program::Clat))?;
    let (mut damaged, mut starts) = (0, 0);
    while damaged < ground.effort.files {
        net.clat.kill(PATIENCE)?;
        damaged += damage_some(&mut random, &files(&net)?)?;
        starts += 1;
        let what = format!("start {starts}");
        net.start_ready(Program::Clat)
            .with_context(|| what.clone())?;
        flow.exchange(3).with_context(|| what.clone())?;
        // Of a damaged journal something may be left of what it set up, and nothing else.
        let strange: Vec<String> = inspect(net.host(Program::Clat))?
            .difference(&with)
            .filter(|fact| !net.without(Program::Clat).contains(*fact))
            // Another address is taken where the secret is another one.
            .filter(|fact| !is_of_its_address(fact))
            .cloned()
            .collect();
        ensure!(strange.is_empty(), "{what}: {strange:?}:{}", net.clat.log());
    }
    net.clat.stop(PATIENCE)?;
    Ok(Found {
        what: format!("{damaged} files: {starts} starts, all succeed, nothing strange is set up"),
        flow: None,
    })
}

/// A route or a neighbour of the address that the CLAT takes in the uplink's /64, or its line in
/// `if_inet6`.
fn is_of_its_address(fact: &str) -> bool {
    fact.contains("2001:db8:1:") || fact.contains("20010db80001")
}

/// The files of `clat`: the journal, and what it keeps for the next start.
fn files(net: &Net) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for kind in ["run", "state"] {
        let entries = std::fs::read_dir(net.files(Program::Clat, kind));
        for entry in entries.into_iter().flatten() {
            let path = entry?.path();
            if path.is_file() {
                files.push(path);
            }
        }
    }
    ensure!(!files.is_empty(), "a killed clat leaves no file");
    files.sort();
    Ok(files)
}

/// Damages one or more of them. Returns how many.
fn damage_some(random: &mut Random, files: &[PathBuf]) -> Result<u32> {
    let chosen = random.below(files.len());
    let mut count = 0;
    for (number, file) in files.iter().enumerate() {
        if number != chosen && random.below(2) == 0 {
            continue;
        }
        let whole = std::fs::read(file)?;
        let mut bytes = whole.clone();
        for _ in 0..=random.below(3) {
            random.damage(&mut bytes);
        }
        count += u32::from(bytes != whole);
        std::fs::write(file, bytes)?;
    }
    Ok(count)
}
