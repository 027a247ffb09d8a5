//! Validation of an IPv6 packet and its extension headers (RFC 8200 sections 3 and 4, RFC 7915
//! section 5.1).

use core::net::Ipv6Addr;

use pnet_packet::ip::{IpNextHeaderProtocol, IpNextHeaderProtocols};

use super::{
    Transport, check_fragment, parse_icmp, parse_tcp, parse_udp, settle_offload, tiny_if_fragment,
};
use crate::checksum::Sum;
use crate::frame::Frame;
use crate::mapper::{Flow, Fragment};
use crate::offload::GsoKind;
use crate::reason::DropReason;
use crate::wire::{icmp, ipv6};

/// A valid IPv6 packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct V6 {
    /// The fixed header.
    pub(crate) ip: ipv6::Header,
    /// What its extension headers say.
    pub(crate) extensions: ExtensionHeaders,
    /// Bytes of the whole packet.
    pub(crate) total_len: usize,
    /// What lies behind the headers.
    pub(crate) transport: Transport,
}

/// The end of an extension header chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ExtensionHeaders {
    /// First protocol that is not skipped.
    pub(crate) protocol: IpNextHeaderProtocol,
    /// Bytes of all headers: where the transport starts.
    pub(crate) headers_len: usize,
    /// The Fragment header, if there is one.
    pub(crate) fragment: Option<ipv6::FragmentHeader>,
    /// Place of a Segments Left field that is not zero; the walk ended there.
    pub(crate) segments_left: Option<usize>,
}

impl ExtensionHeaders {
    /// Those of a packet that has none.
    #[inline]
    const fn none(protocol: IpNextHeaderProtocol) -> Self {
        Self {
            protocol,
            headers_len: ipv6::HEADER,
            fragment: None,
            segments_left: None,
        }
    }

    /// True for a piece of a larger datagram. An atomic fragment is not one (RFC 6946).
    #[inline]
    pub(crate) fn is_fragmented(&self) -> bool {
        self.fragment
            .is_some_and(|fragment| fragment.more || fragment.offset != 0)
    }
}

impl V6 {
    /// Validates the packet in `frame` and cuts off bytes behind its payload length.
    #[inline(always)]
    pub(crate) fn parse(frame: &mut Frame<'_>) -> Result<Self, DropReason> {
        let bytes = frame.packet();
        let Some(fixed) = bytes.first_chunk::<{ ipv6::HEADER }>() else {
            return Err(DropReason::Ipv6Truncated);
        };
        let ip = ipv6::Header::parse(fixed);
        let total_len = ipv6::HEADER + usize::from(ip.payload_len);
        if total_len > bytes.len() {
            return Err(DropReason::Ipv6PayloadLength);
        }
        if ip.payload_len == 0 && ip.next_header == IpNextHeaderProtocols::Hopopt {
            return Err(DropReason::Ipv6Jumbogram);
        }
        let bytes = &bytes[..total_len];
        let extensions = walk(ip.next_header, bytes)?;
        let fragmented = extensions.is_fragmented();
        let payload = &bytes[extensions.headers_len..];
        if let Some(fragment) = extensions.fragment {
            check_fragment(
                extensions.protocol,
                fragment.offset,
                fragment.more,
                payload.len(),
            )?;
        }
        let transport = parse_transport(&extensions, fragmented, payload)?;
        frame.truncate(total_len);
        settle_offload(
            frame,
            extensions.headers_len,
            &transport,
            fragmented,
            GsoKind::TcpV6,
            |len| Sum::pseudo_v6(ip.src, ip.dst, extensions.protocol, len),
        )?;
        Ok(Self {
            ip,
            extensions,
            total_len,
            transport,
        })
    }

    /// Bytes behind all headers.
    #[inline]
    pub(crate) fn payload_len(&self) -> usize {
        self.total_len - self.extensions.headers_len
    }

    /// The packet as a mapper sees it.
    #[inline]
    pub(crate) fn flow(&self) -> Flow<Ipv6Addr> {
        flow(&self.ip, &self.extensions, &self.transport)
    }
}

