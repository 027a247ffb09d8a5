//! The pipeline on one screen: start reading here.
//!
//! A packet passes these steps in order, and each of them can drop or answer it:
//!
//! 1. [`V6::parse`] (or [`V4::parse`]): the only place where lengths are checked;
//! 2. is it for the translator itself; is hop limit left; may its transport cross;
//! 3. [`fit`]: does the result fit the path;
//! 4. the [`Mapper`] decides about addresses and ports, and only now creates state;
//! 5. [`v6_to_v4`] (or [`v4_to_v6`]) swaps the headers in place; for an ICMP error [`icmp`] does
//!    the same for the quoted packet;
//! 6. a hairpin passes the result through the twin functions once more, never a third time.
//!
//! The file is as long as the pipeline: both directions stand side by side as twins, and no step is
//! hidden in another file that is not one of those named above.

use core::net::{Ipv4Addr, Ipv6Addr};

use crate::addr::special;
use crate::fit::{self, Fit};
use crate::frame::{Frame, HEADROOM};
use crate::icmp::v4_to_v6::ErrorV4;
use crate::icmp::v6_to_v4::ErrorV6;
use crate::identification::Identifications;
use crate::mapper::{
    Flow, Mapper, PREFETCH_BATCH, PacketHolder, Pass, PendingPacket, Prefetch, Refusal,
    UpcomingFlow,
};
use crate::offload::Offload;
use crate::packet::{Transport, V4, V6, peek};
use crate::policy::{Policy, PolicyError};
use crate::reason::DropReason;
use crate::reject::{self, Reject, Response};
use crate::reply::Replier;
use crate::split::Split;
use crate::time::Instant;
use crate::verdict::Verdict;
use crate::wire::{ipv4, version};
use crate::{transport, v4_to_v6, v6_to_v4};

/// Translates packets between IPv4 and IPv6 (RFC 7915) with the addresses that its [`Mapper`]
/// decides.
///
/// One translator belongs to one worker thread: it is never shared, and so needs no lock.
#[derive(Debug)]
pub struct Translator<M> {
    mapper: M,
    policy: Policy,
    replier: Replier,
    ids: Identifications,
}

/// What to do with a packet that the mapper had pending.
enum Then {
    Send,
    Translate,
    Answer { hairpin: bool, reason: DropReason },
    Complain,
}

impl<M: Mapper + PacketHolder + Prefetch> Translator<M> {
    /// A translator with this mapper and policy. `ids` makes IPv4 identifications; it must be
    /// keyed with a random number, and workers that share a mapper must not share its lane.
    ///
    /// # Errors
    /// A policy value that makes no sense.
    pub fn new(mapper: M, policy: Policy, ids: Identifications) -> Result<Self, PolicyError> {
        policy.validate()?;
        let replier = Replier::new(&policy, ids.workers());
        Ok(Self {
            mapper,
            policy,
            replier,
            ids,
        })
    }

    /// Translates the packet in `frame`, in place. `now` drives rate limits and lifetimes; it may
    /// be the same for a batch of packets.
    ///
    /// The packet must have [`HEADROOM`] bytes in front of it.
    #[inline]
    pub fn translate(&mut self, frame: &mut Frame<'_>, now: Instant) -> Verdict {
        if frame.start() < HEADROOM {
            return Verdict::Drop(DropReason::NoHeadroom);
        }
        let end = match frame.packet().first().map(|first| version(*first)) {
            Some(4) => self.v4_to_v6(frame, now, Pass::First),
            Some(6) => self.v6_to_v4(frame, now),
            _ => Err(DropReason::BadVersion.into()),
        };
        match end {
            Ok(Fit::Whole) => Verdict::Forward,
            Ok(Fit::Cut(limit)) => Verdict::Split(Split::new(frame, limit)),
            Err(reject) => self.reject(frame, reject, now),
        }
    }

    /// True if [`prefetch`](Self::prefetch) is worth its cost now.
    #[inline]
    pub fn wants_prefetch(&self) -> bool {
        self.mapper.wants_prefetch()
    }

