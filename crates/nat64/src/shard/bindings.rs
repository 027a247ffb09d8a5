//! The life of a binding: the subscriber it is charged to, the port it gets, and what happens to
//! the port afterwards.

use std::net::Ipv6Addr;
use std::time::Duration;

use xlat_core::addr::Ipv6Prefix;
use xlat_core::mapper::Refusal;
use xlat_core::{DropReason, Instant};

use super::{Shard, client_side, draining, exhausted, full, limited};
use crate::clock::{Tick, Ticks};
use crate::config::Limits;
use crate::event::{BindingRecord, BlockRecord, Change, EventKind, Quota};
use crate::feed::Kind;
use crate::ports::deterministic::Block;
use crate::ports::pool::{FreedBlock, PoolPort};
use crate::ports::port_set::PortPreference;
use crate::table::bib::{Binding, BindingState};
use crate::table::subscribers::NO_ADDRESS;
use crate::tuple::{ClientTuple, ExternalTuple, Outside, Protocol};

impl Shard {
    /// The client's binding, made if need be (RFC 6146 section 3.5.1.1).
    pub(super) fn binding_for(
        &mut self,
        tuple: ClientTuple,
        pref64: u8,
        now: Instant,
    ) -> Result<u32, Refusal> {
        if let Some(binding) = self.bib.of_inside(client_side(&tuple)) {
            if self.open_binding(Some(binding)).is_none() {
                return Err(Refusal::Silent(DropReason::NoBinding));
            }
            self.bib.binding_mut(binding).pref64 = pref64;
            return Ok(binding);
        }
        if self.drains && !self.subscribers.knows(tuple.client) {
            return Err(draining());
        }
        if self.bib.is_full() || self.sessions.is_full() {
            return Err(full());
        }
        let subscriber = self.subscribers.of_client(tuple.client).ok_or_else(full)?;
        let made = self.bind(subscriber, &tuple, pref64, now);
        if made.is_err() {
            self.subscribers.remove_if_idle(subscriber);
        }
        made
    }

    /// Makes a binding that `subscriber` pays for.
    fn bind(
        &mut self,
        subscriber: u32,
        tuple: &ClientTuple,
        pref64: u8,
        now: Instant,
    ) -> Result<u32, Refusal> {
        self.check_quota(subscriber, tuple, now)?;
        let (address, port) = self
            .allocate(subscriber, tuple, now)
            .inspect_err(|refusal| {
                self.note_refusal(*refusal, tuple.client, tuple.protocol, now);
            })?;
        let outside = Outside {
            protocol: tuple.protocol,
            external: self.pool.address(address).to_bits(),
            port,
        };
        self.bib.prefetch_outside(outside);
        self.sessions.prefetch_external(&ExternalTuple {
            protocol: tuple.protocol,
            external: outside.external,
            external_port: outside.port,
            remote: tuple.remote,
            remote_port: tuple.remote_port,
        });
        let mut binding = Binding::new(client_side(tuple), outside, subscriber);
        binding.pref64 = pref64;
        self.insert_binding(binding, address, now)
    }

    /// Puts a binding with a port of a pool address, which was taken, into the table.
    pub(super) fn insert_binding(
        &mut self,
        binding: Binding,
        address: u32,
        now: Instant,
    ) -> Result<u32, Refusal> {
        let handle = self.bib.insert(binding).ok_or_else(full)?;
        let payer = self.subscribers.subscriber_mut(binding.subscriber);
        payer.address = address;
        payer.bindings[binding.protocol as usize] += 1;
        if self.rules.ports.blocks.is_none()
            && let Some(networks) = &mut self.networks
        {
            networks.add(binding.client, binding.protocol as usize);
        }
        self.note_binding(&self.binding_record(&binding), now);
        Ok(handle)
    }

    pub(super) fn check_quota(
        &mut self,
        subscriber: u32,
        tuple: &ClientTuple,
        now: Instant,
    ) -> Result<(), Refusal> {
        let limits = self.rules.limits;
        let payer = self.subscribers.subscriber_mut(subscriber);
        let is_within = payer.bindings[tuple.protocol as usize] < limits.subscriber_ports
            && payer.sessions < limits.subscriber_sessions
            && limits
                .subscriber_rate
                .is_none_or(|rate| payer.may_create(rate, Tick::at(now)));
        if !is_within {
            self.note_refusal(limited(), tuple.client, tuple.protocol, now);
            return Err(limited());
        }
        if self.rules.ports.blocks.is_none() {
            self.check_network(tuple, tuple.protocol as usize, now)?;
        }
        Ok(())
    }