/// Headers and transport as a mapper sees them.
#[inline]
pub(crate) fn flow(
    ip: &ipv6::Header,
    extensions: &ExtensionHeaders,
    transport: &Transport,
) -> Flow<Ipv6Addr> {
    let fragment = extensions
        .fragment
        .filter(|_| extensions.is_fragmented())
        .map(|fragment| Fragment {
            id: fragment.id,
            offset: fragment.offset,
            more: fragment.more,
            len: (ipv6::HEADER + usize::from(ip.payload_len)).saturating_sub(extensions.headers_len)
                as u16,
        });
    Flow {
        src: ip.src,
        dst: ip.dst,
        protocol: extensions.protocol,
        ports: transport.ports(),
        tcp_flags: transport.tcp_flags(),
        fragment,
    }
}

/// More than any sane packet has (RFC 8504 section 5.3).
const EXTENSION_HEADERS_MAX: usize = 8;

const AUTHENTICATION: u8 = 51;
const MOBILITY: u8 = 135;
const HIP: u8 = 139;
const SHIM6: u8 = 140;

/// Walks the extension headers in `bytes`, a whole packet (or as much of a quoted one as there
/// is), to the first header that is not skipped. Every step advances by at least 8 bytes and stays
/// inside `bytes`.
#[inline]
pub(crate) fn walk(
    first: IpNextHeaderProtocol,
    bytes: &[u8],
) -> Result<ExtensionHeaders, DropReason> {
    let mut extensions = ExtensionHeaders::none(first);
    for _ in 0..=EXTENSION_HEADERS_MAX {
        if !step(&mut extensions, bytes)? {
            return Ok(extensions);
        }
    }
    Err(DropReason::Ipv6ExtensionLimit)
}

/// Goes over one extension header; false if there is none.
#[inline]
fn step(extensions: &mut ExtensionHeaders, bytes: &[u8]) -> Result<bool, DropReason> {
    let at = extensions.headers_len;
    let behind_fragment = extensions.fragment.is_some();
    match extensions.protocol {
        IpNextHeaderProtocols::Hopopt if at != ipv6::HEADER => {
            Err(DropReason::Ipv6MisplacedHopByHop)
        }
        IpNextHeaderProtocols::Hopopt
        | IpNextHeaderProtocols::Ipv6Opts
        | IpNextHeaderProtocols::Ipv6Route
            if behind_fragment =>
        {
            Err(DropReason::Ipv6ExtensionAfterFragment)
        }
        IpNextHeaderProtocol(AUTHENTICATION | MOBILITY | HIP | SHIM6) if behind_fragment => {
            Err(DropReason::Ipv6ExtensionAfterFragment)
        }
        IpNextHeaderProtocols::Ipv6Route if segments_left(bytes, at)? => {
            extensions.segments_left = Some(at + ipv6::SEGMENTS_LEFT);
            Ok(false)
        }
        IpNextHeaderProtocols::Hopopt
        | IpNextHeaderProtocols::Ipv6Opts
        | IpNextHeaderProtocols::Ipv6Route => skip(extensions, bytes),
        IpNextHeaderProtocols::Ipv6Frag if behind_fragment => {
            Err(DropReason::Ipv6SecondFragmentHeader)
        }
        IpNextHeaderProtocols::Ipv6Frag => {
            let header = extension::<{ ipv6::FRAGMENT }>(bytes, at)?;
            let fragment = ipv6::FragmentHeader::parse(header);
            extensions.protocol = fragment.next_header;
            extensions.headers_len = at + ipv6::FRAGMENT;
            extensions.fragment = Some(fragment);
            Ok(true)
        }
        _ => Ok(false),
    }
}

