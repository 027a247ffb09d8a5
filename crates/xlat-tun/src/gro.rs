//! Joins packets of one flow that were read one by one into one super-packet before the write.
//!
//! A write costs about as much as all the translator's work, and the kernel carries the
//! super-packet through its stack as one. So a [`Coalescer`] holds back TCP segments and UDP
//! datagrams until the batch ends, and appends packets that directly continue them. It is as strict
//! as the kernel's own receive offload: segmenting the super-packet gives the original packets,
//! byte for byte. (The one exception is the identification of IPv4 packets that must not be
//! fragmented, which has no meaning, RFC 6864 section 4.1.) So packets are never joined across
//! - a gap, a repetition, or any TCP flag but ACK and a last PSH;
//! - another TOS or traffic class (and so ECN mark), TTL, flow label, window or set of options;
//! - IP options, extension headers, fragments;
//! - a checksum that is wrong or absent: joining would hide that.
//!
//! Order within a flow is kept by construction: a flow has at most one packet held back, and a
//! packet of the flow that cannot be appended to it is written after it. Between flows there is no
//! order to keep.
//!
//! No I/O: the caller's `write` sends each packet and gets the number of packets that were joined
//! in it.
//!
//! The rules and the packet that is held back are one thought; how a flow and its headers are read is
//! `gro/flow.rs`.

mod flow;

use std::mem;

use pnet_packet::ip::{IpNextHeaderProtocol, IpNextHeaderProtocols};
use xlat_core::checksum::{self, Sum};
use xlat_core::offload::{Checksum, Gso, GsoKind, PartialChecksum};
use xlat_core::wire::{
    PORTS, double_word, ipv4, ipv6, set_word, tcp, udp, version as ip_version, word,
};
use xlat_core::{Frame, Offload};

use super::negotiate::Offloads;
use super::queue::Slot;
use flow::{Flow, Headers, closes, headers, is_intact, is_tcp, pseudo_header};

/// Number of flows that can have a packet held back at the same time.
const LANES: usize = 16;

/// Most packets in one super-packet: the limit of the kernel's own UDP coalescing
/// (`UDP_GRO_CNT_MAX`), and well below the limit of its TUN.
const MAX_SEGMENTS: u16 = 64;

/// Longest super-packet in bytes: the largest total length of an IPv4 header.
const MAX_LEN: usize = 65535;

/// Holds packets back and joins them.
#[derive(Debug)]
pub(super) struct Coalescer {
    /// The first `held` lanes are in use, oldest first; the others are spare buffers.
    lanes: Vec<Lane>,
    held: usize,
    joined: u64,
    tcp: bool,
    udp: bool,
}

/// The position of a packet in its slot, with its offloaded work.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PacketSpan {
    start: usize,
    len: usize,
    offload: Offload,
}

/// One packet that is held back, with the payload appended to it.
#[derive(Debug)]
struct Lane {
    slot: Slot,
    span: PacketSpan,
    flow: Flow,
    headers: Headers,
    /// Payload of the first packet in bytes, and so of all packets but the last.
    segment: usize,
    segments: u16,
}

/// How the coalescer treats a packet.
enum Class {
    /// A packet whose flow never has a packet held back, such as one of another protocol.
    Other,
    /// A packet of an unknown flow (fragments, extension headers).
    Barrier,
    /// A segment of a flow that can neither be held back nor appended.
    Single(Flow),
    /// A segment that can be held back or appended.
    Joinable(Flow, Headers),
}

impl PacketSpan {
    pub(super) fn of(frame: &Frame<'_>) -> Self {
        Self {
            start: frame.start(),
            len: frame.len(),
            offload: frame.offload,
        }
    }

    pub(super) fn len(self) -> usize {
        self.len
    }

    pub(super) fn frame(self, slot: &mut Slot) -> Option<Frame<'_>> {
        Frame::new(&mut slot.0, self.start, self.len, self.offload)
    }

    pub(super) fn packet(self, slot: &Slot) -> &[u8] {
        &slot.0[self.start..self.start + self.len]
    }
}

impl Coalescer {
    /// A coalescer for the kinds of super-packet that this kernel accepts.
    pub(super) fn new(offloads: Offloads) -> Self {
        let tcp = offloads.contains(Offloads::CHECKSUM);
        let udp = offloads.contains(Offloads::USO);
        let lanes = if tcp || udp { LANES } else { 0 };
        Self {
            lanes: (0..lanes).map(|_| Lane::spare()).collect(),
            held: 0,
            joined: 0,
            tcp,
            udp,
        }
    }

