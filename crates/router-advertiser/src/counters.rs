//! Counts advertisements and solicitations.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

/// What is counted on all LANs together.
#[derive(Debug, Default)]
pub struct Counters {
    pub(crate) sent: AtomicU64,
    pub(crate) solicited: AtomicU64,
    pub(crate) ignored: AtomicU64,
}

/// The counters at one moment.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Figures {
    /// Advertisements that were sent.
    pub sent: u64,
    /// Valid solicitations that were received.
    pub solicited: u64,
    /// Malformed solicitations.
    pub ignored: u64,
}

impl Counters {
    /// The counters as they are now.
    pub fn figures(&self) -> Figures {
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Figures {
            sent: value(&self.sent),
            solicited: value(&self.solicited),
            ignored: value(&self.ignored),
        }
    }
}

pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
