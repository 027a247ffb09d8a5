//! The pool as a data structure: which client has which address, since when, and which lease is
//! reused next.
//!
//! A lease is in one of two lists, both in the order of last use. It is in `active` from the
//! packet that made it to the lease time after the last packet, then in `dormant` until the same
//! client returns, another client needs the address, or the lease is forgotten. Every step looks at
//! a list's head only, so nothing is ever swept.
//!
//! This file is one thought: each step of a lease moves it between the two lists, the index and the map
//! of reserved addresses, and they must agree after every step.

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use xlat_core::addr::Ipv6Prefix;
use xlat_core::mapper::{Refusal, Unreachable};
use xlat_core::{DropReason, Instant};

use super::PUBLISH;
use super::config::{PoolConfig, PoolError};
use super::reserved::usable;
use crate::siphash::SipKey;
use crate::table::bitset::BitSet;
use crate::table::list::{Linked, Links, List};

/// The state of a dynamic pool.
#[derive(Debug)]
pub struct DynamicPool {
    pub(super) config: PoolConfig,
    key: SipKey,
    /// Addresses that can be handed out, by their offset in the prefix, leased or not.
    pub(super) usable: BitSet,
    /// Those of them that have no lease, not even a dormant one.
    pub(super) free: BitSet,
    pub(super) entries: Vec<Entry>,
    vacant: Vec<u32>,
    pub(super) by_client: HashMap<u128, u32, SipKey>,
    pub(super) by_offset: HashMap<u32, u32, SipKey>,
    per_prefix: HashMap<u128, u32, SipKey>,
    pub(super) active: List,
    pub(super) dormant: List,
    latest: Stamp,
    generation: u64,
}

/// Nanoseconds on the caller's monotonic clock. Signed, because a lease restored from a file may
/// have been used last before that clock began.
pub(super) type Stamp = i64;

#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) client: u128,
    pub(super) last_use: Stamp,
    pub(super) offset: u32,
    links: Links,
    pub(super) is_active: bool,
}

impl Linked for Entry {
    fn links(&self) -> &Links {
        &self.links
    }

    fn links_mut(&mut self) -> &mut Links {
        &mut self.links
    }
}

impl DynamicPool {
    /// An empty pool. `key` is a random number that keeps hosts from choosing which clients collide
    /// with whom; with the same key a client tends to get the same address.
    ///
    /// # Errors
    /// A configuration that cannot work.
    pub fn new(config: PoolConfig, key: [u64; 2]) -> Result<Self, PoolError> {
        check(&config)?;
        let key = SipKey::new(key);
        let usable = usable(&config, &config.reserved);
        if usable.len() == 0 {
            return Err(PoolError::NoAddress(config.prefix));
        }
        Ok(Self {
            free: usable.clone(),
            usable,
            entries: Vec::new(),
            vacant: Vec::new(),
            by_client: HashMap::with_hasher(key),
            by_offset: HashMap::with_hasher(key),
            per_prefix: HashMap::with_hasher(key),
            active: List::new(),
            dormant: List::new(),
            latest: Stamp::MIN,
            generation: 0,
            config,
            key,
        })
    }

    /// Serves other clients from now on, as [`PoolConfig::clients`] says. Leases stay.
    pub fn set_clients(&mut self, clients: Vec<Ipv6Prefix>) {
        self.config.clients = clients;
    }

    /// The pool's configuration.
    pub fn config(&self) -> &PoolConfig {
        &self.config
    }

    pub(super) fn key(&self) -> SipKey {
        self.key
    }

    /// Number of addresses that can be handed out.
    pub fn capacity(&self) -> u32 {
        self.usable.len()
    }

    /// Number of leases that hold, as of the last [`expire`](Self::expire).
    pub fn active(&self) -> u32 {
        self.active.len()
    }

    /// Number of addresses that are remembered for silent clients.
    pub fn dormant(&self) -> u32 {
        self.dormant.len()
    }

    /// Counts every change of a lease's address, so that the caller can see whether the map
    /// file is out of date.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The address of the client that sent a packet at `now`: the one it has, the one it had, or a
    /// new one.
    ///
    /// # Errors
    /// The source cannot be a client, may not be one, holds as many leases as it may, or every
    /// address is in use.
    pub fn address_for(&mut self, client: Ipv6Addr, now: Instant) -> Result<Ipv4Addr, Refusal> {
        let now = self.advance(now);
        self.expire_by(now, STEPS_PER_PACKET);
        if let Some(&index) = self.by_client.get(&client.to_bits()) {
            return self.keep(index, now);
        }
        self.admit(client)?;
        self.check_limit(client.to_bits(), now)?;
        let offset = self.vacate(client.to_bits(), now).ok_or(Refusal::Answer(
            DropReason::PoolExhausted,
            Unreachable::Address,
        ))?;
        let index = self.enter(client.to_bits(), offset, now);
        self.activate(index);
        Ok(self.address(offset))
    }

