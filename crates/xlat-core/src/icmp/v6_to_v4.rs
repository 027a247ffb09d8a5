//! ICMPv6 error to ICMPv4 error (RFC 7915 sections 5.2 and 5.3). Twin of
//! [`v4_to_v6`](super::v4_to_v6): the same functions in the same order.

use core::net::{Ipv4Addr, Ipv6Addr};

use pnet_packet::ip::IpNextHeaderProtocols;

use super::extension::{self, Extension};
use super::quoted::QuotedV6;
use super::{Counterpart, Rest, verify};
use crate::checksum::Sum;
use crate::fit::{DF_THRESHOLD, dont_fragment};
use crate::frame::Frame;
use crate::identification::Identifications;
use crate::mapper::{ErrorFlow, ErrorRewrite, Rewrite};
use crate::packet::V6;
use crate::policy::{DUMMY_V4, MIN_IPV6_MTU, Policy, TrafficClass, UnmappedSource};
use crate::reason::DropReason;
use crate::transport::delta_v6_to_v4;
use crate::v6_to_v4;
use crate::wire::{double_word, icmp, ipv4, ipv6, set_word};

/// A valid ICMPv6 error that has a counterpart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ErrorV6 {
    counterpart: Counterpart,
    quoted: QuotedV6,
    /// Bytes of the quoted packet that are there.
    quoted_len: usize,
    extension: Extension,
    mtu: u32,
}

impl ErrorV6 {
    /// Reads the error behind the headers of `packet`.
    pub(crate) fn parse(frame: &Frame<'_>, packet: &V6) -> Result<Self, DropReason> {
        let message = &frame.packet()[packet.extensions.headers_len..];
        let word = double_word(message, icmp::REST);
        let counterpart = counterpart(message[icmp::TYPE], message[icmp::CODE], word)?;
        let ip = &packet.ip;
        let len = message.len() as u32;
        verify(
            message,
            Sum::pseudo_v6(ip.src, ip.dst, IpNextHeaderProtocols::Icmpv6, len),
        )?;
        let length = match message[icmp::TYPE] {
            icmp::v6::UNREACHABLE | icmp::v6::TIME_EXCEEDED => {
                usize::from(message[icmp::v6::LENGTH]) * icmp::v6::LENGTH_UNIT
            }
            _ => 0,
        };
        let body = &message[icmp::HEADER..];
        let (quoted_len, extension_len) = extension::split(body.len(), length)?;
        let quoted = QuotedV6::parse(&body[..quoted_len])?;
        let at = packet.extensions.headers_len + icmp::HEADER + quoted_len;
        let extension = match counterpart.rest {
            // All of these have a length attribute in ICMPv4 (RFC 4884 section 4), but a
            // parameter problem never came with an extension.
            Rest::Unused | Rest::Mtu => Extension {
                at,
                len: extension_len,
                node: None,
            },
            Rest::Pointer(_) => Extension::default(),
        };
        Ok(Self {
            counterpart,
            quoted,
            quoted_len,
            extension,
            mtu: word,
        })
    }

    /// The error as a mapper sees it.
    pub(crate) fn flow(&self, packet: &V6) -> ErrorFlow<Ipv6Addr> {
        ErrorFlow {
            src: packet.ip.src,
            dst: packet.ip.dst,
            quoted: self.quoted.flow(),
        }
    }

    /// Rewrites the error in `frame`, which begins with the headers of `packet`.
    pub(crate) fn rewrite(
        mut self,
        frame: &mut Frame<'_>,
        packet: &V6,
        new: &ErrorRewrite<Ipv4Addr>,
        policy: &Policy,
        ids: &mut Identifications,
    ) -> Result<(), DropReason> {
        let headers_len = self.quoted.extensions.headers_len;
        let body_at = packet.extensions.headers_len + icmp::HEADER + headers_len;
        let have = self.quoted_len - headers_len;
        self.rewrite_quoted_transport(&mut frame.packet_mut()[body_at..body_at + have], new);

        let src = new
            .src
            .unwrap_or_else(|| self.lend_source(packet.ip.src, policy, ids));
        let error_max = usize::from(policy.icmpv4_error_size.min(policy.mtu4));
        let room = error_max - ipv4::HEADER - icmp::HEADER;
        let layout = self
            .extension
            .layout(ipv4::HEADER + have, room, icmp::v4::LENGTH_UNIT);
        self.extension
            .arrange(frame, body_at - ipv4::HEADER, &layout)?;

        frame.strip_front(body_at);
        self.push_quoted_header(frame, &new.quoted, policy);
        frame.push_front(&self.message_header(layout.attribute(icmp::v4::LENGTH_UNIT), policy));
        let len = frame.len();
        let checksum = Sum::of(frame.packet()).checksum();
        set_word(frame.packet_mut(), icmp::CHECKSUM, checksum);
        let outer = Rewrite::new(src, new.dst);
        let mut header = v6_to_v4::header(packet, len, &outer, policy);
        header.dont_fragment = dont_fragment(packet, ipv4::HEADER + len);
        if packet.extensions.fragment.is_none() && !header.dont_fragment {
            header.id = ids.next(src, new.dst, header.protocol, 1);
        }
        frame.push_front(&header.emit());
        Ok(())
    }

    /// An IPv4 source for an error whose own source has none (RFC 6791), and where the policy says
    /// so an ICMP extension with the original source.
    fn lend_source(
        &mut self,
        node: Ipv6Addr,
        policy: &Policy,
        ids: &mut Identifications,
    ) -> Ipv4Addr {
        match policy.unmapped_source {
            UnmappedSource::Pool(pool) => {
                Ipv4Addr::from_bits(pool.address().to_bits() | ids.random_u32() & !pool.mask())
            }
            UnmappedSource::NodeIdentification => {
                if !matches!(self.counterpart.rest, Rest::Pointer(_)) && self.has_length() {
                    self.extension.node = Some(node);
                }
                DUMMY_V4
            }
        }
    }

