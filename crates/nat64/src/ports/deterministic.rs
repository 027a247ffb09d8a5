//! Port blocks that are computed from a subscriber's number (RFC 7422): the configuration tells
//! which subscriber had a port, and no log is needed.
//!
//! Subscribers are numbered through the client prefixes in their order, blocks through the
//! addresses of the pool in theirs. Subscriber and block of the same number belong together for
//! ever, or until the configuration changes.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use xlat_core::addr::Ipv6Prefix;

use crate::config::Config;
use crate::ports::pool_spec::{addresses, ranges};

/// Who has which block.
#[derive(Debug)]
pub(crate) struct Deterministic {
    clients: Vec<Numbered<Ipv6Prefix>>,
    subscriber_prefix: u8,
    addresses: Vec<Numbered<Blocks>>,
    size: u32,
}

/// A part of what is numbered, with the number of its first one.
#[derive(Debug)]
struct Numbered<T> {
    first: u64,
    part: T,
}

/// The blocks of an address.
#[derive(Debug)]
struct Blocks {
    address: Ipv4Addr,
    /// Their first ports, in order. Most addresses have the same.
    ports: Arc<[u16]>,
}

/// A subscriber's block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) address: Ipv4Addr,
    pub(crate) first_port: u16,
}

impl Deterministic {
    /// The numbering of this configuration; `None` if it is not deterministic.
    pub(crate) fn new(config: &Config) -> Option<Self> {
        let size = config.ports.blocks?.size;
        if !config.ports.deterministic {
            return None;
        }
        let mut count = 0;
        let clients = config.clients.iter().map(|prefix| {
            let first = count;
            count += subscribers(prefix, config.limits.subscriber_prefix);
            Numbered {
                first,
                part: *prefix,
            }
        });
        Some(Self {
            clients: clients.collect(),
            subscriber_prefix: config.limits.subscriber_prefix,
            addresses: numbered_addresses(config, size),
            size,
        })
    }

    /// The block of a client's subscriber; `None` for others than the configured clients.
    pub(crate) fn block_of(&self, client: Ipv6Addr) -> Option<Block> {
        let mut clients = self.clients.iter();
        let Numbered { first, part } = clients.find(|one| one.part.contains(client))?;
        let distance = client.to_bits() - part.address().to_bits();
        let number = first + shifted(distance, self.subscriber_prefix);
        let place = self.addresses.partition_point(|one| one.first <= number);
        let Numbered { first, part } = self.addresses.get(place.checked_sub(1)?)?;
        Some(Block {
            address: part.address,
            first_port: *part.ports.get((number - first) as usize)?,
        })
    }

    /// The subscriber of a port; `None` if it has none.
    pub(crate) fn subscriber_of(&self, address: Ipv4Addr, port: u16) -> Option<Ipv6Prefix> {
        let place = self
            .addresses
            .binary_search_by_key(&address, |one| one.part.address);
        let Numbered { first, part } = &self.addresses[place.ok()?];
        let first_port = port & !((self.size - 1) as u16);
        let block = part.ports.binary_search(&first_port).ok()? as u64;
        let number = first + block;
        let place = self.clients.partition_point(|one| one.first <= number);
        let Numbered { first, part } = &self.clients[place.checked_sub(1)?];
        let number = number - first;
        if number >= subscribers(part, self.subscriber_prefix) {
            return None;
        }
        let distance = u128::from(number)
            .checked_shl(128 - u32::from(self.subscriber_prefix))
            .unwrap_or(0);
        let subscriber = Ipv6Addr::from_bits(part.address().to_bits() + distance);
        Some(Ipv6Prefix::containing(subscriber, self.subscriber_prefix))
    }
}

/// How many subscribers and how many blocks of this size a configuration has.
pub(crate) fn counts(config: &Config, size: u32) -> (u64, u64) {
    let clients = config.clients.iter();
    let subscribers = clients.fold(0_u64, |sum, prefix| {
        sum.saturating_add(subscribers(prefix, config.limits.subscriber_prefix))
    });
    let addresses = numbered_addresses(config, size);
    let blocks = addresses
        .last()
        .map_or(0, |last| last.first + last.part.ports.len() as u64);
    (subscribers, blocks)
}

/// How many subscribers a prefix has.
fn subscribers(prefix: &Ipv6Prefix, subscriber_prefix: u8) -> u64 {
    let bits = u32::from(subscriber_prefix.saturating_sub(prefix.len()));
    1_u64.checked_shl(bits).unwrap_or(u64::MAX)
}

