//! A mapper of a gateway, which all packets for the NAT64 prefixes are routed to.
//!
//! Such a gateway has IPv4 addresses of its own, and so have the hosts that manage it. A client
//! must not get to them through a prefix, where no filter of the IPv6 side would see it come.
//!
//! And no host behind it has an address in a prefix. A packet from one is forged, or comes from a
//! translator that sends back what it got (RFC 6146 section 3.5); a packet to one would come back
//! to this translator at once. So neither goes through, and there are no loops but those that other
//! routers make, which end by the hop limit. Excepted are hosts with IPv4-translatable addresses, where
//! they are told of: more specific routes lead to them, so that a packet from another IPv6 host comes
//! here only where such a route is missing, and is refused.

use alloc::vec::Vec;
use core::net::{Ipv4Addr, Ipv6Addr};

use super::{SharedAddress, prohibited};
use crate::addr::{Eam, Ipv4Prefix, Pref64s};
use crate::mapper::{
    ErrorFlow, ErrorRewrite, Flow, Mapper, PacketHolder, Pass, PendingPacket, Prefetch, Refusal,
    Rewrite, Unreachable, UpcomingFlow,
};
use crate::reason::DropReason;
use crate::time::Instant;
use crate::wire::IpNextHeaderProtocol;

/// Another mapper, without some of its IPv4 destinations, and without nodes in the prefixes.
#[derive(Clone, Debug)]
pub struct Guarded<M> {
    inner: M,
    pref64s: Pref64s,
    hidden: Vec<Ipv4Prefix>,
    /// A hidden address that clients share ports of.
    shared: Option<SharedAddress>,
    /// Hosts with IPv4-translatable addresses; their IPv4 addresses are hidden, too.
    nodes: Vec<Eam>,
}

impl<M> Guarded<M> {
    /// `inner`, whose clients reach IPv4 through `pref64s`, without the destinations `hidden`.
    pub fn new(inner: M, pref64s: Pref64s, hidden: Vec<Ipv4Prefix>) -> Self {
        Self {
            inner,
            pref64s,
            hidden,
            shared: None,
            nodes: Vec::new(),
        }
    }

    /// The same with hosts that have IPv4-translatable addresses in a NAT64 prefix: the IPv6 side of
    /// each of these mappings.
    #[must_use]
    pub fn with_nodes(mut self, nodes: Vec<Eam>) -> Self {
        self.nodes = nodes;
        let hidden = core::mem::take(&mut self.hidden);
        self.hide(hidden);
        self
    }

    /// Hides other destinations from now on.
    pub fn hide(&mut self, mut hidden: Vec<Ipv4Prefix>) {
        hidden.extend(self.nodes.iter().map(Eam::v4));
        self.hidden = hidden;
    }

    /// Lets clients reach the ports of a hidden address that they share.
    pub fn share(&mut self, shared: Option<SharedAddress>) {
        self.shared = shared;
    }

    /// The mapper behind this one.
    pub fn inner(&self) -> &M {
        &self.inner
    }

    /// The mapper behind this one, to be changed.
    pub fn inner_mut(&mut self) -> &mut M {
        &mut self.inner
    }

    #[inline]
    fn check_source(&self, src: Ipv6Addr) -> Result<(), Refusal> {
        match self.pref64s.lookup(src) {
            Some(_) if !self.is_node(src) => Err(Refusal::Silent(DropReason::SourceInPref64)),
            _ => Ok(()),
        }
    }

    /// True for a host with an IPv4-translatable address.
    #[cold]
    fn is_node(&self, address: Ipv6Addr) -> bool {
        let mut nodes = self.nodes.iter();
        nodes.any(|nodes| nodes.v6().contains(address))
    }

    /// Refuses to send a packet where it would come back from.
    #[inline]
    fn check_receiver(&self, dst: Ipv6Addr) -> Result<(), Refusal> {
        match self.pref64s.lookup(dst) {
            Some(_) if !self.is_node(dst) => Err(prohibited(DropReason::UnmappedDestination)),
            _ => Ok(()),
        }
    }

    #[inline]
    fn check(&self, dst: Ipv6Addr, to: Transport) -> Result<(), Refusal> {
        if self.hidden.is_empty() {
            return Ok(());
        }
        let Some(pref64) = self.pref64s.lookup(dst) else {
            return Ok(());
        };
        let Some(v4) = pref64.extract(dst) else {
            return Ok(());
        };
        if self.hidden.iter().any(|hidden| hidden.contains(v4)) && !self.is_shared(v4, to) {
            return Err(Refusal::Answer(DropReason::Denied, Unreachable::Prohibited));
        }
        Ok(())
    }
}

