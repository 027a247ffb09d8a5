//! Subscribers: the IPv6 prefixes that pay for bindings. A subscriber stays on one external
//! address (paired pooling, RFC 4787 REQ-2) and within its limits (RFC 6888 REQ-4).

use std::net::Ipv6Addr;

use xlat_core::addr::Ipv6Prefix;

use crate::clock::{Tick, Ticks};
use crate::siphash::SipKey;
use crate::table::index::Index;
use crate::table::slab::Slab;

/// A subscriber with at least one binding or port block. Small: a flood of new sources makes one
/// for each.
#[derive(Clone, Debug)]
pub(crate) struct Subscriber {
    prefix: Ipv6Addr,
    /// Number of the pool address that it is paired with.
    pub(crate) address: u32,
    /// Bindings, by protocol.
    pub(crate) bindings: [u32; 3],
    pub(crate) sessions: u32,
    /// What only some configurations need.
    more: Option<Box<More>>,
}

const _: () = assert!(size_of::<Subscriber>() <= 48);

#[derive(Clone, Debug)]
struct More {
    /// First ports of its blocks.
    blocks: Vec<u16>,
    /// What it may create at once, as of `filled`, in billionths of a binding.
    credit: u64,
    filled: Tick,
}

impl More {
    const NEW: Self = Self {
        blocks: Vec::new(),
        credit: u64::MAX,
        filled: Tick::from_raw(0),
    };
}

impl Subscriber {
    fn new(prefix: Ipv6Addr) -> Self {
        Self {
            prefix,
            address: NO_ADDRESS,
            bindings: [0; 3],
            sessions: 0,
            more: None,
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.bindings == [0; 3] && self.blocks().is_empty()
    }

    /// First ports of its blocks.
    pub(crate) fn blocks(&self) -> &[u16] {
        self.more.as_ref().map_or(&[], |more| &more.blocks)
    }

    /// The same, to be changed.
    pub(crate) fn blocks_mut(&mut self) -> &mut Vec<u16> {
        &mut self.more().blocks
    }

    /// Takes leave to create one binding, of which there are `per_second`; two seconds' worth can
    /// be saved up.
    pub(crate) fn may_create(&mut self, per_second: u32, now: Tick) -> bool {
        let more = self.more();
        let full = BINDING * 2 * u64::from(per_second.max(1));
        let passed = u128::from(now.raw().saturating_sub(more.filled.raw()));
        let earned = passed * Ticks::NANOS * u128::from(per_second);
        let credit = u128::from(more.credit).saturating_add(earned);
        more.filled = now;
        more.credit = u64::try_from(credit).unwrap_or(u64::MAX).min(full);
        let may = more.credit >= BINDING;
        if may {
            more.credit -= BINDING;
        }
        may
    }

    fn more(&mut self) -> &mut More {
        self.more.get_or_insert_with(|| Box::new(More::NEW))
    }
}

/// One binding's worth of credit.
const BINDING: u64 = 1_000_000_000;

/// No address yet.
pub(crate) const NO_ADDRESS: u32 = u32::MAX;

/// All subscribers of a shard.
#[derive(Debug)]
pub(crate) struct Subscribers {
    slab: Slab<Subscriber>,
    by_prefix: Index,
    key: SipKey,
    prefix_len: u8,
}

impl Subscribers {
    pub(crate) fn new(limit: u32, prefix_len: u8, key: SipKey) -> Self {
        Self {
            slab: Slab::new(limit, Subscriber::new(Ipv6Addr::UNSPECIFIED)),
            by_prefix: Index::new(limit),
            key,
            prefix_len,
        }
    }

    pub(crate) fn len(&self) -> u32 {
        self.slab.len()
    }

    pub(crate) fn prefix_of(&self, client: Ipv6Addr) -> Ipv6Prefix {
        Ipv6Prefix::containing(client, self.prefix_len)
    }

    pub(crate) fn prefix(&self, handle: u32) -> Ipv6Prefix {
        self.prefix_of(self.slab[handle].prefix)
    }

    pub(crate) fn subscriber(&self, handle: u32) -> &Subscriber {
        &self.slab[handle]
    }

    pub(crate) fn subscriber_mut(&mut self, handle: u32) -> &mut Subscriber {
        &mut self.slab[handle]
    }

