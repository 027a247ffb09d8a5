//! ICMP errors of the translator's own, and its answers to echo requests, built in place of the
//! packet they answer: the packet stays where it is and is cut, the error's headers go in front
//! (RFC 7915 sections 4.4 and 5.4, RFC 4443 section 2.4, RFC 1812 section 4.3.2).

use core::net::Ipv4Addr;

use pnet_packet::ip::IpNextHeaderProtocols;

use crate::addr::{Ipv4Prefix, special};
use crate::checksum::{self, Sum};
use crate::error_limits::{Limits, Source};
use crate::frame::Frame;
use crate::identification::Identifications;
use crate::mapper::Unreachable;
use crate::offload::{Checksum, Gso, GsoKind, Offload};
use crate::packet::{ExtensionHeaders, complete_checksum, walk_to_transport};
use crate::policy::{MIN_IPV6_MTU, Policy};
use crate::reason::DropReason;
use crate::reject::Response;
use crate::time::Instant;
use crate::verdict::Verdict;
use crate::wire::{icmp, ipv4, ipv6, set_word, tcp, udp, version, word};

/// Hop limit of what we send ourselves.
const HOP_LIMIT: u8 = 64;
/// Internetwork control precedence for ICMPv4 errors (RFC 1812 section 4.3.2.5).
const TOS: u8 = 0xc0;

/// Builds replies and keeps them within their rates.
#[derive(Debug)]
pub(crate) struct Replier {
    v4: Limits,
    v6: Limits,
}

impl Replier {
    /// One of `workers` repliers that keep to the policy's rates together.
    pub(crate) fn new(policy: &Policy, workers: u16) -> Self {
        Self {
            v4: Limits::new(policy.icmpv4_errors, workers),
            v6: Limits::new(policy.icmpv6_errors, workers),
        }
    }

    /// True if an ICMPv4 error that a mapper has made may go to `dst` now.
    pub(crate) fn allows_v4(&mut self, dst: Ipv4Addr, ids: &Identifications, now: Instant) -> bool {
        let response = Response::Unreachable(Unreachable::Port);
        self.v4.allow(response, Source::v4(dst, ids), now)
    }

    /// Answers the packet in `frame`, or drops it where no answer may be given.
    pub(crate) fn reply(
        &mut self,
        frame: &mut Frame<'_>,
        reason: DropReason,
        response: Response,
        policy: &Policy,
        ids: &mut Identifications,
        now: Instant,
    ) -> Verdict {
        let sent = match version(frame.packet()[0]) {
            4 => self.reply_v4(frame, response, policy, ids, now),
            _ => self.reply_v6(frame, response, policy, ids, now),
        };
        if sent.is_none() {
            return Verdict::Drop(reason);
        }
        frame.offload = Offload::NONE;
        Verdict::Reply(reason)
    }

    fn reply_v4(
        &mut self,
        frame: &mut Frame<'_>,
        response: Response,
        policy: &Policy,
        ids: &mut Identifications,
        now: Instant,
    ) -> Option<()> {
        let ip = ipv4::Header::parse(frame.array(0)?);
        let header_len = ipv4::header_len(frame.packet()[0]);
        if !may_answer_v4(frame, &ip, header_len)
            || !self.v4.allow(response, Source::v4(ip.src, ids), now)
        {
            return None;
        }
        let src = if response == Response::EchoReply {
            frame.strip_front(header_len);
            let message = frame.packet_mut();
            message[icmp::TYPE] = icmp::v4::ECHO_REPLY;
            set_word(message, icmp::CHECKSUM, 0);
            ip.dst
        } else {
            first_segment(frame, header_len, ipv4::HEADER);
            let size = usize::from(policy.icmpv4_error_size.min(policy.mtu4));
            frame.truncate(size - ipv4::HEADER - icmp::HEADER);
            frame.push_front(&message_v4(response)?);
            policy.own_v4
        };
        let sum = Sum::of(frame.packet()).checksum();
        set_word(frame.packet_mut(), icmp::CHECKSUM, sum);
        let protocol = IpNextHeaderProtocols::Icmp;
        let total_len = ipv4::HEADER + frame.len();
        let header = ipv4::Header {
            tos: if response == Response::EchoReply {
                ip.tos
            } else {
                TOS
            },
            total_len: total_len as u16,
            id: ids.next(src, ip.src, protocol, 1),
            dont_fragment: false,
            more_fragments: false,
            offset: 0,
            ttl: HOP_LIMIT,
            protocol,
            src,
            dst: ip.src,
        };
        frame.push_front(&header.emit());
        Some(())
    }

