//! Lifetimes as a session stores them: 32 bits, in ticks of an eighth of a second.

use std::time::Duration;

use xlat_core::Instant;

/// A point in time in ticks of 2^27 ns (0.134 s) since the origin of the caller's clock. Good for
/// 18 years, after which sessions never expire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tick(u32);

impl Tick {
    /// The tick that `now` lies in.
    #[inline]
    pub(crate) const fn at(now: Instant) -> Self {
        let ticks = now.as_nanos() >> SHIFT;
        Self(if ticks > u32::MAX as u64 {
            u32::MAX
        } else {
            ticks as u32
        })
    }

    pub(crate) const fn from_raw(raw: u32) -> Self {
        Self(raw)
    }

    pub(crate) const fn raw(self) -> u32 {
        self.0
    }

    /// The point `ticks` later.
    #[inline]
    pub(crate) const fn after(self, ticks: Ticks) -> Self {
        Self(self.0.saturating_add(ticks.0))
    }

    /// The point `ticks` earlier.
    pub(crate) const fn before(self, ticks: Ticks) -> Self {
        Self(self.0.saturating_sub(ticks.0))
    }
}

impl Tick {
    /// Where this tick begins.
    pub(crate) const fn start(self) -> Instant {
        Instant::from_nanos((self.0 as u64) << SHIFT)
    }

    /// The time from `now` to this point; zero if it has passed.
    pub(crate) const fn since(self, now: Instant) -> Duration {
        let nanos = (self.0 as u64) << SHIFT;
        Duration::from_nanos(nanos.saturating_sub(now.as_nanos()))
    }

    /// Whole seconds from `now` to this point, rounded down; 0 if it has passed.
    pub(crate) const fn seconds_after(self, now: Instant) -> u64 {
        let nanos = (self.0 as u64) << SHIFT;
        nanos.saturating_sub(now.as_nanos()) / 1_000_000_000
    }
}

/// A length of time in ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticks(u32);

impl Ticks {
    pub(crate) const ZERO: Self = Self(0);

    /// Nanoseconds in a tick.
    pub(crate) const NANOS: u128 = 1 << SHIFT;

    /// At least `duration`, counted from anywhere inside a tick: nothing dies too early, and what
    /// dies does so less than two ticks late.
    pub(crate) fn covering(duration: Duration) -> Self {
        let ticks = duration.as_nanos().div_ceil(1 << SHIFT) + 1;
        Self(u32::try_from(ticks).unwrap_or(u32::MAX))
    }
}

const SHIFT: u32 = 27;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lifetime_is_never_cut_short_and_ends_within_two_ticks() {
        let life = Ticks::covering(Duration::from_secs(300));
        for start in [0, 1, 99_999_999, 134_217_727, 134_217_728, 5_000_000_000] {
            let end = Tick::at(Instant::from_nanos(start)).after(life);
            let alive = |nanos| Tick::at(Instant::from_nanos(start + nanos)) < end;
            assert!(alive(300_000_000_000), "{start}");
            assert!(!alive(300_268_435_456), "{start}");
        }
    }

    #[test]
    fn the_end_of_time_saturates() {
        let late = Tick::at(Instant::from_nanos(u64::MAX));
        assert_eq!(late.after(Ticks::covering(Duration::from_secs(1))), late);
        assert_eq!(Ticks::covering(Duration::MAX), Ticks(u32::MAX));
    }
}
