//! Options that a new configuration lacks. Hosts would use them until they expire, so they are
//! announced with a lifetime of zero until then.

use std::net::Ipv6Addr;

use xlat_core::Instant;
use xlat_core::addr::{Ipv6Prefix, Pref64};

use super::config::Config;

/// An announced option that can be withdrawn by a lifetime of zero.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Item {
    Route(Ipv6Prefix),
    Server(Ipv6Addr),
    Domain(String),
    Pref64(Pref64),
}

/// The withdrawn options, and the time until which each is announced as such.
#[derive(Debug, Default)]
pub(super) struct Withdrawn(Vec<(Item, Instant)>);

impl Withdrawn {
    /// Withdraws options that are in `old` and not in `new`, until `end`.
    pub(super) fn replace(&mut self, old: &Config, new: &Config, end: Instant, now: Instant) {
        let new: Vec<Item> = items(new).collect();
        self.0.retain(|(one, end)| !new.contains(one) && *end > now);
        let went = items(old).filter(|one| !new.contains(one));
        self.0.extend(went.map(|one| (one, end)));
    }

    pub(super) fn routes(&self, now: Instant) -> impl Iterator<Item = Ipv6Prefix> {
        self.items(now).filter_map(|one| match one {
            Item::Route(prefix) => Some(*prefix),
            _ => None,
        })
    }

    pub(super) fn servers(&self, now: Instant) -> Vec<Ipv6Addr> {
        let servers = self.items(now).filter_map(|one| match one {
            Item::Server(server) => Some(*server),
            _ => None,
        });
        servers.collect()
    }

    pub(super) fn domains(&self, now: Instant) -> Vec<String> {
        let domains = self.items(now).filter_map(|one| match one {
            Item::Domain(domain) => Some(domain.clone()),
            _ => None,
        });
        domains.collect()
    }

    pub(super) fn pref64s(&self, now: Instant) -> impl Iterator<Item = Pref64> {
        self.items(now).filter_map(|one| match one {
            Item::Pref64(prefix) => Some(*prefix),
            _ => None,
        })
    }

    fn items(&self, now: Instant) -> impl Iterator<Item = &Item> {
        let still = self.0.iter().filter(move |(_, end)| *end > now);
        still.map(|(one, _)| one)
    }
}

fn items(config: &Config) -> impl Iterator<Item = Item> {
    let routes = config.routes.iter().copied().map(Item::Route);
    let servers = config.dns_servers.iter().copied().map(Item::Server);
    let domains = config.search.iter().cloned().map(Item::Domain);
    let pref64s = config.pref64s.iter().copied().map(Item::Pref64);
    routes.chain(servers).chain(domains).chain(pref64s)
}
