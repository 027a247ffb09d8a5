//! The stateful NAT64 as an address policy (RFC 6146): the translator's view of the shards.
//!
//! A packet goes through the RFC's steps: its tuple is determined (section 3.4), filtering and
//! updating finds or makes its session (3.5), which says what the outgoing tuple is (3.6); the
//! translator rewrites the packet (3.7) and turns it round if it is a hairpin (3.8).

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pnet_packet::ip::{IpNextHeaderProtocol, IpNextHeaderProtocols};
use xlat_core::addr::{Pref64, Pref64s};
use xlat_core::mapper::{ErrorFlow, ErrorRewrite, Flow, Own, Ports, Refusal, Rewrite, Unreachable};
use xlat_core::{DropReason, Instant, Mapper};

use crate::bib::{Inside, Outside};
use crate::clock::{Tick, Ticks};
use crate::config::{Config, ConfigError, Lifetimes, Limits};
use crate::event::{BindingRecord, Event};
use crate::layout::Layout;
use crate::pool::Pool;
use crate::probe;
use crate::session::{ClientTuple, ExternalTuple, Protocol, Session};
use crate::shard::{Counts, Rules, Shard};
use crate::siphash::SipKey;
use crate::snapshot::{Cursor, SavedSession, SkipReason};
use crate::tcp::{self, TcpState};

/// A stateful NAT64. Clones share their state: each worker has one.
#[derive(Debug)]
pub struct Nat64 {
    shared: Arc<Shared>,
    /// The packet that [`Mapper::next_packet`] lends out.
    own: Vec<u8>,
    /// No look for probes before this.
    next_look: Instant,
}

