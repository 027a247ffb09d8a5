//! `cargo lab attack`: attacks both daemons and shows what came of it.

#![expect(clippy::print_stdout, reason = "standard output is what this is for")]

use std::io::Write as _;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Result, ensure};
use lab::attack::{self, Bars, Effort, Outcome, table};
use lab::binaries::Binaries;

use crate::cli::Attack;

/// Runs it; `false` when a row has failed.
///
/// # Errors
/// When the clock is before 1970, or there are no such rows.
pub(crate) fn run(wanted: &Attack, binaries: &Binaries) -> Result<bool> {
    let seed = match wanted.seed {
        Some(seed) => seed,
        None => SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
    };
    let mut attack = attack::Attack {
        seed,
        rows: wanted.rows.clone(),
        effort: if wanted.quick {
            Effort::QUICK
        } else {
            Effort::FULL
        },
        bars: if wanted.busy {
            Bars::Alive
        } else {
            Bars::Strict
        },
    };
    ensure!(
        attack.picked().next().is_some(),
        "there is no such row; --list shows them"
    );
    if wanted.list {
        for row in attack.picked() {
            println!("{:24} {}", row.name, row.about);
        }
        return Ok(true);
    }
    let end = wanted
        .hours
        .map(|hours| Instant::now() + Duration::from_secs_f64(hours * 3600.0));
    let mut rounds = 0;
    loop {
        let outcomes = round(&attack, binaries);
        rounds += 1;
        println!("\n{}", table(&outcomes));
        let passed = outcomes.iter().all(Outcome::passed);
        let is_over = end.is_none_or(|end| Instant::now() >= end);
        if !passed || is_over {
            if end.is_some() {
                println!("{rounds} rounds");
            }
            return Ok(passed);
        }
        attack.seed = attack.seed.wrapping_add(1);
    }
}

/// All rows once.
fn round(attack: &attack::Attack, binaries: &Binaries) -> Vec<Outcome> {
    println!("\n--seed {}", attack.seed);
    let rows = attack.picked().map(|row| {
        print!("  {} ... ", row.name);
        let _ = std::io::stdout().flush();
        let begin = Instant::now();
        let outcome = attack.run(binaries, row);
        let took = begin.elapsed().as_secs_f64();
        match &outcome.found {
            Ok(found) => match found.flow {
                Some(flow) => println!(
                    "held ({took:.0} s): {}; flow {} before, {} during",
                    found.what, flow.before, flow.during
                ),
                None => println!("held ({took:.0} s): {}", found.what),
            },
            Err(error) => println!("FAILED ({took:.0} s)\n    {error}"),
        }
        outcome
    });
    rows.collect()
}
