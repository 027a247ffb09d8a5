//! A packet after one validation: what it is, and where its parts lie.
//!
//! `parse` checks every length that the rest of the crate relies on, once: header lengths, total
//! length, the extension header chain, the transport header. After it, the offsets in [`V4`] and
//! [`V6`] are proof, so that no later stage checks again. What does not fit is dropped with a
//! reason of its own.

mod peek;
mod v4;
mod v6;

pub(crate) use peek::peek;
pub(crate) use v4::{V4, flow as flow_v4, is_foreign as is_foreign_v4};
pub(crate) use v6::{
    ExtensionHeaders, V6, flow as flow_v6, is_foreign as is_foreign_v6, next_header_at, walk,
    walk_to_transport,
};

use pnet_packet::ip::{IpNextHeaderProtocol, IpNextHeaderProtocols};

use crate::checksum::Sum;
use crate::frame::Frame;
use crate::mapper::Ports;
use crate::offload::{Checksum, GsoKind, PartialChecksum};
use crate::reason::DropReason;
use crate::wire::{DST_PORT, SRC_PORT, icmp, set_word, tcp, udp, word};

/// What lies behind the IP headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    /// TCP with its whole fixed header.
    Tcp { ports: Ports, flags: u8 },
    /// UDP with its whole header.
    Udp { ports: Ports, zero_checksum: bool },
    /// ICMP echo request or reply.
    Echo { request: bool, id: u16 },
    /// An ICMP error, at least 8 bytes long.
    Error { icmp_type: u8, code: u8 },
    /// An ICMP message that is neither.
    OtherIcmp,
    /// A fragment of an ICMP message, whose checksum cannot follow without the rest of it.
    IcmpFragment,
    /// Nothing that a translator looks into: another protocol, or a later fragment.
    Opaque,
}

impl Transport {
    /// Ports as a mapper sees them.
    #[inline]
    pub(crate) fn ports(&self) -> Option<Ports> {
        match *self {
            Self::Tcp { ports, .. } | Self::Udp { ports, .. } => Some(ports),
            Self::Echo { id, .. } => Some(Ports::identifier(id)),
            Self::Error { .. } | Self::OtherIcmp | Self::IcmpFragment | Self::Opaque => None,
        }
    }

    /// TCP flags; zero for everything else.
    #[inline]
    pub(crate) fn tcp_flags(&self) -> u8 {
        if let Self::Tcp { flags, .. } = self {
            *flags
        } else {
            0
        }
    }
}

/// Reads a whole TCP header.
#[inline(always)]
fn parse_tcp(segment: &[u8]) -> Result<Transport, DropReason> {
    if segment.len() < tcp::HEADER || tcp::header_len(segment) < tcp::HEADER {
        return Err(DropReason::TransportTruncated);
    }
    let (src, dst) = tcp::ports(segment);
    Ok(Transport::Tcp {
        ports: Ports { src, dst },
        flags: segment[tcp::FLAGS],
    })
}

/// Reads a whole UDP header. `whole` says that the datagram is not fragmented, so that its length
/// must fit.
#[inline(always)]
fn parse_udp(datagram: &[u8], whole: bool) -> Result<Transport, DropReason> {
    if datagram.len() < udp::HEADER {
        return Err(DropReason::TransportTruncated);
    }
    let length = usize::from(word(datagram, udp::LENGTH));
    if length < udp::HEADER || (whole && length > datagram.len()) {
        return Err(DropReason::UdpLength);
    }
    Ok(Transport::Udp {
        ports: Ports {
            src: word(datagram, SRC_PORT),
            dst: word(datagram, DST_PORT),
        },
        zero_checksum: word(datagram, udp::CHECKSUM) == 0,
    })
}

/// Reads the fixed part of an ICMP message; `is_echo` and `is_error` know the family's numbers.
#[inline]
fn parse_icmp(
    message: &[u8],
    request: u8,
    reply: u8,
    is_error: fn(u8) -> bool,
) -> Result<Transport, DropReason> {
    if message.len() < icmp::HEADER {
        return Err(DropReason::IcmpTruncated);
    }
    let (icmp_type, code) = (message[icmp::TYPE], message[icmp::CODE]);
    if icmp_type == request || icmp_type == reply {
        // RFC 792 and RFC 4443 know echo messages with code 0 only.
        if code != 0 {
            return Err(DropReason::IcmpCode);
        }
        return Ok(Transport::Echo {
            request: icmp_type == request,
            id: word(message, icmp::IDENTIFIER),
        });
    }
    if is_error(icmp_type) {
        return Ok(Transport::Error { icmp_type, code });
    }
    Ok(Transport::OtherIcmp)
}

