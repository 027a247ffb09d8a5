//! Does the translated packet fit its way, and what happens if not (RFC 7915 sections 4 and 5).
//!
//! A super-packet is judged by one segment. If its segments may be cut and do not fit, TCP is told
//! to make smaller segments, which costs nothing; UDP has to be taken apart.

use crate::frame::Frame;
use crate::offload::{Gso, GsoKind};
use crate::packet::{Transport, V4, V6};
use crate::policy::{MIN_IPV6_MTU, Policy};
use crate::reason::DropReason;
use crate::reject::{Reject, Response};
use crate::wire::{ipv4, ipv6, tcp, udp};

/// How a packet goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    /// In one piece.
    Whole,
    /// Cut so that no piece is longer than this many bytes.
    Cut(usize),
}

/// Longest packet whose DF bit is 0 on the way to IPv4: shorter than this, a path MTU cannot be
/// learned through translators anyway (RFC 7915 section 5.1).
pub(crate) const DF_THRESHOLD: usize = 1260;

const LENGTH_MAX: usize = 65535;

/// Judges an IPv4 packet on its way to IPv6 (RFC 7915 section 4).
#[inline]
pub(crate) fn v4_to_v6(frame: &mut Frame<'_>, packet: &V4, policy: &Policy) -> Result<Fit, Reject> {
    let fragmented = packet.ip.is_fragment();
    let headers = if fragmented {
        ipv6::HEADER_AND_FRAGMENT
    } else {
        ipv6::HEADER
    };
    if headers - ipv6::HEADER + packet.payload_len() > LENGTH_MAX {
        return Err(DropReason::TooLong.into());
    }
    let size = headers + segment_len(frame, packet.header_len, &packet.transport);
    let mtu = usize::from(policy.mtu6);
    if packet.ip.dont_fragment {
        if size <= mtu {
            return Ok(Fit::Whole);
        }
        let mtu = policy.mtu6 - (headers - ipv4::HEADER) as u16;
        return Err(Reject::Respond(
            DropReason::TooBig,
            Response::TooBig { mtu },
        ));
    }
    let limit = mtu.min(usize::from(policy.lowest_ipv6_mtu));
    if size <= limit {
        return Ok(Fit::Whole);
    }
    cut(frame, packet.header_len, ipv6::HEADER, limit)
}

/// Judges an IPv6 packet on its way to IPv4 (RFC 7915 sections 5 and 5.1).
#[inline]
pub(crate) fn v6_to_v4(frame: &mut Frame<'_>, packet: &V6, policy: &Policy) -> Result<Fit, Reject> {
    let at = packet.extensions.headers_len;
    let size = ipv4::HEADER + segment_len(frame, at, &packet.transport);
    let mtu = usize::from(policy.mtu4);
    // The length of an IPv4 packet includes its header: the longest IPv6 packets have none.
    let nameable = ipv4::HEADER + packet.payload_len() <= LENGTH_MAX;
    if !nameable && !is_udp_super_packet(frame) {
        return Err(DropReason::TooLong.into());
    }
    if size <= mtu {
        return Ok(if nameable { Fit::Whole } else { Fit::Cut(mtu) });
    }
    if dont_fragment(packet, size) {
        let mtu = policy
            .mtu4
            .saturating_add((ipv6::HEADER - ipv4::HEADER) as u16)
            .max(MIN_IPV6_MTU);
        return Err(Reject::Respond(
            DropReason::TooBig,
            Response::TooBig { mtu },
        ));
    }
    cut(frame, at, ipv4::HEADER, mtu)
}

/// The DF bit of an IPv4 packet of `size` bytes made from `packet` (RFC 7915 sections 5.1 and
/// 5.1.1).
#[inline]
pub(crate) fn dont_fragment(packet: &V6, size: usize) -> bool {
    packet.extensions.fragment.is_none() && size > DF_THRESHOLD
}

/// Bytes behind the IP headers of the packet, or of one full segment of a super-packet.
#[inline]
pub(crate) fn segment_len(frame: &Frame<'_>, at: usize, transport: &Transport) -> usize {
    let len = frame.len() - at;
    let Some(gso) = frame.offload.gso else {
        return len;
    };
    let header = segment_header_len(frame, at, transport);
    len.min(header + usize::from(gso.size))
}

/// How many packets of their own the segments of the packet become.
#[inline]
pub(crate) fn segments(frame: &Frame<'_>, at: usize, transport: &Transport) -> usize {
    let Some(gso) = frame.offload.gso else {
        return 1;
    };
    let size = usize::from(gso.size).max(1);
    let header = segment_header_len(frame, at, transport);
    (frame.len() - at)
        .saturating_sub(header)
        .div_ceil(size)
        .max(1)
}

/// Bytes of the transport header that each segment of a super-packet gets.
#[inline]
fn segment_header_len(frame: &Frame<'_>, at: usize, transport: &Transport) -> usize {
    match transport {
        Transport::Tcp { .. } => tcp::header_len(&frame.packet()[at..]),
        _ => udp::HEADER,
    }
}

#[inline]
fn is_udp_super_packet(frame: &Frame<'_>) -> bool {
    matches!(frame.offload.gso, Some(gso) if gso.kind == GsoKind::Udp)
}

/// Makes smaller TCP segments where that is possible, or orders a cut.
fn cut(frame: &mut Frame<'_>, at: usize, ip_header: usize, limit: usize) -> Result<Fit, Reject> {
    let Some(Gso {
        kind: GsoKind::TcpV4 | GsoKind::TcpV6,
        ..
    }) = frame.offload.gso
    else {
        return Ok(Fit::Cut(limit));
    };
    let header = tcp::header_len(&frame.packet()[at..]);
    // No segment is so small that it goes that way, and only datagrams can be cut.
    let smaller = limit
        .checked_sub(ip_header + header)
        .filter(|&size| size > 0)
        .ok_or(DropReason::BadOffload)?;
    if let Some(gso) = &mut frame.offload.gso {
        gso.size = smaller as u16;
    }
    Ok(Fit::Whole)
}
