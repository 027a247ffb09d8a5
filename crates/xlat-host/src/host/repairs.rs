//! What was restored on the host, told once: in a log line, a counter and the status.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tracing::warn;
use xlat_core::Instant;
use xlat_tun::counters::{Metric, SharedCounter};

use super::error::Error;
use super::plan::Step;

/// Time in which the repair of one thing has one log line.
const PAUSE: Duration = Duration::from_secs(10);
/// Time after which a failure that stays the same is logged again.
const REMINDER: Duration = Duration::from_secs(600);

const METRIC: Metric = Metric::counter(
    "xlat_host_repairs_total",
    "Changes of the host that others undid and that were made again.",
);

xlat_tun::counters! {
    /// Counts the repairs.
    cells RepairCounters;
    /// The counters at one moment.
    values RepairFigures;

    /// The TUN was set down, or got another MTU.
    links: SharedCounter => METRIC, "what=\"link\"";
    /// Kernel parameters.
    parameters: SharedCounter => METRIC, "what=\"sysctl\"";
    /// Addresses of interfaces.
    addresses: SharedCounter => METRIC, "what=\"address\"";
    /// Routes, and neighbour entries of the TUN.
    routes: SharedCounter => METRIC, "what=\"route\"";
    /// Proxy neighbour entries.
    proxies: SharedCounter => METRIC, "what=\"proxy\"";
    /// nftables tables.
    tables: SharedCounter => METRIC, "what=\"nftables\"";
}

impl RepairFigures {
    /// All repairs.
    pub fn total(&self) -> u64 {
        let Self {
            links,
            parameters,
            addresses,
            routes,
            proxies,
            tables,
        } = self;
        links + parameters + addresses + routes + proxies + tables
    }
}

/// The kinds of steps that are repaired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Link,
    Sysctl,
    Address,
    Route,
    Proxy,
    Table,
}

impl Kind {
    const COUNT: usize = 6;

    fn of(step: &Step) -> Self {
        match step {
            Step::Tun { .. } | Step::Up { .. } => Self::Link,
            Step::Sysctl { .. } => Self::Sysctl,
            Step::Address(_) | Step::Claim { .. } => Self::Address,
            Step::Route(_) | Step::Rule(_) | Step::Neighbour { .. } => Self::Route,
            Step::Proxy { .. } => Self::Proxy,
            Step::Table { .. } => Self::Table,
        }
    }
}

/// What [`Applied::reconcile`](super::Applied::reconcile) restored.
#[derive(Debug, Default)]
pub struct Repairs {
    made: Vec<(Kind, String)>,
    failed: Vec<(Kind, String, Error)>,
}

impl Repairs {
    pub(super) fn made(&mut self, step: &Step) {
        self.made.push((Kind::of(step), first_line(step)));
    }

    pub(super) fn failed(&mut self, step: &Step, error: Error) {
        self.failed.push((Kind::of(step), first_line(step), error));
    }

    /// Number of steps that were made again.
    pub fn len(&self) -> usize {
        self.made.len()
    }

    /// True if nothing had to be made again.
    pub fn is_empty(&self) -> bool {
        self.made.is_empty()
    }

    /// The steps that were made again, each as the command that an administrator would type.
    pub fn steps(&self) -> impl Iterator<Item = &str> {
        self.made.iter().map(|(_, step)| step.as_str())
    }

    /// The number of repairs.
    ///
    /// # Errors
    /// The first one that failed, except for a parameter: a host that refuses one goes on without.
    pub fn into_result(self) -> Result<usize, Error> {
        let mut failed = self.failed.into_iter();
        match failed.find(|(kind, ..)| *kind != Kind::Sysctl) {
            Some((_, _, error)) => Err(error),
            None => Ok(self.made.len()),
        }
    }
}

/// A table is several commands; the first one names it.
fn first_line(step: &Step) -> String {
    let text = step.to_string();
    text.lines().next().unwrap_or_default().to_owned()
}

/// Counts repairs and logs them: one line for what is of one kind and was restored together, and none
/// for what had a line in the last ten seconds.
#[derive(Debug, Default)]
pub struct RepairLog {
    counters: Arc<RepairCounters>,
    failing: FailingRepairs,
    kinds: [Told; Kind::COUNT],
}

/// What is missing on the host and could not be restored, for the status.
pub type FailingRepairs = Arc<Mutex<Vec<String>>>;

/// What was logged about one kind.
#[derive(Debug, Default)]
struct Told {
    /// Steps with a line in the last ten seconds, and when those are over.
    quiet: HashMap<String, Instant>,
    /// Repairs without a line since the last one.
    untold: usize,
    /// The last failure, and when it may be logged again.
    failure: Option<(String, Instant)>,
}

impl RepairLog {
    /// A log that counts in these counters.
    pub fn new(counters: Arc<RepairCounters>) -> Self {
        Self {
            counters,
            ..Self::default()
        }
    }

    /// The counters, for status and metrics.
    pub fn counters(&self) -> Arc<RepairCounters> {
        Arc::clone(&self.counters)
    }

    /// What is missing, and could not be restored when it was last tried.
    pub fn failing(&self) -> FailingRepairs {
        Arc::clone(&self.failing)
    }

    /// Counts `repairs` and logs them.
    pub fn record(&mut self, repairs: &Repairs, now: Instant) {
        let failed = repairs.failed.iter();
        let failed = failed.map(|(_, step, error)| format!("{step}: {error}"));
        *self.failing.lock().unwrap_or_else(PoisonError::into_inner) = failed.collect();
        for line in self.lines(repairs, now) {
            warn!("{line}");
        }
    }

