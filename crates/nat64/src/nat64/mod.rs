//! The stateful NAT64 as an address policy (RFC 6146): the translator's view of the shards.
//!
//! A packet goes through the RFC's steps: its tuple is determined (section 3.4), filtering and
//! updating finds or makes its session (3.5), which says what the outgoing tuple is (3.6); the
//! translator rewrites the packet (3.7) and turns it round if it is a hairpin (3.8).

mod fragmented;
mod gathered;
mod mapper;
mod prefetch;
mod reload;
mod tuple;

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use xlat_core::addr::{Ipv6Prefix, Pref64, Pref64s};
use xlat_core::{DropReason, Instant};

use crate::bib::Outside;
use crate::clock::{Tick, Ticks};
use crate::config::{Config, ConfigError, Lifetimes, Limits};
use crate::deterministic::Deterministic;
use crate::event::{BindingRecord, Event};
use crate::fragments::{Bounds, Fragments, Gone};
use crate::layout::Layout;
use crate::pool::Pool;
use crate::session::{Protocol, Session};
use crate::shard::{Counts, Rules, Shard, Usage};
use crate::siphash::SipKey;
use crate::snapshot::{Cursor, SavedSession, SkipReason};
use crate::tcp::TcpState;

use prefetch::Hints;
pub(crate) use prefetch::{Hint, Tuple};
pub use reload::{ReloadError, View};

/// A stateful NAT64. Clones share their state: each worker has one.
#[derive(Debug)]
pub struct Nat64 {
    shared: Arc<Shared>,
    view: View,
    hints: Hints,
    /// Packets that were held and can be translated now.
    released: VecDeque<Box<[u8]>>,
    /// Fragments that were held and cannot.
    gone: Gone,
    /// The packet that [`poll_packet`](xlat_core::mapper::PacketHolder::poll_packet) lends out.
    lent: Vec<u8>,
    /// No look for probes before this.
    next_look: Instant,
}

#[derive(Debug)]
struct Shared {
    config: Config,
    /// The configuration in force, which [`Nat64::reconfigure`] changes.
    current: Mutex<Config>,
    pref64s: Pref64s,
    prefixes: Vec<Pref64>,
    shards: Vec<Mutex<Shard>>,
    fragments: Vec<Mutex<Fragments>>,
    /// The next IPv4 identifications of fragments, by a hash of addresses and protocol.
    ids: Vec<AtomicU16>,
    key: SipKey,
    /// There are so many sessions that they are not in the cache.
    is_large: AtomicBool,
}

/// The end of a fragment that has waited in vain.
enum Ended {
    /// Its sender is told.
    Expired(Vec<u8>),
    /// It is counted.
    Lost(DropReason),
}

impl Nat64 {
    /// A NAT64 without sessions. `seed` is a random number, which nobody outside may know: it
    /// keys the tables and the choice of ports.
    ///
    /// # Errors
    /// A configuration that makes no sense.
    pub fn new(config: Config, pref64s: Pref64s, seed: [u64; 2]) -> Result<Self, ConfigError> {
        config.validate()?;
        let prefixes: Vec<Pref64> = pref64s.iter().copied().collect();
        if prefixes.is_empty() || prefixes.len() > usize::from(u8::MAX) {
            return Err(ConfigError::Prefixes(prefixes.len()));
        }
        let key = SipKey::new(seed);
        let deterministic = Deterministic::new(&config).map(Arc::new);
        let layout = Layout::new(&config, deterministic, key);
        let shards = (0..config.shards)
            .map(|number| shard(&config, &layout, number, key).map(Mutex::new))
            .collect::<Result<_, _>>()?;
        let bounds = Bounds {
            life: Ticks::covering(config.timers.fragment),
            memory: config.limits.fragment_memory as usize / FRAGMENT_PARTS,
            source_prefix: config.limits.subscriber_prefix.min(HOST_PREFIX),
        };
        let fragments = (0..FRAGMENT_PARTS)
            .map(|_| Mutex::new(Fragments::new(bounds, key)))
            .collect();
        let view = View::new(&config, layout);
        let shared = Arc::new(Shared {
            current: Mutex::new(config.clone()),
            config,
            pref64s,
            prefixes,
            shards,
            fragments,
            ids: (0..IDS)
                .map(|number| AtomicU16::new(key.hash([number, IDS]) as u16))
                .collect(),
            key,
            is_large: AtomicBool::new(false),
        });
        Ok(Self::sharing(shared, view))
    }

    fn sharing(shared: Arc<Shared>, view: View) -> Self {
        Self {
            shared,
            view,
            hints: Hints::default(),
            released: VecDeque::new(),
            gone: Gone::default(),
            lent: Vec::new(),
            next_look: Instant::ZERO,
        }
    }