/// Protocol and port that a packet goes to; no port if it tells none.
type Transport = (IpNextHeaderProtocol, Option<u16>);

fn transport(flow: &Flow<Ipv6Addr>) -> Transport {
    (flow.protocol, flow.ports.map(|ports| ports.dst))
}

impl<M> Guarded<M> {
    /// True if a packet to a hidden address may be for a port that clients share. A fragment without
    /// ports goes where the first one goes, which is refused if it must be.
    #[cold]
    fn is_shared(&self, address: Ipv4Addr, (protocol, port): Transport) -> bool {
        let shared = self.shared.as_ref();
        let shared = shared.filter(|shared| shared.address == address);
        shared.is_some_and(|shared| port.is_none_or(|port| shared.has(protocol, port)))
    }
}

impl<M: Mapper> Mapper for Guarded<M> {
    #[inline]
    fn map_v6(
        &mut self,
        flow: &Flow<Ipv6Addr>,
        now: Instant,
    ) -> Result<Rewrite<Ipv4Addr>, Refusal> {
        self.check_source(flow.src)?;
        self.check(flow.dst, transport(flow))?;
        self.inner.map_v6(flow, now)
    }

    #[inline]
    fn map_v4(
        &mut self,
        flow: &Flow<Ipv4Addr>,
        pass: Pass,
        now: Instant,
    ) -> Result<Rewrite<Ipv6Addr>, Refusal> {
        let rewrite = self.inner.map_v4(flow, pass, now)?;
        if pass == Pass::First {
            self.check_receiver(rewrite.dst)?;
        }
        Ok(rewrite)
    }

    fn map_v6_error(
        &mut self,
        error: &ErrorFlow<Ipv6Addr>,
        now: Instant,
    ) -> Result<ErrorRewrite<Ipv4Addr>, Refusal> {
        self.check_source(error.src)?;
        let quoted = &error.quoted;
        let to = (quoted.protocol, quoted.ports.map(|ports| ports.src));
        self.check(error.dst, to)
            .map_err(|_| Refusal::Silent(DropReason::Denied))?;
        self.inner.map_v6_error(error, now)
    }

    fn map_v4_error(
        &mut self,
        error: &ErrorFlow<Ipv4Addr>,
        pass: Pass,
        now: Instant,
    ) -> Result<ErrorRewrite<Ipv6Addr>, Refusal> {
        let rewrite = self.inner.map_v4_error(error, pass, now)?;
        if pass == Pass::First {
            self.check_receiver(rewrite.dst)
                .map_err(|_| Refusal::Silent(DropReason::UnmappedDestination))?;
        }
        Ok(rewrite)
    }
}

impl<M: PacketHolder> PacketHolder for Guarded<M> {
    fn reassemble_v6(
        &mut self,
        flow: &Flow<Ipv6Addr>,
        packet: &[u8],
        now: Instant,
    ) -> Result<(), Refusal> {
        self.check_source(flow.src)?;
        self.check(flow.dst, transport(flow))?;
        self.inner.reassemble_v6(flow, packet, now)
    }

    fn reassemble_v4(
        &mut self,
        flow: &Flow<Ipv4Addr>,
        packet: &[u8],
        now: Instant,
    ) -> Result<(), Refusal> {
        self.inner.reassemble_v4(flow, packet, now)
    }

    fn hold_v6(
        &mut self,
        flow: &Flow<Ipv6Addr>,
        packet: &[u8],
        now: Instant,
    ) -> Result<(), DropReason> {
        self.inner.hold_v6(flow, packet, now)
    }

    fn hold_v4(
        &mut self,
        flow: &Flow<Ipv4Addr>,
        packet: &[u8],
        now: Instant,
    ) -> Result<(), DropReason> {
        self.inner.hold_v4(flow, packet, now)
    }

    #[inline]
    fn poll_packet(&mut self, now: Instant) -> Option<PendingPacket<'_>> {
        self.inner.poll_packet(now)
    }
}

impl<M: Prefetch> Prefetch for Guarded<M> {
    #[inline]
    fn wants_prefetch(&self) -> bool {
        self.inner.wants_prefetch()
    }

    fn prefetch(&mut self, upcoming: &[UpcomingFlow]) {
        self.inner.prefetch(upcoming);
    }
}
