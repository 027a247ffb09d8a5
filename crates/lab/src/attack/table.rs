//! What came of the rows, as a table in Markdown: the documents have it as it is.

use super::Outcome;

/// The whole table.
#[must_use]
pub fn table(outcomes: &[Outcome]) -> String {
    let head = "| attack | result | flow before | flow during | what |\n|---|---|---|---|---|\n";
    let lines = outcomes.iter().map(line);
    let failed = outcomes.iter().filter(|outcome| !outcome.passed()).count();
    let end = format!("\n{} rows, {failed} failed\n", outcomes.len());
    format!("{head}{}{end}", lines.collect::<String>())
}

/// A row of it.
fn line(outcome: &Outcome) -> String {
    let (name, about) = (outcome.row.name, outcome.row.about);
    let (result, before, during, what) = match &outcome.found {
        Ok(found) => {
            let figures = |figures: super::flow::Figures| figures.to_string();
            let (before, during) = match found.flow {
                Some(flow) => (figures(flow.before), figures(flow.during)),
                None => (String::new(), String::new()),
            };
            let what = match outcome.row.kernel {
                Some(reason) => format!("{}; of the kernel: {reason}", found.what),
                None => found.what.clone(),
            };
            ("held", before, during, what)
        }
        Err(error) => {
            let first = error.lines().next().unwrap_or_default().to_owned();
            ("FAILED", String::new(), String::new(), first)
        }
    };
    let what = what.replace('|', "/");
    format!("| `{name}`: {about} | {result} | {before} | {during} | {what} |\n")
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
        };
        let held = Found {
            what: "14000 packets a second".into(),
            flow: Some(flow),
        };
        let found = [Ok(held), Err("it ended | here\nlog".to_owned())];
        let outcomes = found.map(|found| Outcome { row, found });
        let table = table(&outcomes);
        let lines: Vec<&str> = table.lines().collect();
        assert!(
            lines[2]
                .ends_with("| held | 100.0 %, 1.0 ms | 95.0 %, 2.0 ms | 14000 packets a second |")
        );
        assert!(lines[3].ends_with("| FAILED |  |  | it ended / here |"));
        assert_eq!(lines[5], "2 rows, 1 failed");
    }

    #[test]
    fn a_flow_that_loses_more_than_a_tenth_or_is_late_fails_the_row() {
        let before = figures(1000, 1);
        let check = |back, late, bars, kernel| {
            let during = figures(back, late);
            Beside { before, during }.check(bars, kernel).is_ok()
        };
        assert!(check(900, 9, Bars::Strict, false));
        assert!(!check(899, 9, Bars::Strict, false));
        assert!(!check(1000, 10, Bars::Strict, false));
        // What the kernel does is shown, not judged; and a busy machine is late.
        assert!(check(500, 50, Bars::Strict, true));
        assert!(check(500, 50, Bars::Alive, false));
        assert!(!check(0, 0, Bars::Alive, true));
    }
}
