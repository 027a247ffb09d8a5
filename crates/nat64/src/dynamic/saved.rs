//! Leases across a restart: out of the pool with wall-clock times, and back into a new one.
//!
//! The pool counts on a monotonic clock whose origin dies with the process, the file holds seconds
//! since 1970. The caller reads both clocks at the same moment and passes both.

use std::net::Ipv6Addr;

use xlat_core::Instant;

use super::map_file::{Lease, SkipReason};
use super::pool::{DynamicPool, Entry, Stamp};

impl DynamicPool {
    /// All leases, longest unused first. `epoch` is the wall clock's time at `now`, in seconds
    /// since 1970.
    pub fn snapshot(&self, now: Instant, epoch: u64) -> Vec<Lease> {
        let now = super::pool::stamp(now);
        let dormant = self.dormant.iter(&self.entries);
        dormant
            .chain(self.active.iter(&self.entries))
            .map(|index| self.saved(&self.entries[index as usize], now, epoch))
            .collect()
    }

    /// Takes up saved leases; to be called before the first packet. `epoch` is the wall clock's
    /// time at `now`, in seconds since 1970. A lease used in the future, which tells that the
    /// clock was changed, counts as one that is just over. What is not restored is returned with
    /// the reason; of two leases of one address, the one used last wins.
    pub fn restore(
        &mut self,
        leases: &[Lease],
        now: Instant,
        epoch: u64,
    ) -> Vec<(Lease, SkipReason)> {
        let now = self.advance(now);
        let mut newest_first: Vec<(Stamp, &Lease)> = leases
            .iter()
            .map(|lease| (self.last_use(lease, now, epoch), lease))
            .collect();
        newest_first.sort_by_key(|(last_use, _)| std::cmp::Reverse(*last_use));

        let mut skipped = Vec::new();
        let mut entered = Vec::new();
        for (last_use, lease) in newest_first {
            match self.offset_of(lease, last_use, now) {
                Ok(offset) => entered.push(self.enter(lease.v6.to_bits(), offset, last_use)),
                Err(reason) => skipped.push((*lease, reason)),
            }
        }
        for index in entered.into_iter().rev() {
            if self.holds(&self.entries[index as usize], now) {
                self.activate(index);
            } else {
                self.dormant.push(&mut self.entries, index);
            }
        }
        skipped
    }

    fn saved(&self, entry: &Entry, now: Stamp, epoch: u64) -> Lease {
        let idle = now.saturating_sub(entry.last_use).max(0).unsigned_abs();
        Lease {
            v4: self.address(entry.offset),
            v6: Ipv6Addr::from_bits(entry.client),
            last_use: epoch.saturating_sub(idle / NANOS_PER_SECOND),
        }
    }

    /// A saved time on the monotonic clock.
    fn last_use(&self, lease: &Lease, now: Stamp, epoch: u64) -> Stamp {
        match epoch.checked_sub(lease.last_use) {
            Some(idle) => before(now, idle.saturating_mul(NANOS_PER_SECOND)),
            None => now.saturating_sub(self.hold_time()),
        }
    }

    /// The offset of a saved lease's address, if the lease can be restored.
    fn offset_of(&self, lease: &Lease, last_use: Stamp, now: Stamp) -> Result<u32, SkipReason> {
        let offset = self
            .offset(lease.v4)
            .filter(|offset| self.usable.contains(*offset))
            .ok_or(SkipReason::NotInPool)?;
        if self.admit(lease.v6).is_err() {
            return Err(SkipReason::NotAClient);
        }
        if self.by_client.contains_key(&lease.v6.to_bits()) || self.by_offset.contains_key(&offset)
        {
            return Err(SkipReason::Duplicate);
        }
        if !self.is_remembered(last_use, now) {
            return Err(SkipReason::Forgotten);
        }
        Ok(offset)
    }
}

fn before(now: Stamp, idle: u64) -> Stamp {
    now.saturating_sub(Stamp::try_from(idle).unwrap_or(Stamp::MAX))
}

const NANOS_PER_SECOND: u64 = 1_000_000_000;
