//! The server's decisions: who gets which external port, for how long, and who may change that
//! (RFC 6887 sections 8.2, 11.3, 12.3 and 15).

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};
use std::time::Duration;

use xlat_core::Instant;
use xlat_core::addr::{Ipv6Prefix, Pref64};
use xlat_core::wire::IpNextHeaderProtocols as Protocols;

use super::message::{Map, Nonce, Operation, Peer, Request, Unreadable, error, success};
use super::option::{Filter, Options};
use super::port_mapper::{Held, Internal, PortMapper, Refusal, Remote, Suggestion};
use super::{Announcement, ResultCode};

/// Filters that one mapping may have.
const FILTERS_MAX: usize = 16;

/// What the server allows.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Bounds of lifetimes in seconds; 120 and 86400 are what section 15 recommends.
    pub lifetimes: (u32, u32),
    /// Clients that may ask for other hosts (section 13.1).
    pub third_party: Vec<Ipv6Prefix>,
    /// Maximum number of mappings of all clients.
    pub mappings_max: usize,
    /// The prefix that is told to those who ask (RFC 7225).
    pub pref64: Option<Pref64>,
}

/// A mapping that a client holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The client's port.
    pub internal: Internal,
    /// What it holds of it.
    pub held: Held,
    /// Proves that a request comes from the holder.
    pub nonce: Nonce,
    /// What the IPv4 side sees.
    pub external: SocketAddrV4,
    /// Who may send to it, if not everybody.
    pub filters: Vec<Filter>,
    /// When it ends.
    pub until: Instant,
}

type Key = (Internal, Held);

/// The mappings, and what is answered.
#[derive(Debug)]
pub struct Server {
    settings: Settings,
    mappings: BTreeMap<Key, Mapping>,
    expiries: BTreeSet<(Instant, Key)>,
    /// Changes of the mappings.
    generation: u64,
    start: Instant,
}

/// What a request leads to: the parts of a response with code SUCCESS.
type Done = Result<(Operation, Options, u32), Failed>;

/// A result code, and for how many seconds it will not change.
struct Failed(ResultCode, u32);

impl From<ResultCode> for Failed {
    fn from(code: ResultCode) -> Self {
        Self(code, code.error_lifetime())
    }
}

impl From<Refusal> for Failed {
    fn from(refusal: Refusal) -> Self {
        refusal.code().into()
    }
}

impl Server {
    /// A server without mappings, whose epoch begins at `start`.
    pub fn new(settings: Settings, start: Instant) -> Self {
        Self {
            settings,
            mappings: BTreeMap::new(),
            expiries: BTreeSet::new(),
            generation: 0,
            start,
        }
    }

    /// The response to a datagram from `source`, if it gets one.
    pub fn handle(
        &mut self,
        datagram: &[u8],
        source: Ipv6Addr,
        now: Instant,
        nat: &mut impl PortMapper,
    ) -> Option<Vec<u8>> {
        let done = match Request::parse(datagram) {
            Ok(request) => self.carry_out(request, source, now, nat),
            Err(Unreadable::Respond(code)) => Err(code.into()),
            Err(Unreadable::Ignore) => return None,
        };
        let epoch = self.epoch(now);
        Some(match done {
            Ok((operation, options, lifetime)) => {
                let pref64 = self.settings.pref64;
                success(&operation, &options, pref64, lifetime, epoch)
            }
            Err(Failed(code, lifetime)) => error(datagram, code, lifetime, epoch),
        })
    }

