//! What figures and answers mean.

use std::collections::BTreeMap;

use crate::checks::{CONNTRACK, PREFIX};
use crate::report::Finding;

/// Connection tracking with so many entries of so many.
pub fn conntrack(count: u64, max: u64) -> Finding {
    let text = format!("{count} of {max} connections");
    // Above this the kernel soon drops early entries, and then new connections.
    match count.saturating_mul(100) >= max.saturating_mul(90) {
        _ if max == 0 => CONNTRACK.ok("no limit"),
        true if count >= max => CONNTRACK.fail(format!("the table is full: {text}")),
        true => CONNTRACK.warn(format!("the table is nearly full: {text}")),
        false => CONNTRACK.ok(text),
    }
}

/// Who says what about the NAT64 prefix.
#[derive(Clone, Debug, Default)]
pub struct Prefixes {
    /// The prefix in use, and how it was found.
    pub used: Option<(String, String)>,
    /// Each source of the network (`router fe80::1`), and what it says; several for one are possible.
    pub told: Vec<(String, String)>,
}

impl Prefixes {
    /// Do they agree?
    pub fn judge(&self) -> Finding {
        let mut by_prefix: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (source, prefix) in &self.told {
            let sources = by_prefix.entry(prefix).or_default();
            if !sources.contains(&&**source) {
                sources.push(source);
            }
        }
        let say = |prefix: &str, sources: &[&str]| format!("{prefix} by {}", sources.join(" and "));
        let told: Vec<String> = by_prefix.iter().map(|(one, by)| say(one, by)).collect();
        let told = told.join(", ");
        match &self.used {
            None if by_prefix.is_empty() => PREFIX
                .fail("neither routers nor DNS servers announce a NAT64 prefix")
                .remedy("let a router announce it (plat --lan does), or give --prefix"),
            None if by_prefix.len() == 1 => PREFIX.ok(told),
            None => PREFIX.warn(format!("the network has several: {told}")),
            Some((used, how)) if by_prefix.is_empty() => PREFIX.ok(format!("{used}, {how}")),
            Some((used, how)) if !by_prefix.contains_key(&**used) => PREFIX.fail(format!(
                "{used} is in use ({how}), the network announces {told}"
            )),
            Some((used, _)) if by_prefix.len() > 1 => {
                PREFIX.warn(format!("{used} is in use, the network has several: {told}"))
            }
            Some(_) => PREFIX.ok(told),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Outcome;

    #[test]
    fn dr_05_a_table_of_connections_is_full_before_it_overflows() {
        let outcome = |count, max| conntrack(count, max).outcome;
        assert_eq!(outcome(899, 1000), Outcome::Ok);
        assert_eq!(outcome(900, 1000), Outcome::Warn);
        assert_eq!(outcome(1000, 1000), Outcome::Fail);
        assert_eq!(outcome(5, 0), Outcome::Ok);
        assert_eq!(outcome(u64::MAX, u64::MAX), Outcome::Fail);
    }

    fn judge(used: Option<&str>, told: &[(&str, &str)]) -> (Outcome, String) {
        let told = told
            .iter()
            .map(|(source, prefix)| ((*source).into(), (*prefix).into()));
        let prefixes = Prefixes {
            used: used.map(|used| (used.into(), "given by --prefix".into())),
            told: told.collect(),
        };
        let finding = prefixes.judge();
        (finding.outcome, finding.evidence)
    }

    #[test]
    fn dr_05_prefixes_that_differ_are_named_with_their_sources() {
        let (router, dns) = (
            ("router fe80::1", "64:ff9b::/96"),
            ("DNS64 2001:db8::53", "2001:db8:64::/96"),
        );
        assert_eq!(judge(None, &[]).0, Outcome::Fail);
        assert_eq!(judge(Some("64:ff9b::/96"), &[]).0, Outcome::Ok);
        assert_eq!(judge(Some("64:ff9b::/96"), &[router]).0, Outcome::Ok);
        assert_eq!(
            judge(None, &[router, router]),
            (Outcome::Ok, "64:ff9b::/96 by router fe80::1".into())
        );
        let (outcome, text) = judge(Some("64:ff9b::/96"), &[dns]);
        assert_eq!(outcome, Outcome::Fail);
        let expected = "64:ff9b::/96 is in use (given by --prefix), the network announces \
                        2001:db8:64::/96 by DNS64 2001:db8::53";
        assert_eq!(text, expected);
        let (outcome, text) = judge(Some("64:ff9b::/96"), &[dns, router]);
        assert_eq!(outcome, Outcome::Warn);
        assert!(
            text.contains("2001:db8:64::/96 by DNS64 2001:db8::53, 64:ff9b::/96 by router fe80::1")
        );
    }
}
