//! One part of the state of a NAT64, complete in itself: sessions, bindings, subscribers and its
//! share of the pool. The functions carry the names of RFC 6146's steps.

mod bindings;
mod closed;
mod forwards;
mod kept;
pub(crate) mod layout;
mod offload;
mod outer;
mod saved;
mod sessions;

pub(crate) use closed::Stored;
pub use kept::{PortRefusal, PortRequest, RemoteFilter};
pub use saved::Usage;
pub(crate) use sessions::session_record;

use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv4Addr;
use std::ops::Add;
use std::sync::Arc;

use xlat_core::mapper::{Refusal, Unreachable};
use xlat_core::{DropReason, Instant};

use crate::clock::{Tick, Ticks};
use crate::config::{Filtering, Inbound, Lifetimes, Limits, PortPolicy};
use crate::feed::Feed;
use crate::offload::Side;
use crate::outer::OuterAddress;
use crate::ports::deterministic::Deterministic;
use crate::ports::pool::{Pool, PoolPort};
use crate::siphash::SipKey;
use crate::table::bib::Bib;
use crate::table::contacts::Contacts;
use crate::table::networks::Networks;
use crate::table::session::{Session, Sessions};
use crate::table::subscribers::Subscribers;
use crate::table::syn::StoredSyns;
use crate::tuple::{ClientTuple, ExternalTuple, Hint, Inside, Outside, Protocol};

/// The rules that a shard follows.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    pub(crate) lifetimes: Lifetimes,
    pub(crate) filtering: Filtering,
    pub(crate) inbound: Inbound,
    pub(crate) limits: Limits,
    pub(crate) ports: PortPolicy,
    pub(crate) exhaustion_answer: Option<Unreachable>,
    pub(crate) deterministic: Option<Arc<Deterministic>>,
}

impl Rules {
    /// What counts the ports of networks, if they are limited. A port that follows from a prefix is
    /// nobody else's.
    fn networks(&self, key: SipKey) -> Option<Networks> {
        let len = self.limits.network_prefix?;
        let len = len.min(self.limits.subscriber_prefix);
        self.deterministic
            .is_none()
            .then(|| Networks::new(self.limits.sessions, len, key))
    }
}

/// A part of the state.
#[derive(Debug)]
pub(crate) struct Shard {
    /// Its place among the shards.
    number: u32,
    rules: Rules,
    sessions: Sessions,
    bib: Bib,
    subscribers: Subscribers,
    /// Networks that have ports, or blocks where ports are handed out in blocks.
    networks: Option<Networks>,
    pool: Pool,
    /// Sessions per binding and remote address, for the address-dependent filter.
    contacts: Contacts,
    /// Whom the clients of some open bindings want to hear, by binding.
    remote_filters: BTreeMap<u32, Box<[RemoteFilter]>>,
    /// Until when clients hold connections of kept bindings, by binding and remote node.
    held: BTreeMap<(u32, u32, u16), Tick>,
    pub(crate) feed: Feed,
    /// What the IPv4 side sees of an address of the pool, if not the address itself.
    outer: Option<OuterAddress>,
    /// No second event about a refusal before this.
    quiet_until: Tick,
    syns: StoredSyns,
    probes: VecDeque<u32>,
    per_protocol: [u32; 3],
    per_state: [u32; 7],
    key: SipKey,
    drawn: u64,
    /// Packets after which a session is offered to the offload; 0 without one.
    offload_after: u8,
    offloading: Option<offload::Offloading>,
    /// Subscribers that have nothing yet are refused.
    drains: bool,
    /// Who goes by another configuration than that of this epoch may install nothing.
    epoch: u32,
}

/// What becomes of a packet from the client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Passed {
    /// The address that its source becomes.
    pub(crate) external: u32,
    /// The port or identifier.
    pub(crate) port: u16,
    /// Whether to [offer](Shard::offload) its session.
    pub(crate) is_ripe: bool,
}

/// What becomes of a packet from the remote node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Admitted {
    /// The transport address that its destination becomes.
    pub(crate) inside: Inside,
    /// The NAT64 prefix that its source gets.
    pub(crate) pref64: u8,
    /// Whether to [offer](Shard::offload) its session.
    pub(crate) is_ripe: bool,
}

impl Admitted {
    const fn new((inside, pref64): (Inside, u8), is_ripe: bool) -> Self {
        Self {
            inside,
            pref64,
            is_ripe,
        }
    }
}

