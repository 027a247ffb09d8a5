//! When a router sends its advertisements (RFC 4861 section 6.2): at random times, soon after they
//! are asked for, and never too often. What is in them is not decided here.
//!
//! Time and random numbers are arguments.

use std::net::Ipv6Addr;
use std::time::Duration;

use xlat_core::Instant;

/// When the advertisements of one interface are due.
#[derive(Clone, Debug)]
pub struct Schedule {
    longest: Duration,
    shortest: Duration,
    next: Instant,
    last: Option<Instant>,
    /// Advertisements that come in quick succession at the start.
    first: u8,
    /// Hosts that wait for an answer of their own, and until when.
    waiting: Vec<(Ipv6Addr, Instant)>,
}

/// An advertisement that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// To all nodes.
    All,
    /// To the host that has asked.
    Host(Ipv6Addr),
}

impl Schedule {
    /// Begins at `now`, with at most `longest` (4 to 65535 seconds, RFC 4861 section 6.2.1 and
    /// RFC 8319) between two advertisements to all.
    pub fn new(longest: Duration, now: Instant) -> Self {
        let longest = longest.clamp(LONGEST_MIN, LONGEST_MAX);
        let shortest = if longest >= Duration::from_secs(9) {
            longest / 3
        } else {
            longest * 3 / 4
        };
        Self {
            longest,
            shortest: shortest.max(DELAY_BETWEEN),
            next: now,
            last: None,
            first: INITIAL,
            waiting: Vec::new(),
        }
    }

    /// A host has asked. Nobody asks from the unspecified address for itself alone, so that all
    /// are told then. `random` is any number.
    pub fn on_solicitation(&mut self, from: Ipv6Addr, now: Instant, random: u64) {
        let soon = now + DELAY_MAX.mul_f64(fraction(random));
        if from.is_unspecified() || self.waiting.len() == WAITING_MAX {
            self.hasten(soon);
        } else if !self.waiting.iter().any(|(host, _)| *host == from) {
            self.waiting.push((from, soon));
        }
    }

    /// What is announced has changed: all are told as soon as may be.
    pub fn on_change(&mut self, now: Instant) {
        self.hasten(now);
    }

    /// The next advertisement that is due; to be called until there is none. `random` is any
    /// number.
    pub fn poll(&mut self, now: Instant, random: u64) -> Option<Due> {
        if self.next <= now {
            self.last = Some(now);
            self.next = now + self.interval(random);
            self.first = self.first.saturating_sub(1);
            // Who waits has heard it too.
            self.waiting.clear();
            return Some(Due::All);
        }
        let place = self.waiting.iter().position(|(_, soon)| *soon <= now)?;
        let (host, _) = self.waiting.remove(place);
        Some(Due::Host(host))
    }

    /// When to ask again at the latest.
    pub fn next_timeout(&self) -> Instant {
        let waiting = self.waiting.iter().map(|(_, soon)| *soon);
        waiting.min().map_or(self.next, |soon| soon.min(self.next))
    }

    /// Advertisements to all are three seconds apart at least (MIN_DELAY_BETWEEN_RAS).
    fn hasten(&mut self, soon: Instant) {
        let earliest = self.last.map_or(soon, |last| last + DELAY_BETWEEN);
        self.next = self.next.min(soon.max(earliest));
    }

    fn interval(&self, random: u64) -> Duration {
        let spread = self.longest - self.shortest;
        let interval = self.shortest + spread.mul_f64(fraction(random));
        if self.first > 1 {
            interval.min(INITIAL_MAX)
        } else {
            interval
        }
    }
}

/// A number from 0 to 1.
fn fraction(random: u64) -> f64 {
    (random >> 11) as f64 / (1_u64 << 53) as f64
}

