//! The session table (RFC 6146 section 3.2): the two ends of each session, and when it ends.
//!
//! One entry fills one cache line and answers both directions: from IPv6 it is found by client and
//! remote transport address, from IPv4 by external and remote transport address. The three tables
//! of the RFC (UDP, TCP, ICMP queries) are one here; the protocol is part of every key.

use std::net::Ipv6Addr;

use xlat_core::PREFETCH_BATCH;

use crate::clock::Tick;
use crate::offload::Side;
use crate::siphash::SipKey;
use crate::table::bib::Binding;
use crate::table::index::Index;
use crate::table::slab::{NONE, Slab};
use crate::table::wheel::{Armed, Timer, Wheel};
use crate::tuple::{ClientTuple, ExternalTuple, Hint, Protocol, Tuple};

/// A session table entry.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(crate) struct Session {
    pub(crate) client: Ipv6Addr,
    timer: Timer,
    /// The binding of this session.
    pub(crate) binding: u32,
    expires: Tick,
    /// Tells it from the sessions that had its slot before.
    generation: u32,
    /// The IPv4 node outside.
    pub(crate) remote: u32,
    /// The client's address as the IPv4 node sees it.
    pub(crate) external: u32,
    pub(crate) client_port: u16,
    pub(crate) remote_port: u16,
    pub(crate) external_port: u16,
    pub(crate) protocol: Protocol,
    /// State of a TCP session; a number of [`TcpState`](crate::tcp::TcpState).
    pub(crate) state: u8,
    /// Which of the NAT64 prefixes the client uses.
    pub(crate) pref64: u8,
    /// Packets since the session was offered to a [`FlowOffload`](crate::offload::FlowOffload); 255
    /// stands for more.
    pub(crate) carried: u8,
    /// From which sides its packets are installed there; a bit for each.
    sides: u8,
    /// Its slot there, plus one; 0 if it is not installed.
    slot: u32,
}

const _: () = assert!(size_of::<Session>() == 64);

impl Session {
    const UNUSED: Self = Self {
        client: Ipv6Addr::UNSPECIFIED,
        timer: Timer::IDLE,
        binding: NONE,
        expires: Tick::from_raw(0),
        generation: 0,
        remote: 0,
        external: 0,
        client_port: 0,
        remote_port: 0,
        external_port: 0,
        protocol: Protocol::Udp,
        state: 0,
        pref64: 0,
        carried: 0,
        sides: 0,
        slot: 0,
    };

    /// A session on a binding.
    pub(crate) fn new(
        handle: u32,
        bound: &Binding,
        remote: u32,
        remote_port: u16,
        state: u8,
    ) -> Self {
        Self {
            client: bound.client,
            client_port: bound.client_port,
            external: bound.external,
            external_port: bound.external_port,
            remote,
            remote_port,
            binding: handle,
            protocol: bound.protocol,
            state,
            pref64: bound.pref64,
            ..Self::UNUSED
        }
    }

    pub(crate) fn expires(&self) -> Tick {
        self.expires
    }

    pub(crate) fn generation(&self) -> u32 {
        self.generation
    }

    /// Where it is installed, if it is.
    #[inline]
    pub(crate) const fn slot(&self) -> Option<u32> {
        self.slot.checked_sub(1)
    }

    pub(crate) const fn set_slot(&mut self, slot: Option<u32>) {
        self.slot = match slot {
            Some(slot) => slot + 1,
            None => 0,
        };
        (self.carried, self.sides) = (0, 0);
    }

    /// True if packets from this side are installed.
    #[inline]
    pub(crate) const fn has_side(&self, side: Side) -> bool {
        self.sides & 1 << side as u8 != 0
    }

    pub(crate) const fn add_side(&mut self, side: Side) {
        self.sides |= 1 << side as u8;
    }

    /// True if packets from the other side stay installed.
    pub(crate) const fn remove_side(&mut self, side: Side) -> bool {
        self.sides &= !(1 << side as u8);
        self.sides != 0
    }

    /// The same session with another end.
    pub(crate) const fn until(self, expires: Tick) -> Self {
        Self { expires, ..self }
    }
}

impl Armed for Session {
    fn timer(&mut self) -> &mut Timer {
        &mut self.timer
    }

