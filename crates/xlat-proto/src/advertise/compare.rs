//! Compares the advertisements of other routers on the link with those of this one (RFC 4861
//! section 6.2.7, RFC 8781 section 5.2).

use std::collections::BTreeSet;
use std::net::Ipv6Addr;
use std::time::Duration;

use xlat_core::Instant;
use xlat_core::addr::Pref64;

use crate::ra::{Advertisement, PrefixInformation, RouterOption};

/// Reports that are remembered.
const MEMORY: usize = 256;
/// Reports at once, and how long until there may be another one: anybody on the link can be a router of
/// any name.
const AT_ONCE: u32 = 8;
const PAUSE: Duration = Duration::from_secs(10);

/// The reports about other routers so far, so that each is made once.
#[derive(Debug)]
pub struct Reported {
    said: BTreeSet<(Ipv6Addr, String)>,
    /// Reports that may be made now, and since when the next one is due.
    left: u32,
    since: Instant,
    /// Advertisements whose report was not made.
    unsaid: u64,
}

/// A report about another router.
#[derive(Debug, PartialEq, Eq)]
pub enum Finding {
    /// It contradicts this router: all differences, as text.
    Contradicts(String),
    /// It agrees, and is a default router too.
    DefaultRouter,
}

/// A value that two routers should announce alike and do not.
struct Difference {
    /// Name of the value.
    about: String,
    /// Both values, as text.
    values: String,
}

impl Reported {
    /// Nothing yet.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            said: BTreeSet::new(),
            left: AT_ONCE,
            since: now,
            unsaid: 0,
        }
    }

    /// Compares the advertisement of `router` with that of this router; `None` if there is
    /// nothing new to report, or too much of it: then the next report has the number of the others.
    pub fn compare(
        &mut self,
        router: Ipv6Addr,
        ours: &Advertisement,
        theirs: &Advertisement,
        now: Instant,
    ) -> Option<Finding> {
        let differences = differences(ours, theirs);
        let is_router = differences.is_empty() && theirs.lifetime > 0;
        let mut about: Vec<&str> = differences.iter().map(|one| &*one.about).collect();
        if is_router {
            about.push("router");
        }
        let is_said = |about: &&str| self.said.contains(&(router, (*about).to_owned()));
        if about.iter().all(is_said) {
            return None;
        }
        if !self.may_say(now) {
            self.unsaid += 1;
            return None;
        }
        if self.said.len() >= MEMORY {
            // Names that were made up do not keep the name of a real router from the log.
            self.said.clear();
        }
        let about = about.into_iter().map(|about| (router, about.to_owned()));
        self.said.extend(about);
        if is_router {
            return Some(Finding::DefaultRouter);
        }
        let lines = differences.iter();
        let lines = lines.map(|one| format!("{} {}", one.about, one.values));
        Some(Finding::Contradicts(lines.collect::<Vec<_>>().join("; ")))
    }

    /// How many advertisements had something new that was not reported, since this was asked last.
    pub fn take_unsaid(&mut self) -> u64 {
        std::mem::take(&mut self.unsaid)
    }

    fn may_say(&mut self, now: Instant) -> bool {
        while self.left < AT_ONCE && now.saturating_since(self.since) >= PAUSE {
            self.left += 1;
            self.since = self.since + PAUSE;
        }
        if self.left == AT_ONCE {
            self.since = now;
        }
        let may = self.left > 0;
        self.left = self.left.saturating_sub(1);
        may
    }
}

