//! Limits how often something is done, whatever the reasons to do it.

use std::time::Duration;

use xlat_core::Instant;

/// Most that is done at once.
pub(super) const BURST: u32 = 20;
/// Pause between what is done after that.
pub(super) const PAUSE: Duration = Duration::from_millis(250);

/// A token bucket of [`BURST`] tokens; each [`PAUSE`] adds one.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    tokens: u32,
    /// Time up to which tokens were added.
    filled: Instant,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self {
            tokens: BURST,
            filled: Instant::ZERO,
        }
    }

    /// Takes a token.
    ///
    /// # Errors
    /// The time of the next token if there is none.
    pub(super) fn take(&mut self, now: Instant) -> Result<(), Instant> {
        while self.tokens < BURST && self.filled + PAUSE <= now {
            self.filled = self.filled + PAUSE;
            self.tokens += 1;
        }
        if self.tokens == BURST {
            self.filled = now;
        }
        if self.tokens == 0 {
            return Err(self.filled + PAUSE);
        }
        self.tokens -= 1;
        Ok(())
    }
}
