//! Medians of all rounds, the ratios that matter, and the bars.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::bars::{self, Bars};
use super::cases::KERNEL;
use super::figures::{self, Figures, Row};

/// A column of the table.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    pub(crate) name: String,
    /// The case that this one is to be compared with.
    pub(crate) peer: &'static str,
}

/// What each round gave, by case and row.
pub(crate) struct Results {
    columns: Vec<Column>,
    all: BTreeMap<(String, &'static str), Vec<f64>>,
}

impl Results {
    pub(crate) fn new(columns: impl Iterator<Item = Column>) -> Self {
        Self {
            columns: columns.collect(),
            all: BTreeMap::new(),
        }
    }

    pub(crate) fn add(&mut self, case: &str, figures: Figures) {
        for (row, figure) in figures.0 {
            let key = (case.to_owned(), row.name);
            self.all.entry(key).or_default().push(figure);
        }
    }

    pub(crate) fn cases(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|column| column.name.as_str())
    }

    /// The median of all rounds.
    pub(crate) fn median(&self, case: &str, row: Row) -> Option<f64> {
        let all = self.sorted(case, row)?;
        all.get(all.len() / 2).copied()
    }

    fn sorted(&self, case: &str, row: Row) -> Option<Vec<f64>> {
        let mut all = self.all.get(&(case.to_owned(), row.name))?.clone();
        all.sort_by(f64::total_cmp);
        Some(all)
    }

    /// The median of one case in terms of that of another.
    fn ratio(&self, case: &str, other: &str, row: Row) -> Option<f64> {
        let (one, other) = (self.median(case, row)?, self.median(other, row)?);
        (other != 0.0).then_some(one / other)
    }

    /// The figures, the ratios and the bars.
    pub(crate) fn to_markdown(&self) -> String {
        let figures = self.table("", |column, row| self.cell(&column.name, row));
        let to_kernel = self.table("to the kernel", |column, row| {
            self.ratio_cell(column, KERNEL, row)
        });
        let to_peers = self.table("to TAYGA, or two of them", |column, row| {
            self.ratio_cell(column, column.peer, row)
        });
        [figures, to_kernel, to_peers, self.bars()].join("\n")
    }

    /// A table over all rows and cases; rows without any value are left out.
    fn table(&self, title: &str, cell: impl Fn(&Column, Row) -> Option<String>) -> String {
        let names: Vec<_> = self.cases().collect();
        let mut text = format!("| {title} | {} |\n|---|", names.join(" | "));
        text += &"---|".repeat(names.len());
        text.push('\n');
        for row in figures::all() {
            let cells: Vec<_> = self.columns.iter().map(|one| cell(one, row)).collect();
            if cells.iter().all(Option::is_none) {
                continue;
            }
            let cells: Vec<_> = cells
                .into_iter()
                .map(|cell| cell.unwrap_or_else(|| "-".to_owned()))
                .collect();
            // Writing into a string does not fail.
            let _ = writeln!(text, "| {} | {} |", row.name, cells.join(" | "));
        }
        text
    }

    fn cell(&self, case: &str, row: Row) -> Option<String> {
        let all = self.sorted(case, row)?;
        let (median, least, most) = (self.median(case, row)?, all.first()?, all.last()?);
        let digits = digits(median);
        Some(if row.range {
            format!("{median:.digits$} ({least:.digits$} to {most:.digits$})")
        } else {
            let spread = (most - least) * 50.0 / median.max(f64::MIN_POSITIVE);
            match median == 0.0 {
                true => format!("{median:.digits$}"),
                false => format!("{median:.digits$} ±{spread:.0} %"),
            }
        })
    }

    fn ratio_cell(&self, column: &Column, other: &str, row: Row) -> Option<String> {
        if column.name == other {
            return None;
        }
        let ratio = self.ratio(&column.name, other, row)?;
        Some(format!("{ratio:.2}"))
    }

    fn bars(&self) -> String {
        let mut text = "| bar | | wanted | |\n|---|---|---|---|\n".to_owned();
        for Bars { case, to, wanted } in bars::ALL {
            for (row, wanted) in *wanted {
                let value = match to {
                    Some(other) => self.ratio(case, other, *row),
                    None => self.median(case, *row),
                };
                let Some(value) = value else { continue };
                let what = match to {
                    Some(other) => format!("{}: {case}, to {other}", row.name),
                    None => format!("{}: {case}", row.name),
                };
                let met = if wanted.is_met_by(value) {
                    "met"
                } else {
                    "**missed**"
                };
                let digits = digits(value).max(2);
                let _ = writeln!(text, "| {what} | {value:.digits$} | {wanted} | {met} |");
            }
        }
        text
    }
}

/// Digits behind the point that still say something.
fn digits(value: f64) -> usize {
    match value {
        value if value >= 100.0 => 0,
        value if value >= 0.1 || value == 0.0 => 2,
        _ => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::super::cases::{STATEFUL, TAYGA};
    use super::super::figures::{PING_IDLE, PING_LOADED, TCP_1_DOWN, WAKEUPS};
    use super::*;

    fn results() -> String {
        let columns = [KERNEL, STATEFUL, TAYGA].map(|name| Column {
            name: name.to_owned(),
            peer: TAYGA,
        });
        let mut results = Results::new(columns.into_iter());
        let rows = [TCP_1_DOWN.rate, PING_IDLE.median, PING_LOADED.late, WAKEUPS];
        let figures = |values: [f64; 4]| Figures(rows.into_iter().zip(values).collect());
        for rate in [1.0, 9.0, 8.0] {
            results.add(STATEFUL, figures([rate, 30.0, rate * 100.0, rate - 1.0]));
            results.add(TAYGA, figures([2.0, 20.0, 800.0, 0.0]));
            results.add(KERNEL, Figures(vec![(TCP_1_DOWN.rate, 10.0)]));
        }
        results.to_markdown()
    }

    #[track_caller]
    fn says(line: &str) {
        let text = results();
        assert!(text.lines().any(|one| one == line), "{text}");
    }

    #[test]
    fn the_table_has_medians_and_how_far_the_rounds_are_apart() {
        says("| TCP 1 flow down, Gbit/s | 10.00 ±0 % | 8.00 ±50 % | 2.00 ±0 % |");
        says("| ping loaded p99, us | - | 800 (100 to 900) | 800 (800 to 800) |");
    }

    #[test]
    fn every_row_is_compared_with_the_kernel_and_the_peer() {
        says("| TCP 1 flow down, Gbit/s | - | 0.80 | 0.20 |");
        says("| TCP 1 flow down, Gbit/s | 5.00 | 4.00 | - |");
        says("| ping idle p50, us | - | 1.50 | - |");
    }

    #[test]
    fn each_bar_is_met_or_missed() {
        says("| TCP 1 flow down, Gbit/s: plat, stateful, to TAYGA | 4.00 | at least 3.5 | met |");
        says("| ping idle p50, us: plat, stateful, to TAYGA | 1.50 | at most 1 | **missed** |");
        says("| wakeups a second, idle: plat, stateful | 7.00 | at most 0 | **missed** |");
    }
}