fn differences(ours: &Advertisement, theirs: &Advertisement) -> Vec<Difference> {
    let mut list = Vec::new();
    let mut note = |about: &str, ours: u32, theirs: u32| {
        if ours != theirs {
            list.push(Difference {
                about: about.into(),
                values: format!("{theirs} instead of {ours}"),
            });
        }
    };
    // Zero means unspecified.
    for (about, ours, theirs) in [
        ("hop limit", ours.hop_limit.into(), theirs.hop_limit.into()),
        ("reachable time", ours.reachable, theirs.reachable),
        ("retransmit timer", ours.retransmit, theirs.retransmit),
    ] {
        if ours != 0 && theirs != 0 {
            note(about, ours, theirs);
        }
    }
    let (managed, other) = (ours.managed.into(), ours.other.into());
    note("DHCPv6 for addresses", managed, theirs.managed.into());
    note("DHCPv6 for others", other, theirs.other.into());
    if let (Some(ours), Some(theirs)) = (mtu(ours), mtu(theirs)) {
        note("MTU", ours, theirs);
    }
    for other in prefixes(theirs) {
        if let Some(own) = prefixes(ours).find(|own| own.prefix == other.prefix) {
            let prefix = own.prefix;
            note(&format!("{prefix} valid for"), own.valid, other.valid);
            let preferred = format!("{prefix} preferred for");
            note(&preferred, own.preferred, other.preferred);
        }
    }
    let is_ours = |prefix: &Pref64| ours.pref64s().any(|own| own.prefix == *prefix);
    let theirs = theirs.pref64s().map(|option| option.prefix);
    list.extend(
        theirs
            .filter(|prefix| !is_ours(prefix))
            .map(|prefix| Difference {
                about: format!("the NAT64 prefix {prefix},"),
                values: "which is not ours".into(),
            }),
    );
    list
}

fn mtu(advertisement: &Advertisement) -> Option<u32> {
    let mut options = advertisement.options.iter();
    options.find_map(|option| match option {
        RouterOption::Mtu(mtu) => Some(*mtu),
        _ => None,
    })
}

fn prefixes(advertisement: &Advertisement) -> impl Iterator<Item = &PrefixInformation> {
    let options = advertisement.options.iter();
    options.filter_map(|option| match option {
        RouterOption::Prefix(prefix) => Some(prefix),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saying(hop_limit: u8, reachable: u32) -> Advertisement {
        Advertisement {
            hop_limit,
            reachable,
            lifetime: 1800,
            ..Advertisement::default()
        }
    }

    #[test]
    fn ra_19_each_difference_is_told_once_even_after_a_harmless_router() {
        let now = Instant::from_secs(1);
        let mut reported = Reported::new(now);
        let (ours, router) = (saying(64, 30_000), "fe80::2".parse().unwrap());
        let mut compare = |theirs| reported.compare(router, &ours, &theirs, now);
        assert_eq!(compare(saying(64, 0)), Some(Finding::DefaultRouter));
        assert_eq!(compare(saying(64, 0)), None);
        let line = "hop limit 32 instead of 64";
        assert_eq!(
            compare(saying(32, 0)),
            Some(Finding::Contradicts(line.into()))
        );
        assert_eq!(compare(saying(31, 0)), None);
        let line = "hop limit 32 instead of 64; reachable time 7 instead of 30000";
        assert_eq!(
            compare(saying(32, 7)),
            Some(Finding::Contradicts(line.into()))
        );
        let other = "fe80::3".parse().unwrap();
        assert!(
            reported
                .compare(other, &ours, &saying(32, 0), now)
                .is_some()
        );
    }

    #[test]
    fn ra_19_a_flood_of_routers_neither_fills_the_log_nor_hides_the_next_one() {
        let ours = saying(64, 30_000);
        let start = 1_000;
        let mut reported = Reported::new(Instant::from_secs(start));
        let name = |number: u32| Ipv6Addr::from_bits((0xfe80 << 112) | u128::from(number));
        // Ten routers a second, each with a name of its own, for an hour.
        let mut lines = 0;
        for number in 0..36_000_u32 {
            let now = Instant::from_secs(start + u64::from(number / 10));
            let found = reported.compare(name(number), &ours, &saying(32, 0), now);
            lines += u32::from(found.is_some());
        }
        assert_eq!(lines, 8 + 359);
        assert_eq!(reported.take_unsaid(), 36_000 - 367);
        // A minute later a real one comes.
        let later = Instant::from_secs(start + 3_660);
        let found = reported.compare(name(u32::MAX), &ours, &saying(31, 0), later);
        let line = "hop limit 31 instead of 64".to_owned();
        assert_eq!(found, Some(Finding::Contradicts(line)));
        assert_eq!(reported.take_unsaid(), 0);
    }
}
