//! Cuts a translated packet that is too long for its way into pieces.
//!
//! The pieces lie where the packet lay: each gets its header written into the bytes in front of
//! it, that is over the end of the piece before, which is why that one must be sent first. Nothing
//! is copied.
//!
//! A super-packet of UDP datagrams is taken apart as well: every datagram gets its UDP header in
//! front of its part of the payload, and is then cut like any other packet.

use core::net::{Ipv4Addr, Ipv6Addr};

use pnet_packet::ip::IpNextHeaderProtocols;

use crate::checksum::{self, Sum};
use crate::frame::Frame;
use crate::offload::{Checksum, Offload};
use crate::packet::complete_checksum;
use crate::wire::{ipv4, ipv6, set_word, udp, version};

/// The pieces of one packet, handed out one by one.
#[derive(Debug)]
pub struct Split {
    template: Template,
    /// Longest piece in bytes, headers included.
    limit: usize,
    /// What is left of the datagram that is being cut, as places in the frame's buffer.
    next: usize,
    end: usize,
    /// Place of the next piece in its datagram, in units of 8 bytes.
    offset: u16,
    /// Datagrams of a super-packet that have not begun yet.
    datagrams: Option<Datagrams>,
}

/// The IP header of every piece, but for lengths and offsets.
#[derive(Debug)]
enum Template {
    V4(ipv4::Header),
    V6(ipv6::Header, ipv6::FragmentHeader),
}

/// The rest of a super-packet.
#[derive(Debug)]
struct Datagrams {
    header: [u8; udp::HEADER],
    size: usize,
    end: usize,
}

impl Split {
    /// Cuts the translated packet in `frame` into pieces of at most `limit` bytes. An IPv6 packet
    /// has its Fragment header already.
    pub(crate) fn new(frame: &mut Frame<'_>, limit: usize) -> Self {
        let (template, header_len, offset) = match (frame.array(0), frame.array(0)) {
            (Some(headers), _) if version(headers[0]) == 6 => Template::v6(headers),
            (_, Some(header)) => Template::v4(header),
            (_, None) => unreachable!("a translated packet has a header"),
        };
        Self::with_template(frame, template, header_len, offset, limit)
    }

    fn with_template(
        frame: &mut Frame<'_>,
        template: Template,
        header_len: usize,
        offset: u16,
        limit: usize,
    ) -> Self {
        let begin = frame.start() + header_len;
        let end = frame.start() + frame.len();
        let mut split = Self {
            template,
            limit,
            next: begin,
            end,
            offset,
            datagrams: None,
        };
        if let Some(gso) = frame.offload.gso {
            if let Some(header) = frame.array(header_len) {
                let datagrams = Datagrams {
                    header: *header,
                    size: usize::from(gso.size),
                    end,
                };
                split.datagrams = Some(datagrams);
                split.end = begin;
                split.next = begin + udp::HEADER;
            }
        } else if let Checksum::Partial(partial) = frame.offload.checksum {
            let start = usize::from(partial.start);
            complete_checksum(frame, start, start + usize::from(partial.offset));
        }
        split
    }

    /// The next piece, ready to send; `frame` is the frame that was translated. Send it before
    /// asking for the one after it: the next piece's header goes over the end of this one.
    pub fn next<'f>(&mut self, frame: &'f mut Frame<'_>) -> Option<Frame<'f>> {
        if self.next >= self.end && !self.next_datagram(frame) {
            return None;
        }
        let left = self.end - self.next;
        let room = self.limit - self.template.header_len(left, self.offset, self.limit);
        let (len, last) = if left <= room {
            (left, true)
        } else {
            (room & !7, false)
        };
        let start = self.template.put(frame, self.next, len, self.offset, last);
        let end = self.next + len;
        self.next = end;
        self.offset += (len / 8) as u16;
        Some(frame.part(start, end, Offload::NONE))
    }

