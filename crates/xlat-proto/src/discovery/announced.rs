//! NAT64 prefixes that routers announce (RFC 8781).

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::time::Duration;

use xlat_core::Instant;
use xlat_core::addr::Pref64;

use super::prefix::{Pref64Key, key, prefix_of};
use crate::ra::Pref64Option;

/// Maximum number of prefixes.
pub(super) const ANNOUNCED_MAX: usize = 64;

/// Announced prefixes by router, and their expiry.
#[derive(Clone, Debug, Default)]
pub(super) struct Announced(BTreeMap<(Ipv6Addr, Pref64Key), Instant>);

impl Announced {
    /// Records an option of a router's advertisement. A lifetime of zero withdraws the prefix. New
    /// prefixes beyond the maximum are dropped.
    pub(super) fn note(&mut self, router: Ipv6Addr, option: &Pref64Option, now: Instant) {
        let key = (router, key(option.prefix));
        if option.lifetime == 0 {
            self.0.remove(&key);
        } else if self.0.len() < ANNOUNCED_MAX || self.0.contains_key(&key) {
            let until = now + Duration::from_secs(option.lifetime.into());
            self.0.insert(key, until);
        }
    }

    /// The unexpired prefixes, and their routers.
    pub(super) fn all(&self, now: Instant) -> impl Iterator<Item = (Pref64, Ipv6Addr)> {
        let holding = self.0.iter().filter(move |(_, until)| **until > now);
        holding.filter_map(|((router, key), _)| Some((prefix_of(*key)?, *router)))
    }

    pub(super) fn expire(&mut self, now: Instant) {
        self.0.retain(|_, until| *until > now);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Expiry of the next prefix.
    pub(super) fn next_end(&self) -> Option<Instant> {
        self.0.values().copied().min()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
