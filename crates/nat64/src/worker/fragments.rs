//! Fragments on their way through the NAT64 (RFC 6146 section 3.4): the first one is mapped like
//! any packet, the others go where the first one went.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::MutexGuard;
use std::sync::atomic::Ordering;

use pnet_packet::ip::IpNextHeaderProtocol;
use xlat_core::mapper::{Flow, Fragment, Pass, Refusal, Rewrite};
use xlat_core::{DropReason, Instant};

use super::Worker;
use super::tuples::protocol;
use crate::clock::Tick;
use crate::fragments::{DatagramKey, Decision, Fragments, Held};
use crate::shared::lock;
use crate::tuple::Protocol;

/// The end of a fragment that has waited in vain.
pub(super) enum Ended {
    /// Its sender gets an ICMP error.
    Expired(Vec<u8>),
    /// It is counted.
    Lost(DropReason),
}

impl Worker {
    pub(super) fn outbound_fragment(
        &mut self,
        flow: &Flow<Ipv6Addr>,
        fragment: Fragment,
        now: Instant,
    ) -> Result<Rewrite<Ipv4Addr>, Refusal> {
        let key = DatagramKey::v6(flow.src, flow.dst, fragment.id, flow.protocol);
        let known = self.known(&key, fragment, now);
        if !fragment.is_first() {
            let Some(known) = known else {
                self.check_v6(flow)?;
                return Err(wait_for_first(flow.protocol));
            };
            return follow_to_v4(known);
        }
        let mut rewrite = self
            .outbound(flow, now)
            .inspect_err(|_| self.refuse(&key, now))?;
        let decided = match known {
            Some(known) => known,
            None => {
                let id = self.next_id(rewrite.src, rewrite.dst, flow.protocol);
                rewrite.fragment_id = Some(id);
                self.decide(key, fragment, Decision::ToV4(rewrite), now)?
            }
        };
        let agreed = follow_to_v4(decided).ok().filter(|agreed| {
            let fragment_id = agreed.fragment_id;
            *agreed
                == Rewrite {
                    fragment_id,
                    ..rewrite
                }
        });
        agreed.ok_or_else(|| self.disagree(&key, now))
    }

    pub(super) fn inbound_fragment(
        &mut self,
        flow: &Flow<Ipv4Addr>,
        fragment: Fragment,
        pass: Pass,
        now: Instant,
    ) -> Result<Rewrite<Ipv6Addr>, Refusal> {
        let key = DatagramKey::v4(flow.src, flow.dst, fragment.id, flow.protocol);
        let known = self.known(&key, fragment, now);
        if !fragment.is_first() {
            let Some(known) = known else {
                self.check_v4(flow)?;
                return Err(wait_for_first(flow.protocol));
            };
            return follow_to_v6(known);
        }
        let rewrite = self
            .inbound(flow, pass, now)
            .inspect_err(|_| self.refuse(&key, now))?;
        let decided = match known {
            Some(known) => known,
            None => self.decide(key, fragment, Decision::ToV6(rewrite), now)?,
        };
        let agreed = follow_to_v6(decided)
            .ok()
            .filter(|agreed| *agreed == rewrite);
        agreed.ok_or_else(|| self.disagree(&key, now))
    }

    /// Keeps a fragment until the first one of its datagram has come or, if the datagram is to be
    /// put together (`gathers`), all others.
    pub(super) fn hold_piece(
        &mut self,
        key: DatagramKey,
        fragment: Fragment,
        gathers: bool,
        packet: &[u8],
        now: Instant,
    ) -> Result<(), DropReason> {
        let held = self
            .part(&key)
            .hold(key, fragment.into(), gathers, packet, Tick::at(now));
        match held {
            Held::Refused(reason) => return Err(reason),
            Held::Kept => {}
            Held::Ready => self.released.push_back(packet.into()),
            Held::Whole(pieces) => self.release_whole(&pieces),
        }
        Ok(())
    }

    /// Looks for pieces that have waited in vain.
    pub(super) fn find_gone(&mut self, now: Instant) {
        for part in &self.shared.fragments {
            let gone = lock(part).take_gone(Tick::at(now));
            self.gone.firsts.extend(gone.firsts);
            self.gone.late += gone.late;
            self.gone.refused += gone.refused;
        }
    }

    /// What became of a piece that has waited in vain.
    pub(super) fn next_gone(&mut self) -> Option<Ended> {
        if let Some(first) = self.gone.firsts.pop() {
            return Some(Ended::Expired(first.into_vec()));
        }
        for (count, reason) in [
            (&mut self.gone.late, DropReason::FragmentTimeout),
            (&mut self.gone.refused, DropReason::FragmentRefused),
        ] {
            if *count > 0 {
                *count -= 1;
                return Some(Ended::Lost(reason));
            }
        }
        None
    }

    fn known(&self, key: &DatagramKey, fragment: Fragment, now: Instant) -> Option<Decision> {
        self.part(key).piece(key, fragment.into(), Tick::at(now))
    }

    /// Two first fragments of a datagram that do not say the same: it ends.
    fn disagree(&self, key: &DatagramKey, now: Instant) -> Refusal {
        self.refuse(key, now);
        refused()
    }

    fn refuse(&self, key: &DatagramKey, now: Instant) {
        self.part(key).refuse(key, Tick::at(now));
    }

    /// The part of the fragments that a datagram belongs to.
    pub(super) fn part(&self, key: &DatagramKey) -> MutexGuard<'_, Fragments> {
        let parts = &self.shared.fragments;
        let number = key.hash(&self.shared.key) as usize % parts.len();
        lock(&parts[number])
    }

    fn decide(
        &mut self,
        key: DatagramKey,
        first: Fragment,
        decision: Decision,
        now: Instant,
    ) -> Result<Decision, Refusal> {
        let decided = self
            .part(&key)
            .decide(key, first.into(), decision, Tick::at(now));
        let (decision, held) = decided.map_err(Refusal::Silent)?;
        self.released.extend(held);
        Ok(decision)
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

/// A fragment of which nothing is known yet is worth keeping only if its first one could pass.
fn wait_for_first(number: IpNextHeaderProtocol) -> Refusal {
    match protocol(number) {
        Ok(Protocol::Udp | Protocol::Tcp) => Refusal::Hold,
        // They are messages to be put together.
        Ok(Protocol::Icmp) => Refusal::Silent(DropReason::FragmentedIcmp),
        Err(refusal) => refusal,
    }
}

fn follow_to_v4(decision: Decision) -> Result<Rewrite<Ipv4Addr>, Refusal> {
    match decision {
        Decision::ToV4(rewrite) => Ok(rewrite),
        Decision::ToV6(_) | Decision::Refused => Err(refused()),
    }
}

fn follow_to_v6(decision: Decision) -> Result<Rewrite<Ipv6Addr>, Refusal> {
    match decision {
        Decision::ToV6(rewrite) => Ok(rewrite),
        Decision::ToV4(_) | Decision::Refused => Err(refused()),
    }
}

/// A fragment of a datagram whose first one was refused, or came twice and did not agree with
/// itself.
fn refused() -> Refusal {
    Refusal::Silent(DropReason::FragmentRefused)
}