    fn lines(&mut self, repairs: &Repairs, now: Instant) -> Vec<String> {
        let mut lines = Vec::new();
        for (place, told) in self.kinds.iter_mut().enumerate() {
            let of_kind = repairs.made.iter();
            let of_kind = of_kind.filter(|(kind, _)| *kind as usize == place);
            for (kind, _) in of_kind.clone() {
                counter(&self.counters, *kind).add(1);
            }
            lines.extend(told.restored(of_kind.map(|(_, step)| step), now));
            let mut failed = repairs.failed.iter();
            match failed.find(|(kind, ..)| *kind as usize == place) {
                Some((_, step, error)) => lines.extend(told.failed(step, error, now)),
                None => told.failure = None,
            }
        }
        lines
    }
}

fn counter(counters: &RepairCounters, kind: Kind) -> &SharedCounter {
    match kind {
        Kind::Link => &counters.links,
        Kind::Sysctl => &counters.parameters,
        Kind::Address => &counters.addresses,
        Kind::Route => &counters.routes,
        Kind::Proxy => &counters.proxies,
        Kind::Table => &counters.tables,
    }
}

impl Told {
    fn restored<'a>(
        &mut self,
        steps: impl Iterator<Item = &'a String>,
        now: Instant,
    ) -> Option<String> {
        self.quiet.retain(|_, until| now < *until);
        let (known, new): (Vec<_>, Vec<_>) = steps.partition(|step| self.quiet.contains_key(*step));
        self.untold += known.len();
        let first = new.first()?;
        let mut line = format!("restored what another program or the kernel undid: {first}");
        if new.len() > 1 {
            line += &format!(", and {} more", new.len() - 1);
        }
        if self.untold > 0 {
            line += &format!(" ({} others since the last such line)", self.untold);
            self.untold = 0;
        }
        let until = now + PAUSE;
        self.quiet
            .extend(new.into_iter().map(|step| (step.clone(), until)));
        Some(line)
    }

    fn failed(&mut self, step: &str, error: &Error, now: Instant) -> Option<String> {
        let line = format!("missing and cannot be restored, tried again soon: {step}: {error}");
        if let Some((before, until)) = &self.failure
            && *before == line
            && now < *until
        {
            return None;
        }
        self.failure = Some((line.clone(), now + REMINDER));
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn at(seconds: u64) -> Instant {
        Instant::from_secs(1000 + seconds)
    }

    fn up() -> Step {
        Step::Up {
            dev: "nat64".into(),
        }
    }

    fn proxy(last: u8) -> Step {
        Step::Proxy {
            dev: "eth0".into(),
            address: Ipv4Addr::new(192, 0, 2, last).into(),
        }
    }

    fn repairs(steps: &[Step]) -> Repairs {
        let mut repairs = Repairs::default();
        steps.iter().for_each(|step| repairs.made(step));
        repairs
    }

    #[test]
    fn fp_01_a_repair_has_one_line_in_ten_seconds_and_each_is_counted() {
        let mut log = RepairLog::default();
        let both = repairs(&[up(), proxy(1), proxy(2), proxy(3)]);
        let first = log.lines(&both, at(0));
        let begin = "restored what another program or the kernel undid: ";
        assert_eq!(
            first,
            [
                format!("{begin}ip link set nat64 up"),
                format!("{begin}ip neighbour add proxy 192.0.2.1 dev eth0, and 2 more"),
            ]
        );
        assert!(log.lines(&repairs(&[up()]), at(5)).is_empty());
        assert!(log.lines(&repairs(&[up()]), at(9)).is_empty());
        let later = log.lines(&repairs(&[up()]), at(10));
        let others = "(2 others since the last such line)";
        assert_eq!(later, [format!("{begin}ip link set nat64 up {others}")]);
        let figures = log.counters().snapshot();
        assert_eq!((figures.links, figures.proxies), (4, 3));
        assert_eq!(figures.total(), 7);
    }

    #[test]
    fn he_01_what_cannot_be_restored_is_known_until_it_is() {
        let mut log = RepairLog::default();
        let mut failed = Repairs::default();
        failed.failed(&up(), Error::NoLink("nat64".into()));
        log.record(&failed, at(0));
        let failing = log.failing();
        let line = failing.lock().unwrap()[0].clone();
        assert!(line.starts_with("ip link set nat64 up: "), "{line}");
        log.record(&repairs(&[up()]), at(1));
        assert!(failing.lock().unwrap().is_empty());
    }

    #[test]
    fn fp_01_a_failure_is_told_once_while_it_stays_the_same() {
        let mut log = RepairLog::default();
        let failing = |name: &str| {
            let mut repairs = Repairs::default();
            repairs.failed(&up(), Error::NoLink(name.into()));
            repairs
        };
        assert_eq!(log.lines(&failing("nat64"), at(0)).len(), 1);
        assert!(log.lines(&failing("nat64"), at(500)).is_empty());
        assert_eq!(log.lines(&failing("eth0"), at(501)).len(), 1);
        assert_eq!(log.lines(&failing("eth0"), at(1101)).len(), 1);
        // It worked in between: the next failure is a new one.
        assert!(log.lines(&Repairs::default(), at(1102)).is_empty());
        assert_eq!(log.lines(&failing("eth0"), at(1103)).len(), 1);
        assert!(failing("eth0").into_result().is_err());
    }
}
