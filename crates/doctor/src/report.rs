//! Findings, and which of them are faults of their own.

use serde::Serialize;

use crate::checks::{self, Check};

/// Number of the form of `doctor --json`: another one where a field goes or means something else.
pub const SCHEMA: u32 = 1;

/// The outcome of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It is as it should be.
    Ok,
    /// It could not be looked at, or does not matter here.
    Skipped,
    /// It is not as it should be because of another fault, which `because` names.
    Follows,
    /// Something is wrong that does not stop all traffic, or may do so later.
    Warn,
    /// IPv4 does not work because of it.
    Fail,
}

impl Outcome {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Skipped => "skip",
            Self::Follows => "then",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
        }
    }

    /// True for a fault of its own.
    pub const fn is_fault(self) -> bool {
        matches!(self, Self::Warn | Self::Fail)
    }
}

/// What a check has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The check.
    pub check: &'static Check,
    /// How it is.
    pub outcome: Outcome,
    /// What was seen: a sentence.
    pub evidence: String,
    /// What to do here, where more can be said than the check says.
    pub remedy: Option<String>,
    /// The fault that it follows from.
    pub because: Option<&'static str>,
}

impl Finding {
    fn new(check: &'static Check, outcome: Outcome, evidence: impl Into<String>) -> Self {
        Self {
            check,
            outcome,
            evidence: evidence.into(),
            remedy: None,
            because: None,
        }
    }

    /// Says what to do here.
    #[must_use]
    pub fn remedy(self, remedy: impl Into<String>) -> Self {
        Self {
            remedy: Some(remedy.into()),
            ..self
        }
    }

    /// Makes one of two findings of a check: the worse one, or both where they are as bad.
    fn merge(&mut self, other: Self) {
        if other.outcome > self.outcome {
            *self = other;
        } else if other.outcome == self.outcome && other.outcome.is_fault() {
            if !self.evidence.contains(&other.evidence) {
                self.evidence += &format!("; {}", other.evidence);
            }
            self.remedy = self.remedy.take().or(other.remedy);
        }
    }

    /// What to do, for a fault.
    pub fn what_to_do(&self) -> Option<&str> {
        let is_fault = self.outcome.is_fault();
        is_fault.then(|| self.remedy.as_deref().unwrap_or(self.check.remedy))
    }
}

impl Check {
    /// It is as it should be.
    pub fn ok(&'static self, evidence: impl Into<String>) -> Finding {
        Finding::new(self, Outcome::Ok, evidence)
    }

    /// It could not be looked at, or does not matter here.
    pub fn skipped(&'static self, why: impl Into<String>) -> Finding {
        Finding::new(self, Outcome::Skipped, why)
    }

    /// Something is wrong that does not stop all traffic.
    pub fn warn(&'static self, evidence: impl Into<String>) -> Finding {
        Finding::new(self, Outcome::Warn, evidence)
    }

    /// IPv4 does not work because of it.
    pub fn fail(&'static self, evidence: impl Into<String>) -> Finding {
        Finding::new(self, Outcome::Fail, evidence)
    }
}

/// All that was found.
#[derive(Clone, Debug)]
pub struct Report {
    program: &'static str,
    version: &'static str,
    findings: Vec<Finding>,
}

impl Report {
    /// Sorts the findings, and tells faults from what follows from them.
    pub fn new(program: &'static str, version: &'static str, found: Vec<Finding>) -> Self {
        let place = |finding: &Finding| {
            checks::ALL
                .iter()
                .position(|one| one.id == finding.check.id)
        };
        let mut findings: Vec<Finding> = Vec::new();
        for finding in found {
            let mut same = findings.iter_mut();
            match same.find(|one| one.check.id == finding.check.id) {
                Some(one) => one.merge(finding),
                None => findings.push(finding),
            }
        }
        findings.sort_by_key(place);
        let failed: Vec<&'static str> = findings
            .iter()
            .filter(|one| one.outcome == Outcome::Fail)
            .map(|one| one.check.id)
            .collect();
        for finding in &mut findings {
            let mut causes = finding.check.follows.iter();
            let is_cause =
                |cause: &&&'static str| failed.contains(*cause) && **cause != finding.check.id;
            if finding.outcome.is_fault()
                && let Some(cause) = causes.find(is_cause)
            {
                finding.outcome = Outcome::Follows;
                finding.because = Some(cause);
            }
        }
        Self {
            program,
            version,
            findings,
        }
    }

    /// The same with evidence and remedies as `plain` makes them.
    #[must_use]
    pub fn plain(&self, plain: impl Fn(&str) -> String) -> Self {
        let mut report = self.clone();
        for finding in &mut report.findings {
            finding.evidence = plain(&finding.evidence);
            finding.remedy = finding.remedy.as_deref().map(&plain);
        }
        report
    }

