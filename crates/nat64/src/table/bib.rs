//! The binding information base (RFC 6146 section 3.1): which external transport address stands
//! for which client transport address.
//!
//! The three tables of the RFC (UDP, TCP, ICMP queries) are one here; the protocol is part of
//! every key.

use std::net::Ipv6Addr;

use crate::siphash::SipKey;
use crate::table::index::Index;
use crate::table::slab::{NONE, Slab};
use crate::tuple::{Inside, Outside, Protocol};

/// A binding.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Binding {
    pub(crate) client: Ipv6Addr,
    pub(crate) external: u32,
    /// Sessions of this binding. The binding is removed with its last session.
    pub(crate) sessions: u32,
    /// The subscriber it is charged to; [`NONE`] for a binding that the administrator made.
    pub(crate) subscriber: u32,
    pub(crate) client_port: u16,
    pub(crate) external_port: u16,
    pub(crate) protocol: Protocol,
    pub(crate) state: BindingState,
    /// The NAT64 prefix that the client used last: what new remotes are shown as.
    pub(crate) pref64: u8,
}

const _: () = assert!(size_of::<Binding>() <= 36);

/// Who made a binding, and whether it takes new sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BindingState {
    /// Made by a packet: goes with its last session.
    Dynamic,
    /// A client asked for it to stay for a while, also without sessions.
    Kept,
    /// A client asked for that, and for anyone to reach it.
    Open,
    /// Made by the administrator: stays without sessions.
    Static,
    /// The administrator's too, but one that comes or goes: nothing begins on it.
    Closed,
}

impl Binding {
    const UNUSED: Self = Self {
        client: Ipv6Addr::UNSPECIFIED,
        external: 0,
        sessions: 0,
        subscriber: NONE,
        client_port: 0,
        external_port: 0,
        protocol: Protocol::Udp,
        state: BindingState::Dynamic,
        pref64: 0,
    };

    /// A binding without sessions.
    pub(crate) fn new(inside: Inside, outside: Outside, subscriber: u32) -> Self {
        Self {
            client: inside.client,
            client_port: inside.port,
            external: outside.external,
            external_port: outside.port,
            protocol: inside.protocol,
            subscriber,
            ..Self::UNUSED
        }
    }

    /// The same binding, made by the administrator.
    pub(crate) fn of_admin(self, state: BindingState) -> Self {
        Self { state, ..self }
    }

    pub(crate) fn inside(&self) -> Inside {
        Inside {
            protocol: self.protocol,
            client: self.client,
            port: self.client_port,
        }
    }

    pub(crate) fn outside(&self) -> Outside {
        Outside {
            protocol: self.protocol,
            external: self.external,
            port: self.external_port,
        }
    }
}

/// All bindings of a shard, with their indexes.
#[derive(Debug)]
pub(crate) struct Bib {
    slab: Slab<Binding>,
    by_inside: Index,
    by_outside: Index,
    key: SipKey,
}

impl Bib {
    pub(crate) fn new(limit: u32, key: SipKey) -> Self {
        Self {
            slab: Slab::new(limit, Binding::UNUSED),
            by_inside: Index::new(limit),
            by_outside: Index::new(limit),
            key,
        }
    }

    pub(crate) fn len(&self) -> u32 {
        self.slab.len()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.slab.is_full()
    }

    pub(crate) fn binding(&self, handle: u32) -> &Binding {
        &self.slab[handle]
    }

    pub(crate) fn binding_mut(&mut self, handle: u32) -> &mut Binding {
        &mut self.slab[handle]
    }

    pub(crate) fn of_inside(&self, inside: Inside) -> Option<u32> {
        self.by_inside.find(self.hash_inside(inside), |handle| {
            self.slab[handle].inside() == inside
        })
    }

    pub(crate) fn of_outside(&self, outside: Outside) -> Option<u32> {
        self.by_outside.find(self.hash_outside(outside), |handle| {
            self.slab[handle].outside() == outside
        })
    }

    /// All bindings. The place of one that was removed may hold what it was.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Binding> {
        let there = (1..self.slab.end()).map(|handle| (handle, &self.slab[handle]));
        let live = there.filter(|(handle, one)| self.of_inside(one.inside()) == Some(*handle));
        live.map(|(_, binding)| binding)
    }

    /// Begins to fetch what the look-up of a client's side will read.
    pub(crate) fn prefetch_inside(&self, inside: Inside) {
        self.by_inside.prefetch(self.hash_inside(inside));
    }

    /// The same for the pool's side.
    pub(crate) fn prefetch_outside(&self, outside: Outside) {
        self.by_outside.prefetch(self.hash_outside(outside));
    }

    /// Adds a binding; `None` if the table is full.
    pub(crate) fn insert(&mut self, binding: Binding) -> Option<u32> {
        let handle = self.slab.insert(binding)?;
        self.by_inside
            .insert(self.hash_inside(binding.inside()), handle);
        self.by_outside
            .insert(self.hash_outside(binding.outside()), handle);
        Some(handle)
    }

    pub(crate) fn remove(&mut self, handle: u32) -> Binding {
        let binding = self.slab[handle];
        let inside = self.hash_inside(binding.inside());
        let outside = self.hash_outside(binding.outside());
        self.by_outside.prefetch(outside);
        self.by_inside.remove(inside, handle);
        self.by_outside.remove(outside, handle);
        self.slab.remove(handle);
        binding
    }

    fn hash_inside(&self, inside: Inside) -> u64 {
        let client = inside.client.to_bits();
        let rest = u64::from(inside.port) << 8 | u64::from(inside.protocol as u8);
        self.key.hash([(client >> 64) as u64, client as u64, rest])
    }

    fn hash_outside(&self, outside: Outside) -> u64 {
        let port = u64::from(outside.port) << 8 | u64::from(outside.protocol as u8);
        self.key.hash([u64::from(outside.external) << 32 | port])
    }
}