    /// Tells the mapper of packets that will be translated next, so that it can fetch what they
    /// will be looked up by. No more than [`PREFETCH_BATCH`] of them are looked at.
    pub fn prefetch<'a>(&mut self, packets: impl IntoIterator<Item = &'a [u8]>) {
        let mut upcoming = [UpcomingFlow::NOTHING; PREFETCH_BATCH];
        let mut count = 0;
        let flows = packets.into_iter().filter_map(peek).take(PREFETCH_BATCH);
        for flow in flows {
            upcoming[count] = flow;
            count += 1;
        }
        self.mapper.prefetch(&upcoming[..count]);
    }

    /// The next packet that the mapper has pending, in place of the packet in `frame`, and what to
    /// do with it: one that it held and that is translated now, or one that it made. `None` if
    /// there is none. To be called until then, after each batch and about once a second.
    ///
    /// A packet too long for the buffer is dropped.
    pub fn poll_packet(&mut self, frame: &mut Frame<'_>, now: Instant) -> Option<Verdict> {
        let (bytes, then) = match self.mapper.poll_packet(now)? {
            PendingPacket::Send(bytes) => (bytes, Then::Send),
            PendingPacket::Translate(bytes) => (bytes, Then::Translate),
            PendingPacket::Answer {
                packet,
                hairpin,
                reason,
            } => (packet, Then::Answer { hairpin, reason }),
            PendingPacket::Expired(bytes) => (bytes, Then::Complain),
            PendingPacket::Lost(reason) => return Some(Verdict::Drop(reason)),
        };
        if !frame.resize(bytes.len()) {
            return Some(Verdict::Drop(DropReason::TooLong));
        }
        frame.packet_mut().copy_from_slice(bytes);
        frame.offload = Offload::NONE;
        Some(match then {
            Then::Send => Verdict::Forward,
            Then::Translate => self.translate(frame, now),
            Then::Answer { hairpin, reason } => self.answer(frame, hairpin, reason, now),
            Then::Complain => {
                let reason = DropReason::FragmentTimeout;
                self.reject(
                    frame,
                    Reject::Respond(reason, Response::ReassemblyTimeout),
                    now,
                )
            }
        })
    }

    /// Sends an ICMPv4 error of the mapper's, within the rate limits.
    fn answer(
        &mut self,
        frame: &mut Frame<'_>,
        hairpin: bool,
        reason: DropReason,
        now: Instant,
    ) -> Verdict {
        let Some(ip) = frame.array(0).map(ipv4::Header::parse) else {
            return Verdict::Drop(reason);
        };
        if !self.replier.allows_v4(ip.dst, &self.ids, now) {
            return Verdict::Drop(reason);
        }
        if hairpin && self.second_pass(frame, now).is_err() {
            return Verdict::Drop(reason);
        }
        Verdict::Reply(reason)
    }

    #[inline]
    fn v6_to_v4(&mut self, frame: &mut Frame<'_>, now: Instant) -> Result<Fit, Reject> {
        let mut packet = V6::parse(frame).map_err(|reason| reject::unreadable_v6(frame, reason))?;
        if packet.ip.dst == self.policy.own_v6 && self.policy.answer_v6 {
            return Err(reject::for_translator_v6(frame, &packet));
        }
        check_addresses_v6(packet.ip.src, packet.ip.dst)?;
        check_hops(packet.ip.hop_limit)?;
        if let Some(place) = packet.extensions.segments_left {
            let answer = Response::ErroneousField {
                pointer: place as u32,
            };
            return Err(Reject::Respond(DropReason::Ipv6SegmentsLeft, answer));
        }
        match packet.transport {
            Transport::Error { .. } => return self.error_v6_to_v4(frame, &packet, now),
            Transport::IcmpFragment => {
                let kept = self
                    .mapper
                    .reassemble_v6(&packet.flow(), frame.packet(), now);
                return Err(held(kept));
            }
            _ => {}
        }
        let partial = frame.offload.is_partial();
        transport::check_v6_to_v4(&packet.transport, partial, &self.policy)
            .map_err(reject::refused_transport)?;
        let fit = fit::v6_to_v4(frame, &packet, &self.policy)?;
        let flow = packet.flow();
        let rewrite = match self.mapper.map_v6(&flow, now) {
            Ok(rewrite) => rewrite,
            Err(refusal) => return Err(self.refused_v6(frame, &flow, refusal, now)),
        };
        if let (Some(id), Some(fragment)) = (rewrite.fragment_id, &mut packet.extensions.fragment) {
            fragment.id = u32::from(id);
        }
        let fit = if rewrite.hairpin { Fit::Whole } else { fit };
        let (policy, ids) = (&self.policy, &mut self.ids);
        v6_to_v4::rewrite(frame, &packet, &rewrite, policy, ids);
        if rewrite.hairpin {
            self.second_pass(frame, now)
        } else {
            Ok(fit)
        }
    }

    // With the hairpin's pass it has two callers, and the compiler's own judgement then leaves every
    // part of the parse out of line: 15 % of a packet's time (`docs/performance.md`).
    #[inline(always)]
    fn v4_to_v6(&mut self, frame: &mut Frame<'_>, now: Instant, pass: Pass) -> Result<Fit, Reject> {
        let packet = V4::parse(frame)?;
        if pass == Pass::First {
            if packet.ip.dst == self.policy.own_v4 && self.policy.answer_v4 {
                return Err(reject::for_translator_v4(&packet));
            }
            check_hops(packet.ip.ttl)?;
        }
        if packet.source_route {
            return Err(Reject::Respond(
                DropReason::Ipv4SourceRoute,
                Response::SourceRouteFailed,
            ));
        }
        match packet.transport {
            Transport::Error { .. } => return self.error_v4_to_v6(frame, &packet, now, pass),
            Transport::IcmpFragment if pass == Pass::First => {
                let kept = self
                    .mapper
                    .reassemble_v4(&packet.flow(), frame.packet(), now);
                return Err(held(kept));
            }
            Transport::IcmpFragment => return Err(DropReason::FragmentedIcmp.into()),
            _ => {}
        }
        let partial = frame.offload.is_partial();
        let fragmented = packet.ip.is_fragment();
        match transport::check_v4_to_v6(&packet.transport, fragmented, partial, &self.policy) {
            Err(DropReason::UdpZeroChecksum) if fragmented && pass == Pass::First => {
                let kept = self
                    .mapper
                    .reassemble_v4(&packet.flow(), frame.packet(), now);
                return Err(held(kept));
            }
            checked => checked.map_err(reject::refused_transport)?,
        }
        let fit = fit::v4_to_v6(frame, &packet, &self.policy)?;
        let flow = packet.flow();
        let rewrite = match self.mapper.map_v4(&flow, pass, now) {
            Ok(rewrite) => rewrite,
            Err(refusal) => return Err(self.refused_v4(frame, &flow, refusal, now)),
        };
        v4_to_v6::rewrite(frame, &packet, &rewrite, fit, &self.policy, pass);
        Ok(fit)
    }

    fn error_v6_to_v4(
        &mut self,
        frame: &mut Frame<'_>,
        packet: &V6,
        now: Instant,
    ) -> Result<Fit, Reject> {
        let error = ErrorV6::parse(frame, packet)?;
        let flow = error.flow(packet);
        let rewrite = self.mapper.map_v6_error(&flow, now)?;
        error.rewrite(frame, packet, &rewrite, &self.policy, &mut self.ids)?;
        if rewrite.hairpin {
            self.second_pass(frame, now)
        } else {
            Ok(Fit::Whole)
        }
    }

    fn error_v4_to_v6(
        &mut self,
        frame: &mut Frame<'_>,
        packet: &V4,
        now: Instant,
        pass: Pass,
    ) -> Result<Fit, Reject> {
        let error = ErrorV4::parse(frame, packet, &self.policy)?;
        let flow = error.flow(packet);
        let rewrite = self.mapper.map_v4_error(&flow, pass, now)?;
        error.rewrite(frame, packet, &rewrite, &self.policy, pass)?;
        Ok(Fit::Whole)
    }

    /// What becomes of a packet that the mapper did not map: one to be held is copied now.
    #[cold]
    fn refused_v6(
        &mut self,
        frame: &Frame<'_>,
        flow: &Flow<Ipv6Addr>,
        refusal: Refusal,
        now: Instant,
    ) -> Reject {
        match refusal {
            Refusal::Hold => held(self.mapper.hold_v6(flow, frame.packet(), now)),
            refusal => refusal.into(),
        }
    }

    /// Twin of [`refused_v6`](Self::refused_v6).
    #[cold]
    fn refused_v4(
        &mut self,
        frame: &Frame<'_>,
        flow: &Flow<Ipv4Addr>,
        refusal: Refusal,
        now: Instant,
    ) -> Reject {
        match refusal {
            Refusal::Hold => held(self.mapper.hold_v4(flow, frame.packet(), now)),
            refusal => refusal.into(),
        }
    }

    /// Takes the IPv4 packet that the first pass made back to IPv6. Whatever ends it here ends it
    /// silently: its sender never saw an IPv4 packet.
    #[cold]
    #[inline(never)]
    fn second_pass(&mut self, frame: &mut Frame<'_>, now: Instant) -> Result<Fit, Reject> {
        self.v4_to_v6(frame, now, Pass::Hairpin)
            .map_err(|reject| match reject {
                Reject::Respond(reason, _) => Reject::Silent(reason),
                Reject::Silent(_) | Reject::Held => reject,
            })
    }

    #[cold]
    fn reject(&mut self, frame: &mut Frame<'_>, reject: Reject, now: Instant) -> Verdict {
        match reject {
            Reject::Silent(reason) => Verdict::Drop(reason),
            Reject::Respond(reason, answer) => {
                self.replier
                    .reply(frame, reason, answer, &self.policy, &mut self.ids, now)
            }
            Reject::Held => Verdict::Held,
        }
    }

    /// The mapper.
    pub fn mapper(&self) -> &M {
        &self.mapper
    }

    /// The mapper, to be changed between packets.
    pub fn mapper_mut(&mut self) -> &mut M {
        &mut self.mapper
    }

    /// The policy in force.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Puts another policy in force. Rate limits restart with full buckets.
    ///
    /// # Errors
    /// A policy value that makes no sense; the old policy stays in force.
    pub fn set_policy(&mut self, policy: Policy) -> Result<(), PolicyError> {
        policy.validate()?;
        self.replier = Replier::new(&policy, self.ids.workers());
        self.policy = policy;
        Ok(())
    }
}

/// How a packet ends that the mapper was to keep a copy of.
fn held<E: Into<Reject>>(kept: Result<(), E>) -> Reject {
    match kept {
        Ok(()) => Reject::Held,
        Err(refusal) => refusal.into(),
    }
}

/// The last hop is the one that would bring the hop limit to zero (RFC 7915 sections 4.1 and 5.1).
#[inline]
fn check_hops(hop_limit: u8) -> Result<(), Reject> {
    if hop_limit <= 1 {
        return Err(Reject::Respond(
            DropReason::HopLimit,
            Response::TimeExceeded,
        ));
    }
    Ok(())
}

/// Addresses that no router forwards, whatever the mapper thinks of them (SE-04).
#[inline]
fn check_addresses_v6(src: Ipv6Addr, dst: Ipv6Addr) -> Result<(), DropReason> {
    if !special::is_legal_v6_source(src) {
        return Err(DropReason::IllegalSource);
    }
    if !special::is_legal_v6_destination(dst) {
        return Err(DropReason::IllegalDestination);
    }
    Ok(())
}
