//! What the threads of the server share: the answers, who may ask, and how much.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use dns64::Cache;
use tracing::warn;
use xlat_core::Instant;
use xlat_core::addr::Ipv6Prefix;

use crate::config::Config;
use crate::counters::{Counters, Outcome};
use crate::limits::{Client, Limits, Notices};

/// What the threads share. Who needs several of its locks takes them one after the other.
#[derive(Debug)]
pub(crate) struct Shared {
    answers: RwLock<Answers>,
    gate: Mutex<Gate>,
    pub(crate) counters: Arc<Counters>,
}

/// The answers under one configuration.
#[derive(Debug)]
pub(crate) struct Answers {
    pub(crate) cache: Cache,
    /// Number of the configuration: what was looked up under another is not kept.
    pub(crate) generation: u64,
    served: Vec<Ipv6Prefix>,
}

/// Who may ask.
#[derive(Debug)]
pub(crate) struct Gate {
    limits: Limits,
    notices: Notices,
}

impl Shared {
    pub(crate) fn new(config: &Config, counters: Arc<Counters>) -> Self {
        Self {
            answers: RwLock::new(Answers {
                cache: cache(config),
                generation: 0,
                served: config.served.clone(),
            }),
            gate: Mutex::new(Gate {
                limits: limits(config),
                notices: Notices::default(),
            }),
            counters,
        }
    }

    pub(crate) fn answers(&self) -> RwLockReadGuard<'_, Answers> {
        self.answers.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn answers_mut(&self) -> RwLockWriteGuard<'_, Answers> {
        self.answers.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Goes by another configuration. Returns its number.
    pub(crate) fn update(&self, before: &Config, config: &Config) -> u64 {
        if !before.has_same_limits(config) {
            self.gate().limits = limits(config);
        }
        let mut answers = self.answers_mut();
        answers.served.clone_from(&config.served);
        if !before.has_same_answers(config) {
            answers.cache = cache(config);
            answers.generation += 1;
        }
        answers.generation
    }

    /// Counts what a client is refused, and says so once a minute.
    pub(crate) fn limited(&self, gate: &mut Gate, client: Client, why: &str, now: Instant) {
        self.counters.count(Outcome::Limited);
        if gate.notices.is_due(client, now) {
            warn!("DNS64: {why}: client {client} is not answered");
        }
    }

    /// Charges the client with this address for a query. `None` if it may not ask, or not now.
    pub(crate) fn admit(&self, gate: &mut Gate, from: IpAddr, now: Instant) -> Option<Client> {
        let Some(client) = gate.limits.client(from) else {
            self.counters.count(Outcome::Refused);
            return None;
        };
        if !gate.limits.take(client, now) {
            let why = "more queries a second than --dns64-rate allows";
            self.limited(gate, client, why, now);
            return None;
        }
        Some(client)
    }
}

impl Answers {
    /// True if no addresses are made for this client.
    pub(crate) fn is_plain(&self, address: Ipv6Addr) -> bool {
        let mut served = self.served.iter();
        !self.served.is_empty() && !served.any(|prefix| prefix.contains(address))
    }
}

impl Gate {
    /// The client with this address, if it may ask.
    pub(crate) fn client(&self, address: IpAddr) -> Option<Client> {
        self.limits.client(address)
    }
}

fn cache(config: &Config) -> Cache {
    Cache::new(config.cache)
        .with_stale(config.stale)
        .with_prefetch(config.prefetches)
}

fn limits(config: &Config) -> Limits {
    Limits::new(config.allowed.clone(), config.on_link.clone(), config.rate)
}
