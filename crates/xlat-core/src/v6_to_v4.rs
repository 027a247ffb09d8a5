//! IPv6 header to IPv4 header (RFC 7915 section 5.1). Twin of [`v4_to_v6`](crate::v4_to_v6): the
//! same functions in the same order.

use core::net::Ipv4Addr;

use pnet_packet::ip::{IpNextHeaderProtocol, IpNextHeaderProtocols};

use crate::checksum::Sum;
use crate::fit::{dont_fragment, segment_len, segments};
use crate::frame::Frame;
use crate::identification::Identifications;
use crate::mapper::Rewrite;
use crate::offload::GsoKind;
use crate::packet::{Transport, V6};
use crate::policy::{Policy, TrafficClass};
use crate::transport;
use crate::wire::{icmp, ipv4};

/// Rewrites the packet in `frame`, which is not an ICMP error, to IPv4.
#[inline]
pub(crate) fn rewrite(
    frame: &mut Frame<'_>,
    packet: &V6,
    new: &Rewrite<Ipv4Addr>,
    policy: &Policy,
    ids: &mut Identifications,
) {
    let at = packet.extensions.headers_len;
    let segment = segment_len(frame, at, &packet.transport);
    let count = segments(frame, at, &packet.transport);
    rewrite_transport(frame, packet, new, policy);
    frame.offload.shift(ipv4::HEADER as isize - at as isize);
    if let Some(gso) = &mut frame.offload.gso
        && gso.kind == GsoKind::TcpV6
    {
        gso.kind = GsoKind::TcpV4;
    }
    let mut header = header(packet, packet.payload_len(), new, policy);
    header.dont_fragment = dont_fragment(packet, ipv4::HEADER + segment);
    if packet.extensions.fragment.is_none() && !header.dont_fragment {
        header.id = ids.next(new.src, new.dst, header.protocol, count as u16);
    }
    let header = header.emit();
    frame.replace_front(at, &header);
}

/// The IPv4 header for `payload_len` bytes behind it (RFC 7915 sections 5.1 and 5.1.1, field by
/// field). DF and, without a Fragment header, the identification are left at zero.
#[inline]
pub(crate) fn header(
    packet: &V6,
    payload_len: usize,
    new: &Rewrite<Ipv4Addr>,
    policy: &Policy,
) -> ipv4::Header {
    let fragment = packet.extensions.fragment;
    ipv4::Header {
        tos: match policy.tos {
            TrafficClass::Copy => packet.ip.traffic_class,
            TrafficClass::Fixed(value) => value,
        },
        total_len: (ipv4::HEADER + payload_len) as u16,
        id: fragment.map_or(0, |fragment| fragment.id as u16),
        dont_fragment: false,
        more_fragments: fragment.is_some_and(|fragment| fragment.more),
        offset: fragment.map_or(0, |fragment| fragment.offset),
        ttl: packet.ip.hop_limit - 1,
        protocol: protocol(packet.extensions.protocol),
        src: new.src,
        dst: new.dst,
    }
}

/// ICMP has another number in the other family; all others are the same.
#[inline]
pub(crate) fn protocol(protocol: IpNextHeaderProtocol) -> IpNextHeaderProtocol {
    if protocol == IpNextHeaderProtocols::Icmpv6 {
        IpNextHeaderProtocols::Icmp
    } else {
        protocol
    }
}

#[inline]
fn rewrite_transport(frame: &mut Frame<'_>, packet: &V6, new: &Rewrite<Ipv4Addr>, policy: &Policy) {
    let at = packet.extensions.headers_len;
    match packet.transport {
        Transport::Echo { request, .. } => {
            let pseudo = Sum::pseudo_v6(
                packet.ip.src,
                packet.ip.dst,
                IpNextHeaderProtocols::Icmpv6,
                packet.payload_len() as u32,
            );
            let icmp_type = if request {
                icmp::v4::ECHO_REQUEST
            } else {
                icmp::v4::ECHO_REPLY
            };
            let id = new.ports.map(|ports| ports.src);
            let lost = Sum::ZERO - pseudo;
            transport::rewrite_echo(&mut frame.packet_mut()[at..], icmp_type, id, lost);
        }
        Transport::Tcp { .. } | Transport::Udp { .. } => {
            let delta = transport::delta_v6_to_v4(packet.ip.src, packet.ip.dst, new);
            transport::rewrite(frame, at, &packet.transport, new.ports, delta, policy);
        }
        Transport::Error { .. }
        | Transport::OtherIcmp
        | Transport::IcmpFragment
        | Transport::Opaque => {}
    }
}