    fn due(&self) -> Tick {
        self.expires
    }
}

/// All sessions of a shard, with their indexes and timers.
#[derive(Debug)]
pub(crate) struct Sessions {
    slab: Slab<Session>,
    by_client: Index,
    by_external: Index,
    wheel: Wheel,
    key: SipKey,
    /// The generation of the session that was added last. A slot would have to be used again
    /// exactly 2^32 sessions later for a stale handle to look current.
    generation: u32,
}

impl Sessions {
    pub(crate) fn new(limit: u32, key: SipKey) -> Self {
        Self {
            slab: Slab::new(limit, Session::UNUSED),
            by_client: Index::new(limit),
            by_external: Index::new(limit),
            wheel: Wheel::new(),
            key,
            generation: 0,
        }
    }

    pub(crate) fn len(&self) -> u32 {
        self.slab.len()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.slab.is_full()
    }

    #[inline]
    pub(crate) fn of_client(&self, tuple: &ClientTuple) -> Option<u32> {
        let hash = self.hash_client(tuple);
        self.by_client
            .find(hash, |handle| self.slab[handle].client_tuple() == *tuple)
    }

    #[inline]
    pub(crate) fn of_external(&self, tuple: &ExternalTuple) -> Option<u32> {
        let hash = self.hash_external(tuple);
        self.by_external
            .find(hash, |handle| self.slab[handle].external_tuple() == *tuple)
    }

    /// Begins to fetch what a session's insertion on the IPv4 side will read.
    pub(crate) fn prefetch_external(&self, tuple: &ExternalTuple) {
        self.by_external.prefetch(self.hash_external(tuple));
    }

    /// True if the session `handle` is the one of this tuple.
    #[inline]
    pub(crate) fn is_client(&self, handle: u32, tuple: &ClientTuple) -> bool {
        handle != NONE
            && self.slab[handle].binding != NONE
            && self.slab[handle].client_tuple() == *tuple
    }

    /// The same from the other side.
    #[inline]
    pub(crate) fn is_external(&self, handle: u32, tuple: &ExternalTuple) -> bool {
        handle != NONE
            && self.slab[handle].binding != NONE
            && self.slab[handle].external_tuple() == *tuple
    }

    /// Reads a word of each index line and each session that some of these packets lead to, and
    /// notes what was found. Each loop does little, and no round of it waits for another one, so
    /// that the processor has as many of them on their way as it can.
    pub(crate) fn fetch(&self, hints: &mut [Hint], is_here: impl Fn(usize) -> bool) {
        let mut found = [(0, false, 0); PREFETCH_BATCH];
        let mut count = 0;
        for (place, hint) in hints.iter().enumerate().take(PREFETCH_BATCH) {
            if !is_here(place) {
                continue;
            }
            let (is_client, hash) = match &hint.tuple {
                Tuple::Client(tuple) => (true, self.hash_client(tuple)),
                Tuple::External(tuple) => (false, self.hash_external(tuple)),
            };
            found[count] = (place, is_client, hash);
            count += 1;
        }
        let found = &found[..count];
        let index = |is_client| match is_client {
            true => &self.by_client,
            false => &self.by_external,
        };
        for (_, is_client, hash) in found {
            index(*is_client).prefetch(*hash);
        }
        for (place, is_client, hash) in found {
            let handle = index(*is_client).guess(*hash);
            hints[*place].handle = handle;
            self.slab.prefetch(handle);
        }
    }

    /// True if `handle` has a session and it is the one of this generation.
    pub(crate) fn is_current(&self, handle: u32, generation: u32) -> bool {
        let session = &self.slab[handle];
        session.binding != NONE && session.generation == generation
    }

    #[inline]
    pub(crate) fn session(&self, handle: u32) -> &Session {
        &self.slab[handle]
    }

    #[inline]
    pub(crate) fn session_mut(&mut self, handle: u32) -> &mut Session {
        &mut self.slab[handle]
    }

