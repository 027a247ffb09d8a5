//! Questions to the server: asked, repeated, answered or given up (RFC 6887 section 8.1.1).

use std::hash::Hasher;
use std::net::{Ipv6Addr, SocketAddrV4};
use std::time::Duration;

use siphasher::sip::SipHasher24;
use xlat_core::Instant;

use super::announce::Announcing;
use super::asker::{Asker, Given};
use super::{Key, Output, PENDING, Proxy, refused};
use crate::pcp::ResultCode;
use crate::pcp::client::{Request, Response};
use crate::pcp::message::{Map, Operation, Peer};
use crate::pcp::option::{Filter, Options};

/// Until a request is repeated for the first time; then twice that, and so on.
const FIRST_WAIT: Duration = Duration::from_secs(3);
const LAST_WAIT: Duration = Duration::from_secs(1024);
/// A host that repeats its request makes the proxy repeat its own, but not sooner than this.
const PATIENCE: Duration = Duration::from_millis(200);
/// How often a server is asked that has never answered, and one that has.
const TRIES: u32 = 2;
const TRIES_KNOWN: u32 = 4;
/// For how long hosts are told that there is no server.
const SILENCE: Duration = Duration::from_secs(30);
/// Hosts that may wait for the same answer; there is one, unless it changes its port to ask.
const ASKERS: usize = 4;

/// A question that the server has not answered.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) lifetime: u32,
    suggested: SocketAddrV4,
    options: Options,
    pub(super) askers: Vec<Asker>,
    tries: u32,
    wait: Duration,
    last: Option<Instant>,
    pub(super) next: Instant,
}

impl Job {
    /// What a host has asked for.
    pub(super) fn new(
        lifetime: u32,
        suggested: SocketAddrV4,
        options: Options,
        now: Instant,
    ) -> Self {
        Self {
            lifetime,
            suggested,
            options,
            askers: Vec::new(),
            tries: 0,
            wait: FIRST_WAIT,
            last: None,
            next: now,
        }
    }

    /// What a host holds, and the server has forgotten.
    pub(super) fn again(lifetime: u32, external: SocketAddrV4, at: Instant) -> Self {
        Self::new(lifetime, external, Options::default(), at)
    }
}

impl Proxy {
    /// Another host waits for the answer, or the same one has repeated its request.
    pub(super) fn join(&mut self, key: Key, asker: Asker, now: Instant) {
        let Some(job) = self.jobs.get_mut(&key) else {
            return;
        };
        job.askers.retain(|other| other.arrival != asker.arrival);
        if job.askers.len() < ASKERS {
            job.askers.push(asker);
        }
        match job.last {
            None => self.repeat(key, now),
            Some(last) if now >= last + PATIENCE => self.send(key, now),
            Some(_) => {}
        }
    }

    /// Repeats the requests that are due, or gives them up.
    pub(super) fn ask_again(&mut self, now: Instant) {
        let due = self.jobs.iter().filter(|(_, job)| job.next <= now);
        let due: Vec<Key> = due.map(|(key, _)| *key).collect();
        for key in due {
            self.repeat(key, now);
        }
    }

    fn repeat(&mut self, key: Key, now: Instant) {
        let most = if self.has_answered {
            TRIES_KNOWN
        } else {
            TRIES
        };
        let Some(job) = self.jobs.get_mut(&key) else {
            return;
        };
        // What no host waits for is asked until its time is over.
        if job.tries < most || job.askers.is_empty() {
            job.tries += 1;
            let jitter = job.wait / 16 * (self.jitter(key) % 3) as u32;
            let Some(job) = self.jobs.get_mut(&key) else {
                return;
            };
            job.next = now + job.wait + jitter;
            job.wait = (job.wait * 2).min(LAST_WAIT);
            self.send(key, now);
            return;
        }
        if self.current + 1 < self.servers.len() && !self.has_answered {
            // The next server (RFC 7488); all questions begin again there.
            self.current += 1;
            for job in self.jobs.values_mut() {
                (job.tries, job.wait, job.next) = (0, FIRST_WAIT, now);
            }
            self.repeat(key, now);
            return;
        }
        self.current = 0;
        self.has_answered = false;
        self.silent_until = Some(now + SILENCE);
        self.abandon(key, now);
    }

    /// Answers the hosts that no server answers.
    fn abandon(&mut self, key: Key, now: Instant) {
        let failure = refused(ResultCode::NetworkFailure);
        self.conclude(key, Err(failure), now);
    }