    /// Refuses what would leave too little for other networks (RFC 6888 REQ-4): a network has at most
    /// a multiple of what is free, so that none can take everything, not even of what its ports that
    /// are held down have left.
    fn check_network(
        &mut self,
        tuple: &ClientTuple,
        kind: usize,
        now: Instant,
    ) -> Result<(), Refusal> {
        let Some(networks) = &self.networks else {
            return Ok(());
        };
        let left = self.pool.left(tuple.protocol);
        let most = left.saturating_mul(Limits::NETWORK_SHARE);
        // While there is plenty, nobody is looked up.
        let is_plenty = self.rules.ports.blocks.is_none() && most > self.bib.len();
        if is_plenty || networks.used(tuple.client, kind) < most {
            return Ok(());
        }
        let network = networks.prefix_of(tuple.client);
        self.note_quota(limited(), network, tuple.protocol, now);
        Err(limited())
    }

    /// An address and a port for a new binding.
    pub(super) fn allocate(
        &mut self,
        subscriber: u32,
        tuple: &ClientTuple,
        now: Instant,
    ) -> Result<(u32, u16), Refusal> {
        let paired = self.subscribers.subscriber(subscriber).address;
        let fixed = self.fixed_block(tuple.client)?;
        let address = match (paired, fixed) {
            (NO_ADDRESS, Some(block)) => self.pool.index(block.address).ok_or_else(exhausted)?,
            (NO_ADDRESS, None) => self
                .pool
                .open_address(tuple.protocol, self.favourite(subscriber))
                .ok_or_else(exhausted)?,
            (paired, _) => paired,
        };
        let wish = PortPreference {
            protocol: tuple.protocol,
            port: tuple.client_port,
            parity: self.rules.ports.parity,
        };
        let random = self.draw();
        let port = match self.rules.ports.blocks {
            None => self.pool.take(address, wish, 0..=u16::MAX, random),
            Some(blocks) => {
                let found = self.take_from_blocks(subscriber, wish, blocks.size, random);
                match found {
                    Some(port) => Some(port),
                    None => {
                        let limit = blocks.per_subscriber;
                        if fixed.is_none() {
                            self.check_network(tuple, BLOCKS, now)?;
                        }
                        self.add_block(subscriber, address, limit, fixed, now)?;
                        self.take_from_blocks(subscriber, wish, blocks.size, random)
                    }
                }
            }
        };
        Ok((address, port.ok_or_else(exhausted)?))
    }

    /// The block that follows from a client's prefix, where that is how ports are handed out.
    pub(super) fn fixed_block(&self, client: Ipv6Addr) -> Result<Option<Block>, Refusal> {
        let Some(deterministic) = &self.rules.deterministic else {
            return Ok(None);
        };
        let block = deterministic.block_of(client).ok_or_else(exhausted)?;
        Ok(Some(block))
    }

    /// The pool address that a new subscriber is paired with if it has room: always the same one,
    /// so that a returning subscriber tends to get its old address.
    pub(super) fn favourite(&self, subscriber: u32) -> u32 {
        (self.subscribers.hash(subscriber) % u64::from(self.pool.len().max(1))) as u32
    }

    fn take_from_blocks(
        &mut self,
        subscriber: u32,
        wish: PortPreference,
        size: u32,
        random: u64,
    ) -> Option<u16> {
        let payer = self.subscribers.subscriber(subscriber);
        let count = payer.blocks().len();
        for number in 0..count {
            let place = (number + random as usize) % count;
            let first = payer.blocks()[place];
            let last = first + (size - 1) as u16;
            if let Some(port) = self.pool.take(payer.address, wish, first..=last, random) {
                return Some(port);
            }
        }
        None
    }

    /// Gives a subscriber another block of ports.
    fn add_block(
        &mut self,
        subscriber: u32,
        address: u32,
        limit: u32,
        fixed: Option<Block>,
        now: Instant,
    ) -> Result<(), Refusal> {
        let random = self.draw();
        let payer = self.subscribers.subscriber_mut(subscriber);
        if payer.blocks().len() >= limit as usize {
            return Err(limited());
        }
        let first = match fixed {
            None => self.pool.take_block(address, subscriber, random),
            Some(Block { first_port, .. }) => self
                .pool
                .take_block_of(address, first_port, subscriber)
                .then_some(first_port),
        };
        let first = first.ok_or_else(exhausted)?;
        payer.address = address;
        payer.blocks_mut().push(first);
        self.note_block(subscriber, address, first, now);
        Ok(())
    }

    pub(super) fn note_binding(&mut self, record: &BindingRecord, now: Instant) {
        if self.feed.wants(Kind::Binding) {
            let created = EventKind::Binding(Change::Created(*record));
            self.feed.push(Kind::Binding, now, created);
        }
    }

