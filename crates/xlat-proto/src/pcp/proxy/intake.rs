//! Requests of hosts: who may ask for what, and what of it goes to the server.

use std::net::{Ipv4Addr, SocketAddrV4};

use xlat_core::Instant;
use xlat_core::wire::IpNextHeaderProtocols as Protocols;

use super::ask::Job;
use super::asker::{Asker, Question};
use super::{Arrival, IsFree, Key, Mapping, Proxy, Refused, refused};
use crate::pcp::message::{self, Map, Nonce, Operation, Peer, Request, Unreadable};
use crate::pcp::natpmp;
use crate::pcp::option::Options;
use crate::pcp::{ResultCode, server};

/// Port and lifetime of the mapping that serves to learn the external address (RFC 6887 section
/// 11.6).
const DISCARD: u16 = 9;
const PROBE_LIFETIME: u32 = 120;

/// What a host wants.
struct Wish {
    key: Key,
    nonce: Nonce,
    lifetime: u32,
    suggested: SocketAddrV4,
    options: Options,
    is_probe: bool,
}

impl Proxy {
    /// A datagram of a host. `is_free` tells whether this host itself uses a port.
    pub fn on_request(
        &mut self,
        arrival: Arrival,
        datagram: &[u8],
        now: Instant,
        is_free: IsFree<'_>,
    ) {
        let host = *arrival.from.ip();
        if !self.rates.allow(host, now) {
            return;
        }
        match datagram.first() {
            None => {}
            Some(&natpmp::VERSION) => self.on_natpmp(arrival, datagram, now, is_free),
            Some(_) => self.on_pcp(arrival, datagram, now, is_free),
        }
    }

    fn on_natpmp(&mut self, arrival: Arrival, datagram: &[u8], now: Instant, is_free: IsFree<'_>) {
        let host = *arrival.from.ip();
        let ask = |question| Asker { arrival, question };
        match natpmp::Request::parse(datagram) {
            Err(natpmp::Unreadable::Ignore) => {}
            Err(natpmp::Unreadable::Opcode(opcode)) => {
                self.reply(arrival, natpmp::unsupported(opcode, self.epoch(now)));
            }
            Ok(natpmp::Request::Address) => {
                self.tell_address(host, &ask(Question::Address), now, is_free);
            }
            Ok(natpmp::Request::Map(map)) => {
                let asker = ask(Question::NatPmp(map));
                if map.internal_port == 0 {
                    return self.on_all_ports(host, &map, &asker, now);
                }
                let key = key(host, map.protocol, map.internal_port);
                let wish = Wish {
                    key,
                    nonce: self.nonce(&key),
                    lifetime: map.lifetime,
                    suggested: natpmp::suggested(map.external_port),
                    options: Options::default(),
                    is_probe: false,
                };
                self.want(wish, asker, now, is_free);
            }
        }
    }

