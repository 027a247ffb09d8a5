//! A gateway that is taken out of service: it takes no new subscribers, sessions that run finish, and
//! then its routes go.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tracing::{info, warn};
use xlat_core::Instant;

use crate::Withheld;

/// How a gateway is to be drained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DrainOrder {
    /// The routes go after this time, even if sessions are left; `None`: they wait for the last one.
    pub at_most: Option<Duration>,
    /// The way in of packets from clients goes at once.
    pub early: bool,
}

/// What `plat status` and those who wait see; `None` without a drain.
pub type SeenDrain = Arc<Mutex<Option<DrainStatus>>>;

/// How far a drain is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DrainStatus {
    /// Sessions that are left.
    pub sessions: u64,
    /// Sessions when it began.
    pub at_start: u64,
    /// How long ago that was, in seconds.
    pub for_s: u64,
    /// It is over: the routes are withdrawn.
    pub over: bool,
}

/// Follows a drain.
#[derive(Debug, Default)]
pub struct DrainWatch {
    drain: Option<Drain>,
    seen: SeenDrain,
}

#[derive(Debug)]
struct Drain {
    order: DrainOrder,
    began: Instant,
    at_start: u64,
    over: bool,
}

impl DrainWatch {
    /// How often the sessions are counted.
    const LOOK: Duration = Duration::from_secs(1);

    /// What status and those who wait see.
    pub fn seen(&self) -> SeenDrain {
        Arc::clone(&self.seen)
    }

    /// Begins, or goes on by another order.
    pub fn begin(&mut self, order: DrainOrder, sessions: u64, now: Instant) {
        let before = self.drain.take();
        let (began, at_start) = before.map_or((now, sessions), |one| (one.began, one.at_start));
        info!("draining: new subscribers are refused, {sessions} sessions are left");
        self.drain = Some(Drain {
            order,
            began,
            at_start,
            over: false,
        });
        self.update(sessions, now);
    }

    /// Ends it. False if there was none.
    pub fn end(&mut self) -> bool {
        *lock(&self.seen) = None;
        self.drain.take().is_some()
    }

    /// True while new subscribers are refused.
    pub fn is_active(&self) -> bool {
        self.drain.is_some()
    }

    /// When the sessions are to be counted.
    pub fn next_look(&self, now: Instant) -> Option<Instant> {
        let drain = self.drain.as_ref().filter(|drain| !drain.over)?;
        let last = drain.order.at_most.map(|time| drain.began + time);
        let next = now + Self::LOOK;
        Some(last.map_or(next, |last| next.min(last.max(now))))
    }

    /// Takes the number of sessions that are left at `now`.
    pub fn update(&mut self, sessions: u64, now: Instant) {
        let Some(drain) = &mut self.drain else {
            return;
        };
        let passed = now.saturating_since(drain.began);
        let is_late = drain.order.at_most.is_some_and(|most| passed >= most);
        if !drain.over && (sessions == 0 || is_late) {
            drain.over = true;
            match sessions {
                0 => info!("drained: no session is left, and the routes go"),
                left => {
                    warn!("the time of the drain is over: the routes go, {left} sessions are left")
                }
            }
        }
        *lock(&self.seen) = Some(DrainStatus {
            sessions,
            at_start: drain.at_start,
            for_s: passed.as_secs(),
            over: drain.over,
        });
    }

    /// Which routes are withheld now.
    pub fn withheld(&self) -> Withheld {
        match &self.drain {
            Some(drain) if drain.over => Withheld::All,
            Some(drain) if drain.order.early => Withheld::Prefixes,
            Some(_) | None => Withheld::Nothing,
        }
    }
}

impl DrainStatus {
    /// A line of the status.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn write_to(&self, f: &mut String) -> std::fmt::Result {
        writeln!(f, "drain     {self}")
    }
}

impl std::fmt::Display for DrainStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            sessions,
            at_start,
            for_s,
            over,
        } = self;
        let time = humantime::format_duration(Duration::from_secs(*for_s));
        match (over, sessions) {
            (true, 0) => write!(f, "drained: no session is left of {at_start}"),
            (true, left) => write!(
                f,
                "not drained: {left} sessions are left of {at_start} after {time}"
            ),
            (false, left) => write!(
                f,
                "draining for {time}: {left} sessions are left of {at_start}"
            ),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_secs(1000 + seconds)
    }

    #[test]
    fn sc_04_routes_go_when_the_last_session_has_ended() {
        let mut watch = DrainWatch::default();
        assert_eq!(watch.next_look(at(0)), None);
        watch.begin(DrainOrder::default(), 7, at(0));
        assert_eq!(watch.withheld(), Withheld::Nothing);
        assert_eq!(watch.next_look(at(0)), Some(at(1)));
        watch.update(1, at(100));
        assert_eq!(watch.withheld(), Withheld::Nothing);
        let seen = lock(&watch.seen()).clone().unwrap();
        assert_eq!((seen.sessions, seen.at_start, seen.for_s), (1, 7, 100));
        watch.update(0, at(101));
        assert_eq!(watch.withheld(), Withheld::All);
        assert_eq!(watch.next_look(at(101)), None);
        // A packet that comes late begins no new drain.
        watch.update(1, at(102));
        assert_eq!(watch.withheld(), Withheld::All);
        assert!(watch.end() && !watch.end());
        assert_eq!(watch.withheld(), Withheld::Nothing);
        assert!(lock(&watch.seen()).is_none());
    }

    #[test]
    fn sc_04_the_time_of_a_drain_ends_it_too() {
        let mut watch = DrainWatch::default();
        let order = DrainOrder {
            at_most: Some(Duration::from_millis(1500)),
            early: true,
        };
        watch.begin(order, 7, at(0));
        assert_eq!(watch.withheld(), Withheld::Prefixes);
        assert_eq!(
            watch.next_look(at(1)),
            Some(at(1) + Duration::from_millis(500))
        );
        watch.update(7, at(2));
        assert_eq!(watch.withheld(), Withheld::All);
        let text = lock(&watch.seen()).clone().unwrap().to_string();
        assert_eq!(text, "not drained: 7 sessions are left of 7 after 2s");
        // Another order goes on with the same drain.
        watch.begin(DrainOrder::default(), 6, at(3));
        assert_eq!(watch.withheld(), Withheld::Nothing);
        let seen = lock(&watch.seen()).clone().unwrap();
        assert_eq!((seen.sessions, seen.at_start, seen.over), (6, 7, false));
    }
}
