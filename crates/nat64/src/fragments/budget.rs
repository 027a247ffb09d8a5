//! How much memory fragments may use, and how much of it each source uses.
//!
//! There are four budgets that take nothing from each other: for each direction one of datagrams
//! whose first fragment has passed, and one of those that wait for it. A flood of pieces that
//! nobody wants fills the latter, and datagrams that come in order do not notice.

use std::collections::HashMap;

use crate::siphash::SipKey;

/// Which side a datagram comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    V6,
    V4,
}

/// Who is charged: a source and, for IPv6, the /64 that it shares with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) own: u128,
    pub(super) network: Option<u128>,
}

/// One budget, with each source's and each network's share of it.
#[derive(Debug)]
pub(super) struct Budget {
    limit: usize,
    used: usize,
    per_source: HashMap<u128, usize, SipKey>,
    per_network: HashMap<u128, usize, SipKey>,
}

impl Budget {
    pub(super) fn new(limit: usize, key: SipKey) -> Self {
        Self {
            limit,
            used: 0,
            per_source: HashMap::with_hasher(key),
            per_network: HashMap::with_hasher(key),
        }
    }

    /// Charges a source; false, and nothing is charged, if that is too much.
    pub(super) fn charge(&mut self, source: Source, cost: usize) -> bool {
        let of = |used: &HashMap<_, usize, _>, key| used.get(&key).copied().unwrap_or_default();
        let its = of(&self.per_source, source.own);
        let shared = source.network.map(|key| of(&self.per_network, key));
        if self.used + cost > self.limit
            || its + cost > self.limit / SHARE
            || shared.is_some_and(|shared| shared + cost > self.limit / NETWORK_SHARE)
        {
            return false;
        }
        self.used += cost;
        self.per_source.insert(source.own, its + cost);
        if let (Some(network), Some(shared)) = (source.network, shared) {
            self.per_network.insert(network, shared + cost);
        }
        true
    }

    /// Gives back what a source was charged.
    pub(super) fn release(&mut self, source: Source, cost: usize) {
        self.used -= cost;
        give_back(&mut self.per_source, source.own, cost);
        if let Some(network) = source.network {
            give_back(&mut self.per_network, network, cost);
        }
    }

    #[cfg(test)]
    pub(super) fn used(&self) -> (usize, usize) {
        (self.used, self.per_source.len() + self.per_network.len())
    }
}

fn give_back(used: &mut HashMap<u128, usize, SipKey>, key: u128, cost: usize) {
    let Some(its) = used.get_mut(&key) else {
        return;
    };
    *its -= cost;
    if *its == 0 {
        used.remove(&key);
    }
}

/// The share of a budget that one source may use: one part in this many.
pub(super) const SHARE: usize = 8;
/// The share of one IPv6 /64 that has several sources.
pub(super) const NETWORK_SHARE: usize = 2;
