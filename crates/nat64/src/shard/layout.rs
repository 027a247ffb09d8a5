//! How the state is cut into shards, and how a packet of each direction finds the one that knows
//! its session.
//!
//! The cut is by subscriber. From IPv6 a packet's shard is a keyed hash of the subscriber's
//! prefix. From IPv4 it is the owner of the pool address or, where the pool has fewer addresses
//! than there are shards, of the slice of the address that the port lies in: a shard hands out
//! nothing but its own addresses and slices, so an answer to a session can only come to the shard
//! that made it. Both ways take no lock and no table that changes.
//!
//! A binding that the administrator made has an external address that belongs to one shard and a
//! client that belongs to another. It lives where its client lives, and a small table that is
//! fixed at the start sends packets from IPv4 there.

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::sync::Arc;

use xlat_core::addr::Ipv6Prefix;

use crate::config::Config;
use crate::ports::deterministic::Deterministic;
use crate::ports::pool::Usable;
use crate::ports::pool_spec::{Stretch, ranges, stretches};
use crate::siphash::SipKey;
use crate::tuple::{Outside, Protocol};

/// Which shard has which client and which external address.
#[derive(Debug)]
pub(crate) struct Layout {
    /// In order.
    stretches: Vec<Stretch>,
    shards: u32,
    /// Ports whose numbers differ below this bit are in one slice; `None` if addresses are not cut.
    slice_shift: Option<u32>,
    subscriber_prefix: u8,
    deterministic: Option<Arc<Deterministic>>,
    key: SipKey,
    forwards: HashMap<Outside, u32, SipKey>,
    /// Addresses of static bindings, in order.
    forward_addresses: Vec<u32>,
}

impl Layout {
    pub(crate) fn new(
        config: &Config,
        deterministic: Option<Arc<Deterministic>>,
        key: SipKey,
    ) -> Self {
        let stretches = stretches(&config.pool);
        let addresses = stretches
            .last()
            .map_or(0, |last| last.before + (last.last - last.first) + 1);
        let slice = config.ports.blocks.map_or(SLICE, |blocks| blocks.size);
        let is_cut = addresses < config.shards;
        let mut layout = Self {
            stretches,
            shards: config.shards,
            slice_shift: is_cut.then(|| slice.trailing_zeros()),
            subscriber_prefix: config.limits.subscriber_prefix,
            deterministic,
            key,
            forwards: HashMap::with_hasher(key),
            forward_addresses: Vec::new(),
        };
        for binding in &config.bindings {
            let outside = Outside {
                protocol: binding.protocol,
                external: binding.external.to_bits(),
                port: binding.external_port,
            };
            let shard = layout.shard_of_client(binding.client);
            layout.forwards.insert(outside, shard);
            layout.forward_addresses.push(outside.external);
        }
        layout.forward_addresses.sort_unstable();
        layout.forward_addresses.dedup();
        layout
    }

    /// The shard of a client's subscriber.
    #[inline]
    pub(crate) fn shard_of_client(&self, client: Ipv6Addr) -> u32 {
        if self.shards == 1 {
            return 0;
        }
        if let Some(shard) = self.shard_of_block(client) {
            return shard;
        }
        let prefix = Ipv6Prefix::containing(client, self.subscriber_prefix).address();
        // The top bits: the tables of a shard use the low ones.
        let hash = self.key.hash_address(prefix.to_bits()) >> 32;
        ((hash * u64::from(self.shards)) >> 32) as u32
    }

    /// The shard of the block that follows from a client's prefix.
    #[inline]
    fn shard_of_block(&self, client: Ipv6Addr) -> Option<u32> {
        let block = self.deterministic.as_ref()?.block_of(client)?;
        let index = self.index(block.address.to_bits())?;
        Some(self.owner(index, block.first_port))
    }

    /// Which blocks follow from prefixes, where they do.
    pub(crate) fn deterministic(&self) -> Option<&Arc<Deterministic>> {
        self.deterministic.as_ref()
    }

