//! The pool: the external addresses of a shard, which of their ports are free, and which ports
//! are held down before another subscriber may get them.
//!
//! Ports are handed out singly, or in blocks: then a subscriber first gets a block of neighbouring
//! ports and its bindings take theirs from there, so that one log record covers many bindings
//! (RFC 6888 REQ-14, RFC 7768). A block is free again when its last port is.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use crate::clock::{Tick, Ticks};
use crate::ports::port_set::{PortPreference, PortSet};
use crate::table::bitset::BitSet;
use crate::tuple::Protocol;

/// The external addresses of one shard.
#[derive(Debug)]
pub(crate) struct Pool {
    addresses: Vec<Address>,
    /// Addresses with a free port, by protocol; with a free block, if there are blocks.
    open: [BitSet; 3],
    /// Free ports of all addresses, by protocol.
    free: [u32; 3],
    /// Free blocks of all addresses.
    free_blocks: u32,
    block_shift: Option<u32>,
    resting: VecDeque<Resting>,
    rest: Ticks,
}

/// An address, and what of it may be handed out.
#[derive(Clone, Debug)]
pub(crate) struct Usable {
    pub(crate) address: Ipv4Addr,
    /// Ports and identifiers, in ranges that neither touch nor overlap.
    pub(crate) ports: Vec<RangeInclusive<u16>>,
    /// Those among them that belong to static bindings.
    pub(crate) taken: Vec<(Protocol, u16)>,
}

#[derive(Debug)]
struct Address {
    address: Ipv4Addr,
    free: [PortSet; 3],
    blocks: Blocks,
}

/// The port blocks of an address. Empty if ports are handed out singly.
#[derive(Debug)]
struct Blocks {
    free: BitSet,
    /// Ports per block that are in use or at rest.
    used: Vec<u32>,
    /// The subscriber of the block.
    owner: Vec<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Resting {
    until: Tick,
    place: PoolPort,
}

/// A port of the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PoolPort {
    pub(crate) protocol: Protocol,
    /// Number of the address in this shard's pool.
    pub(crate) address: u32,
    pub(crate) port: u16,
}

/// A block that became free, and its last subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FreedBlock {
    pub(crate) owner: u32,
    pub(crate) address: u32,
    pub(crate) first_port: u16,
}

impl Pool {
    /// The pool of these addresses. `rest` is how long a port rests after use, `block_shift` the
    /// binary logarithm of the number of ports in a block.
    pub(crate) fn new(
        addresses: impl IntoIterator<Item = Usable>,
        rest: Ticks,
        block_shift: Option<u32>,
    ) -> Self {
        let addresses: Vec<Address> = addresses
            .into_iter()
            .map(|usable| Address::new(&usable, block_shift))
            .collect();
        let mut pool = Self {
            open: Protocol::ALL.map(|_| BitSet::new(addresses.len() as u32)),
            free: Protocol::ALL.map(|protocol| {
                let free = addresses
                    .iter()
                    .map(|address| &address.free[protocol as usize]);
                free.map(PortSet::len).sum()
            }),
            free_blocks: addresses
                .iter()
                .map(|address| address.blocks.free.len())
                .sum(),
            addresses,
            block_shift,
            resting: VecDeque::new(),
            rest,
        };
        for index in 0..pool.addresses.len() as u32 {
            for protocol in Protocol::ALL {
                pool.update_open(index, protocol);
            }
        }
        pool
    }

    pub(crate) fn len(&self) -> u32 {
        self.addresses.len() as u32
    }

    pub(crate) fn address(&self, index: u32) -> Ipv4Addr {
        self.addresses[index as usize].address
    }

    /// The number of an address in this shard's pool.
    pub(crate) fn index(&self, address: Ipv4Addr) -> Option<u32> {
        let place = self
            .addresses
            .binary_search_by_key(&address, |entry| entry.address);
        place.ok().map(|place| place as u32)
    }

    /// Ports of all addresses that are free for `protocol`.
    pub(crate) fn free_ports(&self, protocol: Protocol) -> u64 {
        u64::from(self.free[protocol as usize])
    }

    /// What is left for others: blocks where ports are handed out in blocks, otherwise ports.
    pub(crate) fn left(&self, protocol: Protocol) -> u32 {
        match self.block_shift {
            Some(_) => self.free_blocks,
            None => self.free[protocol as usize],
        }
    }

