//! The prefixes of a link: those of the interface, and removed ones that hosts may still use.

use std::net::Ipv6Addr;
use std::time::Duration;

use xlat_core::Instant;
use xlat_core::addr::Ipv6Prefix;

/// Maximum remaining lifetime of a removed prefix in seconds: hosts do not let a router shorten it
/// further (RFC 4862 section 5.5.3).
const FAREWELL: u64 = 7200;

/// A prefix of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OnLinkPrefix {
    /// The prefix.
    pub prefix: Ipv6Prefix,
    /// Address of this router in it.
    pub router: Ipv6Addr,
    /// End of the valid lifetime of the address, as with a delegated prefix; `None` for infinite.
    pub valid: Option<Instant>,
    /// End of the preferred lifetime of the address; `None` for infinite.
    pub preferred: Option<Instant>,
}

/// The prefixes of one link.
#[derive(Debug, Default)]
pub(super) struct Prefixes {
    current: Vec<OnLinkPrefix>,
    /// Removed prefixes, and the time at which they have expired on hosts.
    gone: Vec<(Ipv6Prefix, Instant)>,
}

impl Prefixes {
    pub(super) fn current(&self) -> &[OnLinkPrefix] {
        &self.current
    }

    /// Removed prefixes that hosts may still use, and until when.
    pub(super) fn gone(&self, now: Instant) -> impl Iterator<Item = (Ipv6Prefix, Instant)> {
        let gone = self.gone.iter().copied();
        gone.filter(move |(_, end)| *end > now)
    }

    /// Replaces the current prefixes. A removed prefix is kept until it expires, at most for
    /// `announced_valid` seconds. True if an advertisement should be sent: the prefixes differ
    /// from those before, or expire sooner.
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
    /// True if it expires sooner than `old` did, by more than the second that clock readings may
    /// differ.
    fn ends_before(&self, old: &Self) -> bool {
        let is_sooner = |new: Option<Instant>, old: Option<Instant>| match (new, old) {
            (Some(new), Some(old)) => old.saturating_since(new) > Duration::from_secs(2),
            (new, old) => new.is_some() && old.is_none(),
        };
        is_sooner(self.valid, old.valid) || is_sooner(self.preferred, old.preferred)
    }
}
