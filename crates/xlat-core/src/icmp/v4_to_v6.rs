//! ICMPv4 error to ICMPv6 error (RFC 7915 sections 4.2 and 4.3). Twin of
//! [`v6_to_v4`](super::v6_to_v4): the same functions in the same order.

use core::net::{Ipv4Addr, Ipv6Addr};

use pnet_packet::ip::IpNextHeaderProtocols;

use super::extension::{self, Extension};
use super::quoted::QuotedV4;
use super::{Counterpart, Rest, verify};
use crate::checksum::Sum;
use crate::frame::Frame;
use crate::mapper::{ErrorFlow, ErrorRewrite, Pass, Rewrite};
use crate::packet::V4;
use crate::policy::{MIN_IPV6_MTU, Policy};
use crate::reason::DropReason;
use crate::transport::delta_v4_to_v6;
use crate::v4_to_v6;
use crate::wire::{icmp, ipv4, ipv6, set_word, word};

/// A valid ICMPv4 error that has a counterpart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ErrorV4 {
    counterpart: Counterpart,
    quoted: QuotedV4,
    /// Bytes of the quoted packet that are there.
    quoted_len: usize,
    extension: Extension,
    mtu: u16,
}

impl ErrorV4 {
    /// Reads the error behind the header of `packet`.
    pub(crate) fn parse(
        frame: &Frame<'_>,
        packet: &V4,
        policy: &Policy,
    ) -> Result<Self, DropReason> {
        let message = &frame.packet()[packet.header_len..];
        let counterpart = counterpart(
            message[icmp::TYPE],
            message[icmp::CODE],
            message[icmp::v4::POINTER],
        )?;
        verify(message, Sum::ZERO)?;
        let length = match message[icmp::TYPE] {
            icmp::v4::UNREACHABLE | icmp::v4::TIME_EXCEEDED | icmp::v4::PARAMETER_PROBLEM => {
                usize::from(message[icmp::v4::LENGTH]) * icmp::v4::LENGTH_UNIT
            }
            _ => 0,
        };
        let body = &message[icmp::HEADER..];
        let (quoted_len, extension_len) = extension::split(body.len(), length)?;
        let quoted = QuotedV4::parse(&body[..quoted_len], policy.tolerate_quoted_checksum)?;
        let at = packet.header_len + icmp::HEADER + quoted_len;
        let extension = match counterpart.rest {
            // Only these have a length attribute in ICMPv6 (RFC 4884 section 4).
            Rest::Unused => Extension {
                at,
                len: extension_len,
                node: None,
            },
            Rest::Mtu | Rest::Pointer(_) => Extension::default(),
        };
        Ok(Self {
            counterpart,
            quoted,
            quoted_len,
            extension,
            mtu: word(message, icmp::v4::MTU),
        })
    }

    /// The error as a mapper sees it.
    pub(crate) fn flow(&self, packet: &V4) -> ErrorFlow<Ipv4Addr> {
        ErrorFlow {
            src: packet.ip.src,
            dst: packet.ip.dst,
            quoted: self.quoted.flow(),
        }
    }

    /// Rewrites the error in `frame`, which begins with the header of `packet`.
    pub(crate) fn rewrite(
        &self,
        frame: &mut Frame<'_>,
        packet: &V4,
        new: &ErrorRewrite<Ipv6Addr>,
        policy: &Policy,
        pass: Pass,
    ) -> Result<(), DropReason> {
        let body_at = packet.header_len + icmp::HEADER + self.quoted.header_len;
        let have = self.quoted_len - self.quoted.header_len;
        self.rewrite_quoted_transport(&mut frame.packet_mut()[body_at..body_at + have], new);

        let fragment = self.quoted.ip.is_fragment();
        let quoted_header = if fragment {
            ipv6::HEADER_AND_FRAGMENT
        } else {
            ipv6::HEADER
        };
        let room = ERROR_MAX - ipv6::HEADER - icmp::HEADER;
        let layout = self
            .extension
            .layout(quoted_header + have, room, icmp::v6::LENGTH_UNIT);
        self.extension
            .arrange(frame, body_at - quoted_header, &layout)?;

        frame.strip_front(body_at);
        self.push_quoted_header(frame, &new.quoted, policy);
        frame.push_front(&self.message_header(layout.attribute(icmp::v6::LENGTH_UNIT), policy));
        let outer = Rewrite::new(new.src.unwrap_or(policy.own_v6), new.dst);
        let len = frame.len();
        let pseudo = Sum::pseudo_v6(
            outer.src,
            outer.dst,
            IpNextHeaderProtocols::Icmpv6,
            len as u32,
        );
        let checksum = (pseudo + Sum::of(frame.packet())).checksum();
        set_word(frame.packet_mut(), icmp::CHECKSUM, checksum);
        let hop_limit = pass.hop(packet.ip.ttl);
        frame.push_front(&v4_to_v6::header(&packet.ip, len, &outer, policy, hop_limit).emit());
        Ok(())
    }

