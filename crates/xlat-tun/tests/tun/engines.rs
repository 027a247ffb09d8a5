//! Engines that take the translator's place, or stand around it.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::mpsc;

use xlat_core::checksum::{self, Sum};
use xlat_core::mapper::{
    ErrorFlow, ErrorRewrite, Flow, Mapper, PacketByPacket, Pass, Refusal, Rewrite,
};
use xlat_core::offload::GsoKind;
use xlat_core::{DropReason, Frame, Offload, Translator, Verdict};
use xlat_tun::Engine;

use crate::host::{FAR4, FAR6, HERE4, HERE6};

/// Sends each packet back to where it came from.
pub(crate) struct Reflect {
    pub(crate) queue: usize,
    pub(crate) seen: mpsc::Sender<Seen>,
    pub(crate) refuse: Option<DropReason>,
    pub(crate) offload: Option<Offload>,
}

/// A translator behind a bottleneck that marks a packet now and then instead of dropping it.
pub(crate) struct Congested {
    pub(crate) translator: Translator<Pair>,
    pub(crate) packets: u32,
    /// Kinds of the super-packets whose sender says that it slows down.
    pub(crate) reduced: mpsc::Sender<GsoKind>,
}

impl Engine for Congested {
    fn translate(&mut self, frame: &mut Frame<'_>, now: xlat_core::Instant) -> Verdict {
        if let Some(gso) = frame.offload.gso {
            self.packets += 1;
            if self.packets.is_multiple_of(8) {
                mark(frame.packet_mut());
            }
            if gso.ecn {
                let _ = self.reduced.send(gso.kind);
            }
        }
        self.translator.translate(frame, now)
    }

    fn wants_prefetch(&self) -> bool {
        false
    }

    fn prefetch<'a>(&mut self, _packets: impl Iterator<Item = &'a [u8]>) {}

    fn poll_packet(&mut self, _frame: &mut Frame<'_>, _now: xlat_core::Instant) -> Option<Verdict> {
        None
    }
}

/// Congestion experienced, if the packet's sender knows what that is (RFC 3168).
pub(crate) fn mark(packet: &mut [u8]) {
    if packet[0] >> 4 == 6 {
        if packet[1] & 0x30 != 0 {
            packet[1] |= 0x30;
        }
    } else if packet[1] & 3 != 0 {
        let before = Sum::word(u16::from_be_bytes([packet[0], packet[1]]));
        packet[1] |= 3;
        let after = Sum::word(u16::from_be_bytes([packet[0], packet[1]]));
        let sum = u16::from_be_bytes([packet[10], packet[11]]);
        let sum = checksum::update(sum, after - before);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
    }
}

/// The two ends of the translator test know each other by these addresses.
pub(crate) struct Pair;

impl PacketByPacket for Pair {}

impl Mapper for Pair {
    fn map_v6(
        &mut self,
        flow: &Flow<Ipv6Addr>,
        _now: xlat_core::Instant,
    ) -> Result<Rewrite<Ipv4Addr>, Refusal> {
        if (flow.src, flow.dst) != (HERE6, FAR6) {
            return Err(Refusal::Silent(DropReason::UnmappedSource));
        }
        Ok(Rewrite::new(FAR4, HERE4))
    }

    fn map_v4(
        &mut self,
        flow: &Flow<Ipv4Addr>,
        _pass: Pass,
        _now: xlat_core::Instant,
    ) -> Result<Rewrite<Ipv6Addr>, Refusal> {
        if (flow.src, flow.dst) != (HERE4, FAR4) {
            return Err(Refusal::Silent(DropReason::UnmappedSource));
        }
        Ok(Rewrite::new(FAR6, HERE6))
    }

    fn map_v6_error(
        &mut self,
        _error: &ErrorFlow<Ipv6Addr>,
        _now: xlat_core::Instant,
    ) -> Result<ErrorRewrite<Ipv4Addr>, Refusal> {
        Err(Refusal::Silent(DropReason::QuotedUnmapped))
    }

    fn map_v4_error(
        &mut self,
        _error: &ErrorFlow<Ipv4Addr>,
        _pass: Pass,
        _now: xlat_core::Instant,
    ) -> Result<ErrorRewrite<Ipv6Addr>, Refusal> {
        Err(Refusal::Silent(DropReason::QuotedUnmapped))
    }
}

/// What the engine saw of a packet.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) queue: usize,
    pub(crate) length: usize,
    pub(crate) offload: Offload,
}

impl Engine for Reflect {
    fn translate(&mut self, frame: &mut Frame<'_>, _now: xlat_core::Instant) -> Verdict {
        let packet = frame.packet_mut();
        let (source, destination) = match packet[0] >> 4 {
            4 => packet[12..20].split_at_mut(4),
            _ => packet[8..40].split_at_mut(16),
        };
        // Router solicitations and their like are not for us.
        if destination[0] == 0xff {
            return Verdict::Drop(DropReason::ForTranslator);
        }
        if let Some(reason) = self.refuse {
            return Verdict::Drop(reason);
        }
        source.swap_with_slice(destination);
        let _ = self.seen.send(Seen {
            queue: self.queue,
            length: frame.len(),
            offload: frame.offload,
        });
        if let Some(offload) = self.offload {
            frame.offload = offload;
        }
        Verdict::Forward
    }

    fn wants_prefetch(&self) -> bool {
        false
    }

    fn prefetch<'a>(&mut self, _packets: impl Iterator<Item = &'a [u8]>) {}

    fn poll_packet(&mut self, _frame: &mut Frame<'_>, _now: xlat_core::Instant) -> Option<Verdict> {
        None
    }
}