    /// An address with room for a new subscriber, the first one from `start` on.
    pub(crate) fn open_address(&self, protocol: Protocol, start: u32) -> Option<u32> {
        self.open[protocol as usize].next_around(start)
    }

    /// Takes a free port of an address, within `range`.
    pub(crate) fn take(
        &mut self,
        address: u32,
        wish: PortPreference,
        range: RangeInclusive<u16>,
        random: u64,
    ) -> Option<u16> {
        let protocol = wish.protocol;
        let entry = &mut self.addresses[address as usize];
        let port = entry.free[protocol as usize].take(wish, range, random)?;
        self.free[protocol as usize] -= 1;
        if let Some(shift) = self.block_shift {
            entry.blocks.used[usize::from(port) >> shift] += 1;
        }
        self.update_open(address, protocol);
        Some(port)
    }

    /// Takes this very port; false if it is not free. For saved bindings.
    pub(crate) fn take_exactly(&mut self, place: PoolPort) -> bool {
        let entry = &mut self.addresses[place.address as usize];
        if !entry.free[place.protocol as usize].remove(place.port) {
            return false;
        }
        self.free[place.protocol as usize] -= 1;
        if let Some(shift) = self.block_shift {
            entry.blocks.used[usize::from(place.port) >> shift] += 1;
        }
        self.update_open(place.address, place.protocol);
        true
    }

    /// Reserves a free port for a static binding; false if it is not free.
    pub(crate) fn reserve(&mut self, place: PoolPort) -> bool {
        let entry = &mut self.addresses[place.address as usize];
        let was_free = entry.free[place.protocol as usize].remove(place.port);
        self.free[place.protocol as usize] -= u32::from(was_free);
        self.update_open(place.address, place.protocol);
        was_free
    }

    /// Takes back a reservation. The port rests like any other, unless it belongs to a block, whose
    /// owner knows it.
    pub(crate) fn unreserve(&mut self, place: PoolPort, now: Tick) {
        if self.block_shift.is_none() {
            self.give_back(place, now);
            return;
        }
        let entry = &mut self.addresses[place.address as usize];
        let is_new = entry.free[place.protocol as usize].insert(place.port);
        self.free[place.protocol as usize] += u32::from(is_new);
        self.update_open(place.address, place.protocol);
    }

    /// Changes how long ports rest from now on.
    pub(crate) fn set_rest(&mut self, rest: Ticks) {
        self.rest = rest;
    }

    /// Returns a port. It is held down for a while before another subscriber can get it, unless it
    /// is a TCP port: there the state machine has seen to it that nothing is on its way any more
    /// (RFC 6888 REQ-8).
    pub(crate) fn give_back(&mut self, place: PoolPort, now: Tick) -> Option<FreedBlock> {
        if place.protocol == Protocol::Tcp || self.rest == Ticks::ZERO {
            return self.free(place);
        }
        self.resting.push_back(Resting {
            until: now.after(self.rest),
            place,
        });
        None
    }

    /// When the next port has rested enough; `None` if none is at rest.
    pub(crate) fn next_rested(&self) -> Option<Tick> {
        self.resting.front().map(|first| first.until)
    }

    /// Frees the port that has rested longest, if it has rested enough.
    pub(crate) fn wake(&mut self, now: Tick) -> Option<Option<FreedBlock>> {
        let resting = self.resting.front().filter(|first| first.until <= now)?;
        let place = resting.place;
        self.resting.pop_front();
        Some(self.free(place))
    }

    /// Takes a free block of an address for `owner`; its first port.
    pub(crate) fn take_block(&mut self, address: u32, owner: u32, random: u64) -> Option<u16> {
        let shift = self.block_shift?;
        let blocks = &mut self.addresses[address as usize].blocks;
        let count = blocks.owner.len() as u64;
        let start = (((random >> 32) * count) >> 32) as u32;
        let block = blocks.free.next_around(start)?;
        self.free_blocks -= u32::from(blocks.free.remove(block));
        blocks.owner[block as usize] = owner;
        self.update_all_open(address);
        Some((block << shift) as u16)
    }

    /// Takes the block that contains `port`, for a saved binding; false if it is in use.
    pub(crate) fn take_block_of(&mut self, address: u32, port: u16, owner: u32) -> bool {
        let Some(shift) = self.block_shift else {
            return false;
        };
        let blocks = &mut self.addresses[address as usize].blocks;
        let block = u32::from(port) >> shift;
        if !blocks.free.remove(block) {
            return false;
        }
        self.free_blocks -= 1;
        blocks.owner[block as usize] = owner;
        self.update_all_open(address);
        true
    }

