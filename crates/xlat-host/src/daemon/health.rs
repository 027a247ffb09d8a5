//! Whether a daemon does its work, in one word, from what was measured.
//!
//! The daemon's parts say what they have found wrong ([`Finding`]); [`HealthLog`] keeps since when,
//! logs each change of the word once, and shows all of it in `status` and metrics. Nothing is found by
//! assumption: without a measurement there is no finding.

use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tracing::{info, warn};
use xlat_core::Instant;
use xlat_tun::counters::{IcmpKind, Metric, PerKind, Snapshot};

use super::metrics::Page;

/// The word. The worst finding decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// Nothing was found wrong.
    #[default]
    Ok,
    /// A part does not work, or some packets are lost.
    Degraded,
    /// What the daemon is there for does not work.
    Broken,
}

impl Health {
    const ALL: [Self; 3] = [Self::Ok, Self::Degraded, Self::Broken];

    /// The word itself.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Degraded => "degraded",
            Self::Broken => "broken",
        }
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Something that was found wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is about: a name for programs.
    pub what: &'static str,
    /// How bad it is.
    pub health: Health,
    /// One line for people. It stays the same while the finding does.
    pub text: String,
}

impl Finding {
    /// What the daemon is there for does not work.
    pub fn broken(what: &'static str, text: impl Into<String>) -> Self {
        let (health, text) = (Health::Broken, text.into());
        Self { what, health, text }
    }

    /// A part does not work, or some packets are lost.
    pub fn degraded(what: &'static str, text: impl Into<String>) -> Self {
        let (health, text) = (Health::Degraded, text.into());
        Self { what, health, text }
    }
}

/// The findings over time; clones share them.
#[derive(Clone, Debug)]
pub struct HealthLog(Arc<Mutex<History>>);

#[derive(Debug)]
struct History {
    health: Health,
    since: Instant,
    /// What is wrong now, and since when.
    current: Vec<(Finding, Instant)>,
    last: Option<Change>,
    changes: u64,
}

/// A change of the word.
#[derive(Clone, Debug)]
struct Change {
    from: Health,
    why: String,
}

impl HealthLog {
    /// Nothing is found wrong yet.
    pub fn new(now: Instant) -> Self {
        Self(Arc::new(Mutex::new(History {
            health: Health::Ok,
            since: now,
            current: Vec::new(),
            last: None,
            changes: 0,
        })))
    }

    /// Takes all that was found wrong at `now`, and logs a change of the word.
    pub fn judge(&self, findings: Vec<Finding>, now: Instant) {
        let mut history = self.lock();
        let Some((from, to, why)) = history.update(findings, now) else {
            return;
        };
        drop(history);
        match to {
            Health::Ok => info!("health: {to}, before {from}: {why}"),
            _ => warn!("health: {to}, before {from}: {why}"),
        }
    }

    /// The word and what belongs to it.
    pub fn status(&self, now: Instant) -> HealthStatus {
        let history = self.lock();
        let seconds = |since: Instant| now.saturating_since(since).as_secs();
        let warning = |(finding, since): &(Finding, Instant)| Warning {
            what: finding.what,
            health: finding.health,
            text: finding.text.clone(),
            for_s: seconds(*since),
        };
        HealthStatus {
            word: history.health,
            for_s: seconds(history.since),
            warnings: history.current.iter().map(warning).collect(),
            last_change: history.last.clone().map(|change| LastChange {
                from: change.from,
                ago_s: seconds(history.since),
                why: change.why,
            }),
            changes: history.changes,
        }
    }

