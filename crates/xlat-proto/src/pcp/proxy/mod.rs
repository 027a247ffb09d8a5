//! PCP proxy of a CLAT: IPv4 hosts ask it for external ports by PCP or NAT-PMP, and it asks the
//! network's PCP server for them (RFC 6887, RFC 6886; the duties are those of RFC 7648).
//!
//! Each host has an IPv6 address in the network, from which the proxy asks in its place, so the
//! server sees an ordinary client. Hosts that share an address get a port of it, and a [`Forward`]
//! leads there. The server says what is given and for how long; the proxy remembers it to ask again
//! when the server has lost it. Hosts renew their mappings themselves.

mod announce;
mod ask;
mod asker;
mod epoch;
mod hosts;
mod intake;
mod ports;
mod rate;

use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};
use std::time::Duration;

use xlat_core::Instant;

use super::ResultCode;
use super::client::{Datagram, Response};
use super::message::{Nonce, Operation};
use super::option::Filter;

pub use hosts::Hosts;
pub use ports::Forward;

use announce::{Announcing, Check};
use ask::Job;
use epoch::ServerEpoch;
use rate::Rates;

/// What the proxy is given once.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// From which nonces are derived for hosts that have none (NAT-PMP): after a restart the server
    /// still knows the holder.
    pub secret: [u64; 2],
    /// Maximum number of mappings of one host.
    pub per_host: usize,
    /// Maximum number of mappings of all hosts.
    pub total: usize,
}

/// Where a request came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The caller's number of the socket.
    pub socket: usize,
    /// The host.
    pub from: SocketAddrV4,
}

/// What the caller is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Answer a host.
    Reply {
        /// Where it asked.
        to: Arrival,
        /// The message.
        message: Vec<u8>,
    },
    /// Ask a PCP server.
    Ask {
        /// Source address.
        from: Ipv6Addr,
        /// The server.
        to: Ipv6Addr,
        /// The message.
        message: Vec<u8>,
    },
    /// Tell all IPv4 hosts, by multicast.
    Announce(Vec<u8>),
}

/// What a host holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    host: Ipv4Addr,
    protocol: u8,
    port: u16,
    /// The remote peer, if only the connection to it is kept.
    peer: Option<SocketAddrV4>,
}

/// A mapping, asked for or given.
#[derive(Clone, Debug)]
struct Mapping {
    nonce: Nonce,
    /// Address and port by which the server knows the host.
    client: Ipv6Addr,
    port: u16,
    /// What the IPv4 side sees, once the server has given it.
    external: Option<SocketAddrV4>,
    until: Instant,
    /// Who may send to it, if not everybody.
    filters: Vec<Filter>,
    /// It serves to learn the external address, and leads nowhere (RFC 6887 section 11.6).
    is_probe: bool,
}

/// A mapping that a host holds, to be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// IP protocol number.
    pub protocol: u8,
    /// The host's address and port.
    pub host: SocketAddrV4,
    /// What the IPv4 side sees.
    pub external: SocketAddrV4,
    /// When it ends.
    pub until: Instant,
}

/// The proxy.
#[derive(Debug)]
pub struct Proxy {
    settings: Settings,
    hosts: Hosts,
    servers: Vec<Ipv6Addr>,
    /// The server in use.
    current: usize,
    has_answered: bool,
    /// No server answers; hosts are told so without asking until then.
    silent_until: Option<Instant>,
    server_epoch: ServerEpoch,
    /// Since when hosts can rely on what they hold.
    start: Instant,
    mappings: BTreeMap<Key, Mapping>,
    jobs: BTreeMap<Key, Job>,
    announcing: Option<Announcing>,
    check: Option<Check>,
    rates: Rates,
    outputs: VecDeque<Output>,
}

/// True if this host has no socket of its own at a port of a protocol.
pub type IsFree<'a> = &'a dyn Fn(u8, u16) -> bool;

impl Proxy {
    /// A proxy without mappings. Hosts are told that it has begun.
    pub fn new(settings: Settings, hosts: Hosts, servers: Vec<Ipv6Addr>, now: Instant) -> Self {
        Self {
            settings,
            hosts,
            servers,
            current: 0,
            has_answered: false,
            silent_until: None,
            server_epoch: ServerEpoch::default(),
            start: now,
            mappings: BTreeMap::new(),
            jobs: BTreeMap::new(),
            announcing: Some(Announcing::begin(now)),
            check: None,
            rates: Rates::default(),
            outputs: VecDeque::new(),
        }
    }

    /// The hosts it serves.
    pub fn hosts(&self) -> &Hosts {
        &self.hosts
    }

