//! `cargo lab bench`: translators side by side in the same network, with the same traffic.
//!
//! The kernel's own IPv4 forwarding is the limit, each TAYGA that is installed a peer. Rounds go
//! over all cases one after the other, so that what disturbs the machine disturbs all of them; the
//! table has medians.

mod bars;
mod cases;
mod chart;
mod dns64;
mod figures;
mod measure;
mod options;
mod table;
mod taygas;

use anyhow::Result;
use lab::binaries::Binaries;

pub use options::Bench;

use cases::Case;
use figures::Figures;
use table::{Column, Results};

/// Runs it; `false` when a case could not be measured.
///
/// # Errors
/// When the network cannot be built, or a file cannot be written.
pub fn run(bench: &Bench, binaries: &Binaries) -> Result<bool> {
    if bench.dns64 {
        return dns64(bench, binaries);
    }
    let taygas = taygas::installed(std::env::var_os("PATH").as_deref(), &bench.tayga);
    let mut cases = Case::all(&bench.plat_flag, &bench.clat_flag, &taygas);
    if !bench.only.is_empty() {
        cases.retain(|case| bench.only.contains(&case.name));
    }
    let mut results = Results::new(cases.iter().map(|case| Column {
        name: case.name.clone(),
        peer: case.peer(),
    }));
    let mut complete = true;
    for round in 1..=bench.rounds {
        for case in &cases {
            say(&format!("round {round} of {}: {}", bench.rounds, case.name));
            match measure(case, binaries, bench) {
                Ok(figures) => results.add(&case.name, figures),
                Err(error) => {
                    say(&format!("  {}: {error:#}", case.name));
                    complete = false;
                }
            }
        }
    }
    show(&format!("{}\n\n", bench.command()));
    show(&results.to_markdown());
    if let Some(path) = &bench.chart {
        std::fs::write(path, chart::svg(&results))?;
        say(&format!("chart in {}", path.display()));
    }
    Ok(complete)
}

fn dns64(bench: &Bench, binaries: &Binaries) -> Result<bool> {
    show("| | answers a second | per CPU second | p50, us | p99, us |\n|---|---|---|---|---|\n");
    let time = std::time::Duration::from_millis(bench.millis);
    let threads = bench.plat_flag.iter().find_map(|flag| {
        let threads = flag.strip_prefix("--dns64-threads=")?;
        threads.parse().ok()
    });
    for _ in 0..bench.rounds {
        let ours = dns64::measure(binaries, &bench.plat_flag, time)?;
        row("plat", &ours);
        match dns64::measure_unbound(threads.unwrap_or(1), time)? {
            Some(theirs) => row("unbound", &theirs),
            None => say("unbound is not installed"),
        }
    }
    Ok(true)
}

fn row(name: &str, figures: &dns64::Figures) {
    let dns64::Figures {
        rate,
        per_cpu,
        median,
        late,
    } = figures;
    show(&format!(
        "| {name} | {rate:.0} | {per_cpu:.0} | {median:.0} | {late:.0} |\n"
    ));
}

fn measure(case: &Case, binaries: &Binaries, bench: &Bench) -> Result<Figures> {
    let running = case.start(binaries)?;
    measure::all(&running, std::time::Duration::from_millis(bench.millis))
}

#[expect(clippy::print_stderr, reason = "progress goes beside the table")]
fn say(line: &str) {
    eprintln!("{line}");
}

#[expect(clippy::print_stdout, reason = "the table is what was asked for")]
fn show(text: &str) {
    print!("{text}");
}
