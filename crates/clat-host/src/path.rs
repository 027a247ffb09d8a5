//! What is known about the way through the NAT64 prefix: whether the PLAT behind it answers.
//!
//! Replies to the host's own packets say so for nothing. Where there have been none for some seconds, and
//! somebody wants to know, an IPv4 address is pinged through the CLAT. Its silence means something only
//! after it has answered through this prefix before: not every PLAT answers.

use std::net::Ipv4Addr;
use std::time::Duration;

use xlat_core::Instant;
use xlat_host::daemon::health::{Finding, Passed, Replies};
use xlat_host::icmp4::Ping;
use xlat_tun::counters::Snapshot;

/// A measurement is good for this time.
const FRESH: Duration = Duration::from_secs(1);
/// What has never answered is asked this often at most, and for less time: it may never do.
const UNKNOWN: Duration = Duration::from_secs(30);
/// The address that is pinged unless another is given: that of a PLAT for its own ICMP errors
/// (RFC 7600), which `plat` has unless its pool gives it another.
pub const TARGET: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 8);

/// The way through the prefix in use.
#[derive(Clone, Debug, Default)]
pub struct Path {
    prefix: Option<String>,
    replies: Replies,
    /// The last ping, and whether it was answered.
    last: Option<(Instant, bool)>,
    /// A ping was answered through this prefix.
    has_answered: bool,
    /// Requests that were sent: they are no packets of the host.
    requests: u64,
}

impl Path {
    /// Packets go through this prefix now, or through none.
    pub fn on_prefix(&mut self, prefix: Option<&str>) {
        if self.prefix.as_deref() != prefix {
            *self = Self {
                prefix: prefix.map(str::to_owned),
                ..Self::default()
            };
        }
    }

    /// The counters at `now`.
    pub fn on_counters(&mut self, packets: &Snapshot, now: Instant) {
        let mut passed = Passed::to_ipv6(packets);
        passed.out = passed.out.saturating_sub(self.requests);
        self.replies.update(passed, now);
        // What came since the ping says more than its silence.
        self.last = self
            .last
            .filter(|(at, answered)| *answered || !self.replies.came_after(*at));
    }

    /// True if a ping would tell more than is known. `is_asked`: somebody wants to know.
    pub fn wants_ping(&self, is_asked: bool, now: Instant) -> bool {
        let fresh = if self.has_answered { FRESH } else { UNKNOWN };
        let is_fresh = |(at, _): (Instant, bool)| now.saturating_since(at) < fresh;
        let is_wanted = (is_asked && !self.replies.is_fresh(now)) || self.is_silent();
        self.prefix.is_some() && is_wanted && !self.last.is_some_and(is_fresh)
    }

    /// Number of requests of which one has to be answered.
    pub fn tries(&self) -> u16 {
        if self.has_answered { 3 } else { 1 }
    }

    /// The outcome of a ping.
    pub fn on_ping(&mut self, ping: Ping, now: Instant) {
        self.last = Some((now, ping.answered));
        self.has_answered |= ping.answered;
        self.requests += ping.sent;
    }

    /// What is wrong.
    pub fn finding(&self, now: Instant) -> Option<Finding> {
        let prefix = self.prefix.as_deref()?;
        if self.is_silent() {
            let text = format!("nothing comes back through {prefix}: the PLAT answered before");
            return Some(Finding::broken("path", text));
        }
        let answers = matches!(self.last, Some((_, true)));
        (self.replies.are_missing(now) && !answers).then(|| {
            let text = format!("packets go through {prefix} and none comes back");
            Finding::degraded("path", text)
        })
    }

    /// The pinged address has answered before, and does not any more.
    fn is_silent(&self) -> bool {
        self.has_answered && matches!(self.last, Some((_, false)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use xlat_host::daemon::health::Health;
    use xlat_tun::counters::Traffic;

    fn at(seconds: u64) -> Instant {
        Instant::from_secs(1000 + seconds)
    }

    fn counted(out: u64, back: u64) -> Snapshot {
        let traffic = |packets| Traffic { packets, bytes: 0 };
        Snapshot {
            ipv6_out: traffic(out),
            ipv4_out: traffic(back),
            ..Snapshot::default()
        }
    }

    fn ping(answered: bool) -> Ping {
        let sent = if answered { 1 } else { 3 };
        Ping { answered, sent }
    }

    fn path() -> Path {
        let mut path = Path::default();
        path.on_prefix(Some("2001:db8:64::/96"));
        path.on_counters(&counted(0, 0), at(0));
        path
    }

    fn word(path: &Path, now: Instant) -> Option<Health> {
        path.finding(now).map(|finding| finding.health)
    }

    #[test]
    fn he_03_a_ping_is_sent_only_where_somebody_asks_and_nothing_came() {
        let mut path = path();
        assert!(!path.wants_ping(false, at(5)));
        assert!(path.wants_ping(true, at(5)));
        path.on_counters(&counted(9, 9), at(6));
        assert!(!path.wants_ping(true, at(6)));
        assert!(path.wants_ping(true, at(11)));
        path.on_ping(ping(true), at(11));
        assert!(!path.wants_ping(true, at(11)));
        assert!(path.wants_ping(true, at(12)));
        path.on_prefix(None);
        assert!(!path.wants_ping(true, at(12)));
        path.on_prefix(Some("64:ff9b::/96"));
        path.on_ping(ping(false), at(13));
        assert!(!path.wants_ping(true, at(42)) && path.wants_ping(true, at(43)));
    }

    #[test]
    fn he_03_silence_of_what_never_answered_says_nothing() {
        let mut path = path();
        for second in 5..15 {
            path.on_ping(ping(false), at(second));
            // The requests themselves.
            path.on_counters(&counted(3 * (second - 4), 0), at(second));
            assert_eq!(path.finding(at(second)), None);
        }
        // Without it, only packets that remain unanswered do.
        path.on_counters(&counted(50, 0), at(19));
        assert_eq!(word(&path, at(19)), Some(Health::Degraded));
        path.on_counters(&counted(50, 1), at(20));
        assert_eq!(path.finding(at(20)), None);
    }

    #[test]
    fn he_03_silence_after_an_answer_is_broken_until_something_comes() {
        let mut path = path();
        path.on_ping(ping(true), at(5));
        path.on_counters(&counted(1, 1), at(5));
        assert_eq!(path.finding(at(5)), None);
        path.on_ping(ping(false), at(7));
        assert_eq!(word(&path, at(7)), Some(Health::Broken));
        // It is measured again without anybody's asking.
        assert!(path.wants_ping(false, at(9)));
        let mut by_ping = path.clone();
        by_ping.on_ping(ping(true), at(9));
        assert_eq!(by_ping.finding(at(9)), None);
        path.on_counters(&counted(5, 3), at(9));
        assert_eq!(path.finding(at(9)), None);
        assert_eq!(path.finding(at(90)), None);
        // Another prefix has not answered yet.
        path.on_prefix(Some("64:ff9b::/96"));
        path.on_ping(ping(false), at(20));
        assert_eq!(path.finding(at(20)), None);
    }

    #[test]
    fn he_03_one_way_traffic_is_no_fault_of_a_plat_that_answers() {
        let mut path = path();
        path.on_counters(&counted(100, 0), at(9));
        assert_eq!(word(&path, at(9)), Some(Health::Degraded));
        path.on_ping(ping(true), at(9));
        assert_eq!(path.finding(at(9)), None);
    }
}