/// A first fragment must carry its whole transport header, or the pieces could be put together to
/// something else than what was looked at (RFC 1858, RFC 7112).
#[inline]
fn tiny_if_fragment(reason: DropReason, fragmented: bool) -> DropReason {
    if fragmented && reason == DropReason::TransportTruncated {
        DropReason::FragmentTiny
    } else {
        reason
    }
}

/// Checks the work that was put off against the packet it was put off for. A partial checksum of
/// anything but TCP and UDP is completed here, so that nothing behind has to think of it.
/// `pseudo` is the pseudo-header for a transport of so many bytes.
#[inline(always)]
fn settle_offload(
    frame: &mut Frame<'_>,
    transport_at: usize,
    transport: &Transport,
    fragmented: bool,
    tcp_kind: GsoKind,
    pseudo: impl Fn(u32) -> Sum,
) -> Result<(), DropReason> {
    if let Checksum::Partial(partial) = frame.offload.checksum {
        settle_checksum(frame, transport_at, transport, fragmented, partial)?;
    }
    let Some(gso) = frame.offload.gso else {
        return Ok(());
    };
    let (fits, place) = match transport {
        Transport::Tcp { .. } => (gso.kind == tcp_kind, tcp::CHECKSUM),
        Transport::Udp { .. } => (gso.kind == GsoKind::Udp, udp::CHECKSUM),
        _ => (false, 0),
    };
    if !fits || gso.size == 0 || fragmented {
        return Err(DropReason::BadOffload);
    }
    let segment = &frame.packet()[transport_at..];
    if matches!(transport, Transport::Tcp { .. }) && tcp::header_len(segment) > segment.len() {
        return Err(DropReason::BadOffload);
    }
    match frame.offload.checksum {
        Checksum::Partial(_) => Ok(()),
        Checksum::Verified => {
            // Joined on receipt, after each segment's checksum was verified: the layer that cuts
            // it apart again makes new ones.
            let sum = pseudo(segment.len() as u32).folded();
            set_word(frame.packet_mut(), transport_at + place, sum);
            let (start, offset) = (transport_at as u16, place as u16);
            frame.offload.checksum = Checksum::Partial(PartialChecksum { start, offset });
            Ok(())
        }
        Checksum::Whole => Err(DropReason::BadOffload),
    }
}

/// Checks where a partial checksum starts and belongs.
#[inline]
fn settle_checksum(
    frame: &mut Frame<'_>,
    transport_at: usize,
    transport: &Transport,
    fragmented: bool,
    partial: PartialChecksum,
) -> Result<(), DropReason> {
    let start = usize::from(partial.start);
    let field = start + usize::from(partial.offset);
    if fragmented || start < transport_at || field + 2 > frame.len() {
        return Err(DropReason::BadOffload);
    }
    let (header, place) = match transport {
        Transport::Tcp { .. } => (tcp::HEADER, Some(tcp::CHECKSUM)),
        Transport::Udp { .. } => (udp::HEADER, Some(udp::CHECKSUM)),
        Transport::Echo { .. } | Transport::Error { .. } | Transport::OtherIcmp => {
            (icmp::HEADER, Some(icmp::CHECKSUM))
        }
        Transport::IcmpFragment | Transport::Opaque => (0, None),
    };
    let own = start == transport_at && place == Some(usize::from(partial.offset));
    if own && matches!(transport, Transport::Tcp { .. } | Transport::Udp { .. }) {
        return Ok(());
    }
    // A checksum further in, of a packet in a tunnel. What was looked at must not change.
    if !own && field < transport_at + header {
        return Err(DropReason::BadOffload);
    }
    complete_checksum(frame, start, field);
    Ok(())
}

/// Finishes a checksum whose field holds the pseudo-header sum.
pub(crate) fn complete_checksum(frame: &mut Frame<'_>, start: usize, field: usize) {
    let checksum = Sum::of(&frame.packet()[start..]).checksum();
    set_word(frame.packet_mut(), field, checksum);
    frame.offload.checksum = Checksum::Whole;
}

/// The most bytes a datagram put together from fragments may have.
const DATAGRAM_MAX: usize = 65535;

/// Checks a fragment's place in its datagram (RFC 8200 section 4.5).
#[inline]
fn check_fragment(
    protocol: IpNextHeaderProtocol,
    offset: u16,
    more: bool,
    payload_len: usize,
) -> Result<(), DropReason> {
    if usize::from(offset) * 8 + payload_len > DATAGRAM_MAX {
        return Err(DropReason::FragmentTooLong);
    }
    if more && (!payload_len.is_multiple_of(8) || payload_len == 0) {
        return Err(DropReason::FragmentLength);
    }
    if protocol == IpNextHeaderProtocols::Tcp && offset == 1 {
        return Err(DropReason::FragmentTiny);
    }
    Ok(())
}
