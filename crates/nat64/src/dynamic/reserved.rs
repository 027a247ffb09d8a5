//! Reserved addresses of the pool, and what happens when they change.

use std::net::{Ipv4Addr, Ipv6Addr};

use xlat_core::Instant;
use xlat_core::addr::Ipv4Prefix;

use super::config::PoolConfig;
use super::pool::DynamicPool;
use crate::table::bitset::BitSet;

/// An address that cannot be reserved because a client is using it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The prefix that was to be reserved, and is not.
    pub prefix: Ipv4Prefix,
    /// One of its addresses that has an active lease.
    pub v4: Ipv4Addr,
    /// That lease's client.
    pub v6: Ipv6Addr,
}

impl DynamicPool {
    /// Replaces the reserved addresses, after static maps have changed. A
    /// prefix with an address that a client is using is not reserved; these come back as
    /// conflicts, one for each such prefix. Dormant leases in the way are forgotten, all others
    /// are left as they are. Takes time in proportion to the size of the pool.
    pub fn set_reserved(&mut self, reserved: &[Ipv4Prefix], now: Instant) -> Vec<Conflict> {
        let now = self.advance(now);
        self.expire_by(now, usize::MAX);
        let mut conflicts = Vec::new();
        let mut accepted = Vec::new();
        for &prefix in reserved {
            match self.user_within(prefix) {
                Some(conflict) => conflicts.push(conflict),
                None => accepted.push(prefix),
            }
        }
        self.usable = usable(&self.config, &accepted);
        self.config.reserved = accepted;
        self.rebuild_free();
        conflicts
    }

    /// An active lease on an address of `prefix`.
    fn user_within(&self, prefix: Ipv4Prefix) -> Option<Conflict> {
        let first = self.offset(prefix.address().max(self.config.prefix.address()))?;
        let last = self.offset(prefix.last().min(self.config.prefix.last()))?;
        let mut offset = self.usable.next_from(first)?;
        while offset <= last {
            let index = self.by_offset.get(&offset);
            if let Some(&index) = index.filter(|&&index| self.entries[index as usize].is_active) {
                return Some(Conflict {
                    prefix,
                    v4: self.address(offset),
                    v6: self.client(index),
                });
            }
            offset = self.usable.next_from(offset + 1)?;
        }
        None
    }

    /// Brings leases and free addresses in line with a new set of usable ones.
    fn rebuild_free(&mut self) {
        let lost: Vec<u32> = self
            .by_offset
            .iter()
            .filter(|(offset, _)| !self.usable.contains(**offset))
            .map(|(_, &index)| index)
            .collect();
        for index in lost {
            self.forget(index);
        }
        self.free = self.usable.clone();
        for &offset in self.by_offset.keys() {
            self.free.remove(offset);
        }
    }
}

/// The offsets of the addresses that may be handed out.
pub(super) fn usable(config: &PoolConfig, reserved: &[Ipv4Prefix]) -> BitSet {
    let (first, last) = (
        config.prefix.address().to_bits(),
        config.prefix.last().to_bits(),
    );
    let mut usable = BitSet::new(last - first + 1);
    for offset in 0..=last - first {
        if !config.is_kept_back(Ipv4Addr::from_bits(first + offset)) {
            usable.insert(offset);
        }
    }
    for prefix in reserved {
        let from = prefix.address().to_bits().max(first);
        let to = prefix.last().to_bits().min(last);
        for address in from..=to {
            usable.remove(address - first);
        }
    }
    usable
}