    /// Begins to fetch what the look-up of a client's subscriber will read.
    pub(crate) fn prefetch(&self, client: Ipv6Addr) {
        let prefix = self.prefix_of(client).address();
        self.by_prefix
            .prefetch(self.key.hash_address(prefix.to_bits()));
    }

    /// The subscriber that `client` belongs to, made if need be; `None` if there is no room.
    pub(crate) fn of_client(&mut self, client: Ipv6Addr) -> Option<u32> {
        let prefix = self.prefix_of(client).address();
        let hash = self.key.hash_address(prefix.to_bits());
        let known = self.find(hash, prefix);
        if known.is_some() {
            return known;
        }
        let handle = self.slab.insert(Subscriber::new(prefix))?;
        self.by_prefix.insert(hash, handle);
        Some(handle)
    }

    /// True if the subscriber that `client` belongs to has anything.
    pub(crate) fn knows(&self, client: Ipv6Addr) -> bool {
        let prefix = self.prefix_of(client).address();
        let hash = self.key.hash_address(prefix.to_bits());
        self.find(hash, prefix).is_some()
    }

    fn find(&self, hash: u64, prefix: Ipv6Addr) -> Option<u32> {
        self.by_prefix
            .find(hash, |handle| self.slab[handle].prefix == prefix)
    }

    /// At most `limit` subscribers with handles from `start` on, and the handle to go on with.
    pub(crate) fn list(
        &self,
        start: u32,
        limit: u32,
    ) -> (Vec<(Ipv6Prefix, &Subscriber)>, Option<u32>) {
        let end = self.slab.end();
        let stop = start.saturating_add(limit).min(end);
        let listed = (start.max(1)..stop)
            .map(|handle| (self.prefix(handle), &self.slab[handle]))
            .filter(|(_, subscriber)| !subscriber.is_idle())
            .collect();
        (listed, (stop < end).then_some(stop))
    }

    /// A number that is always the same for the same subscriber.
    pub(crate) fn hash(&self, handle: u32) -> u64 {
        self.key.hash_address(self.slab[handle].prefix.to_bits())
    }

    /// Forgets a subscriber that has nothing left.
    pub(crate) fn remove_if_idle(&mut self, handle: u32) {
        if !self.slab[handle].is_idle() {
            return;
        }
        let hash = self.hash(handle);
        self.by_prefix.remove(hash, handle);
        self.slab[handle].more = None;
        self.slab.remove(handle);
    }
}

#[cfg(test)]
mod tests {
    use xlat_core::Instant;

    use super::*;

    #[test]
    fn np_02_addresses_of_one_prefix_are_one_subscriber() {
        let mut subscribers = Subscribers::new(10, 64, SipKey::new([1, 2]));
        let one = subscribers.of_client("2001:db8::1".parse().unwrap());
        let same = subscribers.of_client("2001:db8::ffff:2".parse().unwrap());
        let other = subscribers.of_client("2001:db8:0:1::1".parse().unwrap());
        assert_eq!((one, same, other), (Some(1), Some(1), Some(2)));
        assert_eq!(subscribers.prefix(1).to_string(), "2001:db8::/64");
        subscribers.subscriber_mut(2).sessions = 1;
        subscribers.subscriber_mut(2).bindings[0] = 1;
        let (listed, next) = subscribers.list(0, 10);
        assert_eq!((listed.len(), next), (1, None));
        assert_eq!(subscribers.list(0, 2).1, Some(2));
        subscribers.remove_if_idle(1);
        assert_eq!(subscribers.len(), 1);
        let again = subscribers.of_client("2001:db8:0:1::2".parse().unwrap());
        assert_eq!(again, Some(2));
    }

    #[test]
    fn cg_02_new_bindings_are_limited_in_rate() {
        let mut subscriber = Subscriber::new(Ipv6Addr::UNSPECIFIED);
        let burst = (0..100)
            .filter(|_| subscriber.may_create(5, at(10)))
            .count();
        assert_eq!(burst, 10);
        let later: usize = (11..31)
            .map(|second| {
                (0..100)
                    .filter(|_| subscriber.may_create(5, at(second)))
                    .count()
            })
            .sum();
        assert!((95..=100).contains(&later), "{later}");
        assert_eq!(
            (0..100)
                .filter(|_| subscriber.may_create(5, at(1000)))
                .count(),
            10
        );
    }

    fn at(secs: u64) -> Tick {
        Tick::at(Instant::from_secs(secs))
    }
}
