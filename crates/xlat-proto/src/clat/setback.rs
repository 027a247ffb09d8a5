//! What failed is tried again, after pauses that grow. What is wanted now may be something else:
//! that is tried at once.

use std::time::Duration;

use xlat_core::Instant;

use super::life::Standing;

/// The last thing that failed, and when to try it again.
#[derive(Clone, Debug, Default)]
pub struct Setback {
    failed: Option<(Standing, Instant)>,
    pause: Duration,
}

/// Pauses between tries of the same thing.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);

impl Setback {
    /// Nothing has failed.
    pub fn new() -> Self {
        Self::default()
    }

    /// It did not work to make things like this. The pause before the next try.
    pub fn failed(&mut self, standing: &Standing, now: Instant) -> Duration {
        let is_same = self.failed.as_ref().is_some_and(|(one, _)| one == standing);
        self.pause = if is_same {
            (self.pause * 2).min(LONGEST)
        } else {
            FIRST
        };
        self.failed = Some((standing.clone(), now + self.pause));
        self.pause
    }

    /// Things are as they should be.
    pub fn worked(&mut self) {
        *self = Self::default();
    }

    /// True if this failed a moment ago and is not to be tried again yet.
    pub fn holds_back(&self, standing: &Standing, now: Instant) -> bool {
        let failed = self.failed.as_ref();
        failed.is_some_and(|(one, again)| one == standing && now < *again)
    }

    /// When to try again.
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
        let mut setback = Setback::new();
        let wanted = Standing::WaitingForIpv6;
        assert!(!setback.holds_back(&wanted, at(0)));
        let pauses: Vec<u64> = (0..7)
            .map(|_| setback.failed(&wanted, at(0)).as_secs())
            .collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
        assert!(setback.holds_back(&wanted, at(29)));
        assert!(!setback.holds_back(&wanted, at(30)));
        assert_eq!(setback.next_timeout(), Some(at(30)));
    }

    #[test]
    fn something_else_is_tried_at_once_and_success_forgets() {
        let mut setback = Setback::new();
        setback.failed(&Standing::WaitingForIpv6, at(0));
        assert!(!setback.holds_back(&Standing::WaitingForPrefix, at(0)));
        let pause = setback.failed(&Standing::WaitingForPrefix, at(0));
        assert_eq!(pause, FIRST);
        setback.worked();
        assert_eq!(setback.next_timeout(), None);
        assert!(!setback.holds_back(&Standing::WaitingForPrefix, at(0)));
    }
}