    /// Adds a session that lives until `expires`; `None` if the table is full.
    pub(crate) fn insert(&mut self, session: Session, expires: Tick) -> Option<u32> {
        self.generation = self.generation.wrapping_add(1);
        let handle = self.slab.insert(Session {
            expires,
            generation: self.generation,
            ..session
        })?;
        self.by_client
            .insert(self.hash_client(&session.client_tuple()), handle);
        self.by_external
            .insert(self.hash_external(&session.external_tuple()), handle);
        self.wheel.arm(&mut self.slab, handle);
        Some(handle)
    }

    pub(crate) fn remove(&mut self, handle: u32) -> Session {
        let session = self.slab[handle];
        let client = self.hash_client(&session.client_tuple());
        let external = self.hash_external(&session.external_tuple());
        self.by_client.prefetch(client);
        self.by_external.prefetch(external);
        self.wheel.disarm(&mut self.slab, handle);
        self.by_client.remove(client, handle);
        self.by_external.remove(external, handle);
        self.slab.remove(handle);
        self.slab[handle].binding = NONE;
        session
    }

    /// Moves the end of a session's life. A later end costs nothing: the timer finds out when it
    /// fires. An earlier one moves the timer.
    #[inline]
    pub(crate) fn set_expiry(&mut self, handle: u32, expires: Tick) {
        let session = &mut self.slab[handle];
        let is_earlier = expires < session.expires;
        session.expires = expires;
        if is_earlier {
            self.wheel.disarm(&mut self.slab, handle);
            self.wheel.arm(&mut self.slab, handle);
        }
    }

    /// The next session whose life is over, looking at no more than `steps` timers. It stays in
    /// the table with its timer off: [`remove`](Self::remove) it or [`revive`](Self::revive) it.
    pub(crate) fn next_expired(&mut self, now: Tick, steps: &mut usize) -> Option<u32> {
        self.wheel.next_due(&mut self.slab, now, steps)
    }

    /// No session ends before this; `None` without sessions.
    pub(crate) fn next_end(&self) -> Option<Tick> {
        self.wheel.next_stop()
    }

    /// Gives a session whose timer is off a new life.
    pub(crate) fn revive(&mut self, handle: u32, expires: Tick) {
        self.wheel.disarm(&mut self.slab, handle);
        self.slab[handle].expires = expires;
        self.wheel.arm(&mut self.slab, handle);
    }

    /// The live ones among `count` handles from `start` on, and the handle to go on with.
    pub(crate) fn part(
        &self,
        start: u32,
        count: u32,
    ) -> (impl Iterator<Item = (u32, &Session)>, Option<u32>) {
        let start = start.max(1);
        let end = self.slab.end();
        let stop = start.saturating_add(count).min(end);
        let live = (start..stop)
            .map(|handle| (handle, &self.slab[handle]))
            .filter(|(_, session)| session.binding != NONE);
        (live, (stop < end).then_some(stop))
    }

    #[inline]
    fn hash_client(&self, tuple: &ClientTuple) -> u64 {
        let client = tuple.client.to_bits();
        let ports = u64::from(tuple.client_port) << 16 | u64::from(tuple.remote_port);
        let rest = u64::from(tuple.remote) << 32 | ports;
        // The protocol goes where the top bits of an interface identifier rarely differ; an equal
        // hash of two protocols only makes a chain longer.
        let low = client as u64 ^ u64::from(tuple.protocol as u8) << 56;
        self.key.hash([(client >> 64) as u64, low, rest])
    }

    #[inline]
    fn hash_external(&self, tuple: &ExternalTuple) -> u64 {
        let ports = u64::from(tuple.external_port) << 16 | u64::from(tuple.remote_port);
        let low = u64::from(tuple.external) << 32 | ports;
        let high = u64::from(tuple.remote) << 8 | u64::from(tuple.protocol as u8);
        self.key.hash([low, high])
    }
}

impl Session {
    #[inline]
    pub(crate) fn client_tuple(&self) -> ClientTuple {
        ClientTuple {
            protocol: self.protocol,
            client: self.client,
            client_port: self.client_port,
            remote: self.remote,
            remote_port: self.remote_port,
        }
    }

    #[inline]
    pub(crate) fn external_tuple(&self) -> ExternalTuple {
        ExternalTuple {
            protocol: self.protocol,
            external: self.external,
            external_port: self.external_port,
            remote: self.remote,
            remote_port: self.remote_port,
        }
    }
}
