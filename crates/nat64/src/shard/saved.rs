//! Sessions out of a shard and back into one.

use std::net::Ipv4Addr;

use xlat_core::Instant;
use xlat_core::addr::Ipv6Prefix;

use super::sessions::state;
use super::{Counts, Shard};
use crate::clock::Tick;
use crate::event::SessionEntry;
use crate::ports::pool::PoolPort;
use crate::snapshot::{SavedSession, SkipReason};
use crate::table::bib::Binding;
use crate::table::session::Session;
use crate::table::subscribers::NO_ADDRESS;
use crate::tcp::TcpState;
use crate::tuple::{Inside, Outside, Protocol};

/// What a subscriber has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Who.
    pub subscriber: Ipv6Prefix,
    /// The pool address that it is paired with.
    pub external: Ipv4Addr,
    /// Its bindings, by [`Protocol`].
    pub bindings: [u32; 3],
    /// Its sessions.
    pub sessions: u32,
    /// Its port blocks.
    pub blocks: usize,
}

/// Subscribers looked at while a worker may have to wait.
const PART: u32 = 4096;

/// What a listing knows of one session; prefix and time are still numbers. The entry is that of a
/// session whose packets are carried below the workers.
pub(crate) type Listed = (Session, Option<TcpState>, Option<SessionEntry>);

impl Shard {
    /// How much of everything there is.
    pub(crate) fn counts(&self) -> Counts {
        Counts {
            sessions: self.per_protocol,
            tcp: self.per_state,
            bindings: self.bib.len(),
            subscribers: self.subscribers.len(),
            free_ports: Protocol::ALL.map(|protocol| self.pool.free_ports(protocol)),
            offloaded: self.offloaded(),
        }
    }

    /// The sessions among `count` handles from `start` on, and the handle to go on with.
    pub(crate) fn list(&self, start: u32, count: u32) -> (Vec<Listed>, Option<u32>) {
        let (part, next) = self.sessions.part(start, count);
        let listed = part.map(|(handle, session)| {
            let tcp = (session.protocol == Protocol::Tcp).then(|| state(session));
            let installed = session.slot().map(|_| self.entry(handle, session));
            (session.until(self.ends(session)), tcp, installed)
        });
        (listed.collect(), next)
    }

    /// What some subscribers have, of those with handles from `start` on, and the handle to go on
    /// with.
    pub(crate) fn usage(&self, start: u32) -> (Vec<Usage>, Option<u32>) {
        let (listed, next) = self.subscribers.list(start, PART);
        let usage = listed
            .into_iter()
            .map(|(prefix, subscriber)| Usage {
                subscriber: prefix,
                external: self.pool.address(subscriber.address),
                bindings: subscriber.bindings,
                sessions: subscriber.sessions,
                blocks: subscriber.blocks().len(),
            })
            .collect();
        (usage, next)
    }

    /// Takes up a saved session that lives until `expires`.
    pub(crate) fn restore(
        &mut self,
        saved: &SavedSession,
        pref64: u8,
        expires: Tick,
        now: Instant,
    ) -> Result<(), SkipReason> {
        let record = &saved.binding;
        let inside = Inside {
            protocol: record.protocol,
            client: record.client,
            port: record.client_port,
        };
        let outside = Outside {
            protocol: record.protocol,
            external: record.external.to_bits(),
            port: record.external_port,
        };
        let binding = match self.bib.of_inside(inside) {
            Some(binding) if self.bib.binding(binding).outside() == outside => binding,
            Some(_) => return Err(SkipReason::Taken),
            None => self.rebind(inside, outside, pref64, now)?,
        };
        self.bib.binding_mut(binding).pref64 = pref64;
        let remote = saved.remote.to_bits();
        if self.is_known(binding, remote, saved.remote_port) {
            return Err(SkipReason::Taken);
        }
        let state = saved.tcp.map_or(0, |tcp| tcp as u8);
        self.open_session(binding, remote, saved.remote_port, state, expires, now)
            .map_err(|_| SkipReason::Full)?;
        Ok(())
    }

    fn is_known(&self, binding: u32, remote: u32, remote_port: u16) -> bool {
        let bound = self.bib.binding(binding);
        let session = Session::new(binding, bound, remote, remote_port, 0);
        self.sessions.of_client(&session.client_tuple()).is_some()
    }

    /// Makes a binding with this very external port: that of a saved session, or one that a client
    /// asks for.
    pub(super) fn rebind(
        &mut self,
        inside: Inside,
        outside: Outside,
        pref64: u8,
        now: Instant,
    ) -> Result<u32, SkipReason> {
        if self.bib.is_full() || self.sessions.is_full() {
            return Err(SkipReason::Full);
        }
        let external = Ipv4Addr::from_bits(outside.external);
        let address = self.pool.index(external).ok_or(SkipReason::NotInPool)?;
        let subscriber = self
            .subscribers
            .of_client(inside.client)
            .ok_or(SkipReason::Full)?;
        let place = PoolPort {
            protocol: outside.protocol,
            address,
            port: outside.port,
        };
        if let Err(reason) = self.reclaim(subscriber, place, now) {
            self.subscribers.remove_if_idle(subscriber);
            return Err(reason);
        }
        let mut binding = Binding::new(inside, outside, subscriber);
        binding.pref64 = pref64;
        let made = self.insert_binding(binding, address, now);
        made.map_err(|_| SkipReason::Full)
    }

    /// Takes the port that a saved binding had, if it is one that the subscriber could have got.
    fn reclaim(
        &mut self,
        subscriber: u32,
        place: PoolPort,
        now: Instant,
    ) -> Result<(), SkipReason> {
        let payer = self.subscribers.subscriber(subscriber);
        if payer.address != NO_ADDRESS && payer.address != place.address {
            return Err(SkipReason::NotInPool);
        }
        if let Some(blocks) = self.rules.ports.blocks {
            let first = place.port & !((blocks.size - 1) as u16);
            if !payer.blocks().contains(&first)
                && !self.reclaim_block(subscriber, place, first, now)
            {
                return Err(SkipReason::Taken);
            }
        }
        if self.pool.take_exactly(place) {
            Ok(())
        } else {
            Err(SkipReason::Taken)
        }
    }

    fn reclaim_block(
        &mut self,
        subscriber: u32,
        place: PoolPort,
        first: u16,
        now: Instant,
    ) -> bool {
        if !self
            .pool
            .take_block_of(place.address, place.port, subscriber)
        {
            return false;
        }
        let payer = self.subscribers.subscriber_mut(subscriber);
        payer.address = place.address;
        payer.blocks_mut().push(first);
        self.note_block(subscriber, place.address, first, now);
        true
    }
}
