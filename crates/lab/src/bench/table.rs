//! Medians of all rounds, the ratios that matter, and the bars.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::load::{
    ALL, Figures, LOADED_99, PING_50, TCP_1_DOWN, TCP_4_DOWN, UDP_64, UDP_1200, WAKEUPS,
};

const KERNEL: &str = "kernel IPv4 forwarding";
const STATEFUL: &str = "plat, stateful";
const TAYGA: &str = "TAYGA";
const BOTH: &str = "clat and plat";
const TWO: &str = "two TAYGAs";

/// What each round gave, by case and figure.
pub(crate) struct Results {
    cases: Vec<&'static str>,
    all: BTreeMap<(&'static str, &'static str), Vec<f64>>,
}

/// A bar: what is compared, and how much is enough.
struct Bar {
    what: &'static str,
    figure: &'static str,
    case: &'static str,
    other: &'static str,
    /// At least this ratio, or at most, where less is better.
    ratio: f64,
    less: bool,
}

const BARS: [Bar; 9] = [
    bar(
        "TCP 1 flow, stateful, to TAYGA",
        TCP_1_DOWN,
        STATEFUL,
        TAYGA,
        3.5,
        false,
    ),
    bar(
        "TCP 1 flow, stateful, to the kernel",
        TCP_1_DOWN,
        STATEFUL,
        KERNEL,
        0.5,
        false,
    ),
    bar(
        "TCP 4 flows, stateful, to TAYGA",
        TCP_4_DOWN,
        STATEFUL,
        TAYGA,
        5.0,
        false,
    ),
    bar(
        "TCP 1 flow, both, to two TAYGAs",
        TCP_1_DOWN,
        BOTH,
        TWO,
        4.0,
        false,
    ),
    bar(
        "TCP 4 flows, both, to two TAYGAs",
        TCP_4_DOWN,
        BOTH,
        TWO,
        4.0,
        false,
    ),
    bar(
        "UDP 64 bytes, stateful, to TAYGA",
        UDP_64,
        STATEFUL,
        TAYGA,
        1.5,
        false,
    ),
    bar(
        "UDP 1200 bytes, stateful, to TAYGA",
        UDP_1200,
        STATEFUL,
        TAYGA,
        2.0,
        false,
    ),
    bar(
        "ping idle, stateful, to TAYGA",
        PING_50,
        STATEFUL,
        TAYGA,
        1.0,
        true,
    ),
    bar(
        "ping loaded p99, stateful, to TAYGA",
        LOADED_99,
        STATEFUL,
        TAYGA,
        1.0,
        true,
    ),
];

const fn bar(
    what: &'static str,
    figure: &'static str,
    case: &'static str,
    other: &'static str,
    ratio: f64,
    less: bool,
) -> Bar {
    Bar {
        what,
        figure,
        case,
        other,
        ratio,
        less,
    }
}

impl Results {
    pub(crate) fn new(cases: impl Iterator<Item = &'static str>) -> Self {
        Self {
            cases: cases.collect(),
            all: BTreeMap::new(),
        }
    }

    pub(crate) fn add(&mut self, case: &'static str, figures: Figures) {
        for (name, figure) in figures.0 {
            self.all.entry((case, name)).or_default().push(figure);
        }
    }

    pub(crate) fn cases(&self) -> &[&'static str] {
        &self.cases
    }

    /// The median of all rounds.
    pub(crate) fn median(&self, case: &'static str, figure: &'static str) -> Option<f64> {
        let mut all = self.all.get(&(case, figure))?.clone();
        all.sort_by(f64::total_cmp);
        all.get(all.len() / 2).copied()
    }

    /// How far the rounds are apart, as a part of the median.
    fn spread(&self, case: &'static str, figure: &'static str) -> Option<f64> {
        let all = self.all.get(&(case, figure))?;
        let least = all.iter().copied().fold(f64::MAX, f64::min);
        let most = all.iter().copied().fold(0.0, f64::max);
        Some((most - least) / self.median(case, figure)?.max(f64::MIN_POSITIVE))
    }

    /// The table, and the bars.
    pub(crate) fn to_markdown(&self) -> String {
        let mut text = format!("| | {} |\n|---|", self.cases.join(" | "));
        text += &"---|".repeat(self.cases.len());
        text.push('\n');
        for figure in ALL {
            let cells = self.cases.iter().map(|case| self.cell(case, figure));
            let cells: Vec<String> = cells.collect();
            // Writing into a string does not fail.
            let _ = writeln!(text, "| {figure} | {} |", cells.join(" | "));
        }
        text += "\n| bar | ratio | wanted | |\n|---|---|---|---|\n";
        for bar in &BARS {
            let (Some(one), Some(other)) = (
                self.median(bar.case, bar.figure),
                self.median(bar.other, bar.figure),
            ) else {
                continue;
            };
            let ratio = one / other;
            let (sign, met) = match bar.less {
                true => ("at most", ratio <= bar.ratio),
                false => ("at least", ratio >= bar.ratio),
            };
            let met = if met { "met" } else { "**missed**" };
            let _ = writeln!(
                text,
                "| {} | {ratio:.2} | {sign} {} | {met} |",
                bar.what, bar.ratio
            );
        }
        if let Some(wakeups) = self.median(BOTH, WAKEUPS) {
            let _ = writeln!(
                text,
                "| wakeups a second of both daemons, idle | {wakeups:.1} | timers that are due | |"
            );
        }
        text
    }

    fn cell(&self, case: &'static str, figure: &'static str) -> String {
        match (self.median(case, figure), self.spread(case, figure)) {
            (Some(median), Some(spread)) => {
                let digits = if median >= 100.0 { 0 } else { 2 };
                format!("{median:.digits$} ±{:.0} %", spread * 50.0)
            }
            _ => "-".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_medians_and_says_which_bar_is_missed() {
        let mut results = Results::new([STATEFUL, TAYGA].into_iter());
        for figure in [1.0, 9.0, 8.0] {
            results.add(
                STATEFUL,
                Figures(vec![(TCP_1_DOWN, figure), (PING_50, 30.0)]),
            );
            results.add(TAYGA, Figures(vec![(TCP_1_DOWN, 2.0), (PING_50, 20.0)]));
        }
        let text = results.to_markdown();
        assert!(
            text.contains("| TCP 1 flow down, Gbit/s | 8.00 ±50 % | 2.00 ±0 % |"),
            "{text}"
        );
        assert!(
            text.contains("| TCP 1 flow, stateful, to TAYGA | 4.00 | at least 3.5 | met |"),
            "{text}"
        );
        assert!(
            text.contains("| ping idle, stateful, to TAYGA | 1.50 | at most 1 | **missed** |"),
            "{text}"
        );
    }
}