    /// The findings, in the order of the list of checks.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// The identifiers of the faults.
    pub fn faults(&self) -> Vec<&'static str> {
        let faults = self.findings.iter().filter(|one| one.outcome.is_fault());
        faults.map(|one| one.check.id).collect()
    }

    /// The exit code: 0 without a fault, 1 where something is only worth a warning, 2 where IPv4 does
    /// not work.
    pub fn exit_code(&self) -> u8 {
        let worst = self.findings.iter().map(|one| one.outcome).max();
        match worst {
            Some(Outcome::Fail) => 2,
            Some(Outcome::Warn) => 1,
            _ => 0,
        }
    }

    pub(crate) fn count(&self, outcome: Outcome) -> usize {
        let same = self.findings.iter().filter(|one| one.outcome == outcome);
        same.count()
    }

    pub(crate) fn program(&self) -> &'static str {
        self.program
    }

    /// The report as one line of JSON.
    pub fn to_json(&self) -> String {
        let findings = self.findings.iter().map(|one| JsonFinding {
            id: one.check.id,
            outcome: one.outcome,
            evidence: &one.evidence,
            remedy: one.what_to_do(),
            because: one.because,
        });
        let report = JsonReport {
            schema: SCHEMA,
            program: self.program,
            version: self.version,
            faults: self.faults(),
            checks: findings.collect(),
        };
        // Text and numbers always are JSON.
        let mut line = serde_json::to_string(&report).unwrap_or_default();
        line.push('\n');
        line
    }
}

#[derive(Serialize)]
struct JsonReport<'a> {
    schema: u32,
    program: &'a str,
    version: &'a str,
    faults: Vec<&'static str>,
    checks: Vec<JsonFinding<'a>>,
}

#[derive(Serialize)]
struct JsonFinding<'a> {
    id: &'static str,
    outcome: Outcome,
    evidence: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    because: Option<&'static str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(found: Vec<Finding>) -> Report {
        Report::new("clat", "0", found)
    }

    #[test]
    fn dr_01_what_follows_from_a_fault_is_no_fault_of_its_own() {
        let report = report(vec![
            checks::PATH.fail("no answer"),
            checks::PREFIX.fail("another one is announced"),
            checks::TUN.ok("opens"),
        ]);
        assert_eq!(report.faults(), ["prefix"]);
        let order: Vec<_> = report.findings().iter().map(|one| one.check.id).collect();
        assert_eq!(order, ["tun", "prefix", "path"]);
        let path = &report.findings()[2];
        assert_eq!(
            (path.outcome, path.because, path.what_to_do()),
            (Outcome::Follows, Some("prefix"), None)
        );
    }

    #[test]
    fn dr_01_a_warning_explains_no_fault() {
        let report = report(vec![
            checks::PATH.fail("no answer"),
            checks::PREFIX.warn("two are announced"),
        ]);
        assert_eq!(report.faults(), ["prefix", "path"]);
    }

    #[test]
    fn dr_01_a_check_has_one_finding_the_worst_of_what_was_seen() {
        let report = report(vec![
            checks::POOL.ok("free"),
            checks::POOL.warn("one is full"),
            checks::POOL.warn("another one is also 00:00:5e:00:53:01"),
            checks::POOL.warn("one is full"),
        ]);
        let [pool] = report.findings() else {
            panic!("{report:?}");
        };
        let text = "one is full; another one is also 00:00:5e:00:53:01";
        assert_eq!((pool.outcome, &*pool.evidence), (Outcome::Warn, text));
    }

    #[test]
    fn dr_02_the_exit_code_is_that_of_the_worst() {
        let code = |found| report(found).exit_code();
        assert_eq!(code(vec![]), 0);
        let (ok, skipped) = (checks::TUN.ok(""), checks::CLOCK.skipped(""));
        assert_eq!(code(vec![ok.clone(), skipped.clone()]), 0);
        let warn = checks::CONNTRACK.warn("");
        assert_eq!(code(vec![ok.clone(), warn.clone(), skipped]), 1);
        assert_eq!(code(vec![warn, checks::PREFIX.fail(""), ok]), 2);
    }

    #[test]
    fn dr_02_json_has_a_schema_and_the_faults() {
        let found = vec![checks::PREFIX.fail("none").remedy("give one")];
        assert_eq!(
            report(found).to_json(),
            "{\"schema\":1,\"program\":\"clat\",\"version\":\"0\",\"faults\":[\"prefix\"],\
             \"checks\":[{\"id\":\"prefix\",\"outcome\":\"fail\",\"evidence\":\"none\",\
             \"remedy\":\"give one\"}]}\n"
        );
    }
}
