//! "This packet ends here": the error type inside the pipeline, which the translator turns into a
//! [`Verdict`](crate::Verdict), and what the sender learns of the rarer ends.

use crate::frame::Frame;
use crate::mapper::{Refusal, Unreachable};
use crate::packet::{Transport, V4, V6, next_header_at, walk};
use crate::reason::DropReason;
use crate::wire::ipv6;

/// Why a packet is dropped, and whether its sender gets an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reject {
    /// Without telling the sender.
    Silent(DropReason),
    /// The sender gets an answer, if policy, rate limit and the rules for ICMP errors allow it.
    Respond(DropReason, Response),
    /// The mapper has kept a copy until it can decide.
    Held,
}

/// The message that the sender of a packet gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Response {
    /// Hop limit exceeded in transit: ICMPv6 3/0, ICMPv4 11/0.
    TimeExceeded,
    /// The packet does not fit; the next one must not be longer than this many bytes: ICMPv6 2/0,
    /// ICMPv4 3/4.
    TooBig { mtu: u16 },
    /// ICMPv6 type 1, ICMPv4 type 3.
    Unreachable(Unreachable),
    /// The fragments of a datagram did not come in time: ICMPv6 3/1, ICMPv4 11/1.
    ReassemblyTimeout,
    /// ICMPv4 3/5 (IPv4 only).
    SourceRouteFailed,
    /// ICMPv6 4/0 with this pointer (IPv6 only).
    ErroneousField { pointer: u32 },
    /// The node has no such transport protocol: ICMPv6 4/1 with a pointer to the field that names
    /// it, ICMPv4 3/2.
    UnknownProtocol { pointer: u32 },
    /// An answer to an echo request for the translator itself.
    EchoReply,
}

impl From<DropReason> for Reject {
    #[inline]
    fn from(reason: DropReason) -> Self {
        Self::Silent(reason)
    }
}

impl From<Refusal> for Reject {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Silent(reason) => Self::Silent(reason),
            Refusal::Answer(reason, unreachable) => {
                Self::Respond(reason, Response::Unreachable(unreachable))
            }
            // Only a packet can be held, and `Translator` does that.
            Refusal::Hold => Self::Silent(DropReason::TableFull),
        }
    }
}

/// The end of an IPv6 packet that could not be read, in the frame as it came. Its sender learns of
/// fragments that cannot be put together (RFC 8200 section 4.5) and of extension headers behind a
/// Fragment header (RFC 7915 sections 5.1.1 and 5.4).
#[cold]
pub(crate) fn unreadable_v6(frame: &Frame<'_>, reason: DropReason) -> Reject {
    let response = match reason {
        DropReason::Ipv6ExtensionAfterFragment => Response::Unreachable(Unreachable::Prohibited),
        DropReason::FragmentLength => Response::ErroneousField {
            pointer: ipv6::PAYLOAD_LEN as u32,
        },
        DropReason::FragmentTooLong => match fragment_offset_at(frame) {
            Some(pointer) => Response::ErroneousField { pointer },
            None => return reason.into(),
        },
        _ => return reason.into(),
    };
    // Work that was put off was not checked, and no fragment has any.
    if frame.offload.gso.is_some() || frame.offload.is_partial() {
        return reason.into();
    }
    Reject::Respond(reason, response)
}

/// Place of the Fragment Offset field.
fn fragment_offset_at(frame: &Frame<'_>) -> Option<u32> {
    let ip = ipv6::Header::parse(frame.array(0)?);
    let extensions = walk(ip.next_header, frame.packet()).ok()?;
    extensions.fragment?;
    Some((extensions.headers_len - ipv6::FRAGMENT + ipv6::FRAGMENT_OFFSET) as u32)
}

/// The end of a packet whose transport may not cross. A datagram that the policy does not let pass
/// without a checksum is refused, not ignored (RFC 7915 sections 4.4 and 5.4).
#[cold]
pub(crate) fn refused_transport(reason: DropReason) -> Reject {
    match reason {
        DropReason::UdpZeroChecksum => {
            Reject::Respond(reason, Response::Unreachable(Unreachable::Prohibited))
        }
        _ => reason.into(),
    }
}

/// What an IPv6 address of the translator's own answers. The last header of a whole packet, or of
/// the first fragment, names the protocol that is not here (RFC 4443 section 3.4).
#[cold]
pub(crate) fn for_translator_v6(frame: &Frame<'_>, packet: &V6) -> Reject {
    let is_later = |fragment: ipv6::FragmentHeader| fragment.offset != 0;
    let extensions = &packet.extensions;
    if extensions.segments_left.is_some() || extensions.fragment.is_some_and(is_later) {
        return DropReason::ForTranslator.into();
    }
    let pointer = next_header_at(packet.ip.next_header, frame.packet());
    for_translator(&packet.transport, pointer as u32)
}

/// Twin of [`for_translator_v6`] (RFC 1122 section 3.2.2.1).
#[cold]
pub(crate) fn for_translator_v4(packet: &V4) -> Reject {
    for_translator(&packet.transport, 0)
}

/// An echo request is answered, and a UDP datagram so that a traceroute that ends here knows it.
/// There is no other transport here.
fn for_translator(transport: &Transport, pointer: u32) -> Reject {
    let (reason, response) = match transport {
        Transport::Echo { request: true, .. } => {
            (DropReason::EchoToTranslator, Response::EchoReply)
        }
        Transport::Udp { .. } => (
            DropReason::ForTranslator,
            Response::Unreachable(Unreachable::Port),
        ),
        Transport::Tcp { .. } | Transport::Opaque => (
            DropReason::ForTranslator,
            Response::UnknownProtocol { pointer },
        ),
        Transport::Echo { request: false, .. }
        | Transport::Error { .. }
        | Transport::OtherIcmp
        | Transport::IcmpFragment => return DropReason::ForTranslator.into(),
    };
    Reject::Respond(reason, response)
}
