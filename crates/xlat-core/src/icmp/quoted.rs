//! The packet quoted in an ICMP error. It is translated like any other packet, with three
//! differences: it was sent long ago, so its hop limit stays; it may be cut off anywhere behind
//! its IP header; and its own checksums are carried along, not judged.

use core::net::{Ipv4Addr, Ipv6Addr};

use pnet_packet::ip::{IpNextHeaderProtocol, IpNextHeaderProtocols};

use crate::checksum::{self, Sum};
use crate::mapper::{Flow, Ports};
use crate::packet::{
    ExtensionHeaders, Transport, flow_v4, flow_v6, is_foreign_v4, is_foreign_v6, walk,
};
use crate::reason::DropReason;
use crate::transport;
use crate::wire::{DST_PORT, PORTS, SRC_PORT, icmp, ipv4, ipv6, set_word, tcp, udp, version, word};

/// A quoted IPv4 packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct QuotedV4 {
    pub(super) ip: ipv4::Header,
    pub(super) header_len: usize,
    pub(super) transport: Rest,
}

/// A quoted IPv6 packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct QuotedV6 {
    pub(super) ip: ipv6::Header,
    pub(super) extensions: ExtensionHeaders,
    pub(super) transport: Rest,
}

/// What is there of a quoted transport header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rest {
    kind: Kind,
    ports: Option<Ports>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Tcp,
    Udp,
    Echo { request: bool },
    Opaque,
}

impl QuotedV4 {
    pub(super) fn parse(quoted: &[u8], tolerate_checksum: bool) -> Result<Self, DropReason> {
        let Some(fixed) = quoted.first_chunk::<{ ipv4::HEADER }>() else {
            return Err(DropReason::QuotedTruncated);
        };
        let ip = ipv4::Header::parse(fixed);
        let header_len = ipv4::header_len(fixed[0]);
        if version(fixed[0]) != 4
            || header_len < ipv4::HEADER
            || usize::from(ip.total_len) < header_len
        {
            return Err(DropReason::QuotedHeader);
        }
        let header = quoted
            .get(..header_len)
            .ok_or(DropReason::QuotedTruncated)?;
        if !tolerate_checksum && Sum::of(header).folded() != 0xffff {
            return Err(DropReason::QuotedHeader);
        }
        // No such packet ever crossed, so no error about it can be genuine (SE-08).
        if is_foreign_v4(ip.protocol) || ip.protocol == IpNextHeaderProtocols::Igmp {
            return Err(DropReason::QuotedProtocol);
        }
        let echo = Echo {
            request: icmp::v4::ECHO_REQUEST,
            reply: icmp::v4::ECHO_REPLY,
        };
        let transport = Rest::parse(
            ip.protocol,
            IpNextHeaderProtocols::Icmp,
            ip.offset == 0,
            &quoted[header_len..],
            &echo,
        )?;
        Ok(Self {
            ip,
            header_len,
            transport,
        })
    }

    /// Bytes that the packet had behind its header when it was sent.
    pub(super) fn payload_len(&self) -> usize {
        usize::from(self.ip.total_len) - self.header_len
    }

    pub(super) fn flow(&self) -> Flow<Ipv4Addr> {
        let flow = flow_v4(&self.ip, self.header_len, &Transport::Opaque);
        Flow {
            ports: self.transport.ports,
            ..flow
        }
    }
}

impl QuotedV6 {
    pub(super) fn parse(quoted: &[u8]) -> Result<Self, DropReason> {
        let Some(fixed) = quoted.first_chunk::<{ ipv6::HEADER }>() else {
            return Err(DropReason::QuotedTruncated);
        };
        let ip = ipv6::Header::parse(fixed);
        if version(fixed[0]) != 6 {
            return Err(DropReason::QuotedHeader);
        }
        let extensions = walk(ip.next_header, quoted).map_err(|reason| match reason {
            DropReason::Ipv6ExtensionTruncated => DropReason::QuotedTruncated,
            _ => DropReason::QuotedHeader,
        })?;
        if extensions.segments_left.is_some()
            || ipv6::HEADER + usize::from(ip.payload_len) < extensions.headers_len
        {
            return Err(DropReason::QuotedHeader);
        }
        if is_foreign_v6(extensions.protocol) {
            return Err(DropReason::QuotedProtocol);
        }
        let echo = Echo {
            request: icmp::v6::ECHO_REQUEST,
            reply: icmp::v6::ECHO_REPLY,
        };
        let transport = Rest::parse(
            extensions.protocol,
            IpNextHeaderProtocols::Icmpv6,
            extensions
                .fragment
                .is_none_or(|fragment| fragment.offset == 0),
            &quoted[extensions.headers_len..],
            &echo,
        )?;
        Ok(Self {
            ip,
            extensions,
            transport,
        })
    }