    fn reply_v6(
        &mut self,
        frame: &mut Frame<'_>,
        response: Response,
        policy: &Policy,
        ids: &Identifications,
        now: Instant,
    ) -> Option<()> {
        let ip = ipv6::Header::parse(frame.array(0)?);
        let extensions = walk_to_transport(ip.next_header, frame.packet())?;
        if !may_answer_v6(frame, &ip, &extensions, response)
            || !self.v6.allow(response, Source::v6(ip.src, ids), now)
        {
            return None;
        }
        let src = if response == Response::EchoReply {
            frame.strip_front(extensions.headers_len);
            let message = frame.packet_mut();
            message[icmp::TYPE] = icmp::v6::ECHO_REPLY;
            set_word(message, icmp::CHECKSUM, 0);
            ip.dst
        } else {
            first_segment(frame, extensions.headers_len, ipv6::HEADER);
            frame.truncate(usize::from(MIN_IPV6_MTU) - ipv6::HEADER - icmp::HEADER);
            frame.push_front(&message_v6(response)?);
            policy.own_v6
        };
        let next_header = IpNextHeaderProtocols::Icmpv6;
        let len = frame.len();
        let pseudo = Sum::pseudo_v6(src, ip.src, next_header, len as u32);
        let checksum = (pseudo + Sum::of(frame.packet())).checksum();
        set_word(frame.packet_mut(), icmp::CHECKSUM, checksum);
        let header = ipv6::Header {
            traffic_class: if response == Response::EchoReply {
                ip.traffic_class
            } else {
                0
            },
            payload_len: len as u16,
            next_header,
            hop_limit: HOP_LIMIT,
            src,
            dst: ip.src,
        };
        frame.push_front(&header.emit());
        Some(())
    }
}

/// RFC 1122 section 3.2.2, RFC 1812 section 4.3.2.7: what no ICMPv4 error may answer.
fn may_answer_v4(frame: &Frame<'_>, ip: &ipv4::Header, header_len: usize) -> bool {
    let icmp_error = ip.protocol == IpNextHeaderProtocols::Icmp
        && frame
            .packet()
            .get(header_len)
            .is_none_or(|&kind| icmp::v4::is_error(kind));
    ip.offset == 0 && !icmp_error && is_host_v4(ip.src) && !is_group_v4(ip.dst)
}

fn is_host_v4(address: Ipv4Addr) -> bool {
    const NOBODY: [Ipv4Prefix; 2] = [
        Ipv4Prefix::containing(Ipv4Addr::UNSPECIFIED, 8),
        Ipv4Prefix::containing(Ipv4Addr::LOCALHOST, 8),
    ];
    address.octets()[0] < 224 && !NOBODY.iter().any(|range| range.contains(address))
}

fn is_group_v4(address: Ipv4Addr) -> bool {
    address.is_multicast() || address.is_broadcast()
}

/// RFC 4443 section 2.4e: what no ICMPv6 error may answer. A refusal for reasons of policy is not
/// sent to ICMPv6 messages at all (RFC 7915 section 5.4).
fn may_answer_v6(
    frame: &Frame<'_>,
    ip: &ipv6::Header,
    extensions: &ExtensionHeaders,
    response: Response,
) -> bool {
    let is_icmp = extensions.protocol == IpNextHeaderProtocols::Icmpv6;
    let later_fragment = extensions
        .fragment
        .is_some_and(|fragment| fragment.offset != 0);
    let icmp_error = is_icmp
        && !later_fragment
        && frame
            .packet()
            .get(extensions.headers_len)
            .is_none_or(|&kind| icmp::v6::is_error(kind) || kind == icmp::v6::REDIRECT);
    let prohibited = matches!(response, Response::Unreachable(Unreachable::Prohibited));
    let group = ip.dst.is_multicast() && !matches!(response, Response::TooBig { .. });
    special::is_legal_v6_source(ip.src) && !(icmp_error || group || prohibited && is_icmp)
}

