//! The table of a stateful NAT64 (RFC 6146), which all workers share: what the control plane asks
//! and changes. A worker's own half is [`Worker`](crate::Worker).

mod kept;
mod offload;
mod outer;
mod reload;
mod sessions;
mod subscription;

use std::cmp::Reverse;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use xlat_core::Instant;
use xlat_core::addr::{Ipv6Prefix, Pref64, Pref64s};
use xlat_core::mappers::SharedAddress;

use crate::clock::{Tick, Ticks};
use crate::config::{Config, ConfigError, Destination, Lifetimes, Limits};
use crate::fragments::{Bounds, Fragments};
use crate::offload::FlowOffload;
use crate::outer::OuterAddress;
use crate::ports::deterministic::Deterministic;
use crate::ports::pool::Pool;
use crate::shard::layout::Layout;
use crate::shard::{Counts, Rules, Shard, Usage};
use crate::siphash::SipKey;

pub use reload::ReloadError;
pub use subscription::Subscription;

/// A stateful NAT64: bindings, sessions, fragments and free ports. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Nat64 {
    pub(crate) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    current: Mutex<Current>,
    pub(crate) pref64s: Pref64s,
    pub(crate) prefixes: Vec<Pref64>,
    pub(crate) shards: Vec<Mutex<Shard>>,
    pub(crate) fragments: Vec<Mutex<Fragments>>,
    /// The next IPv4 identifications of fragments, by a hash of addresses and protocol.
    pub(crate) ids: Vec<AtomicU16>,
    pub(crate) key: SipKey,
    /// There are so many sessions that they are not in the cache.
    pub(crate) is_large: AtomicBool,
    /// The number of the next subscription.
    pub(crate) subscriptions: AtomicU32,
    /// What carries packets in the workers' place.
    offload: Mutex<Option<Arc<dyn FlowOffload>>>,
}

/// The configuration in force, which [`Nat64::reconfigure`] changes.
#[derive(Debug)]
struct Current {
    config: Arc<Config>,
    view: View,
}

/// What a worker reads without a lock, from a reference of its own: which shard has which address,
/// and which clients are served.
#[derive(Clone, Debug)]
pub struct View {
    pub(crate) layout: Arc<Layout>,
    pub(crate) clients: Arc<[Ipv6Prefix]>,
    pub(crate) denied: Arc<[Destination]>,
    /// Only workers that go by the configuration in force may install sessions in the offload.
    pub(crate) epoch: u32,
    /// What the IPv4 side sees of an address of the pool, if not the address itself,
    pub(crate) outer: Option<OuterAddress>,
    /// and which of its ports are those of the pool.
    pub(crate) shared: Option<Arc<SharedAddress>>,
}

impl View {
    fn new(config: &Config, layout: Layout, outer: Option<OuterAddress>, epoch: u32) -> Self {
        Self {
            layout: Arc::new(layout),
            clients: config.clients.as_slice().into(),
            denied: config.denied.as_slice().into(),
            epoch,
            outer,
            shared: outer.map(|outer| Arc::new(outer.shared(config))),
        }
    }
}

impl Nat64 {
    /// A NAT64 without sessions. `seed` is a random number that must stay secret: it keys the
    /// tables and the choice of ports.
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
            source_prefix: config.limits.subscriber_prefix,
        };
        let fragments = (0..FRAGMENT_PARTS)
            .map(|_| Mutex::new(Fragments::new(bounds, key)))
            .collect();
        let view = View::new(&config, layout, None, 0);
        let shared = Shared {
            current: Mutex::new(Current {
                config: Arc::new(config),
                view,
            }),
            pref64s,
            prefixes,
            shards,
            fragments,
            ids: (0..IDS)
                .map(|number| AtomicU16::new(key.hash([number, IDS]) as u16))
                .collect(),
            key,
            is_large: AtomicBool::new(false),
            subscriptions: AtomicU32::new(0),
            offload: Mutex::new(None),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// The configuration in force.
    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&lock(&self.shared.current).config)
    }

    /// What a worker has to [`adopt`](crate::Worker::adopt) to go by the configuration in force.
    pub fn view(&self) -> View {
        lock(&self.shared.current).view.clone()
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

    /// True if a worker should ask its translator for pending packets: keep-alive probes, and
    /// answers to SYNs that waited in vain.
    pub fn has_packets(&self, now: Instant) -> bool {
        let is_over = |end| end <= Tick::at(now);
        self.each_shard().any(|shard| shard.has_packets(now))
            || self.next_gone_fragment().is_some_and(is_over)
    }

    /// Takes no new subscribers from now on, or takes them again. Those that have a session or a binding
    /// may begin more.
    pub fn set_draining(&self, drains: bool) {
        self.each_shard()
            .for_each(|mut shard| shard.set_draining(drains));
    }

    /// A number that two NAT64s have in common if the subscribers of one are in the same shards of the
    /// other, so that it can take up sessions with their ports. It says nothing about the seed.
    pub fn layout_id(&self) -> u64 {
        match self.shared.shards.len() as u64 {
            1 => 0,
            shards => self.shared.key.hash([LAYOUT, shards]),
        }
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

    /// The subscriber of an external port, where the configuration determines it
    /// ([`PortPolicy::deterministic`](crate::config::PortPolicy::deterministic)).
    pub fn subscriber_of(&self, address: Ipv4Addr, port: u16) -> Option<Ipv6Prefix> {
        let view = self.view();
        let address = OuterAddress::meant(view.outer, address);
        view.layout.deterministic()?.subscriber_of(address, port)
    }

    /// When the next fragment will have waited in vain.
    fn next_gone_fragment(&self) -> Option<Tick> {
        let parts = self.shared.fragments.iter();
        parts.filter_map(|part| lock(part).next_end()).min()
    }

    pub(crate) fn each_shard(&self) -> impl Iterator<Item = MutexGuard<'_, Shard>> {
        self.shared.shards.iter().map(lock)
    }
}

/// Sessions, with 137 bytes each, that no cache of a core holds.
const LARGE: u32 = 30_000;
/// Independent parts of the fragments.
const FRAGMENT_PARTS: usize = 8;
/// Tells [`Nat64::layout_id`] from other numbers that the key gives.
const LAYOUT: u64 = 0x6c61_796f_7574;
/// Counters of identifications.
const IDS: u64 = 4096;

/// One shard, with its part of the limits and of the pool.
fn shard(config: &Config, layout: &Layout, number: u32, key: SipKey) -> Result<Shard, ConfigError> {
    let rules = rules(config, layout.deterministic().cloned());
    let pool = Pool::new(
        layout.usable(number, config),
        rules.lifetimes.port_hold_down,
        config
            .ports
            .blocks
            .map(|blocks| blocks.size.trailing_zeros()),
    );
    let own_key = [0, 1].map(|part| key.hash([u64::from(number), part]));
    let mut shard = Shard::new(number, rules, pool, own_key);
    for binding in &config.bindings {
        let is_here = layout.shard_of_client(binding.client) == number;
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
        deterministic,
    }
}

pub(crate) fn lock<T>(part: &Mutex<T>) -> MutexGuard<'_, T> {
    part.lock().unwrap_or_else(PoisonError::into_inner)
}
