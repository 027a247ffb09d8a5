//! Two kinds of translation side by side: some nodes have an IPv4 address of their own, all others
//! share the pool of the stateful NAT64.
//!
//! A packet from IPv6 belongs to the first kind that serves its source, in the order static map,
//! dynamic pool, stateful; a packet from IPv4 to the one that has its destination. The pools must
//! not share addresses, so each packet has exactly one answer.

use std::net::{Ipv4Addr, Ipv6Addr};

use xlat_core::mapper::{Coming, ErrorFlow, ErrorRewrite, Flow, Fragment, Own, Refusal, Rewrite};
use xlat_core::mappers::Siit;
use xlat_core::{DropReason, Instant, Mapper};

use crate::dynamic::Dynamic;
use crate::nat64::Nat64;

/// A mapper whose nodes have IPv4 addresses of their own.
pub trait OneToOne: Mapper {
    /// True if this IPv6 node is served here.
    fn has_client(&self, client: Ipv6Addr) -> bool;

    /// True if this IPv4 address belongs to a node that is served here, or would.
    fn has_address(&self, address: Ipv4Addr) -> bool;
}

impl OneToOne for Siit {
    fn has_client(&self, client: Ipv6Addr) -> bool {
        self.eams().lookup_v6(client).is_some()
    }

    fn has_address(&self, address: Ipv4Addr) -> bool {
        self.eams().lookup_v4(address).is_some()
    }
}

impl OneToOne for Dynamic {
    fn has_client(&self, client: Ipv6Addr) -> bool {
        self.serves(client)
    }

    fn has_address(&self, address: Ipv4Addr) -> bool {
        self.is_ours(address)
    }
}

/// A one-to-one mapper before a stateful NAT64.
#[derive(Clone, Debug)]
pub struct Modes<S> {
    own: S,
    shared: Nat64,
}

impl<S: OneToOne> Modes<S> {
    /// Nodes that `own` serves have addresses of their own, all others share those of `shared`.
    pub fn new(own: S, shared: Nat64) -> Self {
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
    pub fn shared_mut(&mut self) -> &mut Nat64 {
        &mut self.shared
    }

    /// The stateful NAT64.
    pub fn shared(&self) -> &Nat64 {
        &self.shared
    }
}

impl<S: OneToOne> Mapper for Modes<S> {
    #[inline]
    fn map_v6(
        &mut self,
        flow: &Flow<Ipv6Addr>,
        now: Instant,
    ) -> Result<Rewrite<Ipv4Addr>, Refusal> {
        if self.own.has_client(flow.src) {
            self.own.map_v6(flow, now)
        } else {
            self.shared.map_v6(flow, now)
        }
    }

    #[inline]
    fn map_v4(
        &mut self,
        flow: &Flow<Ipv4Addr>,
        now: Instant,
    ) -> Result<Rewrite<Ipv6Addr>, Refusal> {
        if self.own.has_address(flow.dst) {
            self.own.map_v4(flow, now)
        } else {
            self.shared.map_v4(flow, now)
        }
    }

    fn icmpv6_fragment(&mut self, flow: &Flow<Ipv6Addr>, now: Instant) -> Refusal {
        if self.own.has_client(flow.src) {
            self.own.icmpv6_fragment(flow, now)
        } else {
            self.shared.icmpv6_fragment(flow, now)
        }
    }

    fn icmpv4_fragment(&mut self, flow: &Flow<Ipv4Addr>, now: Instant) -> Refusal {
        if self.own.has_address(flow.dst) {
            self.own.icmpv4_fragment(flow, now)
        } else {
            self.shared.icmpv4_fragment(flow, now)
        }
    }

    fn map_v6_error(
        &mut self,
        error: &ErrorFlow<Ipv6Addr>,
        now: Instant,
    ) -> Result<ErrorRewrite<Ipv4Addr>, Refusal> {
        if self.own.has_client(error.quoted.dst) {
            self.own.map_v6_error(error, now)
        } else {
            self.shared.map_v6_error(error, now)
        }
    }

    fn map_v4_error(
        &mut self,
        error: &ErrorFlow<Ipv4Addr>,
        now: Instant,
    ) -> Result<ErrorRewrite<Ipv6Addr>, Refusal> {
        if self.own.has_address(error.quoted.src) {
            self.own.map_v4_error(error, now)
        } else {
            self.shared.map_v4_error(error, now)
        }
    }

    #[inline]
    fn is_hairpin(&self, flow: &Flow<Ipv6Addr>, rewrite: &Rewrite<Ipv4Addr>) -> bool {
        self.own.is_hairpin(flow, rewrite) || self.shared.is_hairpin(flow, rewrite)
    }

    fn is_hairpin_error(
        &self,
        error: &ErrorFlow<Ipv6Addr>,
        rewrite: &ErrorRewrite<Ipv4Addr>,
    ) -> bool {
        self.own.is_hairpin_error(error, rewrite) || self.shared.is_hairpin_error(error, rewrite)
    }

    fn map_v4_hairpin(
        &mut self,
        flow: &Flow<Ipv4Addr>,
        now: Instant,
    ) -> Result<Rewrite<Ipv6Addr>, Refusal> {
        if self.own.has_address(flow.dst) {
            self.own.map_v4_hairpin(flow, now)
        } else {
            self.shared.map_v4_hairpin(flow, now)
        }
    }

    fn map_v4_hairpin_error(
        &mut self,
        error: &ErrorFlow<Ipv4Addr>,
        now: Instant,
    ) -> Result<ErrorRewrite<Ipv6Addr>, Refusal> {
        if self.own.has_address(error.quoted.src) {
            self.own.map_v4_hairpin_error(error, now)
        } else {
            self.shared.map_v4_hairpin_error(error, now)
        }
    }

    fn fragment_id(&mut self, flow: &Flow<Ipv6Addr>, fragment: Fragment) -> Option<u16> {
        if self.own.has_client(flow.src) {
            self.own.fragment_id(flow, fragment)
        } else {
            self.shared.fragment_id(flow, fragment)
        }
    }

    #[inline]
    fn foresees(&self) -> bool {
        self.shared.foresees()
    }

    fn foresee(&mut self, coming: &[Coming]) {
        self.shared.foresee(coming);
    }

    fn udp_without_checksum(&mut self, flow: &Flow<Ipv4Addr>, now: Instant) -> Refusal {
        if self.own.has_address(flow.dst) {
            self.own.udp_without_checksum(flow, now)
        } else {
            self.shared.udp_without_checksum(flow, now)
        }
    }

    fn next_packet(&mut self, now: Instant) -> Option<Own<'_>> {
        self.shared.next_packet(now)
    }

    /// Only the stateful side ever waits for another packet.
    fn hold(&mut self, packet: &[u8], now: Instant) -> Result<(), DropReason> {
        self.shared.hold(packet, now)
    }
}