    /// The client behind a pool address that a packet was sent to at `now`. `None` if no client has
    /// the address.
    pub fn client_of(&mut self, address: Ipv4Addr, now: Instant) -> Option<Ipv6Addr> {
        let now = self.advance(now);
        let index = self.holder(address, now)?;
        self.touch(index, now);
        Some(self.client(index))
    }

    /// The address that `client` has, without counting as use.
    pub fn peek_address(&self, client: Ipv6Addr, now: Instant) -> Option<Ipv4Addr> {
        let &index = self.by_client.get(&client.to_bits())?;
        let entry = &self.entries[index as usize];
        self.holds(entry, stamp(now))
            .then(|| self.address(entry.offset))
    }

    /// The client that has `address`, without counting as use.
    pub fn peek_client(&self, address: Ipv4Addr, now: Instant) -> Option<Ipv6Addr> {
        self.holder(address, stamp(now))
            .map(|index| self.client(index))
    }

    /// Puts silent clients' leases to sleep and forgets those that slept for too long, at most
    /// `steps` of them. True if there is more to do.
    pub fn expire(&mut self, now: Instant, steps: usize) -> bool {
        let now = self.advance(now);
        self.expire_by(now, steps)
    }

    /// Whether `client` may have a lease at all.
    pub(super) fn admit(&self, client: Ipv6Addr) -> Result<(), Refusal> {
        if !self.config.is_host(client) {
            return Err(Refusal::Silent(DropReason::IllegalSource));
        }
        if !self.config.is_client(client) {
            return Err(Refusal::Answer(DropReason::Denied, Unreachable::Prohibited));
        }
        Ok(())
    }

    /// The time of a call, as the pool sees it: workers read their clocks at slightly different
    /// times, and the lists stay in order only if time never goes back.
    pub(super) fn advance(&mut self, now: Instant) -> Stamp {
        self.latest = self.latest.max(stamp(now));
        self.latest
    }

    pub(super) fn holds(&self, entry: &Entry, now: Stamp) -> bool {
        now.saturating_sub(entry.last_use) < self.hold_time()
    }

    /// How long a lease holds after `last_use`. Workers tell of use only so often, so the last
    /// packet may have been later by that much.
    pub(super) fn hold_time(&self) -> Stamp {
        nanos(self.config.lease + PUBLISH)
    }

    pub(super) fn is_remembered(&self, last_use: Stamp, now: Stamp) -> bool {
        now.saturating_sub(last_use) < nanos(self.config.remember)
    }