/// Walks on where [`walk`] stops: over a Routing header with segments left, extension headers behind
/// a Fragment header, an Authentication header. Whether an ICMPv6 error may answer a packet depends
/// on what lies behind (RFC 4443 section 2.4e). `None` if that cannot be told: the packet ends
/// before, or another fragment has it.
#[cold]
pub(crate) fn walk_to_transport(
    first: IpNextHeaderProtocol,
    bytes: &[u8],
) -> Option<ExtensionHeaders> {
    let mut extensions = ExtensionHeaders::none(first);
    for _ in 0..=EXTENSION_HEADERS_MAX {
        let at = extensions.headers_len;
        let [next, len] = match extensions.protocol {
            IpNextHeaderProtocols::Hopopt
            | IpNextHeaderProtocols::Ipv6Opts
            | IpNextHeaderProtocols::Ipv6Route
            | IpNextHeaderProtocols::Ipv6Frag
            | IpNextHeaderProtocol(AUTHENTICATION | MOBILITY | HIP | SHIM6) => {
                *extension::<2>(bytes, at).ok()?
            }
            _ => return Some(extensions),
        };
        let is_later = |fragment: ipv6::FragmentHeader| fragment.offset != 0;
        if extensions.fragment.is_some_and(is_later) {
            return None;
        }
        let len = usize::from(len);
        extensions.headers_len += match extensions.protocol {
            IpNextHeaderProtocols::Ipv6Frag => {
                let header = extension::<{ ipv6::FRAGMENT }>(bytes, at).ok()?;
                extensions.fragment = Some(ipv6::FragmentHeader::parse(header));
                ipv6::FRAGMENT
            }
            // RFC 4302 section 2.2: in units of four bytes, two less.
            IpNextHeaderProtocol(AUTHENTICATION) => (len + 2) * 4,
            _ => (len + 1) * ipv6::EXTENSION_UNIT,
        };
        extensions.protocol = IpNextHeaderProtocol(next);
        if extensions.headers_len > bytes.len() {
            return None;
        }
    }
    None
}

/// Place of the Next Header field that names the first protocol which [`walk`] does not skip.
#[cold]
pub(crate) fn next_header_at(first: IpNextHeaderProtocol, bytes: &[u8]) -> usize {
    let mut extensions = ExtensionHeaders::none(first);
    let mut place = ipv6::NEXT_HEADER;
    loop {
        let at = extensions.headers_len;
        match step(&mut extensions, bytes) {
            Ok(true) => place = at,
            _ => return place,
        }
    }
}

fn skip(extensions: &mut ExtensionHeaders, bytes: &[u8]) -> Result<bool, DropReason> {
    let at = extensions.headers_len;
    let [next, len] = *extension::<2>(bytes, at)?;
    let end = at + (usize::from(len) + 1) * ipv6::EXTENSION_UNIT;
    if end > bytes.len() {
        return Err(DropReason::Ipv6ExtensionTruncated);
    }
    extensions.protocol = IpNextHeaderProtocol(next);
    extensions.headers_len = end;
    Ok(true)
}

fn segments_left(bytes: &[u8], at: usize) -> Result<bool, DropReason> {
    Ok(extension::<{ ipv6::SEGMENTS_LEFT + 1 }>(bytes, at)?[ipv6::SEGMENTS_LEFT] != 0)
}

#[inline]
fn extension<const N: usize>(bytes: &[u8], at: usize) -> Result<&[u8; N], DropReason> {
    bytes
        .get(at..)
        .and_then(|rest| rest.first_chunk())
        .ok_or(DropReason::Ipv6ExtensionTruncated)
}

#[inline(always)]
fn parse_transport(
    extensions: &ExtensionHeaders,
    fragmented: bool,
    payload: &[u8],
) -> Result<Transport, DropReason> {
    if extensions.segments_left.is_some() {
        return Ok(Transport::Opaque);
    }
    if extensions.protocol == IpNextHeaderProtocols::Icmpv6 && fragmented {
        return Ok(Transport::IcmpFragment);
    }
    if is_foreign(extensions.protocol) {
        return Err(DropReason::ForeignProtocol);
    }
    if extensions
        .fragment
        .is_some_and(|fragment| fragment.offset != 0)
    {
        return Ok(Transport::Opaque);
    }
    match extensions.protocol {
        IpNextHeaderProtocols::Tcp => parse_tcp(payload),
        IpNextHeaderProtocols::Udp => parse_udp(payload, !fragmented),
        IpNextHeaderProtocols::Icmpv6 => parse_icmp(
            payload,
            icmp::v6::ECHO_REQUEST,
            icmp::v6::ECHO_REPLY,
            icmp::v6::is_error,
        ),
        _ => Ok(Transport::Opaque),
    }
    .map_err(|reason| tiny_if_fragment(reason, fragmented))
}

/// ICMPv4 and IGMP mean nothing behind an IPv6 header, and would be taken seriously behind an
/// IPv4 one (SE-08).
pub(crate) const fn is_foreign(protocol: IpNextHeaderProtocol) -> bool {
    matches!(protocol.0, 1 | 2)
}