    /// Puts other settings in force; what is held stays.
    pub fn reconfigure(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// Begins a new epoch at `now`, so that clients ask for their mappings again: the external address
    /// is another one (section 8.5).
    pub fn begin_anew(&mut self, now: Instant) {
        self.start = now;
    }

    /// What tells all clients that the server has begun anew.
    pub fn announcement(&self, now: Instant) -> Announcement {
        Announcement {
            epoch: self.epoch(now),
        }
    }

    /// Ends the mappings whose time is over.
    pub fn expire(&mut self, now: Instant, nat: &mut impl PortMapper) {
        while let Some(&(until, key)) = self.expiries.first()
            && until <= now
        {
            self.remove(&key, nat);
        }
    }

    /// When the next mapping ends.
    pub fn next_expiry(&self) -> Option<Instant> {
        self.expiries.first().map(|&(until, _)| until)
    }

    /// All mappings, to be shown or saved.
    pub fn mappings(&self) -> impl Iterator<Item = &Mapping> {
        self.mappings.values()
    }

    /// A number that is another one whenever the mappings are others.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Takes up a mapping from before a restart. False if the NAT does not give the same external
    /// port any more; the client finds out by the epoch, or when it renews.
    pub fn restore(&mut self, mapping: Mapping, nat: &mut impl PortMapper) -> bool {
        let Mapping { internal, held, .. } = mapping;
        let exact = Suggestion {
            address: Some(*mapping.external.ip()),
            port: Some(mapping.external.port()),
            exact: true,
        };
        let given = match held {
            Held::Open => nat.map(internal, exact, &mapping.filters),
            Held::Connection(remote) => nat.keep(internal, remote, exact, mapping.until),
        };
        // What was exactly suggested is what was given.
        let is_same = given.is_ok();
        if is_same {
            self.insert(mapping);
        }
        is_same
    }

    fn carry_out(
        &mut self,
        request: Request,
        source: Ipv6Addr,
        now: Instant,
        nat: &mut impl PortMapper,
    ) -> Done {
        if request.client != source {
            return Err(ResultCode::AddressMismatch.into());
        }
        let host = self.host(&request)?;
        match request.operation {
            Operation::Announce => Ok((request.operation, request.options, 0)),
            Operation::Map(map) if request.lifetime == 0 => {
                self.delete(&map, host, now, nat)?;
                Ok((request.operation, request.options, 0))
            }
            Operation::Map(map) => {
                let (external, lifetime) = self.map(&map, host, &request, now, nat)?;
                let map = Operation::Map(map.assigned(nat.seen(external)));
                Ok((map, request.options, lifetime))
            }
            Operation::Peer(peer) => {
                let (external, lifetime) = self.keep(&peer, host, &request, now, nat)?;
                let map = peer.map.assigned(nat.seen(external));
                let peer = Operation::Peer(Peer { map, ..peer });
                Ok((peer, request.options, lifetime))
            }
        }
    }

    /// The host that the mapping is for (section 13.1).
    fn host(&self, request: &Request) -> Result<Ipv6Addr, ResultCode> {
        match request.options.third_party {
            None => Ok(request.client),
            Some(_) if self.settings.third_party.is_empty() => Err(ResultCode::UnsuppOption),
            Some(_) if !self.may_ask_for_others(request.client) => Err(ResultCode::NotAuthorized),
            Some(host) if host == request.client => Err(ResultCode::MalformedRequest),
            Some(host) => Ok(host),
        }
    }

    fn may_ask_for_others(&self, client: Ipv6Addr) -> bool {
        let mut allowed = self.settings.third_party.iter();
        allowed.any(|prefix| prefix.contains(client))
    }

    fn map(
        &mut self,
        map: &Map,
        host: Ipv6Addr,
        request: &Request,
        now: Instant,
        nat: &mut impl PortMapper,
    ) -> Result<(SocketAddrV4, u32), Failed> {
        let internal = internal(map, host)?;
        let key = (internal, Held::Open);
        let known = self.known(&key, map.nonce, now)?;
        let mut filters = known.map_or_else(Vec::new, |mapping| mapping.filters.clone());
        for filter in &request.options.filters {
            if filter.prefix_len == 0 {
                filters.clear();
            } else if !filters.contains(filter) {
                filters.push(*filter);
            }
        }
        if filters.len() > FILTERS_MAX {
            return Err(ResultCode::ExcessiveRemotePeers.into());
        }
        let suggested = suggestion(map, request.options.prefer_failure);
        let external = nat.map(internal, suggested, &filters)?;
        Ok(self.hold(key, map.nonce, external, filters, request.lifetime, now))
    }

    /// PEER. A lifetime of 0 lets the connection end by itself, it does not cut it (section 12.3).
    fn keep(
        &mut self,
        peer: &Peer,
        host: Ipv6Addr,
        request: &Request,
        now: Instant,
        nat: &mut impl PortMapper,
    ) -> Result<(SocketAddrV4, u32), Failed> {
        let internal = internal(&peer.map, host)?;
        if peer.remote_port == 0 || peer.remote.is_unspecified() {
            return Err(ResultCode::MalformedRequest.into());
        }
        let remote = Remote {
            address: peer.remote,
            port: peer.remote_port,
        };
        let key = (internal, Held::Connection(remote));
        let known = self.known(&key, peer.map.nonce, now)?;
        if request.lifetime == 0 {
            let known = known.map(|mapping| mapping.external);
            self.remove(&key, nat);
            let none = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);
            return Ok((known.unwrap_or(none), 0));
        }
        let suggested = suggestion(&peer.map, true);
        let until = now + Duration::from_secs(self.lifetime(request.lifetime).into());
        let external = nat.keep(internal, remote, suggested, until)?;
        let none = Vec::new();
        Ok(self.hold(key, peer.map.nonce, external, none, request.lifetime, now))
    }