const LONGEST_MIN: Duration = Duration::from_secs(4);
const LONGEST_MAX: Duration = Duration::from_secs(65_535);
/// MIN_DELAY_BETWEEN_RAS.
const DELAY_BETWEEN: Duration = Duration::from_secs(3);
/// MAX_RA_DELAY_TIME.
const DELAY_MAX: Duration = Duration::from_millis(500);
/// MAX_INITIAL_RTR_ADVERTISEMENTS and MAX_INITIAL_RTR_ADVERT_INTERVAL.
const INITIAL: u8 = 3;
const INITIAL_MAX: Duration = Duration::from_secs(16);
/// Hosts that get an answer of their own; with more waiting all are told at once.
const WAITING_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_millis(1_000_000 + millis)
    }

    fn host(number: u16) -> Ipv6Addr {
        Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, number)
    }

    /// A schedule whose first, fast advertisements are over, and the time of the next one.
    fn settled(longest: u64) -> (Schedule, Instant) {
        let mut schedule = Schedule::new(Duration::from_secs(longest), at(0));
        for _ in 0..3 {
            let now = schedule.next_timeout();
            assert_eq!(schedule.poll(now, 0), Some(Due::All));
        }
        let now = schedule.last.unwrap();
        (schedule, now)
    }

    #[test]
    fn ra_04_intervals_are_random_between_a_third_and_the_whole() {
        let (mut schedule, mut now) = settled(600);
        let mut shortest = Duration::MAX;
        let mut longest = Duration::ZERO;
        let mut random = 1_u64;
        for _ in 0..2000 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let next = schedule.next_timeout();
            assert_eq!(schedule.poll(next, random), Some(Due::All));
            let interval = next.saturating_since(now);
            (shortest, longest) = (shortest.min(interval), longest.max(interval));
            now = next;
        }
        assert!(
            (200.0..205.0).contains(&shortest.as_secs_f64()),
            "{shortest:?}"
        );
        assert!(
            (595.0..=600.0).contains(&longest.as_secs_f64()),
            "{longest:?}"
        );
    }

    #[test]
    fn ra_04_the_first_three_come_at_most_16_seconds_apart() {
        let mut schedule = Schedule::new(Duration::from_secs(600), at(0));
        let mut times = Vec::new();
        for _ in 0..4 {
            let now = schedule.next_timeout();
            assert_eq!(schedule.poll(now, u64::MAX), Some(Due::All));
            times.push(now.saturating_since(at(0)).as_secs());
        }
        assert_eq!(times[..3], [0, 16, 32]);
        assert!(times[3] >= 600, "{times:?}");
    }

    #[test]
    fn ra_03_short_intervals_keep_to_the_rfcs_bounds() {
        let short = Schedule::new(Duration::from_secs(4), at(0));
        assert_eq!(short.shortest, Duration::from_secs(3));
        let ten = Schedule::new(Duration::from_secs(10), at(0));
        assert_eq!(ten.shortest.as_millis(), 3333);
        let none = Schedule::new(Duration::ZERO, at(0));
        assert_eq!(none.longest, Duration::from_secs(4));
    }

    #[test]
    fn ra_06_who_asks_is_answered_alone_within_half_a_second() {
        let (mut schedule, now) = settled(600);
        schedule.on_solicitation(host(7), now, u64::MAX);
        schedule.on_solicitation(host(7), now, 0);
        assert_eq!(schedule.poll(now, 0), None);
        let soon = schedule.next_timeout();
        assert!(soon.saturating_since(now) <= DELAY_MAX);
        assert_eq!(schedule.poll(soon, 0), Some(Due::Host(host(7))));
        assert_eq!(schedule.poll(soon, 0), None);
    }

    #[test]
    fn ra_07_a_flood_of_solicitations_makes_one_answer_to_all_every_three_seconds() {
        let (mut schedule, begin) = settled(600);
        let mut to_all = Vec::new();
        let mut to_one = 0;
        for step in 0..10_000_u64 {
            let now = begin + Duration::from_millis(step);
            schedule.on_solicitation(host(step as u16), now, 0);
            schedule.on_solicitation(Ipv6Addr::UNSPECIFIED, now, 0);
            while let Some(due) = schedule.poll(now, 0) {
                match due {
                    Due::All => to_all.push(step),
                    Due::Host(_) => to_one += 1,
                }
            }
            assert!(schedule.waiting.len() <= WAITING_MAX);
        }
        assert_eq!(to_all, [3000, 6000, 9000]);
        assert!(to_one <= 10_000);
    }

    #[test]
    fn ra_20_a_change_is_told_at_once_but_not_within_three_seconds_of_the_last() {
        let (mut schedule, last) = settled(600);
        schedule.on_change(last + Duration::from_secs(1));
        assert_eq!(schedule.next_timeout(), last + Duration::from_secs(3));
        schedule.poll(last + Duration::from_secs(3), 0);
        let later = last + Duration::from_secs(60);
        schedule.on_change(later);
        assert_eq!(schedule.next_timeout(), later);
    }
}
