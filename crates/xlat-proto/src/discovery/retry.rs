//! A schedule of tries with doubling pauses.

use std::time::Duration;

use xlat_core::Instant;

/// The time of the next try, and the pause after it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Retry {
    pub(super) at: Instant,
    pub(super) pause: Duration,
}

impl Retry {
    pub(super) fn first(at: Instant, pause: Duration) -> Self {
        Self { at, pause }
    }

    pub(super) fn again(&mut self, now: Instant, longest: Duration) {
        self.at = now + self.pause;
        self.pause = (self.pause * 2).min(longest);
    }
}
