//! Prefixes discovered from a DNS64 (RFC 7050), and the schedule of its queries.

use std::time::Duration;

use xlat_core::Instant;
use xlat_core::addr::Pref64;

use super::retry::Retry;

/// Pauses after failed DNS queries (PD-09).
const DNS_PAUSE: Duration = Duration::from_secs(1);
const DNS_PAUSE_MAX: Duration = Duration::from_secs(300);
/// The longest pause while a prefix outlives its lifetime because no server answers.
const HOLDING_PAUSE_MAX: Duration = Duration::from_secs(30);
const REFRESH_BEFORE: Duration = Duration::from_secs(10);
/// Minimum lifetime of an answer in seconds, so that a lifetime of 0 causes no storm of queries.
const LIFETIME_MIN: u32 = 10;

/// The last answer, and the next query.
#[derive(Clone, Debug)]
pub(super) struct Dns {
    prefixes: Vec<Pref64>,
    /// Expiry of the answer.
    until: Option<Instant>,
    /// Time of the next query, and the pause after a failure.
    next: Retry,
    /// A query is pending.
    pub(super) asked: bool,
}

impl Dns {
    /// No answer yet; the first query is due at `at`.
    pub(super) fn new(at: Instant) -> Self {
        Self {
            prefixes: Vec::new(),
            until: None,
            next: Retry::first(at, DNS_PAUSE),
            asked: false,
        }
    }

    /// When the next query is due.
    pub(super) fn next(&self) -> Instant {
        self.next.at
    }

    /// Makes the next query due at `at`, and resets the pauses.
    pub(super) fn ask_at(&mut self, at: Instant) {
        self.next = Retry::first(at, DNS_PAUSE);
    }

    /// Makes the next query due now, unless there is an unexpired answer.
    pub(super) fn ask_if_unknown(&mut self, now: Instant) {
        if self.until.is_none_or(|until| until <= now) {
            self.ask_at(now);
        }
    }

    /// The prefixes that hold: those of an unexpired answer and, if the DNS is being asked again
    /// (`held`), those that no answer has replaced since.
    pub(super) fn prefixes(&self, now: Instant, held: bool) -> impl Iterator<Item = Pref64> {
        let holds = held || self.until.is_some_and(|until| until > now);
        self.prefixes.iter().copied().filter(move |_| holds)
    }

    /// End of the lifetime of the prefixes, if there are any.
    pub(super) fn end(&self) -> Option<Instant> {
        self.until.filter(|_| !self.prefixes.is_empty())
    }

    /// Ends the lifetime of the prefixes at `at`, and makes the next query due now.
    pub(super) fn ask_again(&mut self, now: Instant, at: Instant) {
        self.until = self.until.map(|until| until.min(at));
        self.ask_at(now);
    }

    /// Stores the prefixes of an answer and its lifetime in seconds. An answer without prefixes is
    /// a failure.
    pub(super) fn set(&mut self, prefixes: Vec<Pref64>, lifetime: u32, now: Instant) {
        if prefixes.is_empty() {
            return self.clear(now);
        }
        self.prefixes = prefixes;
        let lifetime = Duration::from_secs(lifetime.max(LIFETIME_MIN).into());
        self.until = Some(now + lifetime);
        // RFC 7050 section 3: ten seconds before the end.
        let before = lifetime
            .checked_sub(REFRESH_BEFORE)
            .filter(|before| *before >= lifetime / 2)
            .unwrap_or(lifetime / 2);
        self.next = Retry::first(now + before, DNS_PAUSE);
    }

    /// The network has no DNS64: removes the prefixes.
    pub(super) fn clear(&mut self, now: Instant) {
        self.prefixes.clear();
        self.until = None;
        self.fail(now);
    }

    /// There was no answer. Only an answer says that the network's prefix is another one (RFC 7050
    /// section 3), so those known stay, and the next try comes soon.
    pub(super) fn fail(&mut self, now: Instant) {
        let longest = match self.prefixes.is_empty() {
            true => DNS_PAUSE_MAX,
            false => HOLDING_PAUSE_MAX,
        };
        self.next.again(now, longest);
    }

    /// Ends an answer whose lifetime is over, unless the DNS is being asked again (`held`).
    pub(super) fn expire(&mut self, now: Instant, held: bool) {
        if self.until.is_none_or(|until| until <= now) {
            self.until = None;
            if !held {
                self.prefixes.clear();
            }
        }
    }
}