    /// The shard of an external transport address; `None` if it is not ours.
    #[inline]
    pub(crate) fn shard_of_external(&self, outside: Outside) -> Option<u32> {
        if !self.forwards.is_empty()
            && let Some(&shard) = self.forwards.get(&outside)
        {
            return Some(shard);
        }
        let index = self.index(outside.external)?;
        Some(self.owner(index, outside.port))
    }

    /// The shard that hands this port out; `None` if none does.
    pub(crate) fn owner_of(&self, outside: Outside, config: &Config) -> Option<u32> {
        let index = self.index(outside.external)?;
        let is_port = outside.protocol == Protocol::Icmp || outside.port != 0;
        let ranges = ranges(&config.pool, Ipv4Addr::from_bits(outside.external));
        let mut ranges = ranges.into_iter();
        let is_usable = is_port && ranges.any(|range| range.contains(&outside.port));
        is_usable.then(|| self.owner(index, outside.port))
    }

    /// True if packets to `address` belong to the translator.
    #[inline]
    pub(crate) fn is_ours(&self, address: u32) -> bool {
        self.index(address).is_some() || self.forward_addresses.binary_search(&address).is_ok()
    }

    /// What `shard` hands out.
    pub(crate) fn usable(&self, shard: u32, config: &Config) -> Vec<Usable> {
        let all = self
            .stretches
            .iter()
            .flat_map(|stretch| stretch.first..=stretch.last);
        (0..)
            .zip(all)
            .filter(|(index, _)| self.slice_shift.is_some() || index % self.shards == shard)
            .map(|(index, address)| self.usable_of(shard, index, address, config))
            .collect()
    }

    fn usable_of(&self, shard: u32, index: u32, address: u32, config: &Config) -> Usable {
        let address = Ipv4Addr::from_bits(address);
        let mut ports = Vec::new();
        for range in ranges(&config.pool, address) {
            self.cut(shard, index, range, &mut ports);
        }
        let taken = config
            .bindings
            .iter()
            .filter(|binding| binding.external == address)
            .map(|binding| (binding.protocol, binding.external_port))
            .collect();
        Usable {
            address,
            ports,
            taken,
        }
    }

    /// The parts of a range of ports that belong to `shard`.
    fn cut(
        &self,
        shard: u32,
        index: u32,
        range: RangeInclusive<u16>,
        into: &mut Vec<RangeInclusive<u16>>,
    ) {
        let Some(shift) = self.slice_shift else {
            into.push(range);
            return;
        };
        for slice in range.start() >> shift..=range.end() >> shift {
            let first = slice << shift;
            if self.owner(index, first) == shard {
                let last = first + ((1_u32 << shift) - 1) as u16;
                into.push(first.max(*range.start())..=last.min(*range.end()));
            }
        }
    }

    #[inline]
    fn owner(&self, index: u32, port: u16) -> u32 {
        match self.slice_shift {
            None => index % self.shards,
            Some(shift) => (index + (u32::from(port) >> shift)) % self.shards,
        }
    }

    /// An address's number in the pool.
    #[inline]
    fn index(&self, address: u32) -> Option<u32> {
        let place = self
            .stretches
            .partition_point(|stretch| stretch.last < address);
        let stretch = self.stretches.get(place)?;
        let offset = address.checked_sub(stretch.first)?;
        Some(stretch.before + offset)
    }
}