impl Passed {
    const fn new(outside: Outside, is_ripe: bool) -> Self {
        Self {
            external: outside.external,
            port: outside.port,
            is_ripe,
        }
    }
}

/// How much of everything there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Sessions, by [`Protocol`].
    pub sessions: [u32; 3],
    /// TCP sessions, by [`TcpState`](crate::TcpState).
    pub tcp: [u32; 7],
    /// Bindings, static ones included.
    pub bindings: u32,
    /// Subscribers with a binding or a port block.
    pub subscribers: u32,
    /// Ports and identifiers that can be handed out at once, by [`Protocol`].
    pub free_ports: [u64; 3],
    /// Sessions that are installed in the [offload](crate::offload).
    pub offloaded: u32,
}

impl Add for Counts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            sessions: std::array::from_fn(|index| self.sessions[index] + other.sessions[index]),
            tcp: std::array::from_fn(|index| self.tcp[index] + other.tcp[index]),
            bindings: self.bindings + other.bindings,
            subscribers: self.subscribers + other.subscribers,
            free_ports: std::array::from_fn(|index| {
                self.free_ports[index] + other.free_ports[index]
            }),
            offloaded: self.offloaded + other.offloaded,
        }
    }
}

impl Shard {
    /// A shard of `limits.sessions` sessions over `pool`.
    pub(crate) fn new(number: u32, rules: Rules, pool: Pool, key: [u64; 2]) -> Self {
        let limit = rules.limits.sessions;
        let key = SipKey::new(key);
        let contacts = match rules.filtering {
            Filtering::EndpointIndependent => 0,
            Filtering::AddressDependent => limit,
        };
        let networks = rules.networks(key);
        Self {
            number,
            networks,
            sessions: Sessions::new(limit, key),
            bib: Bib::new(limit, key),
            subscribers: Subscribers::new(limit, rules.limits.subscriber_prefix, key),
            contacts: Contacts::new(contacts, key),
            remote_filters: BTreeMap::new(),
            held: BTreeMap::new(),
            feed: Feed::default(),
            outer: None,
            quiet_until: Tick::from_raw(0),
            syns: StoredSyns::new(key),
            probes: VecDeque::new(),
            per_protocol: [0; 3],
            per_state: [0; 7],
            drawn: 0,
            offload_after: 0,
            offloading: None,
            drains: false,
            epoch: 0,
            pool,
            key,
            rules,
        }
    }

    /// Number of sessions.
    pub(crate) fn len(&self) -> u32 {
        self.sessions.len()
    }

    /// Where a port of the pool is; `None` if this shard does not have its address.
    pub(crate) fn place(&self, outside: Outside) -> Option<PoolPort> {
        let address = self.pool.index(Ipv4Addr::from_bits(outside.external))?;
        Some(PoolPort {
            protocol: outside.protocol,
            address,
            port: outside.port,
        })
    }

    /// Keeps a free port from being handed out; false if it is not free.
    pub(crate) fn reserve(&mut self, place: PoolPort) -> bool {
        self.pool.reserve(place)
    }

    /// Lets a reserved port be handed out again.
    pub(crate) fn unreserve(&mut self, place: PoolPort, now: Tick) {
        self.pool.unreserve(place, now);
    }

    /// Brings what these packets will be looked up by into the cache.
    pub(crate) fn fetch(&self, hints: &mut [Hint], is_here: impl Fn(usize) -> bool) {
        self.sessions.fetch(hints, is_here);
    }

    /// Takes no new subscribers, or takes them again.
    pub(crate) fn set_draining(&mut self, drains: bool) {
        self.drains = drains;
    }

    /// Goes by other rules from now on.
    pub(crate) fn set_rules(&mut self, rules: Rules) {
        self.pool.set_rest(rules.lifetimes.port_hold_down);
        self.rules = rules;
    }