    /// Bytes that the packet had behind all its headers when it was sent.
    pub(super) fn payload_len(&self) -> usize {
        ipv6::HEADER + usize::from(self.ip.payload_len) - self.extensions.headers_len
    }

    pub(super) fn flow(&self) -> Flow<Ipv6Addr> {
        let flow = flow_v6(&self.ip, &self.extensions, &Transport::Opaque);
        Flow {
            ports: self.transport.ports,
            ..flow
        }
    }
}

/// A family's echo types.
struct Echo {
    request: u8,
    reply: u8,
}

impl Rest {
    fn parse(
        protocol: IpNextHeaderProtocol,
        icmp: IpNextHeaderProtocol,
        first: bool,
        bytes: &[u8],
        echo: &Echo,
    ) -> Result<Self, DropReason> {
        let opaque = Self {
            kind: Kind::Opaque,
            ports: None,
        };
        let is_icmp = protocol == icmp;
        if !first {
            // A fragmented ICMP message was never translated, so no error about it can be genuine.
            return if is_icmp {
                Err(DropReason::QuotedIcmp)
            } else {
                Ok(opaque)
            };
        }
        let kind = match protocol {
            IpNextHeaderProtocols::Tcp => Kind::Tcp,
            IpNextHeaderProtocols::Udp => Kind::Udp,
            _ if is_icmp => match bytes.first() {
                None => return Ok(opaque),
                Some(&kind) if kind == echo.request => Kind::Echo { request: true },
                Some(&kind) if kind == echo.reply => Kind::Echo { request: false },
                // An error about an error, or about what has no counterpart (RFC 7915 4.3, 5.3).
                Some(_) => return Err(DropReason::QuotedIcmp),
            },
            _ => return Ok(opaque),
        };
        let ports = match kind {
            Kind::Echo { .. } if bytes.len() >= icmp::IDENTIFIER + 2 => {
                Some(Ports::identifier(word(bytes, icmp::IDENTIFIER)))
            }
            Kind::Tcp | Kind::Udp if bytes.len() >= PORTS => Some(Ports {
                src: word(bytes, SRC_PORT),
                dst: word(bytes, DST_PORT),
            }),
            _ => None,
        };
        Ok(Self { kind, ports })
    }

    /// Rewrites what is there of the transport header. `delta` is the change of the pseudo-header
    /// that TCP and UDP see, `icmp_delta` that of ICMP.
    pub(super) fn rewrite(
        &self,
        bytes: &mut [u8],
        ports: Option<Ports>,
        delta: Sum,
        icmp_delta: Sum,
        request: u8,
        reply: u8,
    ) {
        match self.kind {
            Kind::Tcp => {
                let delta = delta + self.replace_ports(bytes, ports);
                update(bytes, tcp::CHECKSUM, delta, false);
            }
            Kind::Udp => {
                let delta = delta + self.replace_ports(bytes, ports);
                update(bytes, udp::CHECKSUM, delta, true);
            }
            Kind::Echo {
                request: is_request,
            } => {
                let icmp_type = if is_request { request } else { reply };
                let mut delta = icmp_delta;
                if bytes.len() >= 2 {
                    delta = delta + transport::set_type(bytes, icmp_type);
                } else {
                    bytes[icmp::TYPE] = icmp_type;
                }
                if let (Some(_), Some(new)) = (self.ports, ports) {
                    delta = delta + transport::replace_word(bytes, icmp::IDENTIFIER, new.src);
                }
                update(bytes, icmp::CHECKSUM, delta, false);
            }
            Kind::Opaque => {}
        }
    }

    fn replace_ports(&self, bytes: &mut [u8], ports: Option<Ports>) -> Sum {
        let (Some(_), Some(new)) = (self.ports, ports) else {
            return Sum::ZERO;
        };
        transport::replace_word(bytes, SRC_PORT, new.src)
            + transport::replace_word(bytes, DST_PORT, new.dst)
    }
}

/// Updates the checksum at `at`, if it is there. A UDP checksum of zero means "none" and stays.
fn update(bytes: &mut [u8], at: usize, delta: Sum, udp: bool) {
    if bytes.len() < at + 2 {
        return;
    }
    let old = word(bytes, at);
    if udp && old == 0 {
        return;
    }
    let new = checksum::update(old, delta);
    set_word(bytes, at, if udp { checksum::udp(new) } else { new });
}
