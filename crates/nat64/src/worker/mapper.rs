//! The translator's questions, answered: RFC 6146 step by step.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::MutexGuard;

use xlat_core::addr::Pref64;
use xlat_core::mapper::{ErrorFlow, ErrorRewrite, Flow, Pass, Refusal, Rewrite, Unreachable};
use xlat_core::wire::IpNextHeaderProtocol;
use xlat_core::{DropReason, Instant, Mapper};

use super::Worker;
use super::tuples::{client_tuple, external_tuple, ports, turned};
use crate::outer::OuterAddress;
use crate::shard::{Admitted, Shard};
use crate::shared::lock;
use crate::tuple::{ExternalTuple, Inside, Outside, Protocol, Tuple};

impl Worker {
    #[inline]
    pub(super) fn shard_of_client(&self, client: Ipv6Addr) -> MutexGuard<'_, Shard> {
        let number = self.view.layout.shard_of_client(client);
        lock(&self.shared.shards[number as usize])
    }

    #[inline]
    pub(super) fn shard_of_external(&self, tuple: &ExternalTuple) -> Option<MutexGuard<'_, Shard>> {
        let outside = Outside {
            protocol: tuple.protocol,
            external: tuple.external,
            port: tuple.external_port,
        };
        let number = self.view.layout.shard_of_external(outside)?;
        Some(lock(&self.shared.shards[number as usize]))
    }

    /// The IPv4 node behind an IPv6 destination, and the number of the prefix.
    pub(super) fn remote(&self, dst: Ipv6Addr) -> Result<(Ipv4Addr, u8), DropReason> {
        let (remote, pref64) = self.shared.pref64s.destination(dst)?;
        let number = self.shared.prefixes.iter().position(|one| *one == pref64);
        Ok((remote, number.unwrap_or(0) as u8))
    }

    fn check_client(&self, client: Ipv6Addr) -> Result<(), Refusal> {
        if self.shared.pref64s.lookup(client).is_some() {
            return Err(Refusal::Silent(DropReason::SourceInPref64));
        }
        let clients = &self.view.clients;
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
        let is_denied = self.view.denied.iter().any(|destination| {
            let is_port = destination
                .ports
                .as_ref()
                .is_none_or(|ports| protocol != Protocol::Icmp && ports.contains(&port));
            is_port && destination.prefix.contains(remote)
        });
        if is_denied { Err(denied()) } else { Ok(()) }
    }

    /// What is checked of a packet from IPv6 before its ports are known: the IPv4 node it goes to,
    /// and the number of the NAT64 prefix.
    pub(super) fn check_v6(&self, flow: &Flow<Ipv6Addr>) -> Result<(Ipv4Addr, u8), Refusal> {
        let remote = self.remote(flow.dst).map_err(refuse)?;
        self.check_client(flow.src)?;
        Ok(remote)
    }

    /// What is checked of a packet from IPv4 before its ports are known.
    pub(super) fn check_v4(&self, flow: &Flow<Ipv4Addr>) -> Result<(), Refusal> {
        if !self.is_ours(flow.dst) {
            return Err(not_ours());
        }
        // Which prefix it will be is known only with the session, but most have one alone.
        let illegal = |pref64: &Pref64| self.shared.pref64s.embed_source(*pref64, flow.src).err();
        let mut reasons = self.shared.prefixes.iter().map(illegal);
        match reasons.next().flatten() {
            Some(reason) if reasons.all(|other| other.is_some()) => Err(Refusal::Silent(reason)),
            _ => Ok(()),
        }
    }

    #[inline]
    pub(super) fn outbound(
        &mut self,
        flow: &Flow<Ipv6Addr>,
        now: Instant,
    ) -> Result<Rewrite<Ipv4Addr>, Refusal> {
        let (remote, pref64) = self.check_v6(flow)?;
        let tuple = client_tuple(flow, remote)?;
        self.check_destination(remote, tuple.protocol, tuple.remote_port)?;
        let hint = self.hints.of(Tuple::Client(tuple));
        let passed =
            self.shard_of_client(flow.src)
                .outbound(tuple, hint, pref64, flow.tcp_flags, now)?;
        if passed.is_ripe {
            self.note_offer_v6(flow);
        }
        let external = Ipv4Addr::from_bits(passed.external);
        let hairpin = self.turns(remote, flow.protocol, tuple.remote_port);
        let source = match hairpin {
            true => self.shown_to(remote, external),
            false => external,
        };
        Ok(Rewrite {
            ports: Some(ports(tuple.protocol, passed.port, tuple.remote_port)),
            hairpin,
            ..Rewrite::new(source, remote)
        })
    }

    #[inline]
    pub(super) fn inbound(
        &mut self,
        flow: &Flow<Ipv4Addr>,
        pass: Pass,
        now: Instant,
    ) -> Result<Rewrite<Ipv6Addr>, Refusal> {
        self.check_v4(flow)?;
        let tuple = external_tuple(flow)?;
        let mut shard = self.shard_of_external(&tuple).ok_or_else(not_ours)?;
        let hint = self.hints.of(Tuple::External(tuple));
        let admitted = shard.inbound(tuple, hint, flow.tcp_flags, now)?;
        drop(shard);
        let Admitted { inside, pref64, .. } = admitted;
        if admitted.is_ripe && pass == Pass::First {
            self.note_offer_v4(flow, inside);
        }
        let pref64 = self.shared.prefixes[usize::from(pref64)];
        let src = self
            .shared
            .pref64s
            .embed_source(pref64, flow.src)
            .map_err(Refusal::Silent)?;
        Ok(Rewrite {
            ports: Some(ports(inside.protocol, tuple.remote_port, inside.port)),
            ..Rewrite::new(src, inside.client)
        })
    }

    /// True if the address is one of the pool or of a static binding.
    #[inline]
    pub(crate) fn is_ours(&self, address: Ipv4Addr) -> bool {
        self.view.layout.is_ours(address.to_bits())
    }

    /// True if a packet to this transport address turns round: it is the pool's, by either of its
    /// addresses. Other ports of the outer address are the host's own.
    #[inline]
    pub(crate) fn turns(&self, to: Ipv4Addr, protocol: IpNextHeaderProtocol, port: u16) -> bool {
        let shared = self.view.shared.as_ref();
        self.is_ours(to) || shared.is_some_and(|one| one.address == to && one.has(protocol, port))
    }

    /// The source of a packet that turns round: one to the outer address comes from the outer address.
    #[inline]
    fn shown_to(&self, remote: Ipv4Addr, external: Ipv4Addr) -> Ipv4Addr {
        let outer = self.view.outer.filter(|one| one.outer == remote);
        OuterAddress::seen(outer, external)
    }

    /// The address of the tables that a packet from IPv4 goes to: one that turned round has the outer
    /// address.
    #[inline]
    pub(super) fn meant(&self, address: Ipv4Addr) -> Ipv4Addr {
        OuterAddress::meant(self.view.outer, address)
    }

    /// A pool address as source belongs on the inside of the second pass only. From the wire it
    /// is forged.
    pub(super) fn check_not_ours(&self, src: Ipv4Addr) -> Result<(), Refusal> {
        if self.is_ours(src) {
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
        if error.dst != error.quoted.src {
            return Err(unmatched());
        }
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
                ports: Some(ports(inside.protocol, port, tuple.remote_port)),
                ..Rewrite::new(client, pref64.embed(error.quoted.dst))
            },
            hairpin: false,
        })
    }
}

