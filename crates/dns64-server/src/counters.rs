//! Counters of the DNS64.

use std::ops::AddAssign;
use std::sync::atomic::Ordering;
use std::time::Duration;

use dns64::{Age, Found};
use portable_atomic::AtomicU64;
use serde::Serialize;
use xlat_tun::counters::{Cell, Each, Families, Metric, SharedCounter, Value};

use crate::status::ResolverStatus;

xlat_tun::labels! {
    /// What became of a query: each has one of these.
    pub enum Outcome: "outcome", zeros in metrics true, in JSON true;

    /// Answered from the cache.
    Cached = "cached",
    /// Answered from the cache behind its lifetime, because resolvers did not answer.
    Stale = "stale",
    /// Answered, or refused with a code, without asking a resolver.
    Local = "local",
    /// Answered by what upstream resolvers sent.
    Answered = "answered",
    /// Left without an answer by upstream resolvers.
    Failed = "failed",
    /// From a client that may not ask.
    Refused = "refused",
    /// Beyond a rate or a limit.
    Limited = "limited",
    /// Not a query.
    Malformed = "malformed",
}

type OutcomeCounters = Each<Outcome, SharedCounter, { Outcome::ALL.len() }>;

#[rustfmt::skip]
xlat_tun::counters! {
    /// Counters that only go up.
    cells Counters;
    /// What was counted until one moment.
    values Values;

    /// Queries by what became of them.
    #[serde(flatten)]
    outcomes: OutcomeCounters => Metric::counter("plat_dns64_queries_total", "Queries to the DNS64 by what became of them."), "";
    /// Answers with IPv6 addresses that were made.
    synthesised: SharedCounter => Metric::counter("plat_dns64_synthesised_total", "Answers of the DNS64 with IPv6 addresses that were made."), "";
    /// Lookups that asked upstream resolvers.
    #[serde(flatten)]
    lookups: LookupCounter => Metric::histogram("plat_dns64_lookup_seconds", "Time that the DNS64's lookups upstream took."), "";
}

/// A snapshot of the counters, and the resolvers.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// All queries, with any outcome.
    pub queries: u64,
    /// The upstream resolvers in force.
    pub resolvers: Vec<ResolverStatus>,
    /// The counters.
    #[serde(flatten)]
    pub counted: Values,
}

impl Counters {
    /// Counts a query with this outcome.
    pub(crate) fn count(&self, outcome: Outcome) {
        self.outcomes.of(outcome).add(1);
    }

    /// Counts an answer that the cache had.
    pub(crate) fn count_kept(&self, found: &Found<'_>) {
        self.count(match found.age() {
            Age::Fresh(_) => Outcome::Cached,
            Age::Stale => Outcome::Stale,
        });
        if found.is_made() {
            self.synthesised.add(1);
        }
    }
}