    /// Filtering and updating for a packet from the IPv6 side (RFC 6146 section 3.5): the
    /// transport address that its source becomes. `hint` is a session that it may belong to.
    pub(crate) fn outbound(
        &mut self,
        tuple: ClientTuple,
        hint: u32,
        pref64: u8,
        tcp_flags: u8,
        now: Instant,
    ) -> Result<Passed, Refusal> {
        let tick = Tick::at(now);
        self.catch_up(now, STEPS_PER_PACKET);
        if let Some(handle) = self.live_of_client(&tuple, hint, now) {
            let outside = self.pass_outbound(handle, pref64, tcp_flags, tick);
            let is_ripe = self.offload_after != 0 && self.is_ripe(handle, Side::Client);
            return Ok(Passed::new(outside, is_ripe));
        }
        // A session that begins costs a miss in each index. They come at once, not one by one.
        self.bib.prefetch_inside(client_side(&tuple));
        self.subscribers.prefetch(tuple.client);
        self.catch_up(now, STEPS_PER_SESSION);
        let opened = match tuple.protocol {
            Protocol::Udp => self.open_query(tuple, pref64, self.rules.lifetimes.udp, now),
            Protocol::Icmp => self.open_query(tuple, pref64, self.rules.lifetimes.icmp, now),
            Protocol::Tcp => self.tcp_closed_v6(tuple, pref64, tcp_flags, now),
        };
        let outside = opened.map_err(|refusal| self.told(refusal))?;
        Ok(Passed::new(outside, false))
    }

    /// What a client learns of a limit that is reached (RFC 6888 REQ-11).
    fn told(&self, refusal: Refusal) -> Refusal {
        let Refusal::Answer(reason, _) = refusal else {
            return refusal;
        };
        match self.rules.exhaustion_answer {
            Some(answer) => Refusal::Answer(reason, answer),
            None => Refusal::Silent(reason),
        }
    }

    /// Filtering and updating for a packet from the IPv4 side.
    pub(crate) fn inbound(
        &mut self,
        tuple: ExternalTuple,
        hint: u32,
        tcp_flags: u8,
        now: Instant,
    ) -> Result<Admitted, Refusal> {
        let tick = Tick::at(now);
        self.catch_up(now, STEPS_PER_PACKET);
        if let Some(handle) = self.live_of_external(&tuple, hint, now) {
            let passed = self.pass_inbound(handle, tcp_flags, tick);
            let is_ripe = self.offload_after != 0 && self.is_ripe(handle, Side::Remote);
            return Ok(Admitted::new(passed, is_ripe));
        }
        self.catch_up(now, STEPS_PER_SESSION);
        let outside = Outside {
            protocol: tuple.protocol,
            external: tuple.external,
            port: tuple.external_port,
        };
        let Some(binding) = self.open_binding(self.bib.of_outside(outside)) else {
            return Err(self.unbound(&tuple, tcp_flags));
        };
        let admitted = match tuple.protocol {
            Protocol::Udp => self.admit_query(binding, tuple, self.rules.lifetimes.udp, now),
            Protocol::Icmp => self.admit_query(binding, tuple, self.rules.lifetimes.icmp, now),
            Protocol::Tcp => self.tcp_closed_v4(binding, tuple, tcp_flags, now),
        };
        Ok(Admitted::new(admitted?, false))
    }

    /// The session that an ICMP error from the IPv6 side is about. Changes nothing.
    pub(crate) fn quoted_by_v6(&self, tuple: &ClientTuple, now: Instant) -> Option<Outside> {
        let session = self.sessions.session(self.sessions.of_client(tuple)?);
        (self.ends(session) > Tick::at(now)).then(|| outside(session))
    }

    /// The session that an ICMP error from the IPv4 side is about. Changes nothing.
    pub(crate) fn quoted_by_v4(&self, tuple: &ExternalTuple, now: Instant) -> Option<(Inside, u8)> {
        let session = self.sessions.session(self.sessions.of_external(tuple)?);
        (self.ends(session) > Tick::at(now)).then(|| (inside(session), session.pref64))
    }

    /// Ends what is over: sessions, and the rest of ports. At most `steps` of each; true if there
    /// may be more to do.
    pub(crate) fn catch_up(&mut self, now: Instant, steps: usize) -> bool {
        let tick = Tick::at(now);
        let mut left = steps;
        while let Some(handle) = self.sessions.next_expired(tick, &mut left) {
            self.time_out(handle, now);
        }
        for _ in 0..steps {
            let Some(freed) = self.pool.wake(tick) else {
                return left == 0;
            };
            if let Some(block) = freed {
                self.note_freed(block, now);
            }
        }
        true
    }

