//! Limits what a flood of messages costs: after a burst they are taken one by one with pauses, and
//! the kernel drops what its socket buffer does not hold.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use tokio::time::sleep;
use xlat_core::Instant;
use xlat_tun::now;

/// Most messages that are taken at once.
const BURST: u32 = 64;
/// Pause after each further message.
const PAUSE: Duration = Duration::from_millis(10);
/// A kind of event is logged once in this time.
const LOG_PAUSE: Duration = Duration::from_secs(10);

/// The rate at which the messages of a socket are taken.
#[derive(Clone, Debug)]
pub(crate) struct Intake {
    /// Messages that may be taken now.
    left: u32,
    since: Instant,
}

impl Intake {
    pub(crate) fn new() -> Self {
        Self {
            left: BURST,
            since: Instant::ZERO,
        }
    }

    /// Waits until a message may be taken. Can be cancelled.
    pub(crate) async fn ready(&self) {
        if let Some(pause) = self.pause(now()) {
            sleep(pause).await;
        }
    }

    /// Records that a message was taken.
    pub(crate) fn taken(&mut self, now: Instant) {
        let passed = now.saturating_since(self.since).as_millis() / PAUSE.as_millis();
        let more = u32::try_from(passed).unwrap_or(BURST);
        if more > 0 {
            self.left = self.left.saturating_add(more).min(BURST);
            self.since = now;
        }
        self.left = self.left.saturating_sub(1);
    }

    fn pause(&self, now: Instant) -> Option<Duration> {
        let left = (self.since + PAUSE).saturating_since(now);
        (self.left == 0 && !left.is_zero()).then_some(left)
    }
}

/// Limits log lines: one of each kind in ten seconds.
#[derive(Clone, Debug)]
pub(crate) struct LogLimit<K> {
    last: HashMap<K, (Instant, u64)>,
}

impl<K: Eq + Hash> LogLimit<K> {
    pub(crate) fn new() -> Self {
        Self {
            last: HashMap::new(),
        }
    }

    /// True if an event of this kind may be logged now. Otherwise it is counted; the count ends the
    /// next line.
    pub(crate) fn allows(&mut self, kind: K, now: Instant) -> Option<String> {
        let Some((at, more)) = self.last.get_mut(&kind) else {
            self.last.insert(kind, (now, 0));
            return Some(String::new());
        };
        if now.saturating_since(*at) < LOG_PAUSE {
            *more += 1;
            return None;
        }
        let suffix = match std::mem::take(more) {
            0 => String::new(),
            more => format!(" ({more} more like it since the last line)"),
        };
        *at = now;
        Some(suffix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_secs(1000) + Duration::from_millis(millis)
    }

    #[test]
    fn a_flood_is_taken_at_a_limited_rate_and_a_burst_at_once() {
        let mut intake = Intake::new();
        let mut taken = 0;
        for millis in 0..10_000 {
            while intake.pause(at(millis)).is_none() {
                intake.taken(at(millis));
                taken += 1;
            }
        }
        assert!((1000..1200).contains(&taken), "{taken}");
        // After a rest there is room for a burst.
        for _ in 0..BURST {
            assert_eq!(intake.pause(at(20_000)), None);
            intake.taken(at(20_000));
        }
        assert!(intake.pause(at(20_000)).is_some());
    }

    #[test]
    fn a_kind_of_event_is_logged_once_in_ten_seconds_with_the_number_of_the_others() {
        let mut limit = LogLimit::new();
        assert_eq!(limit.allows("a", at(0)), Some(String::new()));
        assert_eq!(limit.allows("a", at(9999)), None);
        assert_eq!(limit.allows("b", at(9999)), Some(String::new()));
        let line = limit.allows("a", at(10_000));
        assert_eq!(
            line.as_deref(),
            Some(" (1 more like it since the last line)")
        );
        assert_eq!(limit.allows("a", at(20_000)), Some(String::new()));
    }
}
