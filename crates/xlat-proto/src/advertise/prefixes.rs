//! The prefixes of a link: those that the interface has, and those that went but are still in use
//! by hosts.

use std::net::Ipv6Addr;
use std::time::Duration;

use xlat_core::Instant;
use xlat_core::addr::Ipv6Prefix;

/// How long the addresses of a prefix that went may still be used at most: hosts do not let a
/// router shorten it more (RFC 4862 section 5.5.3), seconds.
const FAREWELL: u64 = 7200;

/// A prefix that the interface has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OnLinkPrefix {
    /// The prefix.
    pub prefix: Ipv6Prefix,
    /// Our address in it.
    pub router: Ipv6Addr,
    /// When the address ceases to be valid: a prefix that was delegated is not ours for ever.
    /// `None` if it does not.
    pub valid: Option<Instant>,
    /// When the address ceases to be preferred; `None` if it does not.
    pub preferred: Option<Instant>,
}

/// The prefixes of one link.
#[derive(Debug, Default)]
pub(super) struct Prefixes {
    current: Vec<OnLinkPrefix>,
    /// Prefixes that have gone, and when hosts have forgotten them.
    gone: Vec<(Ipv6Prefix, Instant)>,
}

impl Prefixes {
    pub(super) fn current(&self) -> &[OnLinkPrefix] {
        &self.current
    }

    /// Prefixes that hosts may still use although they have gone, and until when.
    pub(super) fn gone(&self, now: Instant) -> impl Iterator<Item = (Ipv6Prefix, Instant)> {
        let gone = self.gone.iter().copied();
        gone.filter(move |(_, end)| *end > now)
    }

    /// Replaces the current prefixes. A prefix that goes is remembered for as long as it was valid,
    /// at most for `announced_valid` seconds. True if hosts should be told: the prefixes are not
    /// the same as before, or end sooner.
    pub(super) fn set(
        &mut self,
        prefixes: Vec<OnLinkPrefix>,
        announced_valid: u32,
        now: Instant,
    ) -> bool {
        let has = |list: &[OnLinkPrefix], prefix| list.iter().any(|one| one.prefix == prefix);
        let farewell = now + Duration::from_secs(FAREWELL.min(announced_valid.into()));
        for old in &self.current {
            if !has(&prefixes, old.prefix) {
                let end = old.valid.map_or(farewell, |valid| valid.min(farewell));
                self.gone.push((old.prefix, end));
            }
        }
        let is_announced = |new: &OnLinkPrefix| {
            let mut old = self.current.iter();
            old.any(|old| old.prefix == new.prefix && !new.ends_before(old))
        };
        let went = self.current.iter().any(|old| !has(&prefixes, old.prefix));
        let is_changed = went || !prefixes.iter().all(is_announced);
        self.gone
            .retain(|(prefix, end)| !has(&prefixes, *prefix) && *end > now);
        self.current = prefixes;
        is_changed
    }
}

impl OnLinkPrefix {
    /// True if it ends sooner than `old` did; each look at the clock may be a second apart.
    fn ends_before(&self, old: &Self) -> bool {
        let is_sooner = |new: Option<Instant>, old: Option<Instant>| match (new, old) {
            (Some(new), Some(old)) => old.saturating_since(new) > Duration::from_secs(2),
            (new, old) => new.is_some() && old.is_none(),
        };
        is_sooner(self.valid, old.valid) || is_sooner(self.preferred, old.preferred)
    }
}
