//! What the DNS64 counts.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;
use xlat_host::daemon::metrics::Page;

/// What became of a query: each has one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Its answer was kept.
    Cached,
    /// It was answered here, or refused with a code, without asking anybody.
    Local,
    /// It was answered by what resolvers upstream said.
    Answered,
    /// They said nothing, or that they could not answer.
    Failed,
    /// Its client may not ask.
    Refused,
    /// Its client asks too much, or there are too many.
    Limited,
    /// It is none.
    Malformed,
}

impl Outcome {
    const ALL: [Self; 7] = [
        Self::Cached,
        Self::Local,
        Self::Answered,
        Self::Failed,
        Self::Refused,
        Self::Limited,
        Self::Malformed,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Cached => "cached",
            Self::Local => "local",
            Self::Answered => "answered",
            Self::Failed => "failed",
            Self::Refused => "refused",
            Self::Limited => "limited",
            Self::Malformed => "malformed",
        }
    }
}

/// Ends of the ranges that the times of lookups are sorted into, in microseconds; what is longer
/// has a range of its own.
const BOUNDS: [u64; 8] = [
    1_000, 5_000, 20_000, 100_000, 500_000, 1_000_000, 2_500_000, 5_000_000,
];

/// Counters that only go up.
#[derive(Debug, Default)]
pub struct Counters {
    outcomes: [AtomicU64; Outcome::ALL.len()],
    synthesised: AtomicU64,
    times: [AtomicU64; BOUNDS.len() + 1],
    micros: AtomicU64,
}

/// The counters at one moment.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Figures {
    /// All queries: the sum of the next seven.
    pub queries: u64,
    /// Queries answered from the cache.
    pub cached: u64,
    /// Queries answered, or refused with a code, without asking a resolver.
    pub local: u64,
    /// Queries answered by what upstream resolvers sent.
    pub answered: u64,
    /// Queries that upstream resolvers left without an answer.
    pub failed: u64,
    /// Queries of clients that may not ask.
    pub refused: u64,
    /// Queries beyond a rate or a limit.
    pub limited: u64,
    /// Messages that are no queries.
    pub malformed: u64,
    /// Answers with IPv6 addresses that were made.
    pub synthesised: u64,
    /// Lookups that asked upstream resolvers.
    pub lookups: u64,
    /// The time that all of them took, in microseconds.
    pub lookup_us: u64,
    #[serde(skip)]
    times: [u64; BOUNDS.len() + 1],
}

impl Counters {
    /// A query has come to this end.
    pub(crate) fn count(&self, outcome: Outcome) {
        self.outcomes[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// An answer has addresses that were made.
    pub(crate) fn count_synthesis(&self) {
        self.synthesised.fetch_add(1, Ordering::Relaxed);
    }

    /// A lookup has taken this long.
    pub(crate) fn count_lookup(&self, took: Duration) {
        let micros = took.as_micros() as u64;
        let range = BOUNDS.partition_point(|bound| *bound < micros);
        self.times[range].fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// The counters as they are now.
    pub fn figures(&self) -> Figures {
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let outcomes = self.outcomes.each_ref().map(value);
        let times = self.times.each_ref().map(value);
        let [cached, local, answered, failed, refused, limited, malformed] = outcomes;
        Figures {
            queries: outcomes.iter().sum(),
            cached,
            local,
            answered,
            failed,
            refused,
            limited,
            malformed,
            synthesised: value(&self.synthesised),
            lookups: times.iter().sum(),
            lookup_us: value(&self.micros),
            times,
        }
    }
}

impl Figures {
    /// Writes the figures for Prometheus.
    pub fn write_page(&self, page: &mut Page) {
        let counts = [
            self.cached,
            self.local,
            self.answered,
            self.failed,
            self.refused,
            self.limited,
            self.malformed,
        ];
        let outcomes = Outcome::ALL
            .iter()
            .map(|outcome| format!("outcome=\"{}\"", outcome.name()));
        page.family(
            "plat_dns64_queries_total",
            "counter",
            "Queries to the DNS64 by what became of them.",
            outcomes.zip(counts),
        )
        .family(
            "plat_dns64_synthesised_total",
            "counter",
            "Answers of the DNS64 with IPv6 addresses that were made.",
            [(String::new(), self.synthesised)],
        )
        .histogram(
            "plat_dns64_lookup_seconds",
            "Time that the DNS64's lookups upstream took.",
            &BOUNDS.map(|micros| micros as f64 / 1e6),
            &self.times,
            self.lookup_us as f64 / 1e6,
        );
    }

    /// Writes the lines of `plat status`.
    ///
    /// # Errors
    /// Never: writing into a string does not fail.
    pub fn write_to(&self, f: &mut String) -> std::fmt::Result {
        use std::fmt::Write as _;
        let Self {
            queries,
            cached,
            local,
            answered,
            failed,
            refused,
            limited,
            malformed,
            synthesised,
            lookups,
            lookup_us,
            times: _,
        } = self;
        writeln!(
            f,
            "DNS64     {queries} queries, {cached} answered from the cache, {answered} by \
             resolvers, {local} here; {failed} failed"
        )?;
        let millis = lookup_us / lookups.max(&1) / 1000;
        writeln!(
            f,
            "  lookups {lookups} in {millis} ms on average, {synthesised} answers with addresses \
             made"
        )?;
        writeln!(
            f,
            "  refused {refused}, over their rate {limited}, malformed {malformed}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_query_counts_once_and_each_lookup_in_its_range() {
        let counters = Counters::default();
        for (times, outcome) in Outcome::ALL.iter().enumerate() {
            for _ in 0..=times {
                counters.count(*outcome);
            }
        }
        counters.count_synthesis();
        for micros in [1, 1_000, 1_001, 6_000_000] {
            counters.count_lookup(Duration::from_micros(micros));
        }
        let mut page = Page::new();
        counters.figures().write_page(&mut page);
        let text = page.into_text();
        for line in [
            "plat_dns64_queries_total{outcome=\"cached\"} 1",
            "plat_dns64_queries_total{outcome=\"malformed\"} 7",
            "plat_dns64_synthesised_total 1",
            "# TYPE plat_dns64_lookup_seconds histogram",
            "plat_dns64_lookup_seconds_bucket{le=\"0.001\"} 2",
            "plat_dns64_lookup_seconds_bucket{le=\"0.005\"} 3",
            "plat_dns64_lookup_seconds_bucket{le=\"5\"} 3",
            "plat_dns64_lookup_seconds_bucket{le=\"+Inf\"} 4",
            "plat_dns64_lookup_seconds_sum 6.002002",
            "plat_dns64_lookup_seconds_count 4",
        ] {
            assert!(text.lines().any(|one| one == line), "{line} in {text}");
        }
        assert_eq!(counters.figures().queries, 1 + 2 + 3 + 4 + 5 + 6 + 7);
    }
}