/// Ports in a slice.
const SLICE: u32 = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{PortBlocks, StaticBinding};
    use crate::tuple::Protocol;

    #[test]
    fn every_transport_address_of_the_pool_has_exactly_one_shard() {
        for (pool, shards, blocks) in [
            (&["192.0.2.0/30"][..], 1, None),
            (&["192.0.2.0/30"], 3, None),
            (&["192.0.2.0/31"], 4, None),
            (&["192.0.2.1"], 4, Some(512)),
        ] {
            let mut config = config(pool);
            config.shards = shards;
            config.ports.blocks = blocks.map(|size| PortBlocks {
                size,
                per_subscriber: 1,
            });
            let layout = Layout::new(&config, None, SipKey::new([1, 2]));
            let usable: Vec<_> = (0..shards)
                .map(|shard| layout.usable(shard, &config))
                .collect();
            for address in 0..4 {
                for port in (0..=65_535).step_by(13) {
                    let outside = outside(&format!("192.0.2.{address}"), port);
                    let shard = layout.shard_of_external(outside);
                    for candidate in 0..shards {
                        let hands_out = usable[candidate as usize].iter().any(|usable| {
                            usable.address.to_bits() == outside.external
                                && usable.ports.iter().any(|ports| ports.contains(&port))
                        });
                        assert_eq!(hands_out, shard == Some(candidate));
                    }
                }
            }
        }
    }

    #[test]
    fn a_block_never_lies_in_two_shards() {
        let mut config = config(&["192.0.2.1"]);
        config.shards = 4;
        config.ports.blocks = Some(PortBlocks {
            size: 512,
            per_subscriber: 1,
        });
        let layout = Layout::new(&config, None, SipKey::new([1, 2]));
        for block in 0..128_u16 {
            let shard = |port| layout.shard_of_external(outside("192.0.2.1", port));
            assert_eq!(shard(block * 512), shard(block * 512 + 511), "{block}");
        }
    }

    #[test]
    fn overlapping_and_touching_specs_are_one_stretch() {
        let config = config(&[
            "192.0.2.8/29",
            "192.0.2.0-192.0.2.7",
            "192.0.2.4/30:1-5",
            "10.0.0.1",
        ]);
        let layout = Layout::new(&config, None, SipKey::new([1, 2]));
        assert_eq!(layout.stretches.len(), 2);
        assert_eq!(
            ranges(&config.pool, Ipv4Addr::new(192, 0, 2, 5)),
            [0..=u16::MAX]
        );
        assert_eq!(layout.usable(0, &config).len(), 17);
        for (address, ours) in [
            ("10.0.0.0", false),
            ("10.0.0.1", true),
            ("10.0.0.2", false),
            ("192.0.1.255", false),
            ("192.0.2.0", true),
            ("192.0.2.15", true),
            ("192.0.2.16", false),
        ] {
            let address = address.parse::<Ipv4Addr>().unwrap();
            assert_eq!(layout.is_ours(address.to_bits()), ours, "{address}");
        }
    }

    #[test]
    fn subscribers_spread_over_all_shards_and_a_static_binding_follows_its_client() {
        let mut config = config(&["192.0.2.0/28"]);
        config.shards = 4;
        config.limits.subscriber_prefix = 64;
        let client: Ipv6Addr = "2001:db8:0:7::1".parse().unwrap();
        config.bindings = vec![StaticBinding {
            protocol: Protocol::Tcp,
            external: Ipv4Addr::new(203, 0, 113, 1),
            external_port: 443,
            client,
            client_port: 8443,
        }];
        let layout = Layout::new(&config, None, SipKey::new([1, 2]));
        let mut count = [0; 4];
        for subscriber in 0..4000_u128 {
            let one = Ipv6Addr::from_bits(0x2001_0db8 << 96 | subscriber << 64 | 1);
            let other = Ipv6Addr::from_bits(0x2001_0db8 << 96 | subscriber << 64 | 99);
            assert_eq!(layout.shard_of_client(one), layout.shard_of_client(other));
            count[layout.shard_of_client(one) as usize] += 1;
        }
        assert!(
            count.iter().all(|&count| (900..1100).contains(&count)),
            "{count:?}"
        );

        let forward = Outside {
            protocol: Protocol::Tcp,
            ..outside("203.0.113.1", 443)
        };
        assert_eq!(
            layout.shard_of_external(forward),
            Some(layout.shard_of_client(client))
        );
        assert_eq!(layout.shard_of_external(outside("203.0.113.1", 443)), None);
        assert!(layout.is_ours(forward.external));
    }

    fn config(pool: &[&str]) -> Config {
        Config::new(pool.iter().map(|spec| spec.parse().unwrap()).collect())
    }

    fn outside(external: &str, port: u16) -> Outside {
        Outside {
            protocol: Protocol::Udp,
            external: external.parse::<Ipv4Addr>().unwrap().to_bits(),
            port,
        }
    }
}