#[derive(Debug)]
struct Shared {
    config: Config,
    pref64s: Pref64s,
    prefixes: Vec<Pref64>,
    layout: Layout,
    shards: Vec<Mutex<Shard>>,
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
        let layout = Layout::new(&config, key);
        let shards = (0..config.shards)
            .map(|number| shard(&config, &layout, number, key).map(Mutex::new))
            .collect::<Result<_, _>>()?;
        Ok(Self::sharing(Arc::new(Shared {
            config,
            pref64s,
            prefixes,
            layout,
            shards,
        })))
    }

    fn sharing(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            own: Vec::new(),
            next_look: Instant::ZERO,
        }
    }

    /// The configuration in force.
    pub fn config(&self) -> &Config {
        &self.shared.config
    }

    /// Ends what is over, at most `steps` sessions per shard. To be called now and then, so that
    /// sessions end on time when few packets come. True if there is more to do.
    pub fn expire(&self, now: Instant, steps: usize) -> bool {
        let mut more = false;
        for mut shard in self.each_shard() {
            more |= shard.catch_up(now, steps);
        }
        more
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

    /// At most `limit` sessions from `cursor` on, and where to go on; `None` at the end. Holds up
    /// no worker for longer than that takes. `epoch` is the wall clock's time at `now`, in seconds
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
        let (listed, next) = lock(shard).list(cursor.handle, limit);
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
        let number = self.shared.layout.shard_of_client(saved.binding.client);
        let outside = Outside {
            protocol: saved.binding.protocol,
            external: saved.binding.external.to_bits(),
            port: saved.binding.external_port,
        };
        if self.shared.layout.shard_of_external(outside) != Some(number) {
            return Err(SkipReason::NotInPool);
        }
        lock(&self.shared.shards[number as usize]).restore(saved, pref64, expires, now)
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

    fn each_shard(&self) -> impl Iterator<Item = MutexGuard<'_, Shard>> {
        self.shared.shards.iter().map(lock)
    }

    #[inline]
    fn shard_of_client(&self, client: Ipv6Addr) -> MutexGuard<'_, Shard> {
        let number = self.shared.layout.shard_of_client(client);
        lock(&self.shared.shards[number as usize])
    }

    #[inline]
    fn shard_of_external(&self, tuple: &ExternalTuple) -> Option<MutexGuard<'_, Shard>> {
        let outside = Outside {
            protocol: tuple.protocol,
            external: tuple.external,
            port: tuple.external_port,
        };
        let number = self.shared.layout.shard_of_external(outside)?;
        Some(lock(&self.shared.shards[number as usize]))
    }

    /// The IPv4 node behind an IPv6 destination, and the number of the prefix.
    fn remote(&self, dst: Ipv6Addr) -> Result<(Ipv4Addr, u8), DropReason> {
        let (remote, pref64) = self.shared.pref64s.destination(dst)?;
        let number = self.shared.prefixes.iter().position(|one| *one == pref64);
        Ok((remote, number.unwrap_or(0) as u8))
    }

    fn check_client(&self, client: Ipv6Addr) -> Result<(), Refusal> {
        if self.shared.pref64s.lookup(client).is_some() {
            return Err(Refusal::Silent(DropReason::SourceInPref64));
        }
        let clients = &self.shared.config.clients;
        if clients.is_empty() || clients.iter().any(|prefix| prefix.contains(client)) {
            return Ok(());
        }
        Err(denied())
    }

    fn check_destination(
        &self,
        remote: Ipv4Addr,
        protocol: Protocol,
        port: u16,
    ) -> Result<(), Refusal> {
        let is_denied = self.shared.config.denied.iter().any(|destination| {
            let is_port = destination
                .ports
                .as_ref()
                .is_none_or(|ports| protocol != Protocol::Icmp && ports.contains(&port));
            is_port && destination.prefix.contains(remote)
        });
        if is_denied { Err(denied()) } else { Ok(()) }
    }

    fn inbound(&self, flow: &Flow<Ipv4Addr>, now: Instant) -> Result<Rewrite<Ipv6Addr>, Refusal> {
        let tuple = external_tuple(flow)?;
        let mut shard = self.shard_of_external(&tuple).ok_or_else(not_ours)?;
        let (inside, pref64) = shard.inbound(tuple, flow.tcp_flags, now)?;
        drop(shard);
        let pref64 = self.shared.prefixes[usize::from(pref64)];
        let src = self
            .shared
            .pref64s
            .embed_source(pref64, flow.src)
            .map_err(Refusal::Silent)?;
        Ok(Rewrite {
            src,
            dst: inside.client,
            ports: Some(ports(inside.protocol, tuple.remote_port, inside.port)),
        })
    }

    /// A pool address as source belongs on the inside of the second turn only. From the wire it
    /// is forged.
    fn check_not_ours(&self, src: Ipv4Addr) -> Result<(), Refusal> {
        if self.shared.layout.is_ours(src.to_bits()) {
            return Err(Refusal::Silent(DropReason::IllegalSource));
        }
        Ok(())
    }

    /// The quoted packet once came from the client; its destination is the remote node.
    fn inbound_error(
        &self,
        error: &ErrorFlow<Ipv4Addr>,
        now: Instant,
    ) -> Result<ErrorRewrite<Ipv6Addr>, Refusal> {
        let tuple = external_tuple(&turned(&error.quoted)).map_err(|_| unmatched())?;
        let shard = self.shard_of_external(&tuple).ok_or_else(unmatched)?;
        let (inside, pref64) = shard.quoted_by_v4(&tuple, now).ok_or_else(unmatched)?;
        drop(shard);
        let pref64 = self.shared.prefixes[usize::from(pref64)];
        let Inside { client, port, .. } = inside;
        Ok(ErrorRewrite {
            // Whoever complains is shown, so that a traceroute sees the routers.
            src: Some(pref64.embed(error.src)),
            dst: client,
            quoted: Rewrite {
                src: client,
                dst: pref64.embed(error.quoted.dst),
                ports: Some(ports(inside.protocol, port, tuple.remote_port)),
            },
        })
    }
}

impl Clone for Nat64 {
    fn clone(&self) -> Self {
        Self::sharing(Arc::clone(&self.shared))
    }
}