    /// The next point in time at which something may end or wants to be fetched; `None` if there
    /// is nothing.
    pub(crate) fn next_due(&self) -> Option<Tick> {
        let waits = !self.probes.is_empty() || !self.feed.is_empty();
        let now = waits.then_some(Tick::from_raw(0));
        let ends = [
            now,
            self.sessions.next_end(),
            self.syns.next_end(),
            self.pool.next_rested(),
        ];
        ends.into_iter().flatten().min()
    }

    /// True if there is a packet of the shard's own to send.
    pub(crate) fn has_packets(&self, now: Instant) -> bool {
        !self.probes.is_empty() || self.syns.has_answer(Tick::at(now))
    }

    /// First packet of a UDP or ICMP session from the client (RFC 6146 sections 3.5.1, 3.5.3).
    fn open_query(
        &mut self,
        tuple: ClientTuple,
        pref64: u8,
        life: Ticks,
        now: Instant,
    ) -> Result<Outside, Refusal> {
        let binding = self.binding_for(tuple, pref64, now)?;
        let expires = Tick::at(now).after(life);
        self.open_session(binding, tuple.remote, tuple.remote_port, 0, expires, now)
    }

    /// First packet of a UDP or ICMP session from outside, through a binding.
    fn admit_query(
        &mut self,
        binding: u32,
        tuple: ExternalTuple,
        life: Ticks,
        now: Instant,
    ) -> Result<(Inside, u8), Refusal> {
        if !self.is_admitted(binding, &tuple) {
            return Err(Refusal::Answer(
                DropReason::Filtered,
                Unreachable::Prohibited,
            ));
        }
        self.check_outsider(binding, now)?;
        let expires = Tick::at(now).after(life);
        self.open_session(binding, tuple.remote, tuple.remote_port, 0, expires, now)
            .map_err(silently)?;
        Ok(self.bound(binding))
    }

    /// The answer to a packet for a transport address without a binding.
    fn unbound(&self, tuple: &ExternalTuple, tcp_flags: u8) -> Refusal {
        match tuple.protocol {
            Protocol::Tcp => self.unbound_tcp(tuple, tcp_flags),
            Protocol::Udp | Protocol::Icmp => {
                Refusal::Answer(DropReason::NoBinding, Unreachable::Address)
            }
        }
    }

    /// The filter: whether the remote node may send through a binding that it has no session on.
    fn is_admitted(&self, binding: u32, tuple: &ExternalTuple) -> bool {
        let has_contact = || self.contacts.has(binding, tuple.remote);
        match self.rules.filtering {
            _ if !self.passes_remote_filters(binding, tuple) => false,
            Filtering::EndpointIndependent => true,
            Filtering::AddressDependent => self.is_open(binding) || has_contact(),
        }
    }

    fn bound(&self, binding: u32) -> (Inside, u8) {
        let binding = self.bib.binding(binding);
        (binding.inside(), binding.pref64)
    }
}

fn client_side(tuple: &ClientTuple) -> Inside {
    Inside {
        protocol: tuple.protocol,
        client: tuple.client,
        port: tuple.client_port,
    }
}

fn inside(session: &Session) -> Inside {
    Inside {
        protocol: session.protocol,
        client: session.client,
        port: session.client_port,
    }
}

fn outside(session: &Session) -> Outside {
    Outside {
        protocol: session.protocol,
        external: session.external,
        port: session.external_port,
    }
}

/// Outsiders learn nothing about the state of the tables.
fn silently(refusal: Refusal) -> Refusal {
    match refusal {
        Refusal::Answer(reason, _) => Refusal::Silent(reason),
        other => other,
    }
}

const fn full() -> Refusal {
    Refusal::Answer(DropReason::TableFull, Unreachable::Address)
}

const fn draining() -> Refusal {
    Refusal::Answer(DropReason::Draining, Unreachable::Address)
}

const fn exhausted() -> Refusal {
    Refusal::Answer(DropReason::PoolExhausted, Unreachable::Address)
}

const fn limited() -> Refusal {
    Refusal::Answer(DropReason::SubscriberLimit, Unreachable::Address)
}

/// Sessions looked at while a worker may have to wait.
const PART: u32 = 4096;

/// Timers looked at per packet. More than one, so that the wheel catches up whatever comes.
const STEPS_PER_PACKET: usize = 4;

/// The same before a session begins: what is over must neither stand in its way nor let it in.
const STEPS_PER_SESSION: usize = 64;