    fn lock(&self) -> MutexGuard<'_, History> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl History {
    /// The change of the word and its reason, if it changes.
    fn update(&mut self, findings: Vec<Finding>, now: Instant) -> Option<(Health, Health, String)> {
        let before = std::mem::take(&mut self.current);
        let known = |finding: &Finding| {
            let mut known = before.iter();
            known.find(|(old, _)| old == finding).map(|(_, at)| *at)
        };
        self.current = findings
            .into_iter()
            .map(|finding| {
                let since = known(&finding).unwrap_or(now);
                (finding, since)
            })
            .collect();
        let worst = self.current.iter().max_by_key(|(one, _)| one.health);
        let word = worst.map_or(Health::Ok, |(finding, _)| finding.health);
        if word == self.health {
            return None;
        }
        let why = match worst {
            Some((finding, _)) if word > self.health => finding.text.clone(),
            _ => {
                let is_over = |(old, _): &&(Finding, Instant)| {
                    !self.current.iter().any(|(new, _)| new == old)
                };
                let over = before
                    .iter()
                    .filter(is_over)
                    .max_by_key(|(old, _)| old.health);
                let over = over.map_or("", |(old, _)| old.text.as_str());
                format!("no longer: {over}")
            }
        };
        let from = std::mem::replace(&mut self.health, word);
        (self.since, self.changes) = (now, self.changes + 1);
        let last = Change {
            from,
            why: why.clone(),
        };
        self.last = Some(last);
        Some((from, word, why))
    }
}

/// The word for `status`, `/healthz`, `/readyz` and metrics.
#[derive(Clone, Debug, Default, Serialize)]
pub struct HealthStatus {
    /// The word.
    pub word: Health,
    /// How long it has been that word, in seconds.
    pub for_s: u64,
    /// What is wrong.
    pub warnings: Vec<Warning>,
    /// How it came to that word; `None` since the start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_change: Option<LastChange>,
    /// Number of changes of the word since the start.
    pub changes: u64,
}

/// Something that is wrong now.
#[derive(Clone, Debug, Serialize)]
pub struct Warning {
    /// What it is about.
    pub what: &'static str,
    /// How bad it is.
    pub health: Health,
    /// One line for people.
    pub text: String,
    /// Since when it has been known, in seconds.
    pub for_s: u64,
}

/// The last change of the word.
#[derive(Clone, Debug, Serialize)]
pub struct LastChange {
    /// The word of before.
    pub from: Health,
    /// How long ago it was, in seconds.
    pub ago_s: u64,
    /// Why.
    pub why: String,
}

impl HealthStatus {
    /// The word of something that is not there yet.
    pub fn waiting(line: &str) -> Self {
        let log = HealthLog::new(Instant::ZERO);
        let _ = log
            .lock()
            .update(vec![Finding::broken("start", line)], Instant::ZERO);
        log.status(Instant::ZERO)
    }

    /// Lines of the status.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn write_to(&self, f: &mut String) -> fmt::Result {
        let time = |seconds| humantime(Duration::from_secs(seconds));
        writeln!(f, "health    {} for {}", self.word, time(self.for_s))?;
        for warning in &self.warnings {
            let (health, text) = (warning.health, &warning.text);
            writeln!(f, "  {health}: {text}, for {}", time(warning.for_s))?;
        }
        match &self.last_change {
            Some(change) => {
                let (from, why) = (change.from, &change.why);
                writeln!(
                    f,
                    "changed   {} ago, before {from}: {why}",
                    time(change.ago_s)
                )
            }
            None => Ok(()),
        }
    }

    /// The text of `/healthz` and `/readyz`: the word, and a line for each warning.
    pub fn to_text(&self) -> String {
        let mut text = format!("{}\n", self.word);
        for warning in &self.warnings {
            // Writing into a string does not fail.
            let _ = writeln!(text, "{}: {}", warning.health, warning.text);
        }
        text
    }

    /// True if the daemon does what it is there for.
    pub fn is_ready(&self) -> bool {
        self.word < Health::Broken
    }

    /// The metrics.
    pub fn write_page(&self, page: &mut Page, program: &str, version: &str) {
        let words = Health::ALL.map(|word| {
            let label = format!("word=\"{word}\"");
            (label, u64::from(word == self.word))
        });
        let help = "1 for the word that says how the daemon does: ok, degraded or broken.";
        page.family(Metric::gauge("xlat_health", help), words);
        let help = "Changes of that word.";
        let changes = Metric::counter("xlat_health_changes_total", help);
        page.family(changes, [(String::new(), self.changes)]);
        let labels = format!("program=\"{program}\",version=\"{version}\"");
        let help = "1, with the version of the program.";
        page.family(Metric::gauge("xlat_build_info", help), [(labels, 1)]);
    }
}