    /// Begins the next datagram of a super-packet: writes its UDP header in front of its payload.
    fn next_datagram(&mut self, frame: &mut Frame<'_>) -> bool {
        let Some(datagrams) = &self.datagrams else {
            return false;
        };
        let first = self.offset == 0 && self.end < self.next;
        let begin = if first { self.next } else { self.end };
        if begin >= datagrams.end {
            return false;
        }
        let end = datagrams.end.min(begin + datagrams.size);
        let start = begin - udp::HEADER;
        let mut whole = frame.part(start, end, Offload::NONE);
        let datagram = whole.packet_mut();
        datagram[..udp::HEADER].copy_from_slice(&datagrams.header);
        let len = datagram.len();
        set_word(datagram, udp::LENGTH, len as u16);
        set_word(datagram, udp::CHECKSUM, 0);
        let sum = self.template.pseudo(len) + Sum::of(datagram);
        set_word(datagram, udp::CHECKSUM, checksum::udp(sum.checksum()));
        if !first {
            self.template.next_id();
        }
        self.next = start;
        self.end = end;
        self.offset = 0;
        true
    }
}

impl Template {
    fn v6(headers: &[u8; ipv6::HEADER_AND_FRAGMENT]) -> (Self, usize, u16) {
        let mut ip = [0; ipv6::HEADER];
        ip.copy_from_slice(&headers[..ipv6::HEADER]);
        let mut fragment = [0; ipv6::FRAGMENT];
        fragment.copy_from_slice(&headers[ipv6::HEADER..]);
        let fragment = ipv6::FragmentHeader::parse(&fragment);
        (
            Self::V6(ipv6::Header::parse(&ip), fragment),
            headers.len(),
            fragment.offset,
        )
    }

    fn v4(header: &[u8; ipv4::HEADER]) -> (Self, usize, u16) {
        let ip = ipv4::Header::parse(header);
        (Self::V4(ip), header.len(), ip.offset)
    }

    /// Length of the header in front of the `left` bytes at `offset`. A datagram that fits as a
    /// whole gets no Fragment header (RFC 8021).
    fn header_len(&self, left: usize, offset: u16, limit: usize) -> usize {
        match self {
            Self::V4(_) => ipv4::HEADER,
            Self::V6(_, fragment)
                if offset == 0 && !fragment.more && left + ipv6::HEADER <= limit =>
            {
                ipv6::HEADER
            }
            Self::V6(..) => ipv6::HEADER_AND_FRAGMENT,
        }
    }

    /// Writes the header for the piece of `len` bytes at `at` in the buffer; returns where it
    /// starts.
    fn put(&self, frame: &mut Frame<'_>, at: usize, len: usize, offset: u16, last: bool) -> usize {
        match self {
            Self::V4(ip) => {
                let header = ipv4::Header {
                    total_len: (ipv4::HEADER + len) as u16,
                    offset,
                    more_fragments: ip.more_fragments || !last,
                    ..*ip
                };
                put(frame, at, &header.emit())
            }
            Self::V6(ip, fragment) if offset == 0 && last && !fragment.more => {
                let header = ipv6::Header {
                    payload_len: len as u16,
                    next_header: fragment.next_header,
                    ..*ip
                };
                put(frame, at, &header.emit())
            }
            Self::V6(ip, fragment) => {
                let payload_len = (ipv6::FRAGMENT + len) as u16;
                let fragment = ipv6::FragmentHeader {
                    offset,
                    more: fragment.more || !last,
                    ..*fragment
                };
                let header = ipv6::Header { payload_len, ..*ip };
                put(frame, at, &header.emit_with_fragment(&fragment))
            }
        }
    }

    fn pseudo(&self, len: usize) -> Sum {
        let udp = IpNextHeaderProtocols::Udp;
        match self {
            Self::V4(ip) => {
                let (src, dst): (Ipv4Addr, Ipv4Addr) = (ip.src, ip.dst);
                Sum::pseudo_v4(src, dst, udp, len as u32)
            }
            Self::V6(ip, _) => {
                let (src, dst): (Ipv6Addr, Ipv6Addr) = (ip.src, ip.dst);
                Sum::pseudo_v6(src, dst, udp, len as u32)
            }
        }
    }

    /// Every datagram has its own identification, as the kernel gives them out when it cuts a
    /// super-packet.
    fn next_id(&mut self) {
        match self {
            Self::V4(ip) => ip.id = ip.id.wrapping_add(1),
            Self::V6(_, fragment) => fragment.id = u32::from((fragment.id as u16).wrapping_add(1)),
        }
    }
}

/// Writes `header` in front of place `at` in the buffer; returns where it starts.
fn put<const N: usize>(frame: &mut Frame<'_>, at: usize, header: &[u8; N]) -> usize {
    let start = at - N;
    frame
        .part(start, at, Offload::NONE)
        .packet_mut()
        .copy_from_slice(header);
    start
}
