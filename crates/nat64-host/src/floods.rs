//! Logs floods: packets that were dropped because a limit was reached or because a host sends
//! invalid packets.
//!
//! The workers only count. The keeper compares the counters periodically, and logs each reason at
//! most once in ten seconds.

use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;
use xlat_core::DropReason;
use xlat_tun::counters::Snapshot;

/// Minimum time between two log lines about one reason.
const PAUSE: Duration = Duration::from_secs(10);
/// Threshold in packets per interval for reasons that occur without a flood, too.
const NOISE: u64 = 100;

/// The threshold of a reason in packets per ten seconds, and advice for the log line.
const WATCHED: &[(DropReason, u64, &str)] = &[
    (
        DropReason::TableFull,
        1,
        "raise --max-sessions, or bound each subscriber with --subscriber-sessions",
    ),
    (DropReason::PoolExhausted, 1, "make --pool larger"),
    (
        DropReason::SubscriberLimit,
        1,
        "`plat status` shows who has most; see --subscriber-ports, --subscriber-sessions and --subscriber-rate",
    ),
    (
        DropReason::FragmentLimit,
        1,
        "somebody sends fragments without end, or raise --fragment-memory",
    ),
    (
        DropReason::SynLimit,
        1,
        "SYNs from outside wait in vain; see --store-syns",
    ),
    (
        DropReason::SourceInPref64,
        1,
        "somebody forges addresses of the NAT64 prefix, or there is a loop",
    ),
    (
        DropReason::Denied,
        NOISE,
        "clients or destinations that --client or --deny refuse, or addresses of this host",
    ),
    (
        DropReason::Filtered,
        NOISE,
        "strangers that the filter keeps out",
    ),
    (
        DropReason::NoBinding,
        NOISE,
        "nobody has the ports that somebody outside tries",
    ),
    (
        DropReason::QuotedUnmapped,
        NOISE,
        "ICMP errors about packets that nobody has sent",
    ),
    (
        DropReason::FragmentTimeout,
        NOISE,
        "fragments whose first one does not come",
    ),
    (
        DropReason::FragmentRefused,
        NOISE,
        "fragments that overlap, or whose first one was refused",
    ),
];

/// What was logged about each reason.
#[derive(Debug)]
pub(crate) struct Floods {
    watched: Vec<Watched>,
}

#[derive(Debug)]
struct Watched {
    reason: DropReason,
    /// Minimum number of packets for a log line.
    threshold: u64,
    advice: &'static str,
    /// Counter value up to which packets were logged, or too few to be.
    before: u64,
    /// Start of the interval of the packets since then.
    since: Instant,
    quiet_until: Instant,
    is_pending: bool,
}

impl Floods {
    pub(crate) fn new(now: Instant) -> Self {
        let watched = WATCHED.iter().map(|&(reason, threshold, advice)| Watched {
            reason,
            threshold,
            advice,
            before: 0,
            since: now,
            quiet_until: now,
            is_pending: false,
        });
        Self {
            watched: watched.collect(),
        }
    }

    /// Compares the counters with those of the last call, and logs the floods since.
    pub(crate) fn look(&mut self, counters: &Snapshot, now: Instant) {
        for one in &mut self.watched {
            let total = counters.drops.count(one.reason) + counters.replies.count(one.reason);
            if let Some(line) = one.look(total, now) {
                warn!("{line}");
            }
        }
    }

    /// Time at which a deferred log line is due; `None` if there is none.
    pub(crate) fn next(&self) -> Option<Instant> {
        let pending = self.watched.iter().filter(|one| one.is_pending);
        pending.map(|one| one.quiet_until).min()
    }
}

impl Watched {
    fn look(&mut self, total: u64, now: Instant) -> Option<String> {
        let count = total - self.before;
        if count == 0 {
            self.since = now;
            return None;
        }
        let is_old = now.duration_since(self.since) >= PAUSE;
        self.is_pending = count >= self.threshold;
        if !self.is_pending {
            if is_old {
                (self.before, self.since) = (total, now);
            }
            return None;
        }
        if now < self.quiet_until {
            return None;
        }
        let seconds = now
            .duration_since(self.since)
            .as_secs_f64()
            .round()
            .max(1.0);
        (self.before, self.since) = (total, now);
        self.quiet_until = now + PAUSE;
        self.is_pending = false;
        let name = self.reason.name();
        let packets = if count == 1 { "packet" } else { "packets" };
        Some(format!(
            "{name}: {count} {packets} dropped in the last {seconds} s; {}",
            self.advice
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched(start: Instant, threshold: u64) -> Watched {
        Watched {
            reason: DropReason::TableFull,
            threshold,
            advice: "do something",
            before: 0,
            since: start,
            quiet_until: start,
            is_pending: false,
        }
    }

    #[test]
    fn cg_07_a_flood_gets_a_line_every_ten_seconds_with_all_its_packets() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut one = watched(start, 1);
        assert_eq!(one.look(0, at(100)), None);
        let first = one.look(1000, at(101)).unwrap();
        assert_eq!(
            first,
            "table-full: 1000 packets dropped in the last 1 s; do something"
        );
        for second in 102..111 {
            assert_eq!(one.look(second * 1000, at(second)), None);
            assert!(one.is_pending);
        }
        let second = one.look(111_000, at(111)).unwrap();
        assert!(
            second.starts_with("table-full: 110000 packets dropped in the last 10 s"),
            "{second}"
        );
        assert!(!one.is_pending);
        assert_eq!(one.look(111_000, at(1000)), None);
        let later = one.look(111_005, at(1001)).unwrap();
        assert!(
            later.contains(" 5 packets dropped in the last 1 s"),
            "{later}"
        );
    }

    #[test]
    fn noise_gets_no_line() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut one = watched(start, 100);
        // Nine packets a second.
        for second in 1..1000 {
            assert_eq!(one.look(second * 9, at(second)), None);
            assert!(!one.is_pending);
        }
        assert!(one.look(10_000, at(1000)).is_some());
    }
}