impl Mapper for Worker {
    #[inline]
    fn map_v6(
        &mut self,
        flow: &Flow<Ipv6Addr>,
        now: Instant,
    ) -> Result<Rewrite<Ipv4Addr>, Refusal> {
        match flow.fragment {
            None => self.outbound(flow, now),
            Some(fragment) => self.outbound_fragment(flow, fragment, now),
        }
    }

    #[inline]
    fn map_v4(
        &mut self,
        flow: &Flow<Ipv4Addr>,
        pass: Pass,
        now: Instant,
    ) -> Result<Rewrite<Ipv6Addr>, Refusal> {
        if pass == Pass::First {
            self.check_not_ours(flow.src)?;
        }
        let flow = &Flow {
            dst: self.meant(flow.dst),
            ..*flow
        };
        match flow.fragment {
            None => self.inbound(flow, pass, now),
            Some(fragment) => self.inbound_fragment(flow, fragment, pass, now),
        }
    }

    /// The quoted packet once went to the client; its source is the remote node (RFC 6146 section
    /// 3.4, where source and destination are swapped).
    fn map_v6_error(
        &mut self,
        error: &ErrorFlow<Ipv6Addr>,
        now: Instant,
    ) -> Result<ErrorRewrite<Ipv4Addr>, Refusal> {
        // Whoever complains may be any router, but none behind a translator (section 3.5).
        if self.shared.pref64s.lookup(error.src).is_some() {
            return Err(Refusal::Silent(DropReason::SourceInPref64));
        }
        // An error goes to the sender of the packet and to no other host.
        if error.dst != error.quoted.src {
            return Err(unmatched());
        }
        let (remote, _) = self.remote(error.dst).map_err(Refusal::Silent)?;
        let tuple = client_tuple(&turned(&error.quoted), remote).map_err(|_| unmatched())?;
        self.check_destination(remote, tuple.protocol, tuple.remote_port)
            .map_err(|_| Refusal::Silent(DropReason::Denied))?;
        let outside = self
            .shard_of_client(tuple.client)
            .quoted_by_v6(&tuple, now)
            .ok_or_else(unmatched)?;
        let turns = self.turns(remote, error.quoted.protocol, tuple.remote_port);
        let external = match (turns, Ipv4Addr::from_bits(outside.external)) {
            (true, external) => self.shown_to(remote, external),
            (false, external) => external,
        };
        Ok(ErrorRewrite {
            // Routers on the way to the client are hidden behind its address (RFC 5508 REQ-5).
            src: Some(external),
            dst: remote,
            quoted: Rewrite {
                ports: Some(ports(tuple.protocol, tuple.remote_port, outside.port)),
                ..Rewrite::new(remote, external)
            },
            hairpin: turns,
        })
    }

    fn map_v4_error(
        &mut self,
        error: &ErrorFlow<Ipv4Addr>,
        pass: Pass,
        now: Instant,
    ) -> Result<ErrorRewrite<Ipv6Addr>, Refusal> {
        if pass == Pass::First {
            self.check_not_ours(error.src)?;
        }
        let mut error = *error;
        error.dst = self.meant(error.dst);
        error.quoted.src = self.meant(error.quoted.src);
        self.inbound_error(&error, now)
    }
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

pub(super) fn unmatched() -> Refusal {
    Refusal::Silent(DropReason::QuotedUnmapped)
}
