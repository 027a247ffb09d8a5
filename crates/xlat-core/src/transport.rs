//! What changes in the transport header: checksum, ports, the maximum segment size of a SYN. The
//! payload is read only where a UDP checksum has to be made from nothing.

use core::net::{Ipv4Addr, Ipv6Addr};

use pnet_packet::ip::IpNextHeaderProtocols;

use crate::checksum::{self, Sum};
use crate::frame::Frame;
use crate::mapper::{Ports, Rewrite};
use crate::packet::Transport;
use crate::policy::{MssClamp, Policy, UdpZeroChecksum};
use crate::reason::DropReason;
use crate::wire::{DST_PORT, SRC_PORT, icmp, ipv4, ipv6, set_word, tcp, udp, word};

/// The change of a transport checksum when a packet gets new addresses: new minus old.
///
/// Length and protocol number of TCP and UDP are the same in both pseudo-headers; ICMPv4 has none.
#[inline]
pub(crate) fn delta_v4_to_v6(src: Ipv4Addr, dst: Ipv4Addr, new: &Rewrite<Ipv6Addr>) -> Sum {
    Sum::ipv6(new.src) + Sum::ipv6(new.dst) - (Sum::ipv4(src) + Sum::ipv4(dst))
}

/// Twin of [`delta_v4_to_v6`].
#[inline]
pub(crate) fn delta_v6_to_v4(src: Ipv6Addr, dst: Ipv6Addr, new: &Rewrite<Ipv4Addr>) -> Sum {
    Sum::ipv4(new.src) + Sum::ipv4(new.dst) - (Sum::ipv6(src) + Sum::ipv6(dst))
}

/// What becomes of a UDP datagram without a checksum on its way to IPv6 (RFC 7915 section 4.5).
#[inline]
pub(crate) fn check_v4_to_v6(
    transport: &Transport,
    fragmented: bool,
    partial: bool,
    policy: &Policy,
) -> Result<(), DropReason> {
    match transport {
        Transport::Udp {
            zero_checksum: true,
            ..
        } if !partial => {
            if fragmented || policy.udp_zero_checksum == UdpZeroChecksum::Drop {
                return Err(DropReason::UdpZeroChecksum);
            }
            Ok(())
        }
        Transport::OtherIcmp => Err(DropReason::IcmpType),
        _ => Ok(()),
    }
}

/// Twin of [`check_v4_to_v6`]: a datagram without a checksum is not legal in IPv6 (RFC 8200
/// section 8.1), so it passes only where the policy says so.
#[inline]
pub(crate) fn check_v6_to_v4(
    transport: &Transport,
    partial: bool,
    policy: &Policy,
) -> Result<(), DropReason> {
    match transport {
        Transport::Udp {
            zero_checksum: true,
            ..
        } if !partial && policy.udp_zero_checksum != UdpZeroChecksum::Forward => {
            Err(DropReason::UdpZeroChecksum)
        }
        Transport::OtherIcmp => Err(DropReason::IcmpType),
        _ => Ok(()),
    }
}

/// Rewrites the TCP or UDP header at `at`. `delta` is the change of the pseudo-header.
#[inline]
pub(crate) fn rewrite(
    frame: &mut Frame<'_>,
    at: usize,
    transport: &Transport,
    ports: Option<Ports>,
    delta: Sum,
    policy: &Policy,
) {
    match *transport {
        Transport::Tcp { ports: old, flags } => {
            let partial = frame.offload.is_partial();
            let segment = &mut frame.packet_mut()[at..];
            let mut covered = set_ports(segment, old, ports);
            if flags & tcp::SYN != 0 && policy.mss_clamp != MssClamp::Off {
                covered = covered + clamp_mss(segment, policy);
            }
            let field = word(segment, tcp::CHECKSUM);
            set_word(
                segment,
                tcp::CHECKSUM,
                updated(field, partial, delta, covered),
            );
        }
        Transport::Udp {
            ports: old,
            zero_checksum,
        } => {
            let partial = frame.offload.is_partial();
            let datagram = &mut frame.packet_mut()[at..];
            let covered = set_ports(datagram, old, ports);
            if zero_checksum && !partial {
                return;
            }
            let field = updated(word(datagram, udp::CHECKSUM), partial, delta, covered);
            let field = if partial { field } else { checksum::udp(field) };
            set_word(datagram, udp::CHECKSUM, field);
        }
        _ => {}
    }
}

