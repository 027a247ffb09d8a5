//! How soon a task may look at the host again, after what the last look took of a processor.

use std::time::Duration;

use tokio::time::Instant;

/// A look that took a millisecond is followed by so many without one, so that flapping routes cost
/// two percent of a processor.
const REST: u32 = 50;
/// The same for changes that matter at once.
const URGENT_REST: u32 = 20;
/// No change waits longer.
const REST_MAX: Duration = Duration::from_secs(30);

/// Spaces looks at the host. Times are arguments: of the clock, and of the processor.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// What the thread had used of a processor when the look began that is going on.
    began: Option<Duration>,
    /// When the last look was over, and what it took.
    last: Option<(Instant, Duration)>,
}

impl Pace {
    /// A look begins.
    pub(super) fn begin(&mut self, used: Duration) {
        self.began = Some(used);
    }

    /// The look that was going on, if one was, is over.
    pub(super) fn end(&mut self, now: Instant, used: Duration) {
        if let Some(began) = self.began.take() {
            self.last = Some((now, used.saturating_sub(began)));
        }
    }

    /// When the next look may begin; `None` if at once.
    pub(super) fn next(&self, is_urgent: bool) -> Option<Instant> {
        let (end, took) = self.last?;
        let rest = if is_urgent { URGENT_REST } else { REST };
        Some(end + (took * rest).min(REST_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fp_46_looks_take_a_fiftieth_of_a_processor() {
        let (start, ms) = (Instant::now(), Duration::from_millis);
        let mut pace = Pace::default();
        assert_eq!(pace.next(false), None);
        pace.begin(ms(7));
        pace.end(start, ms(107));
        // What the thread does between looks is no matter.
        pace.end(start + ms(900), ms(900));
        assert_eq!(pace.next(false), Some(start + ms(5000)));
        assert_eq!(pace.next(true), Some(start + ms(2000)));
        pace.begin(ms(1000));
        pace.end(start, ms(9000));
        assert_eq!(pace.next(false), Some(start + Duration::from_secs(30)));
    }
}