fn shifted(distance: u128, subscriber_prefix: u8) -> u64 {
    let shifted = distance.checked_shr(128 - u32::from(subscriber_prefix));
    shifted.unwrap_or(0) as u64
}

fn numbered_addresses(config: &Config, size: u32) -> Vec<Numbered<Blocks>> {
    let mut count = 0;
    let mut before: Option<Arc<[u16]>> = None;
    let mut numbered = Vec::new();
    for address in addresses(&config.pool) {
        let ports = blocks(config, address, size);
        let ports = match before.take() {
            Some(same) if *same == *ports => same,
            _ => Arc::from(ports),
        };
        before = Some(Arc::clone(&ports));
        let first = count;
        count += ports.len() as u64;
        numbered.push(Numbered {
            first,
            part: Blocks { address, ports },
        });
    }
    numbered
}

/// The first ports of an address's blocks: those above the system ports that the pool has whole.
fn blocks(config: &Config, address: Ipv4Addr, size: u32) -> Vec<u16> {
    let ranges = ranges(&config.pool, address);
    let first_ports = (0..=u32::from(u16::MAX)).step_by(size as usize);
    let is_whole = |first: &u32| {
        let last = (first + size - 1) as u16;
        let mut ranges = ranges.iter();
        *first >= 1024
            && ranges.any(|range| range.contains(&(*first as u16)) && range.contains(&last))
    };
    first_ports
        .filter(is_whole)
        .map(|first| first as u16)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::PortBlocks;

    fn config(pool: &[&str], clients: &[&str], size: u32) -> Config {
        let mut config = Config::new(pool.iter().map(|spec| spec.parse().unwrap()).collect());
        config.clients = clients.iter().map(|one| one.parse().unwrap()).collect();
        config.limits.subscriber_prefix = 64;
        config.ports.deterministic = true;
        config.ports.blocks = Some(PortBlocks {
            size,
            per_subscriber: 1,
        });
        config
    }

    #[test]
    fn cg_11_every_subscriber_has_a_block_of_its_own_and_it_leads_back() {
        for (pool, clients, size) in [
            (&["192.0.2.0/29"][..], &["2001:db8:100::/56"][..], 1024),
            (
                &["192.0.2.1:2000-9999", "198.51.100.0/30"],
                &["2001:db8:1::/60", "2001:db8:200::/57"],
                512,
            ),
        ] {
            let config = config(pool, clients, size);
            let numbering = Deterministic::new(&config).unwrap();
            let (subscribers, blocks) = counts(&config, size);
            assert!(subscribers <= blocks, "{subscribers} {blocks}");
            let mut seen = std::collections::BTreeSet::new();
            for prefix in &config.clients {
                for number in 0..1_u128 << (64 - prefix.len()) {
                    let bits = prefix.address().to_bits() + (number << 64) + 7;
                    let client = Ipv6Addr::from_bits(bits);
                    let block = numbering.block_of(client).unwrap();
                    assert!(seen.insert((block.address, block.first_port)), "{client}");
                    for port in [block.first_port, block.first_port + (size - 1) as u16] {
                        let found = numbering.subscriber_of(block.address, port).unwrap();
                        assert!(found.contains(client) && found.len() == 64);
                    }
                }
            }
            assert_eq!(seen.len() as u64, subscribers);
        }
    }

    #[test]
    fn cg_11_what_belongs_to_nobody_has_nobody() {
        let config = config(&["192.0.2.0/29"], &["2001:db8:100::/60"], 1024);
        let numbering = Deterministic::new(&config).unwrap();
        let first = Block {
            address: Ipv4Addr::new(192, 0, 2, 0),
            first_port: 1024,
        };
        let block = numbering.block_of("2001:db8:100::5".parse().unwrap());
        assert_eq!(block, Some(first));
        assert_eq!(numbering.block_of("2001:db8:200::5".parse().unwrap()), None);
        let of = |address: &str, port| numbering.subscriber_of(address.parse().unwrap(), port);
        assert_eq!(of("192.0.2.0", 1023), None);
        assert!(of("192.0.2.0", 16 * 1024 + 1023).is_some());
        assert_eq!(of("192.0.2.0", 17 * 1024), None);
        assert_eq!(of("192.0.2.1", 1024), None);
        assert_eq!(of("198.51.100.1", 1024), None);
    }
}
