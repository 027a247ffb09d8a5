//! Two kinds of translation side by side: some nodes have an IPv4 address of their own, all others
//! share the pool of the stateful NAT64.
//!
//! A packet from IPv6 belongs to the first kind that serves its source, in the order static map,
//! dynamic pool, stateful; a packet from IPv4 to the one that has its destination. The pools must
//! not share addresses, so each packet has exactly one answer.

use std::net::{Ipv4Addr, Ipv6Addr};

use xlat_core::mapper::{
    ErrorFlow, ErrorRewrite, Flow, PacketByPacket, PacketHolder, Pass, PendingPacket, Prefetch,
    Refusal, Rewrite, UpcomingFlow,
};
use xlat_core::mappers::Siit;
use xlat_core::{DropReason, Instant, Mapper};

use crate::Worker;
use crate::dynamic::Dynamic;

/// A mapper whose nodes have IPv4 addresses of their own. It needs no other packet to decide about
/// one.
pub trait OneToOne: PacketByPacket {
    /// True if this IPv6 node is served here.
    fn has_client(&self, client: Ipv6Addr) -> bool;

    /// True if this IPv4 address belongs to a node that is served here, or would.
    fn has_address(&self, address: Ipv4Addr) -> bool;

    /// True if a packet to the IPv6 address `to`, which stands for the IPv4 address `address`, must
    /// turn round, because a node that is served here has it.
    fn is_hairpin(&self, to: Ipv6Addr, address: Ipv4Addr) -> bool;
}

impl OneToOne for Siit {
    fn has_client(&self, client: Ipv6Addr) -> bool {
        self.eams().lookup_v6(client).is_some()
    }

    fn has_address(&self, address: Ipv4Addr) -> bool {
        self.eams().lookup_v4(address).is_some()
    }

    #[inline]
    fn is_hairpin(&self, to: Ipv6Addr, address: Ipv4Addr) -> bool {
        Siit::is_hairpin(self, to, address)
    }
}

impl OneToOne for Dynamic {
    fn has_client(&self, client: Ipv6Addr) -> bool {
        self.serves(client)
    }

    fn has_address(&self, address: Ipv4Addr) -> bool {
        self.is_ours(address)
    }

    #[inline]
    fn is_hairpin(&self, to: Ipv6Addr, address: Ipv4Addr) -> bool {
        Dynamic::is_hairpin(self, to, address)
    }
}

/// A one-to-one mapper before a stateful NAT64.
#[derive(Clone, Debug)]
pub struct Modes<S> {
    own: S,
    shared: Worker,
}

impl<S: OneToOne> Modes<S> {
    /// Nodes that `own` serves have addresses of their own, all others share those of `shared`.
    pub fn new(own: S, shared: Worker) -> Self {
        Self { own, shared }
    }

    /// The mapper of nodes with an address of their own.
    pub fn own(&self) -> &S {
        &self.own
    }

    /// The same, to be changed.
    pub fn own_mut(&mut self) -> &mut S {
        &mut self.own
    }

    /// The stateful NAT64, to be changed.
    pub fn shared_mut(&mut self) -> &mut Worker {
        &mut self.shared
    }

    /// The stateful NAT64.
    pub fn shared(&self) -> &Worker {
        &self.shared
    }
}

/// A packet is a hairpin wherever its destination lives: with a node of the other kind too.
impl<S: OneToOne> Mapper for Modes<S> {
    #[inline]
    fn map_v6(
        &mut self,
        flow: &Flow<Ipv6Addr>,
        now: Instant,
    ) -> Result<Rewrite<Ipv4Addr>, Refusal> {
        let mut rewrite;
        if self.own.has_client(flow.src) {
            rewrite = self.own.map_v6(flow, now)?;
            let port = flow.ports.map_or(0, |ports| ports.dst);
            rewrite.hairpin |= self.shared.turns(rewrite.dst, flow.protocol, port);
        } else {
            rewrite = self.shared.map_v6(flow, now)?;
            if self.own.is_hairpin(flow.dst, rewrite.dst) {
                rewrite.hairpin = true;
                self.shared.withhold(flow.src);
            }
        }
        Ok(rewrite)
    }

