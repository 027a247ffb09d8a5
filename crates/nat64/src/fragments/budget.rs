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

/// One budget, with each source's share of it.
#[derive(Debug)]
pub(super) struct Budget {
    limit: usize,
    used: usize,
    per_source: HashMap<u128, usize, SipKey>,
}

impl Budget {
    pub(super) fn new(limit: usize, key: SipKey) -> Self {
        Self {
            limit,
            used: 0,
            per_source: HashMap::with_hasher(key),
        }
    }

    /// Charges a source; false, and nothing is charged, if that is too much.
    pub(super) fn charge(&mut self, source: u128, cost: usize) -> bool {
        let its = self.per_source.get(&source).copied().unwrap_or_default();
        if self.used + cost > self.limit || its + cost > self.limit / SHARE {
            return false;
        }
        self.used += cost;
        self.per_source.insert(source, its + cost);
        true
    }

    /// Gives back what a source was charged.
    pub(super) fn release(&mut self, source: u128, cost: usize) {
        self.used -= cost;
        let Some(its) = self.per_source.get_mut(&source) else {
            return;
        };
        *its -= cost;
        if *its == 0 {
            self.per_source.remove(&source);
        }
    }

    #[cfg(test)]
    pub(super) fn used(&self) -> (usize, usize) {
        (self.used, self.per_source.len())
    }
}

/// The share of a budget that one source may use: one part in this many.
pub(super) const SHARE: usize = 8;