    /// The configuration that it began with.
    pub fn config(&self) -> &Config {
        &self.shared.config
    }

    /// Ends what is over, at most `steps` sessions per shard. To be called now and then, so that
    /// sessions end on time when few packets come. True if there is more to do.
    pub fn expire(&self, now: Instant, steps: usize) -> bool {
        let (mut more, mut sessions) = (false, 0);
        for mut shard in self.each_shard() {
            more |= shard.catch_up(now, steps);
            sessions += shard.len();
        }
        let is_large = sessions >= LARGE;
        self.shared.is_large.store(is_large, Ordering::Relaxed);
        more
    }

    /// How long after `now` nothing ends here and nothing waits to be fetched: as long as no packet
    /// comes, [`expire`](Self::expire) need not be called before. `None` without sessions, ports at
    /// rest, SYNs that wait and events.
    pub fn rest(&self, now: Instant) -> Option<Duration> {
        let shards = self.each_shard().filter_map(|shard| shard.next_due()).min();
        let fragments = self.next_gone_fragment();
        let due = shards.into_iter().chain(fragments).min()?;
        Some(due.since(now))
    }

    /// True if a worker should ask its translator for packets of its own: keep-alive probes, and
    /// answers to SYNs that waited in vain.
    pub fn has_packets(&self, now: Instant) -> bool {
        let is_over = |end| end <= Tick::at(now);
        self.each_shard().any(|shard| shard.has_packets(now))
            || self.next_gone_fragment().is_some_and(is_over)
    }

    /// Moves all events that wait into `into`; the number of those that were lost because nobody
    /// came for them.
    pub fn drain_events(&self, into: &mut Vec<Event>) -> u64 {
        self.each_shard()
            .map(|mut shard| shard.drain_events(into))
            .sum()
    }

    /// How much of everything there is.
    pub fn counts(&self) -> Counts {
        self.each_shard()
            .fold(Counts::default(), |sum, shard| sum + shard.counts())
    }

    /// The `count` subscribers with the most sessions, most first. Holds up no worker for longer
    /// than a few thousand of them take.
    pub fn top_subscribers(&self, count: usize) -> Vec<Usage> {
        let mut top: Vec<Usage> = Vec::new();
        for shard in &self.shared.shards {
            let mut next = Some(0);
            while let Some(start) = next {
                let (usage, then) = lock(shard).usage(start);
                top.extend(usage);
                top.sort_by_key(|usage| Reverse(usage.sessions));
                top.truncate(count);
                next = then;
            }
        }
        top
    }

    /// Sessions from `cursor` on, `limit` at the most and maybe none, and where to go on; `None` at
    /// the end. Holds up no worker for longer than that takes. `epoch` is the wall clock's time at `now`, in seconds
    /// since 1970. Sessions that come and go between two calls may be missed.
    pub fn sessions(
        &self,
        cursor: Cursor,
        limit: usize,
        now: Instant,
        epoch: u64,
    ) -> (Vec<SavedSession>, Option<Cursor>) {
        let Some(shard) = self.shared.shards.get(cursor.shard as usize) else {
            return (Vec::new(), None);
        };
        let (listed, next) =
            lock(shard).list(cursor.handle, u32::try_from(limit).unwrap_or(u32::MAX));
        let next = match next {
            Some(handle) => Cursor { handle, ..cursor },
            None => Cursor {
                shard: cursor.shard + 1,
                handle: 0,
            },
        };
        let sessions = listed
            .into_iter()
            .filter(|(session, _)| session.expires() > Tick::at(now))
            .map(|(session, tcp)| self.saved(&session, tcp, now, epoch))
            .collect();
        let is_more = (next.shard as usize) < self.shared.shards.len();
        (sessions, is_more.then_some(next))
    }

    /// Takes up a saved session; to be called before the first packet. `epoch` is the wall clock's
    /// time at `now`, in seconds since 1970.
    ///
    /// # Errors
    /// Why it was not taken up.
    pub fn restore(
        &self,
        saved: &SavedSession,
        now: Instant,
        epoch: u64,
    ) -> Result<(), SkipReason> {
        let left = saved.expires.saturating_sub(epoch);
        let longest = self.lifetime(saved);
        if left == 0 {
            return Err(SkipReason::Expired);
        }
        let expires = Tick::at(now).after(Ticks::covering(longest.min(Duration::from_secs(left))));
        let prefix = self
            .shared
            .prefixes
            .iter()
            .position(|one| *one == saved.pref64);
        let pref64 = prefix.ok_or(SkipReason::Prefix)? as u8;
        let number = self.view.0.layout.shard_of_client(saved.binding.client);
        let outside = Outside {
            protocol: saved.binding.protocol,
            external: saved.binding.external.to_bits(),
            port: saved.binding.external_port,
        };
        if self.view.0.layout.shard_of_external(outside) != Some(number) {
            return Err(SkipReason::NotInPool);
        }
        if let Some(deterministic) = self.view.0.layout.deterministic() {
            let owner = deterministic.subscriber_of(saved.binding.external, outside.port);
            if owner.is_none_or(|owner| !owner.contains(saved.binding.client)) {
                return Err(SkipReason::NotInPool);
            }
        }
        lock(&self.shared.shards[number as usize]).restore(saved, pref64, expires, now)
    }