    fn rewrite_quoted_transport(&self, bytes: &mut [u8], new: &ErrorRewrite<Ipv6Addr>) {
        let (ip, new) = (&self.quoted.ip, &new.quoted);
        let len = self.quoted.payload_len() as u32;
        let icmp_delta = Sum::pseudo_v6(new.src, new.dst, IpNextHeaderProtocols::Icmpv6, len);
        self.quoted.transport.rewrite(
            bytes,
            new.ports,
            delta_v4_to_v6(ip.src, ip.dst, new),
            icmp_delta,
            icmp::v6::ECHO_REQUEST,
            icmp::v6::ECHO_REPLY,
        );
    }

    /// The quoted header, translated like any other but for its hop limit and for its length,
    /// which is that of the packet when it was sent (RFC 7915 section 4.3).
    fn push_quoted_header(&self, frame: &mut Frame<'_>, new: &Rewrite<Ipv6Addr>, policy: &Policy) {
        let ip = &self.quoted.ip;
        let mut header = v4_to_v6::header(ip, self.quoted.payload_len(), new, policy, ip.ttl);
        if !ip.is_fragment() {
            return frame.push_front(&header.emit());
        }
        header.next_header = IpNextHeaderProtocols::Ipv6Frag;
        header.payload_len = header.payload_len.saturating_add(ipv6::FRAGMENT as u16);
        frame.push_front(&header.emit_with_fragment(&v4_to_v6::fragment_header(ip)));
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
            Rest::Unused => header[icmp::v6::LENGTH] = length,
            Rest::Mtu => header[icmp::REST..].copy_from_slice(&self.mtu(policy).to_be_bytes()),
            Rest::Pointer(pointer) => header[icmp::v6::POINTER_LOW] = pointer,
        }
        header
    }

    /// The MTU of a Packet Too Big (RFC 7915 section 4.2).
    fn mtu(&self, policy: &Policy) -> u32 {
        let advertised = match self.mtu {
            0 => plateau_below(self.quoted.ip.total_len),
            mtu => mtu,
        };
        let grown = u32::from(ipv6::HEADER as u16 - ipv4::HEADER as u16);
        (u32::from(advertised) + grown)
            .min(u32::from(policy.mtu6))
            .min(u32::from(policy.mtu4) + grown)
            .max(u32::from(MIN_IPV6_MTU))
    }
}

/// Longest ICMPv6 error (RFC 4443 section 2.4c).
const ERROR_MAX: usize = MIN_IPV6_MTU as usize;

/// MTUs that links are likely to have (RFC 1191 section 7.1).
const PLATEAUS: [u16; 11] = [
    65535, 32000, 17914, 8166, 4352, 2002, 1492, 1006, 508, 296, 68,
];

/// The MTU that a router meant which reported none: the largest plateau below the length of the
/// packet that did not fit (RFC 1191 section 5).
fn plateau_below(total_len: u16) -> u16 {
    PLATEAUS
        .into_iter()
        .find(|plateau| *plateau < total_len)
        .unwrap_or(68)
}

/// Type and code (RFC 7915 section 4.2, figure 3 for pointers).
fn counterpart(icmp_type: u8, code: u8, pointer: u8) -> Result<Counterpart, DropReason> {
    use icmp::{v4, v6};
    let (icmp_type, code, rest) = match (icmp_type, code) {
        (v4::UNREACHABLE, 0 | 1 | 5..=8 | 11 | 12) => (v6::UNREACHABLE, 0, Rest::Unused),
        (v4::UNREACHABLE, 9 | 10 | 13 | 15) => (v6::UNREACHABLE, 1, Rest::Unused),
        (v4::UNREACHABLE, 3) => (v6::UNREACHABLE, 4, Rest::Unused),
        // Points at the Next Header field of the quoted packet.
        (v4::UNREACHABLE, 2) => (v6::PARAMETER_PROBLEM, 1, Rest::Pointer(6)),
        (v4::UNREACHABLE, 4) => (v6::PACKET_TOO_BIG, 0, Rest::Mtu),
        (v4::TIME_EXCEEDED, 0 | 1) => (v6::TIME_EXCEEDED, code, Rest::Unused),
        (v4::PARAMETER_PROBLEM, 0 | 2) => {
            let pointer = pointer_to_v6(pointer).ok_or(DropReason::IcmpPointer)?;
            (v6::PARAMETER_PROBLEM, 0, Rest::Pointer(pointer))
        }
        (v4::UNREACHABLE | v4::TIME_EXCEEDED | v4::PARAMETER_PROBLEM, _) => {
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

/// The field of the IPv6 header that stands for the one at `pointer` in the IPv4 header.
const fn pointer_to_v6(pointer: u8) -> Option<u8> {
    Some(match pointer {
        0 => 0,
        1 => 1,
        2 | 3 => 4,
        8 => 7,
        9 => 6,
        12..=15 => 8,
        16..=19 => 24,
        _ => return None,
    })
}
