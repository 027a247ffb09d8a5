//! DNS servers of the link: those that routers announce (RFC 8106), and those of the host's
//! configuration.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::time::Duration;

use xlat_core::Instant;

/// Maximum number of announced servers.
pub(super) const ANNOUNCED_MAX: usize = 64;

/// The DNS servers of a link.
#[derive(Clone, Debug, Default)]
pub(super) struct Servers {
    /// Servers by the router that announces them, and their expiry; `None` is never.
    announced: BTreeMap<(Ipv6Addr, Ipv6Addr), Option<Instant>>,
    /// Servers of the host's configuration.
    own: Vec<Ipv6Addr>,
}

impl Servers {
    /// Replaces the servers of the host's configuration. True if there are new ones among them.
    pub(super) fn set_own(&mut self, servers: Vec<Ipv6Addr>) -> bool {
        let has_more = servers.iter().any(|one| !self.own.contains(one));
        self.own = servers;
        has_more
    }

    /// Records a server of a router's advertisement. A lifetime of zero withdraws it. New servers
    /// beyond the maximum are dropped.
    pub(super) fn note(&mut self, router: Ipv6Addr, server: Ipv6Addr, lifetime: u32, now: Instant) {
        let key = (router, server);
        if lifetime == 0 {
            self.announced.remove(&key);
        } else if self.announced.len() < ANNOUNCED_MAX || self.announced.contains_key(&key) {
            let until = Duration::from_secs(lifetime.into());
            let until = (lifetime != u32::MAX).then(|| now + until);
            self.announced.insert(key, until);
        }
    }

    /// All servers, each once: announced ones first.
    pub(super) fn all(&self, now: Instant) -> Vec<Ipv6Addr> {
        let holds = |until: &Option<Instant>| until.is_none_or(|until| until > now);
        let announced = self.announced.iter().filter(|(_, until)| holds(until));
        let mut servers: Vec<Ipv6Addr> = Vec::new();
        let announced = announced.map(|((_, server), _)| *server);
        for server in announced.chain(self.own.iter().copied()) {
            if !servers.contains(&server) {
                servers.push(server);
            }
        }
        servers
    }

    pub(super) fn expire(&mut self, now: Instant) {
        self.announced
            .retain(|_, until| until.is_none_or(|until| until > now));
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.announced.len()
    }
}
