//! What `plat status` and the metrics know of the server.

use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::task::JoinSet;
use xlat_core::Instant;
use xlat_tun::counters::Metric;
use xlat_tun::now;

use crate::config::Upstream;
use crate::counters::{Counters, Figures};
use crate::exchange::{self, Probe};

/// Time for each attempt to have an answer of a resolver.
const PATIENCE: Duration = Duration::from_millis(800);
/// A resolver that has answered in this time is not asked whether it answers.
const FRESH: Duration = Duration::from_secs(3);

/// So long it counts whether a resolver gives A records.
const PROBED: Duration = Duration::from_secs(5);

/// Number of resolvers that are asked without EDNS.
pub const WITHOUT_EDNS: Metric = Metric::gauge(
    "plat_dns64_resolvers_without_edns",
    "Upstream resolvers of the DNS64 that are asked without EDNS.",
);

/// Where the status comes from. It outlives the server.
#[derive(Clone, Debug, Default)]
pub struct StatusSource {
    pub(crate) counters: Arc<Counters>,
    pub(crate) resolvers: Resolvers,
}

impl StatusSource {
    /// Takes a snapshot.
    pub fn figures(&self) -> Figures {
        let counted = self.counters.snapshot();
        Figures {
            queries: counted.outcomes.total(),
            resolvers: self.resolvers.all(),
            counted,
        }
    }

    /// Asks each resolver that has not answered in the last seconds, so that
    /// [`ResolverStatus::silent`] is what was just measured. `is_asked`: otherwise only those that were
    /// silent before.
    pub async fn probe(&self, is_asked: bool) {
        let all = self.resolvers.lock().clone();
        let mut asked = JoinSet::new();
        for (upstream, status) in all {
            let answered = status.answered;
            let is_recent =
                |at: Option<Instant>, time| at.is_some_and(|at| now().saturating_since(at) < time);
            let is_fresh = is_recent(answered, FRESH) && is_recent(status.probed, PROBED);
            if status.silent || status.without_a || (is_asked && !is_fresh) {
                asked.spawn(async move {
                    let probed = exchange::probe(&upstream, PATIENCE).await;
                    (upstream, probed)
                });
            }
        }
        while let Some(done) = asked.join_next().await {
            if let Ok((upstream, probed)) = done {
                self.resolvers.set_probed(&upstream, probed);
            }
        }
    }
}

/// The upstream resolvers in force.
#[derive(Clone, Debug, Default)]
pub(crate) struct Resolvers(Arc<Mutex<Vec<(Upstream, ResolverStatus)>>>);

/// An upstream resolver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ResolverStatus {
    /// Its address and port.
    pub address: String,
    /// False if it is asked without EDNS, because it does not answer with it.
    pub edns: bool,
    /// True if it did not answer when it was last asked.
    pub silent: bool,
    /// True if it gave no A records when it was asked for some that exist.
    #[serde(skip_serializing_if = "is_false")]
    pub without_a: bool,
    /// When it answered last.
    #[serde(skip)]
    pub(crate) answered: Option<Instant>,
    /// When it was last asked for A records that exist.
    #[serde(skip)]
    pub(crate) probed: Option<Instant>,
}

/// For fields that are left out then.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it")]
fn is_false(flag: &bool) -> bool {
    !flag
}

impl fmt::Display for ResolverStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address)?;
        if !self.edns {
            f.write_str(" without EDNS")?;
        }
        if self.silent {
            f.write_str(" (does not answer)")?;
        }
        if self.without_a {
            f.write_str(" (gives no A records)")?;
        }
        Ok(())
    }
}

impl Resolvers {
    /// These are asked from now on, with EDNS.
    pub(crate) fn set<'a>(&self, upstreams: impl IntoIterator<Item = &'a Upstream>) {
        let status = |one: &Upstream| {
            let status = ResolverStatus {
                address: one.to_string(),
                edns: true,
                silent: false,
                without_a: false,
                answered: None,
                probed: None,
            };
            (one.clone(), status)
        };
        let mut all: Vec<(Upstream, ResolverStatus)> = Vec::new();
        for upstream in upstreams {
            if !all.iter().any(|(have, _)| have == upstream) {
                all.push(status(upstream));
            }
        }
        *self.lock() = all;
    }

    /// A resolver was asked whether it answers, and with A records.
    fn set_probed(&self, upstream: &Upstream, probed: Probe) {
        self.set_answers(upstream, probed != Probe::Silent);
        let mut all = self.lock();
        for (_, status) in all.iter_mut().filter(|(one, _)| one == upstream) {
            status.without_a = probed == Probe::WithoutA;
            status.probed = Some(now());
        }
    }

    /// A resolver has answered, or has not in time.
    pub(crate) fn set_answers(&self, upstream: &Upstream, answers: bool) {
        let mut all = self.lock();
        for (_, status) in all.iter_mut().filter(|(one, _)| one == upstream) {
            status.silent = !answers;
            if answers {
                status.answered = Some(now());
            }
        }
    }

    fn all(&self) -> Vec<ResolverStatus> {
        self.lock().iter().map(|(_, one)| one.clone()).collect()
    }

    /// A resolver is asked with EDNS, or without it.
    pub(crate) fn set_edns(&self, upstream: &Upstream, edns: bool) {
        // A lookup under an older configuration may have found it out.
        let mut all = self.lock();
        for (_, status) in all.iter_mut().filter(|(one, _)| one == upstream) {
            status.edns = edns;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Upstream, ResolverStatus)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Figures {
    /// Number of resolvers that are asked without EDNS.
    pub fn resolvers_without_edns(&self) -> u64 {
        self.resolvers.iter().filter(|one| !one.edns).count() as u64
    }

    pub(crate) fn write_resolvers(&self, f: &mut String) -> fmt::Result {
        let resolvers: Vec<String> = self.resolvers.iter().map(ToString::to_string).collect();
        if resolvers.is_empty() {
            return Ok(());
        }
        writeln!(f, "  resolvers {}", resolvers.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fp_06_the_status_names_the_resolvers_and_those_without_edns() {
        let source = StatusSource::default();
        let [one, other] =
            ["192.0.2.53", "fe80::53%eth0"].map(|text| text.parse::<Upstream>().unwrap());
        source.resolvers.set(&[one.clone(), other.clone()]);
        source.resolvers.set_edns(&other, false);
        let figures = source.figures();
        assert_eq!(figures.resolvers_without_edns(), 1);
        let mut text = String::new();
        figures.write_to(&mut text).unwrap();
        let line = "  resolvers 192.0.2.53:53, [fe80::53%eth0]:53 without EDNS";
        assert!(text.lines().any(|one| one == line), "{text}");
        source.resolvers.set_answers(&one, false);
        text.clear();
        source.figures().write_to(&mut text).unwrap();
        assert!(text.contains("192.0.2.53:53 (does not answer),"), "{text}");
        source.resolvers.set_edns(&other, true);
        assert_eq!(source.figures().resolvers_without_edns(), 0);
    }
}