    /// Asks these servers from now on, the first one first (RFC 7488). Where the one in use is not
    /// among them, another is asked for what hosts hold.
    pub fn set_servers(&mut self, servers: Vec<Ipv6Addr>, now: Instant) {
        if self.servers == servers {
            return;
        }
        let used = self.servers.get(self.current);
        let place = servers.iter().position(|server| Some(server) == used);
        self.current = place.unwrap_or(0);
        if place.is_none() {
            (self.has_answered, self.silent_until) = (false, None);
            self.server_epoch = ServerEpoch::default();
        }
        self.servers = servers;
        if place.is_none() && !self.mappings.is_empty() {
            self.on_loss(None, 0, now);
        }
    }

    /// What is to be done next, if anything.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// What hosts hold.
    pub fn held(&self) -> impl Iterator<Item = Held> {
        let real = self.mappings.iter().filter(|(_, it)| !it.is_probe);
        real.filter_map(|(key, mapping)| {
            Some(Held {
                protocol: key.protocol,
                host: SocketAddrV4::new(key.host, key.port),
                external: mapping.external?,
                until: mapping.until,
            })
        })
    }

    /// True if the network has answered, so that hosts get ports.
    pub fn has_server(&self) -> bool {
        self.has_answered
    }

    /// True while a server may have something to say.
    pub fn is_busy(&self) -> bool {
        !self.mappings.is_empty() || self.check.is_some()
    }

    /// A packet of the network: a response, if a server sent it to a client of ours.
    pub fn on_packet(&mut self, packet: &[u8], now: Instant) {
        if let Some(datagram) = Datagram::parse(packet) {
            self.on_response(datagram.from, datagram.to, datagram.payload, now);
        }
    }

    /// A response, which `from` sent to `to` (RFC 6887 section 8.3).
    pub fn on_response(&mut self, from: Ipv6Addr, to: Ipv6Addr, datagram: &[u8], now: Instant) {
        let Some(at) = self.servers.iter().position(|server| *server == from) else {
            return;
        };
        let Some(response) = Response::parse(datagram) else {
            return;
        };
        let key = self.meant(to, &response.operation);
        let is_check = response.operation == Operation::Announce && self.check.is_some();
        if key.is_none() && !is_check {
            return;
        }
        if at != self.current || !self.has_answered {
            (self.current, self.has_answered) = (at, true);
            self.server_epoch = ServerEpoch::default();
        }
        self.silent_until = None;
        let is_lost = !self.server_epoch.continues(response.epoch, now);
        match key {
            Some(key) => self.finish(key, &response, now),
            None => self.check = None,
        }
        if is_lost {
            self.on_loss(key, response.epoch, now);
        }
    }

    /// What a response is about.
    fn meant(&self, client: Ipv6Addr, operation: &Operation) -> Option<Key> {
        let (map, peer) = match operation {
            Operation::Announce => return None,
            Operation::Map(map) => (map, None),
            Operation::Peer(peer) => (&peer.map, Some((peer.remote, peer.remote_port))),
        };
        let mut mappings = self.mappings.iter();
        let found = mappings.find(|(key, mapping)| {
            let remote = key
                .peer
                .map(|to| (self.hosts.pref64.embed(*to.ip()), to.port()));
            mapping.client == client
                && mapping.nonce == map.nonce
                && mapping.port == map.internal_port
                && key.protocol == map.protocol
                && remote == peer
        });
        found.map(|(key, _)| *key)
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Instant) {
        self.expire(now);
        self.ask_again(now);
        self.announce(now);
        self.check_again(now);
    }

    /// When [`Proxy::tick`] has something to do.
    pub fn next_due(&self) -> Option<Instant> {
        let jobs = self.jobs.values().map(|job| job.next);
        let ending = self.mappings.iter();
        let ending = ending.filter(|(key, _)| !is_asked(&self.jobs, key));
        let ends = ending.map(|(_, mapping)| mapping.until);
        let announcing = self.announcing.iter().map(|it| it.next);
        let check = self.check.iter().map(|it| it.next);
        jobs.chain(ends).chain(announcing).chain(check).min()
    }

    fn expire(&mut self, now: Instant) {
        let jobs = &self.jobs;
        // What is being asked for has an end of its own.
        let is_over = |key: &Key, it: &Mapping| it.until <= now && !is_asked(jobs, key);
        self.mappings.retain(|key, it| !is_over(key, it));
        self.jobs.retain(|key, _| self.mappings.contains_key(key));
    }

    /// Seconds since hosts can rely on what they hold.
    fn epoch(&self, now: Instant) -> u32 {
        let seconds = now.saturating_since(self.start).as_secs();
        seconds.min(u32::MAX.into()) as u32
    }
}

/// True if a host waits for the answer.
fn is_asked(jobs: &BTreeMap<Key, Job>, key: &Key) -> bool {
    jobs.get(key).is_some_and(|job| !job.askers.is_empty())
}

/// How an error is told to hosts, and how long it lasts.
type Refused = (ResultCode, u32);

fn refused(code: ResultCode) -> Refused {
    (code, code.error_lifetime())
}

/// How long a mapping is remembered that the server has not given yet.
const PENDING: Duration = Duration::from_secs(120);

#[cfg(test)]
mod tests;
