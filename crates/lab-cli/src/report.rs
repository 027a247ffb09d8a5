//! What `cargo lab` prints: each step as it happens, and a table of the checks at the end.

#![expect(clippy::print_stdout, reason = "standard output is what this is for")]

use std::io::Write as _;

use anyhow::Result;

/// The checks so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    what: String,
    outcome: Result<String, String>,
}

impl Report {
    /// Starts a part of the output.
    pub(crate) fn heading(&self, text: &str) {
        println!("\n{text}");
    }

    /// Says what has been done.
    pub(crate) fn step(&self, text: impl std::fmt::Display) {
        println!("  {text}");
    }

    /// Runs a check and prints what it found; it is one row of the table.
    pub(crate) fn check(&mut self, what: &str, check: impl FnOnce() -> Result<String>) {
        print!("  {what} ... ");
        let _ = std::io::stdout().flush();
        let outcome = check().map_err(|error| format!("{error:#}"));
        match &outcome {
            Ok(found) => println!("{found}"),
            Err(error) => println!("FAILED\n    {error}"),
        }
        self.rows.push(Row {
            what: what.to_owned(),
            outcome,
        });
    }

    /// Whether every check has passed.
    pub(crate) fn passed(&self) -> bool {
        self.rows.iter().all(|row| row.outcome.is_ok())
    }

    /// Prints the table.
    pub(crate) fn finish(&self) {
        print!("\n{}", self.table());
    }

    fn table(&self) -> String {
        let widths = self.rows.iter().map(|row| row.what.chars().count());
        let width = widths.max().unwrap_or(0);
        let mut table = String::new();
        for row in &self.rows {
            let (mark, text) = match &row.outcome {
                Ok(found) => ("ok  ", found),
                Err(error) => ("FAIL", error),
            };
            let text = text.lines().next().unwrap_or_default();
            table += &format!("{mark}  {:width$}  {text}\n", row.what);
        }
        let failed = self.rows.iter().filter(|row| row.outcome.is_err()).count();
        table + &format!("{} checks, {failed} failed\n", self.rows.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_row_shows_in_the_table_and_in_the_result() {
        let mut report = Report::default();
        report.check("ping", || Ok("0.3 ms".to_owned()));
        assert!(report.passed());
        report.check("download", || anyhow::bail!("stalled\nmore"));
        assert!(!report.passed());
        assert_eq!(
            report.table(),
            "ok    ping      0.3 ms\n\
             FAIL  download  stalled\n\
             2 checks, 1 failed\n"
        );
    }
}
