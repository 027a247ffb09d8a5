//! When the host is compared with the plan.

use std::time::Duration;

use tokio::time::Instant;

/// How often the host is compared with the plan. The kernel tells of links, addresses and routes at
/// once, and not of parameters and proxy entries.
const EVERY: Duration = Duration::from_secs(4);
/// Least time between two comparisons, however many changes the kernel tells of.
const PAUSE: Duration = Duration::from_secs(1);

/// When the host is compared with the plan.
#[derive(Clone, Copy, Debug)]
pub struct RepairTimes {
    last: Instant,
    next: Instant,
}

impl RepairTimes {
    /// The last comparison was at `now`.
    pub fn since(now: Instant) -> Self {
        Self {
            last: now,
            next: now + EVERY,
        }
    }

    /// The time of the next comparison.
    pub fn next(&self) -> Instant {
        self.next
    }

    /// The kernel has told of a change: the next comparison is soon.
    pub fn hasten(&mut self) {
        self.next = self.next.min(self.last + PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_brings_the_comparison_forward_to_a_second_after_the_last() {
        let start = Instant::now();
        let mut times = RepairTimes::since(start);
        assert_eq!(times.next(), start + Duration::from_secs(4));
        // However many changes come.
        for _ in 0..3 {
            times.hasten();
            assert_eq!(times.next(), start + Duration::from_secs(1));
        }
        let again = RepairTimes::since(start + Duration::from_secs(1));
        assert_eq!(again.next(), start + Duration::from_secs(5));
    }
}