    fn free(&mut self, place: PoolPort) -> Option<FreedBlock> {
        let entry = &mut self.addresses[place.address as usize];
        let is_new = entry.free[place.protocol as usize].insert(place.port);
        self.free[place.protocol as usize] += u32::from(is_new);
        let freed = self.block_shift.and_then(|shift| {
            let block = usize::from(place.port) >> shift;
            entry.blocks.used[block] -= 1;
            (entry.blocks.used[block] == 0).then(|| {
                self.free_blocks += u32::from(entry.blocks.free.insert(block as u32));
                FreedBlock {
                    owner: entry.blocks.owner[block],
                    address: place.address,
                    first_port: (block << shift) as u16,
                }
            })
        });
        match freed {
            Some(_) => self.update_all_open(place.address),
            None => self.update_open(place.address, place.protocol),
        }
        freed
    }

    fn update_all_open(&mut self, address: u32) {
        for protocol in Protocol::ALL {
            self.update_open(address, protocol);
        }
    }

    fn update_open(&mut self, address: u32, protocol: Protocol) {
        let entry = &self.addresses[address as usize];
        let has_room = match self.block_shift {
            Some(_) => entry.blocks.free.len() > 0,
            None => entry.free[protocol as usize].len() > 0,
        };
        let open = &mut self.open[protocol as usize];
        if has_room {
            open.insert(address);
        } else {
            open.remove(address);
        }
    }
}

impl Address {
    fn new(usable: &Usable, block_shift: Option<u32>) -> Self {
        let mut free = Protocol::ALL.map(|_| PortSet::new(&usable.ports));
        for protocol in [Protocol::Udp, Protocol::Tcp] {
            free[protocol as usize].remove(0);
        }
        for (protocol, port) in &usable.taken {
            free[*protocol as usize].remove(*port);
        }
        Self {
            address: usable.address,
            free,
            blocks: block_shift.map_or_else(Blocks::none, |shift| Blocks::new(usable, shift)),
        }
    }
}

impl Blocks {
    fn none() -> Self {
        Self {
            free: BitSet::new(0),
            used: Vec::new(),
            owner: Vec::new(),
        }
    }