impl Figures {
    /// Writes the lines of `plat status`.
    ///
    /// # Errors
    /// Never: writing into a string does not fail.
    pub fn write_to(&self, f: &mut String) -> std::fmt::Result {
        use std::fmt::Write as _;
        let of = |outcome| self.counted.outcomes.count(outcome);
        let (cached, answered, local) = (
            of(Outcome::Cached),
            of(Outcome::Answered),
            of(Outcome::Local),
        );
        let (failed, refused) = (of(Outcome::Failed), of(Outcome::Refused));
        let (limited, malformed) = (of(Outcome::Limited), of(Outcome::Malformed));
        let Values {
            synthesised,
            lookups: Lookups {
                lookups, lookup_us, ..
            },
            ..
        } = &self.counted;
        let queries = self.queries;
        writeln!(
            f,
            "DNS64     {queries} queries, {cached} answered from the cache, {answered} by \
             resolvers, {local} here; {failed} failed"
        )?;
        let stale = of(Outcome::Stale);
        if stale > 0 {
            writeln!(
                f,
                "  {stale} answered behind their lifetime, because resolvers fail"
            )?;
        }
        self.write_resolvers(f)?;
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

/// Upper bounds of the histogram's buckets, in microseconds. Longer times have a bucket of their
/// own.
const BOUNDS: [u64; 8] = [
    1_000, 5_000, 20_000, 100_000, 500_000, 1_000_000, 2_500_000, 5_000_000,
];

/// A histogram of the times of lookups.
#[derive(Debug, Default)]
pub struct LookupCounter {
    times: [AtomicU64; BOUNDS.len() + 1],
    micros: AtomicU64,
}

/// A snapshot of the histogram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Lookups {
    /// Number of lookups.
    pub lookups: u64,
    /// Sum of their times, in microseconds.
    pub lookup_us: u64,
    #[serde(skip)]
    times: [u64; BOUNDS.len() + 1],
}

impl LookupCounter {
    /// Counts a lookup that took this time.
    pub(crate) fn add(&self, took: Duration) {
        let micros = took.as_micros() as u64;
        let range = BOUNDS.partition_point(|bound| *bound < micros);
        self.times[range].fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }
}

impl Cell for LookupCounter {
    type Value = Lookups;

    fn value(&self) -> Lookups {
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let times = self.times.each_ref().map(value);
        Lookups {
            lookups: times.iter().sum(),
            lookup_us: value(&self.micros),
            times,
        }
    }
}

impl AddAssign for Lookups {
    fn add_assign(&mut self, more: Self) {
        self.lookups += more.lookups;
        self.lookup_us += more.lookup_us;
        for (sum, more) in self.times.iter_mut().zip(more.times) {
            *sum += more;
        }
    }
}

impl Value for Lookups {
    type Metrics = Metric;

    fn sample(&self, families: &mut Families, metric: Metric, _labels: &str) {
        let family = families.family(metric);
        let seconds = |micros: u64| micros as f64 / 1e6;
        let ends = BOUNDS.iter().map(|end| seconds(*end).to_string());
        let mut all = 0;
        for (end, count) in ends.chain(["+Inf".to_owned()]).zip(self.times) {
            all += count;
            family.add_part("_bucket", format!("le=\"{end}\""), all);
        }
        family.add_part("_sum", "", seconds(self.lookup_us));
        family.add_part("_count", "", all);
    }
}

#[cfg(test)]
mod tests {
    use xlat_host::daemon::metrics::Page;

    use super::*;
    use crate::status::StatusSource;

    #[test]
    fn each_query_counts_once_and_each_lookup_in_its_range() {
        let source = StatusSource::default();
        let counters = &source.counters;
        for (times, outcome) in Outcome::ALL.iter().enumerate() {
            for _ in 0..=times {
                counters.count(*outcome);
            }
        }
        counters.synthesised.add(1);
        for micros in [1, 1_000, 1_001, 6_000_000] {
            counters.lookups.add(Duration::from_micros(micros));
        }
        let mut page = Page::new();
        page.families(counters.snapshot().families());
        let text = page.into_text();
        for line in [
            "plat_dns64_queries_total{outcome=\"cached\"} 1",
            "plat_dns64_queries_total{outcome=\"malformed\"} 8",
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
        assert_eq!(source.figures().queries, 1 + 2 + 3 + 4 + 5 + 6 + 7 + 8);
    }

    #[test]
    fn the_status_for_programs_is_flat() {
        let source = StatusSource::default();
        let counters = &source.counters;
        counters.count(Outcome::Cached);
        counters.lookups.add(Duration::from_micros(3));
        let expected = "{\"queries\":1,\"resolvers\":[],\"cached\":1,\"stale\":0,\"local\":0,\"answered\":0,\"failed\":0,\
                        \"refused\":0,\"limited\":0,\"malformed\":0,\"synthesised\":0,\
                        \"lookups\":1,\"lookup_us\":3}";
        assert_eq!(serde_json::to_string(&source.figures()).unwrap(), expected);
    }
}
