//! Attacks on running daemons: `clat` and `plat` are killed, their files are damaged, packets flood
//! them, messages are changed at random, clients are slow and answers are forged.
//!
//! A [`Row`] is one attack, and a row of the table in the end. Where the attack runs beside traffic, an
//! established flow from an IPv4 program behind `clat` to an IPv4 server behind `plat` is measured
//! before and during it ([`flow`]): it must keep its share of answers within a tenth, and 99 of 100 round
//! trips must stay below ten milliseconds. A second flow, which the edge forwards as IPv6 without
//! translation, shows what the attack does to the kernel alone: a bar that this one misses too is not
//! held against the daemons, and the table names the row. After every row both daemons still run, have said little,
//! have not grown, end when they are told to, and leave their hosts as they were.

mod damage;
mod dns;
mod floods;
pub mod flow;
mod kills;
mod mutated;
mod net;
mod slow;
mod table;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use anyhow::Result;

use crate::binaries::Binaries;
use crate::random::Random;

use flow::Beside;
pub use table::table;

/// An attack.
#[derive(Debug)]
pub struct Row {
    /// Its name, by which it can be picked.
    pub name: &'static str,
    /// What is done.
    pub about: &'static str,
    run: fn(&Ground<'_>) -> Result<Found>,
}

/// What an attack has found when nothing was wrong.
#[derive(Debug, Clone)]
pub struct Found {
    /// In words.
    pub what: String,
    /// The flow beside it.
    pub flow: Option<Beside>,
}

/// How much of everything.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// How often each program is killed.
    pub kills: u32,
    /// State files of each program that are damaged.
    pub files: u32,
    /// How long a flood lasts.
    pub flood: Duration,
    /// Changed messages of each kind.
    pub messages: u32,
    /// Questions whose answers are forged.
    pub questions: u32,
}

impl Effort {
    /// A quarter of an hour.
    pub const FULL: Self = Self {
        kills: 60,
        files: 500,
        flood: Duration::from_secs(10),
        messages: 50_000,
        questions: 300,
    };
    /// Two minutes.
    pub const QUICK: Self = Self {
        kills: 16,
        files: 40,
        flood: Duration::from_secs(3),
        messages: 5_000,
        questions: 50,
    };
    /// For the tests.
    pub const SHORT: Self = Self {
        kills: 4,
        files: 4,
        flood: Duration::from_millis(500),
        messages: 1_000,
        questions: 8,
    };
}

/// How the figures of the flow are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bars {
    /// Within a tenth of the answers, and 99 of 100 round trips below ten milliseconds.
    Strict,
    /// The flow goes on. For machines that have other work.
    Alive,
}

/// What to do.
#[derive(Debug, Clone)]
pub struct Attack {
    /// Where the random numbers begin.
    pub seed: u64,
    /// Names of rows, or the beginnings of them; all when there are none.
    pub rows: Vec<String>,
    /// How much.
    pub effort: Effort,
    /// How the flow is judged.
    pub bars: Bars,
}

/// What came of a row.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The row.
    pub row: &'static Row,
    /// What was found, or what went wrong.
    pub found: Result<Found, String>,
}

impl Outcome {
    /// True when nothing went wrong.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.found.is_ok()
    }
}

/// What a row has to work with.
struct Ground<'a> {
    binaries: &'a Binaries,
    effort: Effort,
    seed: u64,
}

impl Ground<'_> {
    fn random(&self) -> Random {
        Random::new(self.seed)
    }
}

/// All rows, in the order in which they run.
pub fn rows() -> impl Iterator<Item = &'static Row> {
    let all = [
        kills::ROWS,
        damage::ROWS,
        floods::ROWS,
        mutated::ROWS,
        slow::ROWS,
        dns::ROWS,
    ];
    all.into_iter().flatten()
}

impl Attack {
    /// The rows that were asked for.
    pub fn picked(&self) -> impl Iterator<Item = &'static Row> {
        let is_named = |row: &&Row| self.rows.iter().any(|name| row.name.starts_with(&**name));
        rows().filter(move |row| self.rows.is_empty() || is_named(row))
    }

    /// Runs one row.
    #[must_use]
    pub fn run(&self, binaries: &Binaries, row: &'static Row) -> Outcome {
        // A row alone has the numbers that it has among the others.
        let mut hasher = DefaultHasher::new();
        (self.seed, row.name).hash(&mut hasher);
        let ground = Ground {
            binaries,
            effort: self.effort,
            seed: hasher.finish(),
        };
        let found = (row.run)(&ground).and_then(|found| {
            let beside = found.flow.as_ref();
            beside.map_or(Ok(()), |flow| flow.check(self.bars))?;
            Ok(found)
        });
        Outcome {
            row,
            found: found.map_err(|error| format!("{error:#}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_row_is_the_beginning_of_another() {
        let names: BTreeSet<_> = rows().map(|row| row.name).collect();
        assert_eq!(names.len(), rows().count());
        for (one, other) in names.iter().zip(names.iter().skip(1)) {
            assert!(!other.starts_with(one), "{one} and {other}");
        }
    }
}
