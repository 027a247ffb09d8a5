//! The report for people.

use std::fmt::Write as _;

use crate::report::{Finding, Outcome, Report};

/// What the text is shown on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Columns; less than 40 are taken as 40.
    pub width: usize,
    /// Whether it is a terminal that shows colours.
    pub colours: bool,
}

impl Default for Look {
    fn default() -> Self {
        Self {
            width: 80,
            colours: false,
        }
    }
}

/// Columns before the name of a check.
const INDENT: usize = 6;

impl Report {
    /// The report as text of several lines.
    pub fn to_text(&self, look: Look) -> String {
        let width = look.width.clamp(40, 100);
        let mut text = String::new();
        for finding in self.findings() {
            let word = paint(finding.outcome, look.colours);
            let line = line(finding);
            // Writing into a string does not fail.
            let _ = writeln!(text, "{word}{}", wrap(&line, width).trim_start());
            if let Some(remedy) = finding.what_to_do() {
                let _ = writeln!(text, "{}", wrap(&format!("-> {remedy}"), width));
            }
        }
        let _ = writeln!(text, "{}", wrap(&self.summary(), width).trim_start());
        text
    }

    fn summary(&self) -> String {
        let [fail, warn, ok, skipped, then] = [
            Outcome::Fail,
            Outcome::Warn,
            Outcome::Ok,
            Outcome::Skipped,
            Outcome::Follows,
        ]
        .map(|outcome| self.count(outcome));
        let mut parts = vec![format!("{fail} failed"), format!("{warn} warnings")];
        if then > 0 {
            parts.push(format!("{then} follow from that"));
        }
        parts.push(format!("{ok} ok"));
        if skipped > 0 {
            parts.push(format!("{skipped} not checked"));
        }
        format!("{} doctor: {}", self.program(), parts.join(", "))
    }
}

fn line(finding: &Finding) -> String {
    let (id, evidence) = (finding.check.id, &finding.evidence);
    match finding.because {
        Some(cause) => format!("{id}: {evidence} (follows from {cause})"),
        None => format!("{id}: {evidence}"),
    }
}

/// The word for an outcome, as wide as the indent.
fn paint(outcome: Outcome, colours: bool) -> String {
    let word = outcome.word();
    let code = match outcome {
        Outcome::Ok => "32",
        Outcome::Skipped | Outcome::Follows => "2",
        Outcome::Warn => "33",
        Outcome::Fail => "1;31",
    };
    let space = " ".repeat(INDENT - word.len());
    match colours {
        true => format!("\x1b[{code}m{word}\x1b[0m{space}"),
        false => format!("{word}{space}"),
    }
}

/// Breaks a line between words, with an indent before each. A longer word has a line of its own.
fn wrap(line: &str, width: usize) -> String {
    let indent = " ".repeat(INDENT);
    let mut text = String::new();
    let mut used = 0;
    for word in line.split_whitespace() {
        let length = word.chars().count();
        if used == 0 || used + 1 + length > width {
            text += if used == 0 { "" } else { "\n" };
            text += &indent;
            used = INDENT;
        } else {
            text.push(' ');
            used += 1;
        }
        text += word;
        used += length;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks;

    fn report() -> Report {
        let found = vec![
            checks::TUN.ok("/dev/net/tun opens"),
            checks::PREFIX
                .fail("2001:db8:bad::/96 is configured, and the router fe80::1 announces 2001:db8:64::/96")
                .remedy("give --prefix 2001:db8:64::/96, or none"),
            checks::PATH.fail("192.0.0.8 does not answer"),
            checks::CLOCK.skipped("no state"),
        ];
        Report::new("clat", "0", found)
    }

    #[test]
    fn dr_03_forty_columns_are_enough() {
        let look = Look {
            width: 12,
            colours: false,
        };
        let text = report().to_text(look);
        let expected = "\
ok    tun: /dev/net/tun opens
skip  clock: no state
FAIL  prefix: 2001:db8:bad::/96 is
      configured, and the router fe80::1
      announces 2001:db8:64::/96
      -> give --prefix 2001:db8:64::/96,
      or none
then  path: 192.0.0.8 does not answer
      (follows from prefix)
clat doctor: 1 failed, 0 warnings,
      1 follow from that, 1 ok, 1 not
      checked
";
        assert_eq!(text, expected);
        assert!(text.lines().all(|line| line.chars().count() <= 40));
    }

    #[test]
    fn dr_03_colours_are_for_terminals_alone() {
        let plain = report().to_text(Look::default());
        assert!(!plain.contains('\x1b'));
        let look = Look {
            width: 80,
            colours: true,
        };
        let coloured = report().to_text(look);
        assert!(coloured.contains("\x1b[1;31mFAIL\x1b[0m  prefix: "));
        let mut stripped = coloured;
        for code in ["32", "2", "33", "1;31", "0"] {
            stripped = stripped.replace(&format!("\x1b[{code}m"), "");
        }
        assert_eq!(stripped, plain);
    }
}
