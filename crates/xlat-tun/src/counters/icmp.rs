//! ICMP messages by kind.

use pnet_packet::ip::IpNextHeaderProtocols;
use xlat_core::wire::icmp::{self, v4, v6};
use xlat_core::wire::{ipv4, ipv6, word};

use super::cell::{Counter, Each, Per};

crate::labels! {
    /// Kinds of ICMP messages that help to diagnose a network; the same for both families.
    pub enum IcmpKind: "kind", zeros in metrics true, in JSON true;

    /// An echo request.
    EchoRequest = "echo-request",
    /// An echo reply.
    EchoReply = "echo-reply",
    /// A destination cannot be reached.
    Unreachable = "unreachable",
    /// A packet is larger than the path allows.
    TooBig = "too-big",
    /// The hop limit was exceeded, or reassembly timed out.
    TimeExceeded = "time-exceeded",
    /// A header field is erroneous or unknown.
    ParameterProblem = "parameter-problem",
    /// Anything else.
    Other = "other",
}

const KINDS: usize = IcmpKind::ALL.len();
/// Counters of one worker and family.
pub(super) type IcmpCounters = Each<IcmpKind, Counter, KINDS>;
/// One number per [`IcmpKind`].
pub type PerKind = Per<IcmpKind, KINDS>;

impl IcmpKind {
    /// The kind of an IPv4 packet; `None` if it is not an ICMP message, or a later fragment of one.
    #[inline]
    pub(super) fn of_v4(packet: &[u8]) -> Option<Self> {
        let is_icmp = *packet.get(ipv4::PROTOCOL)? == IpNextHeaderProtocols::Icmp.0;
        if !is_icmp || word(packet, ipv4::FRAGMENT) & ipv4::FRAGMENT_OFFSET != 0 {
            return None;
        }
        let message = packet.get(ipv4::header_len(packet[0])..)?;
        Some(match (*message.first()?, *message.get(icmp::CODE)?) {
            (v4::ECHO_REQUEST, _) => Self::EchoRequest,
            (v4::ECHO_REPLY, _) => Self::EchoReply,
            (v4::UNREACHABLE, v4::FRAGMENTATION_NEEDED) => Self::TooBig,
            (v4::UNREACHABLE, _) => Self::Unreachable,
            (v4::TIME_EXCEEDED, _) => Self::TimeExceeded,
            (v4::PARAMETER_PROBLEM, _) => Self::ParameterProblem,
            _ => Self::Other,
        })
    }

    /// The same for an IPv6 packet; one with extension headers counts as none.
    #[inline]
    pub(super) fn of_v6(packet: &[u8]) -> Option<Self> {
        if *packet.get(ipv6::NEXT_HEADER)? != IpNextHeaderProtocols::Icmpv6.0 {
            return None;
        }
        Some(match *packet.get(ipv6::HEADER)? {
            v6::ECHO_REQUEST => Self::EchoRequest,
            v6::ECHO_REPLY => Self::EchoReply,
            v6::UNREACHABLE => Self::Unreachable,
            v6::PACKET_TOO_BIG => Self::TooBig,
            v6::TIME_EXCEEDED => Self::TimeExceeded,
            v6::PARAMETER_PROBLEM => Self::ParameterProblem,
            _ => Self::Other,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_by_type_and_code() {
        let v4 = |protocol, kind, code| {
            let mut packet = vec![0x46, 0, 0, 26, 0, 0, 0x40, 0, 64, protocol];
            packet.resize(24, 0);
            packet.extend([kind, code]);
            IcmpKind::of_v4(&packet)
        };
        assert_eq!(v4(1, 8, 0), Some(IcmpKind::EchoRequest));
        assert_eq!(v4(1, 3, 4), Some(IcmpKind::TooBig));
        assert_eq!(v4(1, 3, 13), Some(IcmpKind::Unreachable));
        assert_eq!(v4(1, 13, 0), Some(IcmpKind::Other));
        assert_eq!(v4(17, 8, 0), None);
        let mut piece = vec![0x45, 0, 0, 22, 0, 0, 0, 1, 64, 1];
        piece.resize(22, 0);
        assert_eq!(IcmpKind::of_v4(&piece), None);
        let v6 = |next, kind| {
            let mut packet = vec![0x60, 0, 0, 0, 0, 8, next];
            packet.resize(40, 0);
            packet.push(kind);
            IcmpKind::of_v6(&packet)
        };
        assert_eq!(v6(58, 129), Some(IcmpKind::EchoReply));
        assert_eq!(v6(58, 2), Some(IcmpKind::TooBig));
        assert_eq!(v6(6, 129), None);
        for length in 0..41 {
            let mut packet = vec![0x45; length];
            if length > 9 {
                (packet[6], packet[7], packet[9]) = (0, 0, 1);
            }
            IcmpKind::of_v4(&packet);
            IcmpKind::of_v6(&packet);
        }
    }
}