/// A time in the two largest of its units.
fn humantime(time: Duration) -> String {
    let seconds = time.as_secs();
    let units = [(86400, "d"), (3600, "h"), (60, "m"), (1, "s")];
    let mut left = seconds;
    let parts = units.iter().filter_map(|(size, name)| {
        let count = left / size;
        left %= size;
        (count > 0).then(|| format!("{count}{name}"))
    });
    let parts: Vec<String> = parts.take(2).collect();
    match parts.is_empty() {
        true => "0s".to_owned(),
        false => parts.join(" "),
    }
}

/// Packets that must have gone without any coming back before that means something.
const UNANSWERED: u64 = 8;
/// Time in which none has come back.
const SILENCE: Duration = Duration::from_secs(4);

/// Whether anything comes back of what is sent one way. ICMP errors are no replies: a router on the way
/// sends them too.
#[derive(Clone, Copy, Debug, Default)]
pub struct Replies {
    seen: Passed,
    /// When more had come back than before, and what had been sent by then.
    last: Option<(Instant, u64)>,
}

/// Packets that were sent one way, and that came back, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// That were sent.
    pub out: u64,
    /// That came back.
    pub back: u64,
}

impl Passed {
    /// Those that went to IPv6, and came back.
    pub fn to_ipv6(packets: &Snapshot) -> Self {
        Self {
            out: without_errors(packets.ipv6_out.packets, &packets.icmpv6),
            back: without_errors(packets.ipv4_out.packets, &packets.icmpv4),
        }
    }

    /// Those that went to IPv4, and came back.
    pub fn to_ipv4(packets: &Snapshot) -> Self {
        let Self { out, back } = Self::to_ipv6(packets);
        Self {
            out: back,
            back: out,
        }
    }
}

fn without_errors(packets: u64, icmp: &PerKind) -> u64 {
    let errors = [
        IcmpKind::Unreachable,
        IcmpKind::TooBig,
        IcmpKind::TimeExceeded,
        IcmpKind::ParameterProblem,
    ];
    let errors: u64 = errors.into_iter().map(|kind| icmp.count(kind)).sum();
    packets.saturating_sub(errors)
}

impl Replies {
    /// What has passed by `now`.
    pub fn update(&mut self, passed: Passed, now: Instant) {
        let has_come = passed.back > self.seen.back;
        // New workers count from the beginning.
        let is_new = passed.out < self.seen.out;
        if self.last.is_none() || has_come || is_new {
            self.last = Some((now, passed.out));
        }
        self.seen = passed;
    }

    /// True if something has come back in the last seconds.
    pub fn is_fresh(&self, now: Instant) -> bool {
        let is_soon = |(at, _): (Instant, u64)| now.saturating_since(at) < SILENCE;
        self.seen.back > 0 && self.last.is_some_and(is_soon)
    }

    /// True if something has come back since a time.
    pub fn came_after(&self, then: Instant) -> bool {
        self.seen.back > 0 && self.last.is_some_and(|(at, _)| at > then)
    }

