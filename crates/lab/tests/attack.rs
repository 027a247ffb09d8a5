//! A short form of `cargo lab attack`: one attack of each kind on both programs.

use anyhow::{Result, ensure};
use lab::attack::{Attack, Bars, Effort};
use lab::binaries::Binaries;
use lab::suite::Test;

const TESTS: &[Test] = lab::tests![
    se_31_what_is_killed_starts_again_and_leaves_nothing,
    se_31_attacks_leave_an_established_flow_and_both_programs_alone,
];

fn main() {
    lab::suite::run(TESTS)
}

fn se_31_what_is_killed_starts_again_and_leaves_nothing() -> Result<()> {
    let effort = Effort {
        kills: 4,
        ..Effort::SHORT
    };
    run(effort, &["kill-plat", "damage-clat"])
}

fn se_31_attacks_leave_an_established_flow_and_both_programs_alone() -> Result<()> {
    let rows = ["flood-ra", "flood-syn-in", "mutated-packets-plat6"];
    run(Effort::SHORT, &rows)
}

fn run(effort: Effort, rows: &[&str]) -> Result<()> {
    let attack = Attack {
        seed: 464,
        rows: rows.iter().map(ToString::to_string).collect(),
        effort,
        // The other tests run on the same processors.
        bars: Bars::Alive,
    };
    let binaries = Binaries::find()?;
    ensure!(attack.picked().count() == rows.len(), "a row is missing");
    for row in attack.picked() {
        let outcome = attack.run(&binaries, row);
        if let Err(error) = outcome.found {
            anyhow::bail!("{}: {error}", row.name);
        }
    }
    Ok(())
}