    /// The mapping as it is, if it is the client's; room for another one if there is none.
    fn known(&self, key: &Key, nonce: Nonce, now: Instant) -> Result<Option<&Mapping>, Failed> {
        match self.mappings.get(key) {
            Some(mapping) if mapping.nonce != nonce => {
                Err(Failed(ResultCode::NotAuthorized, remaining(mapping, now)))
            }
            None if self.mappings.len() >= self.settings.mappings_max => {
                Err(ResultCode::NoResources.into())
            }
            known => Ok(known),
        }
    }

    /// Remembers what the NAT gave; what was given, and for how many seconds.
    fn hold(
        &mut self,
        (internal, held): Key,
        nonce: Nonce,
        external: SocketAddrV4,
        filters: Vec<Filter>,
        wanted: u32,
        now: Instant,
    ) -> (SocketAddrV4, u32) {
        let lifetime = self.lifetime(wanted);
        self.insert(Mapping {
            internal,
            held,
            nonce,
            external,
            filters,
            until: now + Duration::from_secs(lifetime.into()),
        });
        (external, lifetime)
    }

    /// Seconds that a client gets which wants so many.
    fn lifetime(&self, wanted: u32) -> u32 {
        let (least, most) = self.settings.lifetimes;
        wanted.clamp(least, most)
    }

    /// Section 15.1. What is not there is deleted already.
    fn delete(
        &mut self,
        map: &Map,
        host: Ipv6Addr,
        now: Instant,
        nat: &mut impl PortMapper,
    ) -> Result<(), Failed> {
        if map.protocol == 0 && map.internal_port != 0 {
            return Err(ResultCode::MalformedRequest.into());
        }
        let is_meant = |key: &Key| {
            let (internal, held) = *key;
            internal.client == host
                && held == Held::Open
                && (map.protocol == 0 || internal.protocol == map.protocol)
                && (map.internal_port == 0 || internal.port == map.internal_port)
        };
        let meant = self.mappings.iter().filter(|(key, _)| is_meant(key));
        let (own, others): (Vec<_>, Vec<_>) = meant.partition(|(_, it)| it.nonce == map.nonce);
        if let (true, Some((_, other))) = (own.is_empty(), others.first()) {
            return Err(Failed(ResultCode::NotAuthorized, remaining(other, now)));
        }
        let own: Vec<Key> = own.into_iter().map(|(key, _)| *key).collect();
        for key in own {
            self.remove(&key, nat);
        }
        Ok(())
    }

    fn insert(&mut self, mapping: Mapping) {
        let key = (mapping.internal, mapping.held);
        let until = mapping.until;
        self.generation += 1;
        if let Some(before) = self.mappings.insert(key, mapping) {
            self.expiries.remove(&(before.until, key));
        }
        self.expiries.insert((until, key));
    }

    fn remove(&mut self, key: &Key, nat: &mut impl PortMapper) {
        let Some(mapping) = self.mappings.remove(key) else {
            return;
        };
        self.expiries.remove(&(mapping.until, *key));
        self.generation += 1;
        let internal = mapping.internal;
        if let Held::Connection(remote) = mapping.held {
            nat.let_go(internal, remote);
        }
        let mut rest = self.mappings.range((internal, Held::Open)..);
        let is_held = rest
            .next()
            .is_some_and(|((other, _), _)| *other == internal);
        match mapping.held {
            _ if !is_held => nat.release(internal),
            Held::Open => nat.close(internal),
            Held::Connection(_) => {}
        }
    }

    fn epoch(&self, now: Instant) -> u32 {
        now.saturating_since(self.start)
            .as_secs()
            .min(u32::MAX.into()) as u32
    }
}

/// The client's port that a request names. All ports or all protocols at once is what a NAT that
/// shares addresses cannot give.
pub(super) fn internal(map: &Map, client: Ipv6Addr) -> Result<Internal, ResultCode> {
    let protocol = map.protocol;
    if protocol == 0 && map.internal_port != 0 {
        return Err(ResultCode::MalformedRequest);
    }
    let is_known = protocol == Protocols::Tcp.0 || protocol == Protocols::Udp.0;
    if !is_known || map.internal_port == 0 {
        return Err(ResultCode::UnsuppProtocol);
    }
    Ok(Internal {
        client,
        protocol,
        port: map.internal_port,
    })
}

fn suggestion(map: &Map, exact: bool) -> Suggestion {
    let port = (map.external_port != 0).then_some(map.external_port);
    let address = map.suggested_address();
    let exact = exact && (port.is_some() || address.is_some());
    Suggestion {
        address,
        port,
        exact,
    }
}

/// Seconds for which a mapping remains.
fn remaining(mapping: &Mapping, now: Instant) -> u32 {
    mapping
        .until
        .saturating_since(now)
        .as_secs()
        .min(u32::MAX.into()) as u32
}
