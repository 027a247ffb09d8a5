//! The times of a router's advertisements (RFC 4861 section 6.2): at random intervals, soon after
//! solicitations, and with a limited rate.

use std::net::Ipv6Addr;
use std::time::Duration;

use xlat_core::Instant;

/// The times of the advertisements of one interface.
#[derive(Clone, Debug)]
pub struct Schedule {
    longest: Duration,
    shortest: Duration,
    next: Instant,
    last: Option<Instant>,
    /// Remaining initial advertisements, which follow each other quickly.
    first: u8,
    /// Hosts that wait for a unicast answer, and its time.
    waiting: Vec<(Ipv6Addr, Instant)>,
    /// Budget of unicast answers, and the time at which it last grew.
    answers: u32,
    added: Instant,
}

/// An advertisement that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// To all nodes.
    All,
    /// To the host that sent a solicitation.
    Host(Ipv6Addr),
}

impl Schedule {
    /// Starts at `now`, with at most `longest` (4 to 65535 seconds, RFC 4861 section 6.2.1 and
    /// RFC 8319) between two advertisements to all.
    pub fn new(longest: Duration, now: Instant) -> Self {
        let mut schedule = Self {
            longest: LONGEST_MAX,
            shortest: DELAY_BETWEEN,
            next: now,
            last: None,
            first: INITIAL,
            waiting: Vec::new(),
            answers: WAITING_MAX,
            added: now,
        };
        schedule.restart(longest, now);
        schedule
    }

    /// Starts again with initial advertisements, after the interface came up or its configuration
    /// changed (section 6.2.8). The last advertisement still counts for the rate.
    pub fn restart(&mut self, longest: Duration, now: Instant) {
        let longest = longest.clamp(LONGEST_MIN, LONGEST_MAX);
        let shortest = if longest >= Duration::from_secs(9) {
            longest / 3
        } else {
            longest * 3 / 4
        };
        self.longest = longest;
        self.shortest = shortest.max(DELAY_BETWEEN);
        self.first = INITIAL;
        self.next = self.earliest(now);
    }

    /// Handles a solicitation. The answer is multicast if the host has no link-local address (the
    /// kernel would choose a source address of another link for others), or if the budget of
    /// unicast answers is used up. `random` is any number.
    pub fn on_solicitation(&mut self, from: Ipv6Addr, now: Instant, random: u64) {
        let soon = now + DELAY_MAX.mul_f64(fraction(random));
        if self.waiting.iter().any(|(host, _)| *host == from) {
            return;
        }
        if from.is_unicast_link_local() && self.take_answer(now) {
            self.waiting.push((from, soon));
        } else {
            self.hasten(soon);
        }
    }

    /// The announcement has changed: a multicast advertisement is due as soon as the rate allows.
    pub fn on_change(&mut self, now: Instant) {
        self.hasten(now);
    }

    /// The next advertisement that is due. Call until it returns `None`. `random` is any number.
    pub fn poll(&mut self, now: Instant, random: u64) -> Option<Due> {
        if self.next <= now {
            self.last = Some(now);
            self.next = now + self.interval(random);
            self.first = self.first.saturating_sub(1);
            // Hosts that wait for a unicast answer receive it, too.
            self.waiting.clear();
            return Some(Due::All);
        }
        let place = self.waiting.iter().position(|(_, soon)| *soon <= now)?;
        let (host, _) = self.waiting.remove(place);
        Some(Due::Host(host))
    }

    /// Time of the next call at the latest.
    pub fn next_timeout(&self) -> Instant {
        let waiting = self.waiting.iter().map(|(_, soon)| *soon);
        waiting.min().map_or(self.next, |soon| soon.min(self.next))
    }

    fn hasten(&mut self, soon: Instant) {
        self.next = self.next.min(self.earliest(soon));
    }

    /// Multicast advertisements are at least three seconds apart (MIN_DELAY_BETWEEN_RAS).
    fn earliest(&self, soon: Instant) -> Instant {
        let earliest = self.last.map_or(soon, |last| last + DELAY_BETWEEN);
        soon.max(earliest)
    }

    /// Takes one unicast answer from the budget; false if it is used up.
    fn take_answer(&mut self, now: Instant) -> bool {
        let more = now.saturating_since(self.added).as_millis() / ANSWER_EVERY.as_millis();
        if more > 0 {
            let more = u32::try_from(more).unwrap_or(WAITING_MAX);
            self.answers = self.answers.saturating_add(more).min(WAITING_MAX);
            self.added = now;
        }
        let has_some = self.answers > 0;
        self.answers = self.answers.saturating_sub(1);
        has_some
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
/// Burst of unicast answers, and the time after which the budget grows by one. Beyond it, one
/// multicast advertisement answers all.
const WAITING_MAX: u32 = 32;
const ANSWER_EVERY: Duration = Duration::from_millis(100);

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

    /// Ten seconds with a solicitation every millisecond: when all were answered, and how many
    /// hosts were.
    fn flood(from: impl Fn(u64) -> Ipv6Addr) -> (Vec<u64>, usize) {
        let (mut schedule, begin) = settled(600);
        let (mut to_all, mut to_one) = (Vec::new(), 0);
        for step in 0..10_000 {
            let now = begin + Duration::from_millis(step);
            schedule.on_solicitation(from(step), now, 0);
            while let Some(due) = schedule.poll(now, 0) {
                match due {
                    Due::All => to_all.push(step),
                    Due::Host(_) => to_one += 1,
                }
            }
            assert!(schedule.waiting.len() <= WAITING_MAX as usize);
        }
        (to_all, to_one)
    }

    #[test]
    fn ra_07_a_flood_of_solicitations_makes_one_answer_to_all_every_three_seconds() {
        let (to_all, to_one) = flood(|_| Ipv6Addr::UNSPECIFIED);
        assert_eq!((to_all, to_one), (vec![3000, 6000, 9000], 0));
        // 32 at once, and ten a second from then on.
        let (to_all, to_one) = flood(|step| host(step as u16));
        assert_eq!(to_all, [3000, 6000, 9000]);
        assert!((120..=132).contains(&to_one), "{to_one}");
    }

    #[test]
    fn ra_01_who_asks_from_another_address_than_the_links_is_answered_with_all() {
        let (mut schedule, last) = settled(600);
        let now = last + Duration::from_secs(60);
        schedule.on_solicitation("2001:db8::7".parse().unwrap(), now, 0);
        assert_eq!(schedule.poll(now, 0), Some(Due::All));
        assert_eq!(schedule.poll(now, 0), None);
    }

    #[test]
    fn ra_20_an_interface_that_comes_back_is_served_soon_and_often_and_not_too_soon() {
        let (mut schedule, last) = settled(600);
        schedule.restart(Duration::from_secs(600), last + Duration::from_secs(1));
        let mut times = Vec::new();
        for _ in 0..4 {
            let now = schedule.next_timeout();
            assert_eq!(schedule.poll(now, u64::MAX), Some(Due::All));
            times.push(now.saturating_since(last).as_secs());
        }
        assert_eq!(times[..3], [3, 19, 35]);
        assert!(times[3] >= 600, "{times:?}");
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