    /// Ends a question with its answer.
    fn conclude(&mut self, key: Key, given: Given, now: Instant) {
        let job = self.jobs.remove(&key);
        let is_new = self
            .mappings
            .get(&key)
            .is_some_and(|it| it.external.is_none());
        let is_over = match given {
            Ok((_, lifetime)) => lifetime == 0,
            // The server has forgotten it and does not give it again.
            Err(_) => is_new || job.as_ref().is_some_and(|job| job.askers.is_empty()),
        };
        if is_over {
            self.mappings.remove(&key);
        }
        for asker in job.map(|job| job.askers).unwrap_or_default() {
            self.respond(&asker, given, now);
        }
    }

    /// Takes over a response about `key`.
    pub(super) fn finish(&mut self, key: Key, response: &Response, now: Instant) {
        let code = ResultCode::from_number(response.result);
        let job = self.jobs.get(&key);
        if code != Some(ResultCode::Success) {
            let code = code.unwrap_or(ResultCode::NetworkFailure);
            if job.is_some() {
                self.conclude(key, Err((code, response.lifetime)), now);
            }
            return;
        }
        let Some(external) = external(&response.operation) else {
            return self.abandon(key, now);
        };
        let is_deleted = response.lifetime == 0;
        // A late answer to a request before.
        if job.is_some_and(|job| (job.lifetime == 0) != is_deleted) {
            return;
        }
        let filters = job.map(|job| job.options.filters.clone());
        if let Some(mapping) = self.mappings.get_mut(&key) {
            let is_moved = mapping.external.is_some_and(|before| before != external);
            mapping.external = Some(external);
            mapping.until = now + Duration::from_secs(response.lifetime.into());
            merge(&mut mapping.filters, filters.unwrap_or_default());
            if is_moved && !is_deleted {
                self.announcing = Some(Announcing::begin(now));
            }
        }
        self.conclude(key, Ok((external, response.lifetime)), now);
    }

    /// Sends the question to the server.
    fn send(&mut self, key: Key, now: Instant) {
        let Some(&to) = self.servers.get(self.current) else {
            return;
        };
        let (Some(mapping), Some(job)) = (self.mappings.get(&key), self.jobs.get_mut(&key)) else {
            return;
        };
        job.last = Some(now);
        let map = Map {
            nonce: mapping.nonce,
            protocol: key.protocol,
            internal_port: mapping.port,
            external_port: job.suggested.port(),
            external: job.suggested.ip().to_ipv6_mapped(),
        };
        let operation = match key.peer {
            None => Operation::Map(map),
            Some(remote) => Operation::Peer(Peer {
                map,
                remote_port: remote.port(),
                remote: self.hosts.pref64.embed(*remote.ip()),
            }),
        };
        // Filters add up, and the server may have forgotten those before.
        let mut options = job.options.clone();
        options.filters.splice(..0, mapping.filters.iter().copied());
        let from: Ipv6Addr = mapping.client;
        let request = Request {
            lifetime: job.lifetime,
            client: from,
            operation,
            options: &options,
        };
        let message = request.emit();
        self.outputs.push_back(Output::Ask { from, to, message });
    }

    /// How long a mapping is kept that is asked for.
    pub(super) fn pending(now: Instant) -> Instant {
        now + PENDING
    }

    fn jitter(&self, key: Key) -> u64 {
        self.hash(&key, 5)
    }

    /// A number that only this proxy can compute.
    pub(super) fn hash(&self, key: &Key, purpose: u8) -> u64 {
        let [a, b] = self.settings.secret;
        let mut hasher = SipHasher24::new_with_keys(a, b);
        hasher.write(b"pcp");
        hasher.write(&[purpose, key.protocol]);
        hasher.write(&key.host.octets());
        hasher.write(&key.port.to_be_bytes());
        hasher.finish()
    }
}

/// What the server gave, if that is an IPv4 address and a port.
fn external(operation: &Operation) -> Option<SocketAddrV4> {
    let map = match operation {
        Operation::Announce => return None,
        Operation::Map(map) => map,
        Operation::Peer(peer) => &peer.map,
    };
    let address = map.external.to_ipv4_mapped()?;
    Some(SocketAddrV4::new(address, map.external_port))
}

/// Adds filters to those of a mapping, as the server does (RFC 6887 section 13.3).
fn merge(filters: &mut Vec<Filter>, more: Vec<Filter>) {
    for filter in more {
        if filter.prefix_len == 0 {
            filters.clear();
        } else if !filters.contains(&filter) {
            filters.push(filter);
        }
    }
}