    /// Blocks of `1 << shift` ports. One counts if all its ports are usable, but for what the
    /// administrator has taken of it, and it lies above the system ports.
    fn new(usable: &Usable, shift: u32) -> Self {
        let count = 65_536_u32 >> shift;
        let mut free = BitSet::new(count);
        for block in (0..count).filter(|block| block << shift >= 1024) {
            let first = (block << shift) as u16;
            let last = first + ((1_u32 << shift) - 1) as u16;
            let is_inside =
                |range: &RangeInclusive<u16>| range.contains(&first) && range.contains(&last);
            if usable.ports.iter().any(is_inside) {
                free.insert(block);
            }
        }
        Self {
            free,
            used: vec![0; count as usize],
            owner: vec![0; count as usize],
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use xlat_core::Instant;

    use super::*;

    #[test]
    fn np_09_a_udp_port_rests_before_it_is_free_again_and_a_tcp_port_does_not() {
        let mut pool = pool(1000..=1000, 1, None);
        for (protocol, rests) in [(Protocol::Udp, true), (Protocol::Tcp, false)] {
            let place = PoolPort {
                protocol,
                address: 0,
                port: 1000,
            };
            assert_eq!(pool.take(0, wish(protocol), ALL, 7), Some(1000));
            assert_eq!(pool.open_address(protocol, 0), None);
            assert_eq!(pool.give_back(place, tick(0)), None);
            assert_eq!(pool.open_address(protocol, 0).is_none(), rests);
        }
        assert_eq!(pool.wake(tick(120)), None);
        assert_eq!(pool.wake(tick(121)), Some(None));
        assert_eq!(pool.wake(tick(121)), None);
        assert_eq!(pool.open_address(Protocol::Udp, 0), Some(0));
    }

    #[test]
    fn np_07_port_0_is_never_handed_out_but_identifier_0_is() {
        let mut pool = pool(0..=0, 1, None);
        assert_eq!(pool.take(0, wish(Protocol::Udp), ALL, 7), None);
        assert_eq!(pool.take(0, wish(Protocol::Tcp), ALL, 7), None);
        assert_eq!(pool.take(0, wish(Protocol::Icmp), ALL, 7), Some(0));
    }

    #[test]
    fn cg_10_a_block_is_whole_has_one_owner_and_is_free_after_its_last_port() {
        let mut pool = pool(1000..=1300, 1, Some(7));
        // 1024..=1151 and 1152..=1279 are the whole blocks of 128 in there.
        let first = pool.take_block(0, 11, 0).unwrap();
        let second = pool.take_block(0, 12, 0).unwrap();
        assert_eq!((first.min(second), first.max(second)), (1024, 1152));
        assert_eq!(pool.take_block(0, 13, 0), None);
        assert_eq!(pool.open_address(Protocol::Udp, 0), None);

        let range = first..=first + 127;
        let one = pool.take(0, wish(Protocol::Tcp), range.clone(), 3).unwrap();
        let two = pool.take(0, wish(Protocol::Udp), range, 3).unwrap();
        let place = |protocol, port| PoolPort {
            protocol,
            address: 0,
            port,
        };
        assert_eq!(pool.give_back(place(Protocol::Tcp, one), tick(0)), None);
        assert_eq!(pool.give_back(place(Protocol::Udp, two), tick(0)), None);
        let freed = FreedBlock {
            owner: 11,
            address: 0,
            first_port: first,
        };
        assert_eq!(pool.wake(tick(121)), Some(Some(freed)));
        assert_eq!(pool.open_address(Protocol::Icmp, 0), Some(0));
    }

    #[test]
    fn an_address_without_room_is_passed_over() {
        let mut pool = pool(1000..=1001, 3, None);
        assert_eq!(pool.open_address(Protocol::Tcp, 1), Some(1));
        for _ in 0..2 {
            pool.take(1, wish(Protocol::Tcp), ALL, 0).unwrap();
        }
        assert_eq!(pool.open_address(Protocol::Tcp, 1), Some(2));
        assert_eq!(pool.open_address(Protocol::Udp, 1), Some(1));
        assert_eq!(pool.free_ports(Protocol::Tcp), 4);
        let place = PoolPort {
            protocol: Protocol::Tcp,
            address: 2,
            port: 1001,
        };
        assert!(pool.take_exactly(place) && !pool.take_exactly(place));
    }

    #[test]
    fn a_port_that_is_taken_for_ever_is_not_handed_out_not_even_with_its_block() {
        let usable = Usable {
            address: Ipv4Addr::new(192, 0, 2, 1),
            ports: vec![1024..=1027, 2048..=2175],
            taken: vec![(Protocol::Tcp, 1025), (Protocol::Tcp, 2100)],
        };
        let mut pool = Pool::new([usable.clone()], Ticks::ZERO, None);
        assert_eq!(pool.free_ports(Protocol::Udp), 132);
        assert_eq!(pool.free_ports(Protocol::Tcp), 130);
        assert!(!pool.take_exactly(PoolPort {
            protocol: Protocol::Tcp,
            address: 0,
            port: 1025
        }));
        let mut blocks = Pool::new([usable], Ticks::ZERO, Some(7));
        assert_eq!(blocks.take_block(0, 1, 0), Some(2048));
        let mut taken = Vec::new();
        while let Some(port) = blocks.take(0, wish(Protocol::Tcp), 2048..=2175, 7) {
            taken.push(port);
        }
        assert_eq!(taken.len(), 127);
        assert!(!taken.contains(&2100));
    }

    fn pool(ports: RangeInclusive<u16>, addresses: u8, block_shift: Option<u32>) -> Pool {
        let addresses = (0..addresses).map(|last| Usable {
            address: Ipv4Addr::new(192, 0, 2, last),
            ports: vec![ports.clone()],
            taken: Vec::new(),
        });
        let rest = Ticks::covering(Duration::from_secs(120));
        Pool::new(addresses, rest, block_shift)
    }

    fn wish(protocol: Protocol) -> PortPreference {
        PortPreference {
            protocol,
            port: 5000,
            parity: true,
        }
    }

    fn tick(secs: u64) -> Tick {
        Tick::at(Instant::from_secs(secs))
    }

    const ALL: RangeInclusive<u16> = 0..=u16::MAX;
}