/// A checksum field after the pseudo-header changed by `delta` and the covered bytes by `covered`.
#[inline]
fn updated(field: u16, partial: bool, delta: Sum, covered: Sum) -> u16 {
    if partial {
        // Whoever completes it sums the covered bytes as they will be then.
        checksum::update_partial(field, delta)
    } else {
        checksum::update(field, delta + covered)
    }
}

/// Gives a UDP datagram at `at` without a checksum one for IPv6 (RFC 7915 section 4.5).
pub(crate) fn make_udp_checksum(frame: &mut Frame<'_>, at: usize, new: &Rewrite<Ipv6Addr>) {
    let datagram = &mut frame.packet_mut()[at..];
    let len = word(datagram, udp::LENGTH);
    let pseudo = Sum::pseudo_v6(new.src, new.dst, IpNextHeaderProtocols::Udp, u32::from(len));
    let sum = pseudo + Sum::of(&datagram[..usize::from(len)]);
    set_word(datagram, udp::CHECKSUM, checksum::udp(sum.checksum()));
}

/// Rewrites the ICMP echo message at `at`: its type, and its identifier where ports are shared.
/// `pseudo` is the pseudo-header that the checksum gains (or loses, as a complement).
#[inline]
pub(crate) fn rewrite_echo(message: &mut [u8], icmp_type: u8, id: Option<u16>, pseudo: Sum) {
    let mut delta = pseudo + set_type(message, icmp_type);
    if let Some(id) = id {
        delta = delta + replace_word(message, icmp::IDENTIFIER, id);
    }
    let field = checksum::update(word(message, icmp::CHECKSUM), delta);
    set_word(message, icmp::CHECKSUM, field);
    // The one message whose sum is zero in every form is an ICMPv4 echo reply of nothing but
    // zeros (ICMPv6 has its pseudo-header), and its checksum is the complement of that.
    if field == 0 && message.iter().all(|byte| *byte == 0) {
        set_word(message, icmp::CHECKSUM, 0xffff);
    }
}

/// Sets an ICMP type and returns the change of the sum.
#[inline]
pub(crate) fn set_type(message: &mut [u8], icmp_type: u8) -> Sum {
    let code = message[icmp::CODE];
    replace_word(message, icmp::TYPE, u16::from_be_bytes([icmp_type, code]))
}

/// Sets the 16-bit word at `at` and returns the change of the sum.
#[inline]
pub(crate) fn replace_word(bytes: &mut [u8], at: usize, value: u16) -> Sum {
    let old = word(bytes, at);
    set_word(bytes, at, value);
    Sum::word(value) - Sum::word(old)
}

#[inline]
fn set_ports(segment: &mut [u8], old: Ports, new: Option<Ports>) -> Sum {
    let Some(new) = new else { return Sum::ZERO };
    set_word(segment, SRC_PORT, new.src);
    set_word(segment, DST_PORT, new.dst);
    Sum::word(new.src) + Sum::word(new.dst) - (Sum::word(old.src) + Sum::word(old.dst))
}

/// Lowers the maximum segment size of a SYN to what fits and returns the change of the sum.
fn clamp_mss(segment: &mut [u8], policy: &Policy) -> Sum {
    let limit = match policy.mss_clamp {
        MssClamp::Off => return Sum::ZERO,
        MssClamp::To(limit) => limit,
        MssClamp::Auto => {
            const HEADERS_V6: u16 = (ipv6::HEADER + tcp::HEADER) as u16;
            const HEADERS_V4: u16 = (ipv4::HEADER + tcp::HEADER) as u16;
            (policy.mtu6 - HEADERS_V6).min(policy.mtu4.saturating_sub(HEADERS_V4))
        }
    };
    let Some(at) = tcp::mss_offset(segment) else {
        return Sum::ZERO;
    };
    if word(segment, at) <= limit {
        return Sum::ZERO;
    }
    // The option may stand at an odd place, so the sum of the whole header is compared.
    let end = tcp::header_len(segment);
    let old = Sum::of(&segment[..end]);
    set_word(segment, at, limit);
    Sum::of(&segment[..end]) - old
}