    /// NAT-PMP: all ports of a protocol can be deleted, but not mapped (RFC 6886 section 3.4).
    fn on_all_ports(&mut self, host: Ipv4Addr, map: &natpmp::Map, asker: &Asker, now: Instant) {
        if map.lifetime != 0 {
            return self.respond(asker, Err(refused(ResultCode::UnsuppProtocol)), now);
        }
        let meant = |key: &Key| key.host == host && key.protocol == map.protocol;
        self.delete_all(meant, |proxy, key, it| it.nonce == proxy.nonce(key), now);
        let none = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);
        self.respond(asker, Ok((none, 0)), now);
    }

    /// Deletes what is meant and is the host's own; false if only others' is there.
    fn delete_all(
        &mut self,
        meant: impl Fn(&Key) -> bool,
        is_own: impl Fn(&Self, &Key, &Mapping) -> bool,
        now: Instant,
    ) -> bool {
        let open = self.mappings.iter().filter(|(key, _)| key.peer.is_none());
        let meant = open.filter(|(key, _)| meant(key));
        let (own, others): (Vec<_>, Vec<_>) = meant.partition(|(key, it)| is_own(self, key, it));
        let may = !own.is_empty() || others.is_empty();
        let own: Vec<Key> = own.into_iter().map(|(key, _)| *key).collect();
        for key in own {
            let job = Job::new(0, natpmp::suggested(0), Options::default(), now);
            self.jobs.insert(key, job);
        }
        self.ask_again(now);
        may
    }

    /// The address is that of anything the host holds; else a mapping that leads nowhere tells it.
    fn tell_address(&mut self, host: Ipv4Addr, asker: &Asker, now: Instant, is_free: IsFree<'_>) {
        let client = self.hosts.place(host).map(|place| place.client);
        let mut mappings = self.mappings.values();
        let known = mappings.find(|it| Some(it.client) == client && it.external.is_some());
        if let Some(external) = known.and_then(|it| it.external) {
            return self.respond(asker, Ok((external, PROBE_LIFETIME)), now);
        }
        let key = key(host, Protocols::Udp.0, DISCARD);
        let wish = Wish {
            key,
            nonce: self.nonce(&key),
            lifetime: PROBE_LIFETIME,
            suggested: natpmp::suggested(0),
            options: Options::default(),
            is_probe: true,
        };
        self.want(wish, asker.clone(), now, is_free);
    }

    fn on_pcp(&mut self, arrival: Arrival, datagram: &[u8], now: Instant, is_free: IsFree<'_>) {
        let request = match Request::parse(datagram) {
            Ok(request) => request,
            Err(Unreadable::Ignore) => return,
            Err(Unreadable::Respond(code)) => {
                return self.refuse(arrival, datagram, code, now);
            }
        };
        let host = *arrival.from.ip();
        if request.client != host.to_ipv6_mapped() {
            return self.refuse(arrival, datagram, ResultCode::AddressMismatch, now);
        }
        // Each host asks for itself (RFC 6887 section 13.1).
        if request.options.third_party.is_some() {
            return self.refuse(arrival, datagram, ResultCode::UnsuppOption, now);
        }
        let question = Question::Pcp(datagram.to_vec(), request.clone());
        let asker = Asker { arrival, question };
        let (map, peer) = match request.operation {
            Operation::Announce => {
                let epoch = self.epoch(now);
                let message =
                    message::success(&request.operation, &request.options, None, 0, epoch);
                return self.reply(arrival, message);
            }
            Operation::Map(map) => (map, None),
            Operation::Peer(peer) => match remote(&peer) {
                Some(remote) => (peer.map, Some(remote)),
                None => {
                    return self.refuse(arrival, datagram, ResultCode::MalformedRequest, now);
                }
            },
        };
        let is_deletion = request.lifetime == 0 && peer.is_none();
        let many = is_deletion && (map.protocol == 0 || map.internal_port == 0);
        if many && !(map.protocol == 0 && map.internal_port != 0) {
            return self.on_many(host, &map, &asker, now);
        }
        if let Err(code) = server::internal(&map, request.client) {
            return self.refuse(arrival, datagram, code, now);
        }
        let wish = Wish {
            key: Key {
                peer,
                ..key(host, map.protocol, map.internal_port)
            },
            nonce: map.nonce,
            lifetime: request.lifetime,
            suggested: suggestion(&map),
            options: Options {
                prefix64: false,
                ..request.options
            },
            is_probe: false,
        };
        self.want(wish, asker, now, is_free);
    }

    /// PCP: deletes all ports of a protocol, or of all (RFC 6887 section 15.1).
    fn on_many(&mut self, host: Ipv4Addr, map: &Map, asker: &Asker, now: Instant) {
        let meant =
            |key: &Key| key.host == host && (map.protocol == 0 || key.protocol == map.protocol);
        let may = self.delete_all(meant, |_, _, it| it.nonce == map.nonce, now);
        let none = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);
        let given = match may {
            true => Ok((none, 0)),
            false => Err(refused(ResultCode::NotAuthorized)),
        };
        self.respond(asker, given, now);
    }

    fn refuse(&mut self, to: Arrival, datagram: &[u8], code: ResultCode, now: Instant) {
        let (code, lifetime) = refused(code);
        let message = message::error(datagram, code, lifetime, self.epoch(now));
        self.reply(to, message);
    }

    fn want(&mut self, wish: Wish, asker: Asker, now: Instant, is_free: IsFree<'_>) {
        let key = wish.key;
        match self.admit(&wish, now, is_free) {
            Ok(true) => {}
            Ok(false) => {
                let none = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);
                return self.respond(&asker, Ok((none, 0)), now);
            }
            Err(refused) => return self.respond(&asker, Err(refused), now),
        }
        let is_same =
            |job: &Job| !job.askers.is_empty() && (job.lifetime == 0) == (wish.lifetime == 0);
        if !self.jobs.get(&key).is_some_and(is_same) {
            let job = Job::new(wish.lifetime, wish.suggested, wish.options, now);
            self.jobs.insert(key, job);
        }
        self.join(key, asker, now);
    }

    /// Makes room for what a host wants. False if it deletes what is not there.
    fn admit(&mut self, wish: &Wish, now: Instant, is_free: IsFree<'_>) -> Result<bool, Refused> {
        let key = &wish.key;
        let place = self.hosts.place(key.host);
        let place = place.ok_or(refused(ResultCode::NotAuthorized))?;
        let silent = self.silent_until.is_some_and(|until| now < until);
        if silent || self.servers.is_empty() {
            return Err(refused(ResultCode::NetworkFailure));
        }
        if let Some(mapping) = self.mappings.get(key) {
            let remaining = mapping.until.saturating_since(now).as_secs() as u32;
            return match mapping.nonce == wish.nonce {
                true => Ok(true),
                false => Err((ResultCode::NotAuthorized, remaining)),
            };
        }
        // The port of an earlier run is not known any more, and leads nowhere.
        if wish.lifetime == 0 && place.ports.is_some() {
            return Ok(false);
        }
        if self.mappings.len() >= self.settings.total {
            return Err(refused(ResultCode::NoResources));
        }
        let own = self.mappings.keys().filter(|other| other.host == key.host);
        if own.count() >= self.settings.per_host {
            return Err(refused(ResultCode::UserExQuota));
        }
        let port = self.choose_port(&place, key, is_free)?;
        let mapping = Mapping {
            nonce: wish.nonce,
            client: place.client,
            port,
            external: None,
            until: Self::pending(now),
            filters: Vec::new(),
            is_probe: wish.is_probe,
        };
        self.mappings.insert(*key, mapping);
        Ok(true)
    }

    /// The nonce for a host that has none.
    fn nonce(&self, key: &Key) -> Nonce {
        let mut nonce = [0; 12];
        nonce[..8].copy_from_slice(&self.hash(key, 1).to_be_bytes());
        nonce[8..].copy_from_slice(&self.hash(key, 2).to_be_bytes()[..4]);
        nonce
    }
}

fn key(host: Ipv4Addr, protocol: u8, port: u16) -> Key {
    Key {
        host,
        protocol,
        port,
        peer: None,
    }
}

/// The remote peer of a PEER request.
fn remote(peer: &Peer) -> Option<SocketAddrV4> {
    let address = peer.remote.to_ipv4_mapped()?;
    let is_one = peer.remote_port != 0 && !address.is_unspecified();
    is_one.then(|| SocketAddrV4::new(address, peer.remote_port))
}

fn suggestion(map: &Map) -> SocketAddrV4 {
    let address = map.suggested_address().unwrap_or(Ipv4Addr::UNSPECIFIED);
    SocketAddrV4::new(address, map.external_port)
}
