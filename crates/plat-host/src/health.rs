//! How a gateway does, from what it has measured: the way out to IPv4, what comes back by it, what is
//! missing on the host, the resolvers of its DNS64, and pools that are full.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dns64_server::ResolverStatus;
use xlat_core::{DropReason, Instant};
use xlat_host::daemon::health::{Finding, HealthLog, HealthStatus, Passed, Replies};
use xlat_tun::now;

use crate::StatusSource;

/// How long packets that found no port make a pool a full one.
const FULL: Duration = Duration::from_secs(8);

/// What was found over time; clones share it.
#[derive(Clone, Debug)]
pub struct HealthSource {
    log: HealthLog,
    seen: Arc<Mutex<Seen>>,
    /// Held while something is measured: who asks meanwhile gets the same outcome.
    measuring: Arc<tokio::sync::Mutex<()>>,
}

impl HealthSource {
    /// Nothing is found wrong yet.
    pub fn new(now: Instant) -> Self {
        Self {
            log: HealthLog::new(now),
            seen: Arc::default(),
            measuring: Arc::default(),
        }
    }

    /// The word and what belongs to it.
    pub fn status(&self) -> HealthStatus {
        self.log.status(now())
    }
}

/// What the counters said.
#[derive(Debug, Default)]
struct Seen {
    replies: Replies,
    /// Packets that found the pool or the table full, and when there were more than before.
    full: [(u64, Option<Instant>); 2],
}

/// What a full pool and a full table are called.
const LIMITS: [(DropReason, &str); 2] = [
    (
        DropReason::PoolExhausted,
        "the pool is full: new connections find no free address or port",
    ),
    (
        DropReason::TableFull,
        "the session table is full (--max-sessions): new connections are refused",
    ),
];

impl Seen {
    /// The findings that follow from the counters at `now`: what has passed, and packets that met
    /// each of the [`LIMITS`].
    fn update(&mut self, passed: Passed, full: [u64; 2], now: Instant) -> Vec<Finding> {
        let mut findings = Vec::new();
        self.replies.update(passed, now);
        if self.replies.are_missing(now) {
            let text = "packets leave to IPv4 and none comes back";
            findings.push(Finding::degraded("replies", text));
        }
        for (number, (_, text)) in LIMITS.iter().enumerate() {
            let (count, (before, at)) = (full[number], &mut self.full[number]);
            if count > *before {
                *at = Some(now);
            }
            *before = count;
            if at.is_some_and(|at| now.saturating_since(at) < FULL) {
                findings.push(Finding::degraded("full", *text));
            }
        }
        findings
    }
}

impl StatusSource {
    /// Measures how the gateway does, as far as that is not known. `is_asked`: somebody wants to know.
    pub async fn measure(&self, is_asked: bool) -> HealthStatus {
        let _measuring = self.health.measuring.lock().await;
        if let Some(dns64) = &self.dns64 {
            dns64.probe(is_asked).await;
        }
        self.judge();
        self.health.status()
    }

    /// Says what is wrong, as far as it is known.
    pub fn judge(&self) {
        let now = now();
        let mut findings = Vec::new();
        let withdrawn = lock(&self.routes).withdrawn;
        match (&lock(&self.reach).missing, withdrawn) {
            (Some(missing), _) => {
                let text = format!("IPv4 is not reached: no {missing}");
                findings.push(Finding::broken("egress", text));
            }
            (None, _) if lock(&self.drain).is_some() => {
                let text = "being drained: new subscribers are refused";
                findings.push(Finding::degraded("drain", text));
            }
            (None, Some(routes)) => {
                let text = format!("the routes of {routes} are withdrawn");
                findings.push(Finding::broken("routes", text));
            }
            (None, None) => {}
        }
        for step in &*lock(&self.failing) {
            let text = format!("missing and cannot be restored: {step}");
            findings.push(Finding::broken("host", text));
        }
        for chain in &*lock(&self.dropping) {
            findings.push(Finding::degraded("forward", format!("dropping {chain}")));
        }
        for conflict in self.conflicts.list() {
            let text = format!("{} of the pool is also another host's", conflict.address);
            findings.push(Finding::degraded("conflict", text));
        }
        if let Some(dns64) = &self.dns64 {
            findings.extend(of_resolvers(&dns64.figures().resolvers));
        }
        let mut packets = self.totals.snapshot();
        self.fast_path.status().add_to(&mut packets);
        let full =
            LIMITS.map(|(reason, _)| packets.drops.count(reason) + packets.replies.count(reason));
        let passed = Passed::to_ipv4(&packets);
        findings.extend(lock(&self.health.seen).update(passed, full, now));
        self.health.log.judge(findings, now);
    }
}

/// Resolvers that do not answer, or not with A records. Without any other, IPv4-only names are not
/// resolved at all.
fn of_resolvers(resolvers: &[ResolverStatus]) -> Vec<Finding> {
    let is_useless = |one: &&ResolverStatus| one.silent || one.without_a;
    let all_are_useless = resolvers.iter().all(|one| is_useless(&one));
    let finding = |one: &ResolverStatus| {
        let what = match one.silent {
            true => "does not answer",
            false => "gives no A records, of which the DNS64 would make addresses",
        };
        let text = format!("the resolver {} {what}", one.address);
        match all_are_useless {
            true => Finding::broken("dns64", text),
            false => Finding::degraded("dns64", text),
        }
    };
    resolvers.iter().filter(is_useless).map(finding).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use xlat_host::daemon::health::Health;

    #[test]
    fn he_05_a_pool_is_full_for_as_long_as_packets_find_it_so() {
        let at = |seconds: u64| Instant::from_secs(1000 + seconds);
        let mut seen = Seen::default();
        let nothing = Passed::default();
        assert!(seen.update(nothing, [0, 0], at(0)).is_empty());
        let found = seen.update(nothing, [1, 0], at(4));
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].what, found[0].health), ("full", Health::Degraded));
        assert_eq!(seen.update(nothing, [1, 0], at(11)), found);
        assert!(seen.update(nothing, [1, 0], at(12)).is_empty());
        assert_eq!(seen.update(nothing, [2, 5], at(13)).len(), 2);
    }
}