impl Mapper for Nat64 {
    #[inline]
    fn map_v6(
        &mut self,
        flow: &Flow<Ipv6Addr>,
        now: Instant,
    ) -> Result<Rewrite<Ipv4Addr>, Refusal> {
        let (remote, pref64) = self.remote(flow.dst).map_err(refuse)?;
        self.check_client(flow.src)?;
        let tuple = client_tuple(flow, remote)?;
        self.check_destination(remote, tuple.protocol, tuple.remote_port)?;
        let outside =
            self.shard_of_client(flow.src)
                .outbound(tuple, pref64, flow.tcp_flags, now)?;
        Ok(Rewrite {
            src: Ipv4Addr::from_bits(outside.external),
            dst: remote,
            ports: Some(ports(tuple.protocol, outside.port, tuple.remote_port)),
        })
    }

    #[inline]
    fn map_v4(
        &mut self,
        flow: &Flow<Ipv4Addr>,
        now: Instant,
    ) -> Result<Rewrite<Ipv6Addr>, Refusal> {
        self.check_not_ours(flow.src)?;
        self.inbound(flow, now)
    }

    /// The quoted packet once went to the client; its source is the remote node (RFC 6146 section
    /// 3.4, where source and destination are swapped).
    fn map_v6_error(
        &mut self,
        error: &ErrorFlow<Ipv6Addr>,
        now: Instant,
    ) -> Result<ErrorRewrite<Ipv4Addr>, Refusal> {
        let (remote, _) = self.remote(error.quoted.src).map_err(|_| unmatched())?;
        let (dst, _) = self.remote(error.dst).map_err(Refusal::Silent)?;
        let tuple = client_tuple(&turned(&error.quoted), remote).map_err(|_| unmatched())?;
        let outside = self
            .shard_of_client(tuple.client)
            .quoted_by_v6(&tuple, now)
            .ok_or_else(unmatched)?;
        let external = Ipv4Addr::from_bits(outside.external);
        Ok(ErrorRewrite {
            // Routers on the way to the client are hidden behind its address (RFC 5508 REQ-5).
            src: Some(external),
            dst,
            quoted: Rewrite {
                src: remote,
                dst: external,
                ports: Some(ports(tuple.protocol, tuple.remote_port, outside.port)),
            },
        })
    }

    fn map_v4_error(
        &mut self,
        error: &ErrorFlow<Ipv4Addr>,
        now: Instant,
    ) -> Result<ErrorRewrite<Ipv6Addr>, Refusal> {
        self.check_not_ours(error.src)?;
        self.inbound_error(error, now)
    }

    #[inline]
    fn is_hairpin(&self, _: &Flow<Ipv6Addr>, rewrite: &Rewrite<Ipv4Addr>) -> bool {
        self.shared.layout.is_ours(rewrite.dst.to_bits())
    }

    fn is_hairpin_error(&self, _: &ErrorFlow<Ipv6Addr>, rewrite: &ErrorRewrite<Ipv4Addr>) -> bool {
        self.shared.layout.is_ours(rewrite.dst.to_bits())
    }

    fn next_packet(&mut self, now: Instant) -> Option<Own<'_>> {
        if now < self.next_look {
            return None;
        }
        let Some(session) = self.each_shard().find_map(|mut shard| shard.next_probe()) else {
            self.next_look = now + LOOK;
            return None;
        };
        let pref64 = self.shared.prefixes[usize::from(session.pref64)];
        let remote = pref64.embed(Ipv4Addr::from_bits(session.remote));
        self.own.clear();
        self.own.extend(probe::build(
            (remote, session.remote_port),
            (session.client, session.client_port),
        ));
        Some(Own::Send(&self.own))
    }

    fn map_v4_hairpin(
        &mut self,
        flow: &Flow<Ipv4Addr>,
        now: Instant,
    ) -> Result<Rewrite<Ipv6Addr>, Refusal> {
        self.inbound(flow, now)
    }

    fn map_v4_hairpin_error(
        &mut self,
        error: &ErrorFlow<Ipv4Addr>,
        now: Instant,
    ) -> Result<ErrorRewrite<Ipv6Addr>, Refusal> {
        self.inbound_error(error, now)
    }
}

/// Time between two looks for probes.
const LOOK: Duration = Duration::from_millis(200);

