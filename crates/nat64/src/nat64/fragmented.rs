//! Fragments on their way through the NAT64 (RFC 6146 section 3.4): the first one is mapped like
//! any packet, the others go where the first one went.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::MutexGuard;
use std::sync::atomic::Ordering;

use pnet_packet::ip::IpNextHeaderProtocol;
use xlat_core::mapper::{Flow, Fragment, Refusal, Rewrite};
use xlat_core::{DropReason, Instant};

use super::tuple::protocol;
use super::{Holding, Nat64, lock};
use crate::clock::Tick;
use crate::fragments::{DatagramKey, Decision, Fragments};
use crate::session::Protocol;

impl Nat64 {
    pub(super) fn outbound_fragment(
        &mut self,
        flow: &Flow<Ipv6Addr>,
        fragment: Fragment,
        now: Instant,
    ) -> Result<Rewrite<Ipv4Addr>, Refusal> {
        let key = DatagramKey::v6(flow.src, flow.dst, fragment.id, flow.protocol);
        let known = self.part(&key).piece(&key, fragment.into(), Tick::at(now));
        if !fragment.is_first() {
            return match known {
                Some(Decision::ToV4(rewrite, _)) => Ok(rewrite),
                Some(_) => Err(refused()),
                None => {
                    self.check_v6(flow)?;
                    Err(self.wait_for_first(key, fragment, flow.protocol))
                }
            };
        }
        let rewrite = self
            .outbound(flow, now)
            .inspect_err(|_| self.part(&key).refuse(&key))?;
        match known {
            None => {
                let id = self.next_id(rewrite.src, rewrite.dst, flow.protocol);
                self.decide(key, fragment, Decision::ToV4(rewrite, id), now);
                Ok(rewrite)
            }
            Some(Decision::ToV4(before, _)) if before == rewrite => Ok(rewrite),
            Some(_) => {
                self.part(&key).refuse(&key);
                Err(refused())
            }
        }
    }

    pub(super) fn inbound_fragment(
        &mut self,
        flow: &Flow<Ipv4Addr>,
        fragment: Fragment,
        now: Instant,
    ) -> Result<Rewrite<Ipv6Addr>, Refusal> {
        let key = DatagramKey::v4(flow.src, flow.dst, fragment.id, flow.protocol);
        let known = self.part(&key).piece(&key, fragment.into(), Tick::at(now));
        if !fragment.is_first() {
            return match known {
                Some(Decision::ToV6(rewrite)) => Ok(rewrite),
                Some(_) => Err(refused()),
                None => {
                    self.check_v4(flow)?;
                    Err(self.wait_for_first(key, fragment, flow.protocol))
                }
            };
        }
        let rewrite = self
            .inbound(flow, now)
            .inspect_err(|_| self.part(&key).refuse(&key))?;
        match known {
            None => {
                self.decide(key, fragment, Decision::ToV6(rewrite), now);
                Ok(rewrite)
            }
            Some(Decision::ToV6(before)) if before == rewrite => Ok(rewrite),
            Some(_) => {
                self.part(&key).refuse(&key);
                Err(refused())
            }
        }
    }

    /// The part of the fragments that a datagram belongs to.
    pub(super) fn part(&self, key: &DatagramKey) -> MutexGuard<'_, Fragments> {
        let parts = &self.shared.fragments;
        let number = key.hash(&self.shared.key) as usize % parts.len();
        lock(&parts[number])
    }

    fn decide(&mut self, key: DatagramKey, first: Fragment, decision: Decision, now: Instant) {
        let held = self
            .part(&key)
            .decide(key, first.into(), decision, Tick::at(now));
        self.released.extend(held);
    }

    /// A fragment of which nothing is known yet is worth keeping only if its first one could pass.
    fn wait_for_first(
        &mut self,
        key: DatagramKey,
        fragment: Fragment,
        number: IpNextHeaderProtocol,
    ) -> Refusal {
        match protocol(number) {
            Ok(Protocol::Udp | Protocol::Tcp) => {
                self.holding = Some(Holding::Fragment(key, fragment.into()));
                Refusal::Hold
            }
            // They are asked about as messages to be put together.
            Ok(Protocol::Icmp) => Refusal::Silent(DropReason::FragmentedIcmp),
            Err(refusal) => refusal,
        }
    }

    /// The identification that a datagram's fragments get. Those of several clients come from one
    /// external address, so their own low 16 bits will not do.
    pub(super) fn next_id(
        &self,
        src: Ipv4Addr,
        dst: Ipv4Addr,
        protocol: IpNextHeaderProtocol,
    ) -> u16 {
        let addresses = (u64::from(src.to_bits()) << 32) | u64::from(dst.to_bits());
        let hash = self.shared.key.hash([addresses, u64::from(protocol.0)]);
        let counters = &self.shared.ids;
        let counter = &counters[hash as usize % counters.len()];
        let count = counter.fetch_add(1, Ordering::Relaxed);
        // The addresses' own offset keeps one destination from learning about another.
        count.wrapping_add((hash >> 48) as u16)
    }
}

/// A fragment of a datagram whose first one was refused, or came twice and did not agree with
/// itself.
fn refused() -> Refusal {
    Refusal::Silent(DropReason::BadTransport)
}
