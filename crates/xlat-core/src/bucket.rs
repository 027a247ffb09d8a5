//! A token bucket: so many events a second, and a few more at once when it was quiet before.

use core::time::Duration;

use crate::time::Instant;

const NANOS: u64 = Duration::from_secs(1).as_nanos() as u64;

/// Lets `per_second` events a second pass, and up to `burst` at once.
///
/// The level is counted in nanoseconds of credit, so nothing is rounded away and nothing drifts.
#[derive(Clone, Copy, Debug)]
pub struct TokenBucket {
    /// Credit that one event costs.
    cost: u64,
    /// Credit of a full bucket.
    full: u64,
    credit: u64,
    last: Option<Instant>,
}

impl TokenBucket {
    /// A full bucket. A rate of zero lets nothing pass.
    pub const fn new(per_second: u32, burst: u32) -> Self {
        let (cost, burst) = match per_second {
            0 => (1, 0),
            // Rounded up: rather a little slower than asked for than faster.
            rate => (NANOS.div_ceil(rate as u64), burst),
        };
        let full = cost.saturating_mul(burst as u64);
        Self {
            cost,
            full,
            credit: full,
            last: None,
        }
    }

    /// Takes a token if there is one.
    pub fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_since(self.last.unwrap_or(now));
        let passed = u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX);
        self.last = Some(self.last.map_or(now, |last| last.max(now)));
        self.credit = self.credit.saturating_add(passed).min(self.full);
        let enough = self.credit >= self.cost;
        if enough {
            self.credit -= self.cost;
        }
        enough
    }

    /// Puts a token back that was taken and is not used.
    pub fn give_back(&mut self) {
        self.credit = (self.credit + self.cost).min(self.full);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(bucket: &mut TokenBucket, from: u64, to: u64) -> usize {
        (from..to)
            .filter(|&ms| bucket.take(Instant::from_millis(ms)))
            .count()
    }

    #[test]
    fn eg_05_a_thousand_triggers_in_one_second_give_the_burst_and_the_rate() {
        let mut bucket = TokenBucket::new(100, 50);
        let passed = passes(&mut bucket, 0, 1000);
        assert!((149..=150).contains(&passed), "{passed}");
        assert_eq!(passes(&mut bucket, 1000, 2000), 100);
    }

    #[test]
    fn a_quiet_year_fills_the_bucket_once() {
        let mut bucket = TokenBucket::new(10, 5);
        assert_eq!(passes(&mut bucket, 0, 1), 1);
        let year = 366 * 24 * 3600 * 1000;
        let burst = (0..100)
            .filter(|_| bucket.take(Instant::from_millis(year)))
            .count();
        assert_eq!(burst, 5);
        assert!(
            !bucket.take(Instant::ZERO),
            "a clock that goes back gives nothing"
        );
    }

    #[test]
    fn rates_at_both_ends_work() {
        assert_eq!(passes(&mut TokenBucket::new(0, 3), 0, 10_000), 0);
        let mut fast = TokenBucket::new(u32::MAX, 10);
        assert_eq!((0..100).filter(|_| fast.take(Instant::ZERO)).count(), 10);
    }
}
