//! How many ports, or blocks of ports, the subscribers of a network have together. One host can have
//! all addresses of its network, or forge them, and would leave nothing to others.

use std::net::Ipv6Addr;

use xlat_core::addr::Ipv6Prefix;

use crate::siphash::SipKey;
use crate::table::index::Index;
use crate::table::slab::Slab;

/// All networks of a shard that have something.
#[derive(Debug)]
pub(crate) struct Networks {
    slab: Slab<Network>,
    by_prefix: Index,
    key: SipKey,
    prefix_len: u8,
}

#[derive(Clone, Debug)]
struct Network {
    prefix: Ipv6Addr,
    /// What it has, by kind.
    used: [u32; 3],
}

impl Networks {
    pub(crate) fn new(limit: u32, prefix_len: u8, key: SipKey) -> Self {
        let unused = Network::new(Ipv6Addr::UNSPECIFIED);
        Self {
            slab: Slab::new(limit, unused),
            by_prefix: Index::new(limit),
            key,
            prefix_len,
        }
    }

    pub(crate) fn prefix_of(&self, client: Ipv6Addr) -> Ipv6Prefix {
        Ipv6Prefix::containing(client, self.prefix_len)
    }

    /// How many of this kind the network of `client` has.
    pub(crate) fn used(&self, client: Ipv6Addr, kind: usize) -> u32 {
        let (prefix, hash) = self.place(client);
        self.find(prefix, hash)
            .map_or(0, |handle| self.slab[handle].used[kind])
    }

    /// The network of `client` has one more.
    pub(crate) fn add(&mut self, client: Ipv6Addr, kind: usize) {
        let (prefix, hash) = self.place(client);
        let handle = self.find(prefix, hash).or_else(|| {
            let handle = self.slab.insert(Network::new(prefix))?;
            self.by_prefix.insert(hash, handle);
            Some(handle)
        });
        if let Some(handle) = handle {
            self.slab[handle].used[kind] += 1;
        }
    }

    /// The network of `client` has one less. It is forgotten with the last one.
    pub(crate) fn remove(&mut self, client: Ipv6Addr, kind: usize) {
        let (prefix, hash) = self.place(client);
        let Some(handle) = self.find(prefix, hash) else {
            return;
        };
        let used = &mut self.slab[handle].used;
        used[kind] = used[kind].saturating_sub(1);
        if *used == [0; 3] {
            self.by_prefix.remove(hash, handle);
            self.slab.remove(handle);
        }
    }

    fn place(&self, client: Ipv6Addr) -> (Ipv6Addr, u64) {
        let prefix = self.prefix_of(client).address();
        (prefix, self.key.hash_address(prefix.to_bits()))
    }

    fn find(&self, prefix: Ipv6Addr, hash: u64) -> Option<u32> {
        self.by_prefix
            .find(hash, |handle| self.slab[handle].prefix == prefix)
    }
}

impl Network {
    fn new(prefix: Ipv6Addr) -> Self {
        Self {
            prefix,
            used: [0; 3],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cg_14_a_network_has_what_its_addresses_have() {
        let mut networks = Networks::new(2, 64, SipKey::new([1, 2]));
        let [one, same, other] = ["2001:db8::1", "2001:db8::ffff:2", "2001:db8:0:1::1"]
            .map(|address| address.parse().unwrap());
        networks.add(one, 0);
        networks.add(same, 0);
        networks.add(same, 1);
        networks.add(other, 2);
        assert_eq!((networks.used(one, 0), networks.used(one, 1)), (2, 1));
        assert_eq!((networks.used(other, 0), networks.used(other, 2)), (0, 1));
        networks.remove(one, 0);
        networks.remove(one, 0);
        networks.remove(one, 1);
        assert_eq!((networks.used(same, 0), networks.slab.len()), (0, 1));
        networks.remove(other, 2);
        networks.remove(other, 2);
        assert_eq!(networks.slab.len(), 0);
    }
}