    pub(super) fn note_block(&mut self, subscriber: u32, address: u32, first: u16, now: Instant) {
        if let Some(networks) = &mut self.networks {
            networks.add(self.subscribers.prefix(subscriber).address(), BLOCKS);
        }
        if self.feed.wants(Kind::Block) {
            let record = self.block_record(subscriber, address, first);
            let allocated = EventKind::Block(Change::Created(record));
            self.feed.push(Kind::Block, now, allocated);
        }
    }

    /// A binding goes with its last session, unless somebody wants it to stay.
    pub(super) fn release_if_unused(&mut self, handle: u32, now: Instant) {
        let bound = *self.bib.binding(handle);
        if bound.sessions > 0 || bound.state != BindingState::Dynamic {
            return;
        }
        self.bib.remove(handle);
        let payer = self.subscribers.subscriber_mut(bound.subscriber);
        payer.bindings[bound.protocol as usize] -= 1;
        if self.rules.ports.blocks.is_none()
            && let Some(networks) = &mut self.networks
        {
            networks.remove(bound.client, bound.protocol as usize);
        }
        let place = PoolPort {
            protocol: bound.protocol,
            address: payer.address,
            port: bound.external_port,
        };
        if self.feed.wants(Kind::Binding) {
            let removed = EventKind::Binding(Change::Removed(self.binding_record(&bound)));
            self.feed.push(Kind::Binding, now, removed);
        }
        match self.pool.give_back(place, Tick::at(now)) {
            // The block's owner is the subscriber, which is removed with its last block.
            Some(freed) => self.note_freed(freed, now),
            None => self.subscribers.remove_if_idle(bound.subscriber),
        }
    }

    /// Takes a block without ports in use from its subscriber.
    pub(super) fn note_freed(&mut self, block: FreedBlock, now: Instant) {
        let owner = self.subscribers.subscriber_mut(block.owner);
        owner
            .blocks_mut()
            .retain(|first| *first != block.first_port);
        if let Some(networks) = &mut self.networks {
            networks.remove(self.subscribers.prefix(block.owner).address(), BLOCKS);
        }
        if self.feed.wants(Kind::Block) {
            let record = self.block_record(block.owner, block.address, block.first_port);
            let freed = EventKind::Block(Change::Removed(record));
            self.feed.push(Kind::Block, now, freed);
        }
        self.subscribers.remove_if_idle(block.owner);
    }

    pub(super) fn note_refusal(
        &mut self,
        refusal: Refusal,
        client: Ipv6Addr,
        protocol: Protocol,
        now: Instant,
    ) {
        let subscriber = self.subscribers.prefix_of(client);
        self.note_quota(refusal, subscriber, protocol, now);
    }

    fn note_quota(
        &mut self,
        refusal: Refusal,
        subscriber: Ipv6Prefix,
        protocol: Protocol,
        now: Instant,
    ) {
        let tick = Tick::at(now);
        if !self.feed.wants(Kind::Refusal) || tick < self.quiet_until {
            return;
        }
        self.quiet_until = tick.after(Ticks::covering(Duration::from_secs(1)));
        let quota = Quota {
            subscriber,
            protocol,
        };
        let kind = match refusal {
            Refusal::Answer(DropReason::SubscriberLimit, _) => EventKind::LimitReached(quota),
            _ => EventKind::PoolExhausted(quota),
        };
        self.feed.push(Kind::Refusal, now, kind);
    }

    fn block_record(&self, subscriber: u32, address: u32, first_port: u16) -> BlockRecord {
        self.block(self.subscribers.prefix(subscriber), address, first_port)
    }

    pub(super) fn block(
        &self,
        subscriber: Ipv6Prefix,
        address: u32,
        first_port: u16,
    ) -> BlockRecord {
        let size = self.rules.ports.blocks.map_or(1, |blocks| blocks.size);
        BlockRecord {
            subscriber,
            external: self.seen(self.pool.address(address).to_bits()),
            first_port,
            last_port: first_port + (size - 1) as u16,
        }
    }

    /// A number that hosts cannot predict.
    fn draw(&mut self) -> u64 {
        self.drawn += 1;
        self.key.hash([self.drawn, DRAW])
    }

    /// A binding as it is reported.
    pub(super) fn binding_record(&self, binding: &Binding) -> BindingRecord {
        BindingRecord {
            protocol: binding.protocol,
            client: binding.client,
            client_port: binding.client_port,
            external: self.seen(binding.external),
            external_port: binding.external_port,
        }
    }
}

/// What a network is counted by where ports are handed out in blocks.
const BLOCKS: usize = 0;

/// Keeps the numbers drawn for ports apart from the hashes of tuples.
const DRAW: u64 = u64::from_be_bytes(*b"\xffNAT64 p");