    /// True if packets go out and none has come back for some time.
    pub fn are_missing(&self, now: Instant) -> bool {
        self.last.is_some_and(|(at, out)| {
            let unanswered = self.seen.out.saturating_sub(out);
            unanswered >= UNANSWERED && now.saturating_since(at) >= SILENCE
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_secs(1000 + seconds)
    }

    #[test]
    fn he_01_the_worst_finding_is_the_word_and_each_keeps_its_time() {
        let log = HealthLog::new(at(0));
        assert_eq!(log.status(at(5)).word, Health::Ok);
        let slow = || Finding::degraded("dns64", "192.0.2.53 does not answer");
        let dead = || Finding::broken("egress", "no IPv4 default route");
        log.judge(vec![slow()], at(10));
        log.judge(vec![slow(), dead()], at(20));
        let status = log.status(at(25));
        assert_eq!(
            (status.word, status.for_s, status.changes),
            (Health::Broken, 5, 2)
        );
        let times: Vec<u64> = status.warnings.iter().map(|one| one.for_s).collect();
        assert_eq!(times, [15, 5]);
        assert!(!status.is_ready());
        let mut text = String::new();
        status.write_to(&mut text).unwrap();
        assert_eq!(
            text,
            "health    broken for 5s\n  \
             degraded: 192.0.2.53 does not answer, for 15s\n  \
             broken: no IPv4 default route, for 5s\n\
             changed   5s ago, before degraded: no IPv4 default route\n"
        );
        log.judge(vec![slow()], at(30));
        let status = log.status(at(100));
        assert!(status.is_ready());
        assert_eq!((status.word, status.for_s), (Health::Degraded, 70));
        let change = status.last_change.unwrap();
        assert_eq!(change.why, "no longer: no IPv4 default route");
    }

    #[test]
    fn he_01_json_and_metrics_have_the_word() {
        let log = HealthLog::new(at(0));
        log.judge(vec![Finding::broken("egress", "none")], at(1));
        let json = serde_json::to_string(&log.status(at(3))).unwrap();
        assert_eq!(
            json,
            "{\"word\":\"broken\",\"for_s\":2,\"warnings\":[{\"what\":\"egress\",\
             \"health\":\"broken\",\"text\":\"none\",\"for_s\":2}],\
             \"last_change\":{\"from\":\"ok\",\"ago_s\":2,\"why\":\"none\"},\"changes\":1}"
        );
        let mut page = Page::new();
        log.status(at(3)).write_page(&mut page, "plat", "1.2.3");
        let text = page.into_text();
        for line in [
            "xlat_health{word=\"ok\"} 0",
            "xlat_health{word=\"degraded\"} 0",
            "xlat_health{word=\"broken\"} 1",
            "xlat_health_changes_total 1",
            "xlat_build_info{program=\"plat\",version=\"1.2.3\"} 1",
        ] {
            assert!(text.lines().any(|one| one == line), "{line}: {text}");
        }
    }

    #[test]
    fn he_02_silence_counts_only_while_packets_go() {
        let mut replies = Replies::default();
        let passed = |out, back| Passed { out, back };
        replies.update(passed(0, 0), at(0));
        replies.update(passed(0, 0), at(100));
        assert!(!replies.are_missing(at(100)) && !replies.is_fresh(at(100)));
        replies.update(passed(7, 0), at(101));
        assert!(!replies.are_missing(at(101)));
        replies.update(passed(8, 0), at(102));
        assert!(replies.are_missing(at(102)));
        replies.update(passed(8, 1), at(103));
        assert!(!replies.are_missing(at(103)) && replies.is_fresh(at(106)));
        // A burst has to be silent for some time.
        replies.update(passed(500, 1), at(104));
        assert!(!replies.are_missing(at(106)));
        assert!(replies.are_missing(at(107)));
        // Other workers count from the beginning.
        replies.update(passed(0, 0), at(108));
        assert!(!replies.are_missing(at(200)));
    }

    #[test]
    fn he_02_icmp_errors_are_no_replies() {
        use xlat_tun::counters::Traffic;
        let mut packets = Snapshot::default();
        let traffic = |packets| Traffic { packets, bytes: 0 };
        (packets.ipv6_out, packets.ipv4_out) = (traffic(9), traffic(4));
        assert_eq!(Passed::to_ipv6(&packets), Passed { out: 9, back: 4 });
        assert_eq!(Passed::to_ipv4(&packets), Passed { out: 4, back: 9 });
    }

    #[test]
    fn times_are_short() {
        let text = |seconds| humantime(Duration::from_secs(seconds));
        assert_eq!(text(0), "0s");
        assert_eq!(text(3725), "1h 2m");
        assert_eq!(text(90061), "1d 1h");
        assert_eq!(text(86405), "1d 5s");
    }
}
