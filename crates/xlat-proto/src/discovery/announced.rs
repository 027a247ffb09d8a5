//! NAT64 prefixes that routers announce (RFC 8781), and what these routers say of themselves.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::time::Duration;

use xlat_core::Instant;
use xlat_core::addr::Pref64;

use super::prefix::{Pref64Key, key, prefix_of};
use super::{Found, Source};
use crate::ra::{Advertisement, Pref64Option, Preference};

/// Maximum number of prefixes.
pub(super) const ANNOUNCED_MAX: usize = 64;
/// A withdrawal counts once the router has not announced the prefix for this long: one that says
/// both in turn (or a forger in its name) does not stop a translation.
const CONTRADICTION: Duration = Duration::from_secs(1);

/// Announced prefixes by router.
#[derive(Clone, Debug, Default)]
pub(super) struct Announced {
    prefixes: BTreeMap<(Ipv6Addr, Pref64Key), Entry>,
    /// The routers of these prefixes.
    routers: BTreeMap<Ipv6Addr, Router>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Expiry.
    until: Instant,
    /// Time of the last advertisement with it.
    announced: Instant,
}

/// What a router says of itself.
#[derive(Clone, Copy, Debug)]
struct Router {
    /// Until when it is a default router.
    default_until: Instant,
    preference: Preference,
}

/// A prefix, and the router that announces it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AnnouncedPrefix {
    pub(super) prefix: Pref64,
    pub(super) router: Ipv6Addr,
    /// The router is a default router.
    pub(super) is_default: bool,
    /// Its preference (RFC 4191).
    pub(super) preference: Preference,
}

impl Announced {
    /// Records what a router's advertisement says of itself, and these prefixes of it. A lifetime of
    /// zero withdraws a prefix. Where there is no room, the prefix whose advertisement is longest
    /// ago is dropped, but not `used`.
    pub(super) fn note(
        &mut self,
        router: Ipv6Addr,
        advertisement: &Advertisement,
        options: &[Pref64Option],
        used: Option<Found>,
        now: Instant,
    ) {
        for option in options {
            self.note_prefix((router, key(option.prefix)), option.lifetime, used, now);
        }
        if self.is_known(router) {
            let lifetime = Duration::from_secs(advertisement.lifetime.into());
            let state = Router {
                default_until: now + lifetime,
                // Without a lifetime it says nothing (RFC 4191 section 2.2).
                preference: match advertisement.lifetime {
                    0 => Preference::Medium,
                    _ => advertisement.preference,
                },
            };
            self.routers.insert(router, state);
        }
    }

    fn note_prefix(
        &mut self,
        key: (Ipv6Addr, Pref64Key),
        lifetime: u16,
        used: Option<Found>,
        now: Instant,
    ) {
        if lifetime == 0 {
            let Some(entry) = self.prefixes.get_mut(&key) else {
                return;
            };
            entry.until = entry.until.min(now.max(entry.announced + CONTRADICTION));
            return self.expire(now);
        }
        if self.prefixes.len() >= ANNOUNCED_MAX && !self.prefixes.contains_key(&key) {
            self.drop_oldest(used);
        }
        let until = now + Duration::from_secs(lifetime.into());
        let announced = now;
        self.prefixes.insert(key, Entry { until, announced });
    }

    fn drop_oldest(&mut self, used: Option<Found>) {
        let used = used.and_then(|found| match found.source {
            Source::Router(router) => Some((router, key(found.prefix))),
            Source::Configured | Source::Pcp(_) | Source::Dns => None,
        });
        let others = self.prefixes.iter().filter(|(key, _)| Some(**key) != used);
        let oldest = others.min_by_key(|(_, entry)| entry.announced);
        if let Some(oldest) = oldest.map(|(key, _)| *key) {
            self.prefixes.remove(&oldest);
            self.forget_routers();
        }
    }

    /// The unexpired prefixes, and their routers.
    pub(super) fn all(&self, now: Instant) -> impl Iterator<Item = AnnouncedPrefix> {
        let holding = self
            .prefixes
            .iter()
            .filter(move |(_, entry)| entry.until > now);
        holding.filter_map(move |((router, key), _)| {
            let state = self.routers.get(router);
            Some(AnnouncedPrefix {
                prefix: prefix_of(*key)?,
                router: *router,
                is_default: state.is_some_and(|state| state.default_until > now),
                preference: state.map_or(Preference::Medium, |state| state.preference),
            })
        })
    }

    /// Prefixes that no router announces again before `at` expire then.
    pub(super) fn expire_at(&mut self, at: Instant) {
        for entry in self.prefixes.values_mut() {
            entry.until = entry.until.min(at);
        }
    }

    pub(super) fn expire(&mut self, now: Instant) {
        let before = self.prefixes.len();
        self.prefixes.retain(|_, entry| entry.until > now);
        if self.prefixes.len() < before {
            self.forget_routers();
        }
    }

    fn forget_routers(&mut self) {
        let mut routers = std::mem::take(&mut self.routers);
        routers.retain(|router, _| self.is_known(*router));
        self.routers = routers;
    }

    /// True if the router announces a prefix.
    fn is_known(&self, router: Ipv6Addr) -> bool {
        let mut from_here = self.prefixes.range((router, Pref64Key::default())..);
        from_here.next().is_some_and(|((of, _), _)| *of == router)
    }

    /// When the next prefix expires, or its router ceases to be a default router.
    pub(super) fn next_end(&self, now: Instant) -> Option<Instant> {
        let prefixes = self.prefixes.values().map(|entry| entry.until);
        let routers = self.routers.values().map(|router| router.default_until);
        prefixes.chain(routers.filter(|until| *until > now)).min()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.prefixes.is_empty()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.prefixes.len()
    }
}
