//! What came of the rows, as a table in Markdown: the documents have it as it is.

use super::Outcome;

/// The whole table.
#[must_use]
pub fn table(outcomes: &[Outcome]) -> String {
    let head = "| attack | result | flow before | flow during | kernel alone during | what |\n\
                |---|---|---|---|---|---|\n";
    let lines = outcomes.iter().map(line);
    let failed = outcomes.iter().filter(|outcome| !outcome.passed()).count();
    let end = format!("\n{} rows, {failed} failed\n", outcomes.len());
    format!("{head}{}{end}", lines.collect::<String>())
}

/// A row of it.
fn line(outcome: &Outcome) -> String {
    let (name, about) = (outcome.row.name, outcome.row.about);
    let (result, flow, what) = match &outcome.found {
        Ok(found) => {
            let is_of_the_kernel = found.flow.is_some_and(|flow| flow.is_of_the_kernel());
            let result = if is_of_the_kernel { "kernel" } else { "held" };
            (result, found.flow, found.what.clone())
        }
        Err(error) => {
            let first = error.lines().next().unwrap_or_default().to_owned();
            ("FAILED", None, first)
        }
    };
    let [before, during, kernel] = match flow {
        Some(flow) => [flow.before, flow.during, flow.kernel].map(|figures| figures.to_string()),
        None => Default::default(),
    };
    let what = what.replace('|', "/");
    format!("| `{name}`: {about} | {result} | {before} | {during} | {kernel} | {what} |\n")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::flow::{Beside, Figures};
    use super::super::{Bars, Found, rows};
    use super::*;

    fn figures(back: u32, late: u64) -> Figures {
        Figures {
            sent: 1000,
            back,
            late: Duration::from_millis(late),
            silence: Duration::from_millis(3),
        }
    }

    #[test]
    fn a_failed_row_is_counted_and_says_why() {
        let row = rows().next().expect("a row");
        let flow = Beside {
            before: figures(1000, 1),
            during: figures(950, 2),
            kernel: figures(1000, 0),
        };
        let held = Found {
            what: "14000 packets a second".into(),
            flow: Some(flow),
        };
        let found = [Ok(held), Err("it ended | here\nlog".to_owned())];
        let outcomes = found.map(|found| Outcome { row, found });
        let table = table(&outcomes);
        let lines: Vec<&str> = table.lines().collect();
        assert!(lines[2].ends_with(
            "| held | 100.0 %, 1.0 ms | 95.0 %, 2.0 ms | 100.0 %, 0.0 ms | 14000 packets a second |"
        ));
        assert!(lines[3].ends_with("| FAILED |  |  |  | it ended / here |"));
        assert_eq!(lines[5], "2 rows, 1 failed");
    }

    #[test]
    fn a_flow_that_loses_more_than_a_tenth_or_is_late_fails_the_row() {
        let before = figures(1000, 1);
        let beside = |during: (u32, u64), kernel: (u32, u64)| Beside {
            before,
            during: figures(during.0, during.1),
            kernel: figures(kernel.0, kernel.1),
        };
        let check = |during, kernel, bars| beside(during, kernel).check(bars).is_ok();
        let well = (1000, 1);
        assert!(check((900, 9), well, Bars::Strict));
        assert!(!check((899, 9), well, Bars::Strict));
        assert!(!check((1000, 10), well, Bars::Strict));
        // What the kernel misses alone is named, not judged, bar by bar; and a busy machine is late.
        assert!(check((899, 9), (899, 1), Bars::Strict));
        assert!(!check((899, 10), (899, 1), Bars::Strict));
        assert!(!check((899, 9), (1000, 10), Bars::Strict));
        assert!(check((500, 50), (500, 50), Bars::Strict));
        assert!(check((500, 50), well, Bars::Alive));
        assert!(!check((0, 0), (0, 0), Bars::Alive));
        let named = |during, kernel| beside(during, kernel).is_of_the_kernel();
        assert!(named((500, 50), (500, 50)) && !named(well, (500, 50)) && !named(well, well));
    }
}
