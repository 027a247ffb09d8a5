//! Validation of an IPv4 packet (RFC 1812 section 5.2.2, RFC 7915 section 4.1).

use core::net::Ipv4Addr;

use pnet_packet::ip::{IpNextHeaderProtocol, IpNextHeaderProtocols};

use super::{
    Transport, check_fragment, parse_icmp, parse_tcp, parse_udp, settle_offload, tiny_if_fragment,
};
use crate::checksum::Sum;
use crate::frame::Frame;
use crate::mapper::{Flow, Fragment};
use crate::offload::GsoKind;
use crate::reason::DropReason;
use crate::wire::{icmp, ipv4};

/// A valid IPv4 packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct V4 {
    /// The fixed header.
    pub(crate) ip: ipv4::Header,
    /// Bytes of the header with its options: where the transport starts.
    pub(crate) header_len: usize,
    /// What lies behind.
    pub(crate) transport: Transport,
    /// An unexpired source route option was found.
    pub(crate) source_route: bool,
}

impl V4 {
    /// Validates the packet in `frame` and cuts off bytes behind its total length.
    #[inline(always)]
    pub(crate) fn parse(frame: &mut Frame<'_>) -> Result<Self, DropReason> {
        let bytes = frame.packet();
        let Some(fixed) = bytes.first_chunk::<{ ipv4::HEADER }>() else {
            return Err(DropReason::Ipv4Truncated);
        };
        let ip = ipv4::Header::parse(fixed);
        let header_len = ipv4::header_len(fixed[0]);
        if header_len < ipv4::HEADER {
            return Err(DropReason::Ipv4HeaderLength);
        }
        let total_len = usize::from(ip.total_len);
        if total_len < header_len || total_len > bytes.len() {
            return Err(DropReason::Ipv4TotalLength);
        }
        let mut source_route = false;
        let sum = if header_len == ipv4::HEADER {
            Sum::of(fixed)
        } else {
            source_route = has_source_route(&bytes[ipv4::HEADER..header_len])?;
            Sum::of(&bytes[..header_len])
        };
        if sum.folded() != 0xffff {
            return Err(DropReason::Ipv4HeaderChecksum);
        }
        let payload = &bytes[header_len..total_len];
        let fragmented = ip.is_fragment();
        if fragmented {
            check_fragment(ip.protocol, ip.offset, ip.more_fragments, payload.len())?;
        }
        let transport = parse_transport(ip.protocol, ip.offset, fragmented, payload)?;
        frame.truncate(total_len);
        settle_offload(
            frame,
            header_len,
            &transport,
            fragmented,
            GsoKind::TcpV4,
            |len| Sum::pseudo_v4(ip.src, ip.dst, ip.protocol, len),
        )?;
        Ok(Self {
            ip,
            header_len,
            transport,
            source_route,
        })
    }

    /// Bytes behind the header.
    #[inline]
    pub(crate) fn payload_len(&self) -> usize {
        usize::from(self.ip.total_len) - self.header_len
    }

    /// The packet as a mapper sees it.
    #[inline]
    pub(crate) fn flow(&self) -> Flow<Ipv4Addr> {
        flow(&self.ip, self.header_len, &self.transport)
    }
}

/// A header and its transport as a mapper sees them.
#[inline]
pub(crate) fn flow(ip: &ipv4::Header, header_len: usize, transport: &Transport) -> Flow<Ipv4Addr> {
    let fragment = ip.is_fragment().then_some(Fragment {
        id: u32::from(ip.id),
        offset: ip.offset,
        more: ip.more_fragments,
        len: usize::from(ip.total_len).saturating_sub(header_len) as u16,
    });
    Flow {
        src: ip.src,
        dst: ip.dst,
        protocol: ip.protocol,
        ports: transport.ports(),
        tcp_flags: transport.tcp_flags(),
        fragment,
    }
}

#[inline(always)]
fn parse_transport(
    protocol: IpNextHeaderProtocol,
    offset: u16,
    fragmented: bool,
    payload: &[u8],
) -> Result<Transport, DropReason> {
    if protocol == IpNextHeaderProtocols::Icmp && fragmented {
        return Ok(Transport::IcmpFragment);
    }
    if is_foreign(protocol) {
        return Err(DropReason::ForeignProtocol);
    }
    if protocol == IpNextHeaderProtocols::Igmp {
        return Err(DropReason::Igmp);
    }
    if offset != 0 {
        return Ok(Transport::Opaque);
    }
    match protocol {
        IpNextHeaderProtocols::Tcp => parse_tcp(payload),
        IpNextHeaderProtocols::Udp => parse_udp(payload, !fragmented),
        IpNextHeaderProtocols::Icmp => parse_icmp(
            payload,
            icmp::v4::ECHO_REQUEST,
            icmp::v4::ECHO_REPLY,
            icmp::v4::is_error,
        ),
        _ => Ok(Transport::Opaque),
    }
    .map_err(|reason| tiny_if_fragment(reason, fragmented))
}

/// Protocol numbers that would become an IPv6 extension header or ICMPv6, and so could smuggle
/// what no filter has seen (SE-08).
pub(crate) const fn is_foreign(protocol: IpNextHeaderProtocol) -> bool {
    matches!(protocol.0, 0 | 43 | 44 | 58 | 60 | 135 | 139 | 140)
}

const OPTION_END: u8 = 0;
const OPTION_NOP: u8 = 1;
const OPTION_LSRR: u8 = 131;
const OPTION_SSRR: u8 = 137;

/// Walks the options; true if one is a source route that is not used up (pointer not beyond
/// length).
fn has_source_route(options: &[u8]) -> Result<bool, DropReason> {
    let mut rest = options;
    let mut found = false;
    while let [kind, tail @ ..] = rest {
        match *kind {
            OPTION_END => break,
            OPTION_NOP => rest = tail,
            kind => {
                let len = usize::from(*tail.first().ok_or(DropReason::Ipv4BadOption)?);
                if len < 2 || len > rest.len() {
                    return Err(DropReason::Ipv4BadOption);
                }
                if kind == OPTION_LSRR || kind == OPTION_SSRR {
                    let pointer = *rest[..len].get(2).ok_or(DropReason::Ipv4BadOption)?;
                    found |= usize::from(pointer) <= len;
                }
                rest = &rest[len..];
            }
        }
    }
    Ok(found)
}
