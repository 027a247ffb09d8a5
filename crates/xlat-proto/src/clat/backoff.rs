//! Schedules further tries of a state that could not be reached, with growing pauses. Another state
//! is tried at once.

use std::time::Duration;

use xlat_core::Instant;

use super::state::State;

/// The last state that could not be reached, and the time of the next try.
#[derive(Clone, Debug, Default)]
pub struct Backoff {
    failed: Option<(State, Instant)>,
    pause: Duration,
}

/// Pauses between tries of the same state.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);

impl Backoff {
    /// A backoff without a failure.
    pub fn new() -> Self {
        Self::default()
    }

    /// Records that this state could not be reached. Returns the pause before the next try.
    pub fn failed(&mut self, state: &State, now: Instant) -> Duration {
        let is_same = self.failed.as_ref().is_some_and(|(one, _)| one == state);
        self.pause = if is_same {
            (self.pause * 2).min(LONGEST)
        } else {
            FIRST
        };
        self.failed = Some((state.clone(), now + self.pause));
        self.pause
    }

    /// Records that the desired state was reached.
    pub fn worked(&mut self) {
        *self = Self::default();
    }

    /// True if this state could not be reached and its pause is not over.
    pub fn holds_back(&self, state: &State, now: Instant) -> bool {
        let failed = self.failed.as_ref();
        failed.is_some_and(|(one, again)| one == state && now < *again)
    }

    /// The time of the next try.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.failed.as_ref().map(|(_, again)| *again)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_secs(100 + seconds)
    }

    #[test]
    fn the_same_thing_waits_longer_and_longer() {
        let mut backoff = Backoff::new();
        let wanted = State::WaitingForIpv6;
        assert!(!backoff.holds_back(&wanted, at(0)));
        let pauses: Vec<u64> = (0..7)
            .map(|_| backoff.failed(&wanted, at(0)).as_secs())
            .collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
        assert!(backoff.holds_back(&wanted, at(29)));
        assert!(!backoff.holds_back(&wanted, at(30)));
        assert_eq!(backoff.next_timeout(), Some(at(30)));
    }

    #[test]
    fn something_else_is_tried_at_once_and_success_forgets() {
        let mut backoff = Backoff::new();
        backoff.failed(&State::WaitingForIpv6, at(0));
        assert!(!backoff.holds_back(&State::WaitingForPrefix, at(0)));
        let pause = backoff.failed(&State::WaitingForPrefix, at(0));
        assert_eq!(pause, FIRST);
        backoff.worked();
        assert_eq!(backoff.next_timeout(), None);
        assert!(!backoff.holds_back(&State::WaitingForPrefix, at(0)));
    }
}