    pub(super) fn address(&self, offset: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.config.prefix.address().to_bits() + offset)
    }

    pub(super) fn offset(&self, address: Ipv4Addr) -> Option<u32> {
        let prefix = self.config.prefix;
        prefix
            .contains(address)
            .then(|| address.to_bits() - prefix.address().to_bits())
    }

    pub(super) fn client(&self, index: u32) -> Ipv6Addr {
        Ipv6Addr::from_bits(self.entries[index as usize].client)
    }

    /// Makes a lease that is in neither list yet.
    pub(super) fn enter(&mut self, client: u128, offset: u32, last_use: Stamp) -> u32 {
        let entry = Entry {
            client,
            last_use,
            offset,
            links: Links::NONE,
            is_active: false,
        };
        let index = match self.vacant.pop() {
            Some(index) => {
                self.entries[index as usize] = entry;
                index
            }
            None => {
                self.entries.push(entry);
                (self.entries.len() - 1) as u32
            }
        };
        self.by_client.insert(client, index);
        self.by_offset.insert(offset, index);
        self.free.remove(offset);
        self.generation += 1;
        index
    }

    /// Puts a lease that is in neither list into the active one.
    pub(super) fn activate(&mut self, index: u32) {
        let entry = &mut self.entries[index as usize];
        entry.is_active = true;
        let client = entry.client;
        self.active.push(&mut self.entries, index);
        if let Some(prefix) = self.counted_prefix(client) {
            *self.per_prefix.entry(prefix).or_default() += 1;
        }
    }

    /// Takes a lease out of the active list.
    fn deactivate(&mut self, index: u32) {
        let entry = &mut self.entries[index as usize];
        entry.is_active = false;
        let client = entry.client;
        self.active.remove(&mut self.entries, index);
        let Some(prefix) = self.counted_prefix(client) else {
            return;
        };
        if let Some(count) = self.per_prefix.get_mut(&prefix) {
            *count -= 1;
            if *count == 0 {
                self.per_prefix.remove(&prefix);
            }
        }
    }

    /// Ends a lease for good.
    pub(super) fn forget(&mut self, index: u32) {
        let Entry {
            client,
            offset,
            is_active,
            ..
        } = self.entries[index as usize];
        if is_active {
            self.deactivate(index);
        } else {
            self.dormant.remove(&mut self.entries, index);
        }
        self.by_client.remove(&client);
        self.by_offset.remove(&offset);
        if self.usable.contains(offset) {
            self.free.insert(offset);
        }
        self.vacant.push(index);
        self.generation += 1;
    }

    /// A known client's address, woken up if it was dormant.
    fn keep(&mut self, index: u32, now: Stamp) -> Result<Ipv4Addr, Refusal> {
        let Entry {
            client,
            offset,
            is_active,
            ..
        } = self.entries[index as usize];
        if is_active {
            self.touch(index, now);
        } else {
            self.check_limit(client, now)?;
            self.dormant.remove(&mut self.entries, index);
            self.entries[index as usize].last_use = now;
            self.activate(index);
        }
        Ok(self.address(offset))
    }

    /// Notes that an active lease was used.
    fn touch(&mut self, index: u32, now: Stamp) {
        self.active.remove(&mut self.entries, index);
        self.entries[index as usize].last_use = now;
        self.active.push(&mut self.entries, index);
    }

    /// The entry of an address whose lease holds.
    fn holder(&self, address: Ipv4Addr, now: Stamp) -> Option<u32> {
        let &index = self.by_offset.get(&self.offset(address)?)?;
        self.holds(&self.entries[index as usize], now)
            .then_some(index)
    }

    fn check_limit(&mut self, client: u128, now: Stamp) -> Result<(), Refusal> {
        if self.is_below_limit(client) {
            return Ok(());
        }
        self.expire_by(now, usize::MAX);
        if self.is_below_limit(client) {
            return Ok(());
        }
        Err(Refusal::Answer(
            DropReason::SubscriberLimit,
            Unreachable::Address,
        ))
    }

    fn is_below_limit(&self, client: u128) -> bool {
        let Some(limit) = self.config.limit else {
            return true;
        };
        let held = self
            .counted_prefix(client)
            .and_then(|prefix| self.per_prefix.get(&prefix));
        held.copied().unwrap_or(0) < limit.leases
    }

    fn counted_prefix(&self, client: u128) -> Option<u128> {
        let limit = self.config.limit?;
        let prefix = Ipv6Prefix::containing(Ipv6Addr::from_bits(client), limit.prefix_len);
        Some(prefix.address().to_bits())
    }

    /// An address for a new client: the first free one from the place that the client's hash
    /// names, or else the one that was unused longest.
    fn vacate(&mut self, client: u128, now: Stamp) -> Option<u32> {
        let last = self.config.prefix.last().to_bits() - self.config.prefix.address().to_bits();
        let start = self.key.hash_address(client) as u32 & last;
        if let Some(offset) = self.free.next_around(start) {
            return Some(offset);
        }
        self.expire_by(now, usize::MAX);
        if self.free.len() == 0 {
            let oldest = self.dormant.head()?;
            self.forget(oldest);
        }
        self.free.next_around(start)
    }

    /// Each lease is moved once and forgotten once, so that all the steps of a pool's life are
    /// paid for by the packets that made its leases.
    pub(super) fn expire_by(&mut self, now: Stamp, steps: usize) -> bool {
        for _ in 0..steps {
            if !self.demote_oldest(now) && !self.forget_oldest(now) {
                return false;
            }
        }
        true
    }

    fn demote_oldest(&mut self, now: Stamp) -> bool {
        let Some(index) = self.active.head() else {
            return false;
        };
        if self.holds(&self.entries[index as usize], now) {
            return false;
        }
        self.deactivate(index);
        self.dormant.push(&mut self.entries, index);
        true
    }

    fn forget_oldest(&mut self, now: Stamp) -> bool {
        let Some(index) = self.dormant.head() else {
            return false;
        };
        if self.is_remembered(self.entries[index as usize].last_use, now) {
            return false;
        }
        self.forget(index);
        true
    }
}

fn check(config: &PoolConfig) -> Result<(), PoolError> {
    if config.prefix.len() < 8 {
        return Err(PoolError::TooLarge(config.prefix));
    }
    if config.remember < config.lease + PUBLISH {
        return Err(PoolError::Times {
            lease: config.lease,
            remember: config.remember,
        });
    }
    match config.limit {
        Some(limit) if limit.prefix_len > 128 => Err(PoolError::LimitLength(limit.prefix_len)),
        _ => Ok(()),
    }
}

/// A point on the caller's clock. A clock that has run for 292 years stands still.
pub(super) fn stamp(now: Instant) -> Stamp {
    Stamp::try_from(now.as_nanos()).unwrap_or(Stamp::MAX)
}

fn nanos(duration: Duration) -> Stamp {
    Stamp::try_from(duration.as_nanos()).unwrap_or(Stamp::MAX)
}

/// Old leases that a packet which needs the pool's attention clears away. More than one, so that
/// the pool catches up whatever comes.
const STEPS_PER_PACKET: usize = 16;