    /// Takes the packet in `slot`: holds it back, or writes it at once after the packet of its flow
    /// that was held back. `slot` is free afterwards; its buffer may have been swapped with
    /// another.
    ///
    /// # Errors
    /// Errors of `write`. The packet it failed for is lost, the others are still held back.
    #[inline]
    pub(super) fn push<E>(
        &mut self,
        slot: &mut Slot,
        span: PacketSpan,
        write: &mut impl FnMut(&mut Frame<'_>, u16) -> Result<(), E>,
    ) -> Result<(), E> {
        match self.classify(span.packet(slot), &span.offload) {
            Class::Other => {}
            Class::Barrier => self.flush(write)?,
            Class::Single(flow) => {
                if let Some(lane) = self.find(&flow) {
                    self.release(lane, write)?;
                }
            }
            Class::Joinable(flow, headers) => {
                return self.join(slot, span, flow, headers, write);
            }
        }
        write_alone(slot, span, write)
    }

    /// Writes all packets that were held back.
    ///
    /// # Errors
    /// Errors of `write`.
    #[inline]
    pub(super) fn flush<E>(
        &mut self,
        write: &mut impl FnMut(&mut Frame<'_>, u16) -> Result<(), E>,
    ) -> Result<(), E> {
        while self.held > 0 {
            self.release(0, write)?;
        }
        Ok(())
    }

    /// Makes no more super-packets of this kind; false if it made none before either. To be called
    /// while nothing is held back.
    pub(super) fn stop(&mut self, kind: GsoKind) -> bool {
        let joins = match kind {
            GsoKind::Udp => &mut self.udp,
            GsoKind::TcpV4 | GsoKind::TcpV6 => &mut self.tcp,
        };
        mem::take(joins)
    }

    /// Returns how many packets were appended to another one since the last call.
    pub(super) fn take_joined(&mut self) -> u64 {
        mem::take(&mut self.joined)
    }

    fn join<E>(
        &mut self,
        slot: &mut Slot,
        span: PacketSpan,
        flow: Flow,
        headers: Headers,
        write: &mut impl FnMut(&mut Frame<'_>, u16) -> Result<(), E>,
    ) -> Result<(), E> {
        let packet = span.packet(slot);
        let closes = closes(&flow, headers, packet);
        if let Some(number) = self.find(&flow) {
            let lane = &mut self.lanes[number];
            if lane.append(packet, &span.offload, headers) {
                self.joined += 1;
                let short = packet.len() - headers.len() < lane.segment;
                if short || closes || lane.segments == MAX_SEGMENTS {
                    self.release(number, write)?;
                }
                return Ok(());
            }
            self.release(number, write)?;
        }
        if closes {
            return write_alone(slot, span, write);
        }
        if self.held == self.lanes.len() {
            self.release(0, write)?;
        }
        let lane = &mut self.lanes[self.held];
        mem::swap(&mut lane.slot, slot);
        lane.span = span;
        lane.flow = flow;
        lane.headers = headers;
        lane.segment = span.len - headers.len();
        lane.segments = 1;
        self.held += 1;
        Ok(())
    }

    fn find(&self, flow: &Flow) -> Option<usize> {
        self.lanes[..self.held]
            .iter()
            .position(|lane| lane.flow.is(flow))
    }

    /// Writes the packet in lane `number` and makes the lane a spare one.
    fn release<E>(
        &mut self,
        number: usize,
        write: &mut impl FnMut(&mut Frame<'_>, u16) -> Result<(), E>,
    ) -> Result<(), E> {
        self.lanes[number..self.held].rotate_left(1);
        self.held -= 1;
        let lane = &mut self.lanes[self.held];
        lane.finish();
        match lane.span.frame(&mut lane.slot) {
            Some(mut frame) => write(&mut frame, lane.segments),
            None => Ok(()),
        }
    }

    #[inline]
    fn classify(&self, packet: &[u8], offload: &Offload) -> Class {
        let (version, ip, protocol) = match packet.first().map(|first| ip_version(*first)) {
            Some(4) if packet.len() >= ipv4::HEADER => (4, ipv4::HEADER, packet[ipv4::PROTOCOL]),
            Some(6) if packet.len() >= ipv6::HEADER => (6, ipv6::HEADER, packet[ipv6::NEXT_HEADER]),
            _ => return Class::Other,
        };
        let wanted = match IpNextHeaderProtocol(protocol) {
            IpNextHeaderProtocols::Tcp => self.tcp,
            IpNextHeaderProtocols::Udp => self.udp,
            // A segment may come after the extension headers.
            IpNextHeaderProtocols::Hopopt
            | IpNextHeaderProtocols::Ipv6Route
            | IpNextHeaderProtocols::Ipv6Frag
            | IpNextHeaderProtocols::Ipv6Opts
                if version == 6 =>
            {
                return Class::Barrier;
            }
            _ => return Class::Other,
        };
        if !wanted {
            return Class::Other;
        }
        if version == 4 && (packet[0] != ipv4::WITHOUT_OPTIONS || ipv4::is_fragment(packet)) {
            return Class::Barrier;
        }
        let Some(ports) = packet.get(ip..ip + PORTS) else {
            return Class::Barrier;
        };
        let flow = Flow::new(version, protocol, packet, ports);
        match headers(version, ip, protocol, packet, offload) {
            Some(headers) => Class::Joinable(flow, headers),
            None => Class::Single(flow),
        }
    }
}

impl Lane {
    fn spare() -> Self {
        Self {
            slot: Slot::new(),
            span: PacketSpan::default(),
            flow: Flow::default(),
            headers: Headers::default(),
            segment: 0,
            segments: 0,
        }
    }

    /// Appends the payload of `packet`, which is of the same flow, if it continues the packet that
    /// is held back.
    fn append(&mut self, packet: &[u8], offload: &Offload, headers: Headers) -> bool {
        let PacketSpan { start, len, .. } = self.span;
        let payload = &packet[headers.len()..];
        let held = &self.slot.0[start..start + len];
        let fits = payload.len() <= self.segment
            && len + payload.len() <= MAX_LEN
            && start + len + payload.len() <= self.slot.0.len();
        if !fits || headers != self.headers || !self.continues(held, packet) {
            return false;
        }
        if self.segments == 1 && !is_intact(held, &self.span.offload, headers, &self.flow) {
            return false;
        }
        if !is_intact(packet, offload, headers, &self.flow) {
            return false;
        }
        let buffer = &mut self.slot.0[start..];
        buffer[len..len + payload.len()].copy_from_slice(payload);
        if is_tcp(&self.flow) {
            // Only a last PSH can differ, and segmentation leaves it on the last segment only.
            let flags = headers.ip + tcp::FLAGS;
            buffer[flags] |= packet[flags];
        }
        self.span.len += payload.len();
        self.segments += 1;
        true
    }

    /// True if all header fields of `next` are those that segmentation would give the next segment.
    fn continues(&self, held: &[u8], next: &[u8]) -> bool {
        let Headers { ip, .. } = self.headers;
        let same = |from: usize, to: usize| held[from..to] == next[from..to];
        let same_ip = if self.flow.version == 4 {
            let may_not_be_cut = word(held, ipv4::FRAGMENT) & ipv4::DONT_FRAGMENT != 0;
            let expected = word(held, ipv4::ID).wrapping_add(self.segments);
            // Version to TOS, flags to protocol; the addresses are those of the flow.
            same(0, ipv4::TOTAL_LEN)
                && same(ipv4::FRAGMENT, ipv4::CHECKSUM)
                && (may_not_be_cut || word(next, ipv4::ID) == expected)
        } else {
            same(0, ipv6::PAYLOAD_LEN) && same(ipv6::NEXT_HEADER, ipv6::SRC)
        };
        if !same_ip || !is_tcp(&self.flow) {
            return same_ip;
        }
        let appended = held.len() - self.headers.len();
        let expected = double_word(held, ip + tcp::SEQUENCE).wrapping_add(appended as u32);
        // Acknowledgement, data offset and reserved bits, window, urgent pointer, options.
        double_word(next, ip + tcp::SEQUENCE) == expected
            && same(ip + tcp::ACKNOWLEDGEMENT, ip + tcp::FLAGS)
            && same(ip + tcp::WINDOW, ip + tcp::CHECKSUM)
            && same(ip + tcp::URGENT, self.headers.len())
    }

    /// Updates the headers to the joined packet; a single packet stays as it was.
    fn finish(&mut self) {
        if self.segments < 2 {
            return;
        }
        let Headers { ip, .. } = self.headers;
        let PacketSpan { start, len, .. } = self.span;
        let packet = &mut self.slot.0[start..start + len];
        if self.flow.version == 4 {
            let change = Sum::word(len as u16) - Sum::word(word(packet, ipv4::TOTAL_LEN));
            let header_sum = checksum::update(word(packet, ipv4::CHECKSUM), change);
            set_word(packet, ipv4::TOTAL_LEN, len as u16);
            set_word(packet, ipv4::CHECKSUM, header_sum);
        } else {
            set_word(packet, ipv6::PAYLOAD_LEN, (len - ip) as u16);
        }
        let (kind, offset) = match (is_tcp(&self.flow), self.flow.version) {
            (true, 4) => (GsoKind::TcpV4, tcp::CHECKSUM),
            (true, _) => (GsoKind::TcpV6, tcp::CHECKSUM),
            (false, _) => {
                set_word(packet, ip + udp::LENGTH, (len - ip) as u16);
                (GsoKind::Udp, udp::CHECKSUM)
            }
        };
        let pseudo = pseudo_header(&self.flow, len - ip).folded();
        set_word(packet, ip + offset, pseudo);
        self.span.offload = Offload {
            checksum: Checksum::Partial(PartialChecksum {
                start: ip as u16,
                offset: offset as u16,
            }),
            gso: Some(Gso {
                kind,
                size: self.segment as u16,
                ecn: false,
            }),
        };
    }
}

/// Writes a packet without joined ones.
#[inline]
fn write_alone<E>(
    slot: &mut Slot,
    span: PacketSpan,
    write: &mut impl FnMut(&mut Frame<'_>, u16) -> Result<(), E>,
) -> Result<(), E> {
    match span.frame(slot) {
        Some(mut frame) => write(&mut frame, 1),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