    /// Destination unreachable and time exceeded have a length attribute (RFC 4884 section 4).
    fn has_length(&self) -> bool {
        matches!(
            self.counterpart.icmp_type,
            icmp::v4::UNREACHABLE | icmp::v4::TIME_EXCEEDED
        )
    }

    fn rewrite_quoted_transport(&self, bytes: &mut [u8], new: &ErrorRewrite<Ipv4Addr>) {
        let (ip, new) = (&self.quoted.ip, &new.quoted);
        let len = self.quoted.payload_len() as u32;
        let lost = Sum::pseudo_v6(ip.src, ip.dst, IpNextHeaderProtocols::Icmpv6, len);
        self.quoted.transport.rewrite(
            bytes,
            new.ports,
            delta_v6_to_v4(ip.src, ip.dst, new),
            Sum::ZERO - lost,
            icmp::v4::ECHO_REQUEST,
            icmp::v4::ECHO_REPLY,
        );
    }

    /// The quoted header, translated like any other but for its TTL and for its length, which is
    /// that of the packet when it was sent (RFC 7915 section 5.3).
    fn push_quoted_header(&self, frame: &mut Frame<'_>, new: &Rewrite<Ipv4Addr>, policy: &Policy) {
        let quoted = &self.quoted;
        let total_len = (ipv4::HEADER + quoted.payload_len()).min(usize::from(u16::MAX));
        let fragment = quoted.extensions.fragment;
        let header = ipv4::Header {
            tos: match policy.tos {
                TrafficClass::Copy => quoted.ip.traffic_class,
                TrafficClass::Fixed(value) => value,
            },
            total_len: total_len as u16,
            id: fragment.map_or(0, |fragment| fragment.id as u16),
            dont_fragment: fragment.is_none() && total_len > DF_THRESHOLD,
            more_fragments: fragment.is_some_and(|fragment| fragment.more),
            offset: fragment.map_or(0, |fragment| fragment.offset),
            ttl: quoted.ip.hop_limit,
            protocol: v6_to_v4::protocol(quoted.extensions.protocol),
            src: new.src,
            dst: new.dst,
        };
        frame.push_front(&header.emit());
    }

    /// The eight bytes in front of the quoted packet, checksum zero.
    fn message_header(&self, length: u8, policy: &Policy) -> [u8; icmp::HEADER] {
        let Counterpart {
            icmp_type,
            code,
            rest,
        } = self.counterpart;
        let mut header = [icmp_type, code, 0, 0, 0, 0, 0, 0];
        match rest {
            Rest::Unused => header[icmp::v4::LENGTH] = length,
            Rest::Mtu => {
                header[icmp::v4::LENGTH] = length;
                set_word(&mut header, icmp::v4::MTU, self.mtu(policy));
            }
            Rest::Pointer(pointer) => header[icmp::v4::POINTER] = pointer,
        }
        header
    }

    /// The MTU of a Fragmentation Needed (RFC 7915 section 5.2). Nothing below the least IPv6 MTU
    /// is believed, or a forged error could press all packets below it.
    fn mtu(&self, policy: &Policy) -> u16 {
        let shrunk = match self.quoted.extensions.fragment {
            Some(_) => ipv6::HEADER_AND_FRAGMENT - ipv4::HEADER,
            None => ipv6::HEADER - ipv4::HEADER,
        } as u32;
        let mtu = (self.mtu.max(u32::from(MIN_IPV6_MTU)) - shrunk)
            .min(u32::from(policy.mtu4))
            .min(u32::from(policy.mtu6) - shrunk);
        mtu.min(u32::from(u16::MAX)) as u16
    }
}

/// Type and code (RFC 7915 section 5.2, figure 6 for pointers).
fn counterpart(icmp_type: u8, code: u8, pointer: u32) -> Result<Counterpart, DropReason> {
    use icmp::{v4, v6};
    let (icmp_type, code, rest) = match (icmp_type, code) {
        (v6::UNREACHABLE, 0 | 2 | 3) => (v4::UNREACHABLE, 1, Rest::Unused),
        (v6::UNREACHABLE, 1) => (v4::UNREACHABLE, 10, Rest::Unused),
        (v6::UNREACHABLE, 4) => (v4::UNREACHABLE, 3, Rest::Unused),
        (v6::PACKET_TOO_BIG, _) => (v4::UNREACHABLE, 4, Rest::Mtu),
        (v6::TIME_EXCEEDED, 0 | 1) => (v4::TIME_EXCEEDED, code, Rest::Unused),
        (v6::PARAMETER_PROBLEM, 0) => {
            let pointer = pointer_to_v4(pointer).ok_or(DropReason::IcmpPointer)?;
            (v4::PARAMETER_PROBLEM, 0, Rest::Pointer(pointer))
        }
        (v6::PARAMETER_PROBLEM, 1) => (v4::UNREACHABLE, 2, Rest::Unused),
        (v6::UNREACHABLE | v6::TIME_EXCEEDED | v6::PARAMETER_PROBLEM, _) => {
            return Err(DropReason::IcmpCode);
        }
        _ => return Err(DropReason::IcmpType),
    };
    Ok(Counterpart {
        icmp_type,
        code,
        rest,
    })
}

/// The field of the IPv4 header that stands for the one at `pointer` in the IPv6 header.
const fn pointer_to_v4(pointer: u32) -> Option<u8> {
    Some(match pointer {
        0 => 0,
        1 => 1,
        4 | 5 => 2,
        6 => 9,
        7 => 8,
        8..=23 => 12,
        24..=39 => 16,
        _ => return None,
    })
}
