//! Probes prefixes: a prefix works if a packet through it was answered (RFC 7050 section 3.2).

use std::collections::BTreeMap;
use std::time::Duration;

use xlat_core::Instant;
use xlat_core::addr::Pref64;

use super::prefix::{Pref64Key, key, prefix_of};

/// The probes of each prefix.
#[derive(Clone, Debug, Default)]
pub(super) struct Probes(BTreeMap<Pref64Key, Probe>);

#[derive(Clone, Copy, Debug)]
struct Probe {
    /// The prefix works.
    leads: bool,
    /// A probe is pending.
    asked: bool,
    /// Number of unanswered probes since the last answer.
    silent: u32,
    /// Time of the next probe.
    next: Instant,
}

/// Time between probes of a prefix that answers, and between the first that do not.
const CONTENT: Duration = Duration::from_secs(300);
const DOUBTING: Duration = Duration::from_secs(5);
/// Number of unanswered probes after which a working prefix counts as broken.
const PATIENCE: u32 = 3;

impl Probes {
    /// True if the prefix works.
    pub(super) fn leads(&self, prefix: Pref64) -> bool {
        self.0.get(&key(prefix)).is_some_and(|probe| probe.leads)
    }

    /// True if the last probe of the prefix was not answered, and it does not work.
    pub(super) fn failed(&self, prefix: Pref64) -> bool {
        let probe = self.0.get(&key(prefix));
        probe.is_some_and(|probe| !probe.leads && probe.silent > 0)
    }

    /// Makes all probes due now.
    pub(super) fn again(&mut self, now: Instant) {
        for probe in self.0.values_mut() {
            probe.next = probe.next.min(now);
        }
    }

    /// Sets the prefixes to probe. New ones are due now, others are removed.
    pub(super) fn keep_to(&mut self, prefixes: &[Pref64], now: Instant) {
        let wanted: Vec<Pref64Key> = prefixes.iter().map(|prefix| key(*prefix)).collect();
        self.0.retain(|key, _| wanted.contains(key));
        for key in wanted {
            self.0.entry(key).or_insert(Probe {
                leads: false,
                asked: false,
                silent: 0,
                next: now,
            });
        }
    }

    /// The next prefix to probe now.
    pub(super) fn poll(&mut self, now: Instant) -> Option<Pref64> {
        let mut all = self.0.iter_mut();
        let (key, probe) = all.find(|(_, probe)| !probe.asked && probe.next <= now)?;
        probe.asked = true;
        prefix_of(*key)
    }

    /// Records the result of a probe.
    pub(super) fn on_probe(&mut self, prefix: Pref64, answered: bool, now: Instant) {
        let Some(probe) = self.0.get_mut(&key(prefix)) else {
            return;
        };
        probe.asked = false;
        if answered {
            (probe.leads, probe.silent) = (true, 0);
            probe.next = now + CONTENT;
            return;
        }
        probe.silent += 1;
        probe.leads &= probe.silent < PATIENCE;
        // 5, 10, 20 ... seconds.
        let pause = DOUBTING * 2_u32.saturating_pow(probe.silent.min(8) - 1);
        probe.next = now + pause.min(CONTENT);
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let waiting = self.0.values().filter(|probe| !probe.asked);
        waiting.map(|probe| probe.next).min()
    }
}