/// One shard, with its part of the limits and of the pool.
fn shard(config: &Config, layout: &Layout, number: u32, key: SipKey) -> Result<Shard, ConfigError> {
    let rules = Rules {
        lifetimes: Lifetimes::new(&config.timers),
        filtering: config.filtering,
        inbound: config.inbound,
        limits: Limits {
            sessions: config.limits.sessions.div_ceil(config.shards),
            ..config.limits
        },
        ports: config.ports,
        log: config.log,
    };
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

/// Determining the incoming tuple (RFC 6146 section 3.4), from IPv6.
#[inline]
fn client_tuple(flow: &Flow<Ipv6Addr>, remote: Ipv4Addr) -> Result<ClientTuple, Refusal> {
    let protocol = protocol(flow.protocol)?;
    let ports = checked_ports(protocol, flow.ports, flow.tcp_flags)?;
    Ok(ClientTuple {
        protocol,
        client: flow.src,
        client_port: ports.src,
        remote: remote.to_bits(),
        remote_port: remote_port(protocol, ports.dst),
    })
}

/// Determining the incoming tuple, from IPv4.
#[inline]
fn external_tuple(flow: &Flow<Ipv4Addr>) -> Result<ExternalTuple, Refusal> {
    let protocol = protocol(flow.protocol)?;
    let ports = checked_ports(protocol, flow.ports, flow.tcp_flags)?;
    Ok(ExternalTuple {
        protocol,
        external: flow.dst.to_bits(),
        external_port: ports.dst,
        remote: flow.src.to_bits(),
        remote_port: remote_port(protocol, ports.src),
    })
}

fn protocol(number: IpNextHeaderProtocol) -> Result<Protocol, Refusal> {
    match number {
        IpNextHeaderProtocols::Udp => Ok(Protocol::Udp),
        IpNextHeaderProtocols::Tcp => Ok(Protocol::Tcp),
        IpNextHeaderProtocols::Icmp | IpNextHeaderProtocols::Icmpv6 => Ok(Protocol::Icmp),
        _ => Err(Refusal::Answer(
            DropReason::UnsupportedProtocol,
            Unreachable::Protocol,
        )),
    }
}

fn checked_ports(protocol: Protocol, ports: Option<Ports>, flags: u8) -> Result<Ports, Refusal> {
    let ports = ports.ok_or(Refusal::Silent(DropReason::TransportTruncated))?;
    let is_bad = match protocol {
        Protocol::Icmp => false,
        Protocol::Udp => ports.src == 0 || ports.dst == 0,
        Protocol::Tcp => ports.src == 0 || ports.dst == 0 || tcp::is_insane(flags),
    };
    if is_bad {
        return Err(Refusal::Silent(DropReason::BadTransport));
    }
    Ok(ports)
}

/// An ICMP query has one identifier, which belongs to the client (RFC 6146 section 3.2).
const fn remote_port(protocol: Protocol, port: u16) -> u16 {
    match protocol {
        Protocol::Icmp => 0,
        Protocol::Udp | Protocol::Tcp => port,
    }
}

/// Ports of the outgoing tuple. For ICMP the identifier is the client's or its external form,
/// whichever of the two is not the remote node's zero.
fn ports(protocol: Protocol, src: u16, dst: u16) -> Ports {
    match protocol {
        Protocol::Icmp => Ports::identifier(src | dst),
        Protocol::Udp | Protocol::Tcp => Ports { src, dst },
    }
}

/// The flow in the other direction.
fn turned<A: Copy>(flow: &Flow<A>) -> Flow<A> {
    Flow {
        src: flow.dst,
        dst: flow.src,
        ports: flow.ports.map(|ports| Ports {
            src: ports.dst,
            dst: ports.src,
        }),
        // The flags of a quoted segment are often cut off, and nothing is decided by them.
        tcp_flags: tcp::ACK,
        ..*flow
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Refuses a packet because of its destination (RFC 7915 section 5.4).
fn refuse(reason: DropReason) -> Refusal {
    Refusal::Answer(reason, Unreachable::Prohibited)
}

fn denied() -> Refusal {
    Refusal::Answer(DropReason::Denied, Unreachable::Prohibited)
}

fn not_ours() -> Refusal {
    Refusal::Silent(DropReason::UnmappedDestination)
}

fn unmatched() -> Refusal {
    Refusal::Silent(DropReason::QuotedUnmapped)
}