/// The eight bytes in front of the quoted packet, checksum zero.
fn message_v4(response: Response) -> Option<[u8; icmp::HEADER]> {
    use icmp::v4;
    let (icmp_type, code, mtu) = match response {
        Response::TimeExceeded => (v4::TIME_EXCEEDED, 0, 0),
        Response::ReassemblyTimeout => (v4::TIME_EXCEEDED, 1, 0),
        Response::TooBig { mtu } => (v4::UNREACHABLE, 4, mtu),
        Response::Unreachable(Unreachable::Prohibited) => (v4::UNREACHABLE, 13, 0),
        Response::Unreachable(Unreachable::Address) => (v4::UNREACHABLE, 1, 0),
        Response::Unreachable(Unreachable::Port) => (v4::UNREACHABLE, 3, 0),
        Response::Unreachable(Unreachable::Protocol) => (v4::UNREACHABLE, 2, 0),
        Response::UnknownProtocol { .. } => (v4::UNREACHABLE, 2, 0),
        Response::SourceRouteFailed => (v4::UNREACHABLE, 5, 0),
        Response::ErroneousField { .. } | Response::EchoReply => return None,
    };
    let [high, low] = mtu.to_be_bytes();
    Some([icmp_type, code, 0, 0, 0, 0, high, low])
}

/// Twin of [`message_v4`].
fn message_v6(response: Response) -> Option<[u8; icmp::HEADER]> {
    use icmp::v6;
    let (icmp_type, code, word) = match response {
        Response::TimeExceeded => (v6::TIME_EXCEEDED, 0, 0),
        Response::ReassemblyTimeout => (v6::TIME_EXCEEDED, 1, 0),
        Response::TooBig { mtu } => (v6::PACKET_TOO_BIG, 0, u32::from(mtu)),
        Response::Unreachable(Unreachable::Prohibited) => (v6::UNREACHABLE, 1, 0),
        Response::Unreachable(Unreachable::Address) => (v6::UNREACHABLE, 3, 0),
        Response::Unreachable(Unreachable::Port | Unreachable::Protocol) => (v6::UNREACHABLE, 4, 0),
        Response::ErroneousField { pointer } => (v6::PARAMETER_PROBLEM, 0, pointer),
        Response::UnknownProtocol { pointer } => (v6::PARAMETER_PROBLEM, 1, pointer),
        Response::SourceRouteFailed | Response::EchoReply => return None,
    };
    let [a, b, c, d] = word.to_be_bytes();
    Some([icmp_type, code, 0, 0, a, b, c, d])
}

/// Makes the packet what it would have been on a wire: a super-packet becomes its first segment,
/// and a checksum that was put off is completed. `at` is where the transport starts.
fn first_segment(frame: &mut Frame<'_>, at: usize, ip_header: usize) {
    if let Some(gso) = frame.offload.gso {
        cut_to_segment(frame, at, ip_header, gso);
    }
    if let Checksum::Partial(partial) = frame.offload.checksum {
        let start = usize::from(partial.start);
        let field = start + usize::from(partial.offset);
        if field + 2 <= frame.len() {
            complete_checksum(frame, start, field);
        }
    }
}

/// Cuts a super-packet behind its first segment and sets the lengths, in the pseudo-header sum
/// too.
fn cut_to_segment(frame: &mut Frame<'_>, at: usize, ip_header: usize, gso: Gso) {
    let is_udp = matches!(gso.kind, GsoKind::Udp);
    let old = frame.len() - at;
    let header = if is_udp {
        udp::HEADER
    } else {
        tcp::header_len(&frame.packet()[at..])
    };
    let new = old.min(header + usize::from(gso.size));
    frame.truncate(at + new);
    let packet = frame.packet_mut();
    let place = at + if is_udp { udp::CHECKSUM } else { tcp::CHECKSUM };
    let sum = word(packet, place);
    let change = Sum::word(new as u16) - Sum::word(old as u16);
    set_word(packet, place, checksum::update_partial(sum, change));
    if is_udp {
        set_word(packet, at + udp::LENGTH, new as u16);
    }
    if ip_header == ipv6::HEADER {
        set_word(packet, ipv6::PAYLOAD_LEN, (at + new - ipv6::HEADER) as u16);
        return;
    }
    set_word(packet, ipv4::TOTAL_LEN, (at + new) as u16);
    set_word(packet, ipv4::CHECKSUM, 0);
    let checksum = Sum::of(&packet[..at]).checksum();
    set_word(packet, ipv4::CHECKSUM, checksum);
}