    #[inline]
    fn map_v4(
        &mut self,
        flow: &Flow<Ipv4Addr>,
        pass: Pass,
        now: Instant,
    ) -> Result<Rewrite<Ipv6Addr>, Refusal> {
        if self.own.has_address(flow.dst) {
            self.own.map_v4(flow, pass, now)
        } else {
            self.shared.map_v4(flow, pass, now)
        }
    }

    fn map_v6_error(
        &mut self,
        error: &ErrorFlow<Ipv6Addr>,
        now: Instant,
    ) -> Result<ErrorRewrite<Ipv4Addr>, Refusal> {
        let mut rewrite;
        if self.own.has_client(error.quoted.dst) {
            rewrite = self.own.map_v6_error(error, now)?;
            let port = error.quoted.ports.map_or(0, |ports| ports.src);
            let protocol = error.quoted.protocol;
            rewrite.hairpin |= self.shared.turns(rewrite.dst, protocol, port);
        } else {
            rewrite = self.shared.map_v6_error(error, now)?;
            let quoted = (error.quoted.src, rewrite.quoted.src);
            rewrite.hairpin |= self.own.is_hairpin(quoted.0, quoted.1);
        }
        Ok(rewrite)
    }

    fn map_v4_error(
        &mut self,
        error: &ErrorFlow<Ipv4Addr>,
        pass: Pass,
        now: Instant,
    ) -> Result<ErrorRewrite<Ipv6Addr>, Refusal> {
        if self.own.has_address(error.quoted.src) {
            self.own.map_v4_error(error, pass, now)
        } else {
            self.shared.map_v4_error(error, pass, now)
        }
    }
}

impl<S: OneToOne> PacketHolder for Modes<S> {
    fn reassemble_v6(
        &mut self,
        flow: &Flow<Ipv6Addr>,
        packet: &[u8],
        now: Instant,
    ) -> Result<(), Refusal> {
        if self.own.has_client(flow.src) {
            self.own.reassemble_v6(flow, packet, now)
        } else {
            self.shared.reassemble_v6(flow, packet, now)
        }
    }

    fn reassemble_v4(
        &mut self,
        flow: &Flow<Ipv4Addr>,
        packet: &[u8],
        now: Instant,
    ) -> Result<(), Refusal> {
        if self.own.has_address(flow.dst) {
            self.own.reassemble_v4(flow, packet, now)
        } else {
            self.shared.reassemble_v4(flow, packet, now)
        }
    }

    fn hold_v6(
        &mut self,
        flow: &Flow<Ipv6Addr>,
        packet: &[u8],
        now: Instant,
    ) -> Result<(), DropReason> {
        if self.own.has_client(flow.src) {
            self.own.hold_v6(flow, packet, now)
        } else {
            self.shared.hold_v6(flow, packet, now)
        }
    }

    fn hold_v4(
        &mut self,
        flow: &Flow<Ipv4Addr>,
        packet: &[u8],
        now: Instant,
    ) -> Result<(), DropReason> {
        if self.own.has_address(flow.dst) {
            self.own.hold_v4(flow, packet, now)
        } else {
            self.shared.hold_v4(flow, packet, now)
        }
    }

    /// Only the stateful side can have one: the other is [`PacketByPacket`].
    #[inline]
    fn poll_packet(&mut self, now: Instant) -> Option<PendingPacket<'_>> {
        self.shared.poll_packet(now)
    }
}

/// Only the stateful side has anything to fetch: the other is [`PacketByPacket`].
impl<S: OneToOne> Prefetch for Modes<S> {
    #[inline]
    fn wants_prefetch(&self) -> bool {
        self.shared.wants_prefetch()
    }

    fn prefetch(&mut self, upcoming: &[UpcomingFlow]) {
        self.shared.prefetch(upcoming);
    }
}