    /// The subscriber who has an external port, where that follows from the configuration
    /// ([`PortPolicy::deterministic`](crate::config::PortPolicy::deterministic)).
    pub fn subscriber_of(&self, address: Ipv4Addr, port: u16) -> Option<Ipv6Prefix> {
        let layout = &self.view.0.layout;
        layout.deterministic()?.subscriber_of(address, port)
    }

    /// The longest that a session of this kind can live: what a changed clock cannot stretch.
    fn lifetime(&self, saved: &SavedSession) -> Duration {
        let timers = &self.shared.config.timers;
        match saved.binding.protocol {
            Protocol::Udp => timers.udp,
            Protocol::Icmp => timers.icmp,
            Protocol::Tcp => timers.tcp_established,
        }
    }

    fn saved(
        &self,
        session: &Session,
        tcp: Option<TcpState>,
        now: Instant,
        epoch: u64,
    ) -> SavedSession {
        SavedSession {
            binding: BindingRecord {
                protocol: session.protocol,
                client: session.client,
                client_port: session.client_port,
                external: Ipv4Addr::from_bits(session.external),
                external_port: session.external_port,
            },
            remote: Ipv4Addr::from_bits(session.remote),
            remote_port: session.remote_port,
            pref64: self.shared.prefixes[usize::from(session.pref64)],
            tcp,
            expires: epoch + session.expires().seconds_after(now),
        }
    }

    /// When the next fragment will have waited in vain.
    fn next_gone_fragment(&self) -> Option<Tick> {
        let parts = self.shared.fragments.iter();
        parts.filter_map(|part| lock(part).next_end()).min()
    }

    fn each_shard(&self) -> impl Iterator<Item = MutexGuard<'_, Shard>> {
        self.shared.shards.iter().map(lock)
    }
}

impl Clone for Nat64 {
    fn clone(&self) -> Self {
        Self::sharing(Arc::clone(&self.shared), self.view.clone())
    }
}

/// Sessions, with 137 bytes each, that no cache of a core holds.
const LARGE: u32 = 30_000;
/// Independent parts of the fragments.
const FRAGMENT_PARTS: usize = 8;
/// A host has as many addresses as it likes in one of these.
const HOST_PREFIX: u8 = 64;
/// Counters of identifications.
const IDS: u64 = 4096;
/// Time between two looks for probes.
const LOOK: Duration = Duration::from_millis(200);

/// One shard, with its part of the limits and of the pool.
fn shard(config: &Config, layout: &Layout, number: u32, key: SipKey) -> Result<Shard, ConfigError> {
    let rules = rules(config, layout.deterministic().cloned());
    let pool = Pool::new(
        layout.usable(number, config),
        rules.lifetimes.port_rest,
        config
            .ports
            .blocks
            .map(|blocks| blocks.size.trailing_zeros()),
    );
    let number = u64::from(number);
    let own_key = [key.hash([number, 0]), key.hash([number, 1])];
    let mut shard = Shard::new(rules, pool, own_key);
    for binding in &config.bindings {
        let is_here = u64::from(layout.shard_of_client(binding.client)) == number;
        if is_here && !shard.add_static(binding) {
            return Err(ConfigError::NoRoom(*binding));
        }
    }
    Ok(shard)
}

/// What a shard goes by; each has its part of the limit of sessions.
fn rules(config: &Config, deterministic: Option<Arc<Deterministic>>) -> Rules {
    Rules {
        lifetimes: Lifetimes::new(&config.timers),
        filtering: config.filtering,
        inbound: config.inbound,
        limits: Limits {
            sessions: config.limits.sessions.div_ceil(config.shards),
            ..config.limits
        },
        ports: config.ports,
        exhaustion_answer: config.exhaustion_answer,
        log: config.log,
        deterministic,
    }
}

fn lock<T>(part: &Mutex<T>) -> MutexGuard<'_, T> {
    part.lock().unwrap_or_else(PoisonError::into_inner)
}
