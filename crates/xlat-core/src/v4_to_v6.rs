//! IPv4 header to IPv6 header (RFC 7915 section 4.1). Twin of [`v6_to_v4`](crate::v6_to_v4): the
//! same functions in the same order.

use core::net::Ipv6Addr;

use pnet_packet::ip::{IpNextHeaderProtocol, IpNextHeaderProtocols};

use crate::checksum::Sum;
use crate::fit::Fit;
use crate::frame::Frame;
use crate::mapper::{Pass, Rewrite};
use crate::offload::GsoKind;
use crate::packet::{Transport, V4};
use crate::policy::{Policy, TrafficClass, UdpZeroChecksum};
use crate::transport;
use crate::wire::{icmp, ipv4, ipv6};

/// Rewrites the packet in `frame`, which is not an ICMP error, to IPv6.
#[inline]
pub(crate) fn rewrite(
    frame: &mut Frame<'_>,
    packet: &V4,
    new: &Rewrite<Ipv6Addr>,
    fit: Fit,
    policy: &Policy,
    pass: Pass,
) {
    rewrite_transport(frame, packet, new, policy);
    let payload_len = packet.payload_len();
    frame
        .offload
        .shift(ipv6::HEADER as isize - packet.header_len as isize);
    if let Some(gso) = &mut frame.offload.gso
        && gso.kind == GsoKind::TcpV4
    {
        gso.kind = GsoKind::TcpV6;
    }
    let hop_limit = pass.hop(packet.ip.ttl);
    let mut header = header(&packet.ip, payload_len, new, policy, hop_limit);
    if fit == Fit::Whole && !packet.ip.is_fragment() {
        frame.replace_front(packet.header_len, &header.emit());
        return;
    }
    let fragment = fragment_header(&packet.ip);
    header.next_header = IpNextHeaderProtocols::Ipv6Frag;
    header.payload_len += ipv6::FRAGMENT as u16;
    let headers = header.emit_with_fragment(&fragment);
    frame.offload.shift(ipv6::FRAGMENT as isize);
    frame.replace_front(packet.header_len, &headers);
}

/// The IPv6 header for `payload_len` bytes behind it (RFC 7915 section 4.1, field by field).
#[inline]
pub(crate) fn header(
    ip: &ipv4::Header,
    payload_len: usize,
    new: &Rewrite<Ipv6Addr>,
    policy: &Policy,
    hop_limit: u8,
) -> ipv6::Header {
    ipv6::Header {
        traffic_class: match policy.traffic_class {
            TrafficClass::Copy => ip.tos,
            TrafficClass::Fixed(value) => value,
        },
        payload_len: payload_len as u16,
        next_header: protocol(ip.protocol),
        hop_limit,
        src: new.src,
        dst: new.dst,
    }
}

/// The Fragment header of a fragment, or of a packet that is about to be cut (RFC 7915 section
/// 4.1).
#[inline]
pub(crate) fn fragment_header(ip: &ipv4::Header) -> ipv6::FragmentHeader {
    ipv6::FragmentHeader {
        next_header: protocol(ip.protocol),
        offset: ip.offset,
        more: ip.more_fragments,
        id: u32::from(ip.id),
    }
}

/// ICMP has another number in the other family; all others are the same.
#[inline]
pub(crate) fn protocol(protocol: IpNextHeaderProtocol) -> IpNextHeaderProtocol {
    if protocol == IpNextHeaderProtocols::Icmp {
        IpNextHeaderProtocols::Icmpv6
    } else {
        protocol
    }
}

#[inline]
fn rewrite_transport(frame: &mut Frame<'_>, packet: &V4, new: &Rewrite<Ipv6Addr>, policy: &Policy) {
    let at = packet.header_len;
    match packet.transport {
        Transport::Echo { request, .. } => {
            let pseudo = Sum::pseudo_v6(
                new.src,
                new.dst,
                IpNextHeaderProtocols::Icmpv6,
                packet.payload_len() as u32,
            );
            let icmp_type = if request {
                icmp::v6::ECHO_REQUEST
            } else {
                icmp::v6::ECHO_REPLY
            };
            let id = new.ports.map(|ports| ports.src);
            transport::rewrite_echo(&mut frame.packet_mut()[at..], icmp_type, id, pseudo);
        }
        Transport::Tcp { .. } | Transport::Udp { .. } => {
            let delta = transport::delta_v4_to_v6(packet.ip.src, packet.ip.dst, new);
            transport::rewrite(frame, at, &packet.transport, new.ports, delta, policy);
            if let Transport::Udp {
                zero_checksum: true,
                ..
            } = packet.transport
                && !frame.offload.is_partial()
                && policy.udp_zero_checksum == UdpZeroChecksum::Compute
            {
                transport::make_udp_checksum(frame, at, new);
            }
        }
        Transport::Error { .. }
        | Transport::OtherIcmp
        | Transport::IcmpFragment
        | Transport::Opaque => {}
    }
}
