//! The packet fields that the coalescer reads and writes.
//!
//! Offsets into the IP header are counted from the start of the packet, others from the transport
//! header. Fields are compared in place and not read as values: most only have to be equal.

use pnet_packet::ip::IpNextHeaderProtocols;
use xlat_core::Offload;
use xlat_core::checksum::Sum;
use xlat_core::offload::Checksum;
use xlat_core::wire::{ipv4, ipv6, tcp, udp, word};

/// A flow: addresses, protocol and ports.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Flow {
    addresses: [u8; 32],
    ports: [u8; 4],
    pub(super) version: u8,
    protocol: u8,
    /// Hash of the other fields, without a secret. It is compared first, because it differs in most
    /// lanes.
    hash: u32,
}

/// Lengths of the IP and transport headers in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Headers {
    pub(super) ip: usize,
    pub(super) transport: usize,
}

impl Headers {
    pub(super) fn len(self) -> usize {
        self.ip + self.transport
    }
}

impl Flow {
    #[inline]
    pub(super) fn new(version: u8, protocol: u8, packet: &[u8], ports: &[u8]) -> Self {
        let mut flow = Self {
            version,
            protocol,
            ..Self::default()
        };
        if version == 4 {
            flow.addresses[..8].copy_from_slice(&packet[ipv4::SRC..ipv4::HEADER]);
        } else {
            flow.addresses
                .copy_from_slice(&packet[ipv6::SRC..ipv6::HEADER]);
        }
        flow.ports.copy_from_slice(ports);
        let (words, _) = flow.addresses.as_chunks::<4>();
        let words = words.iter().map(|word| u32::from_ne_bytes(*word));
        let mixed = words.fold(u32::from_ne_bytes(flow.ports), |sum, word| {
            sum.rotate_left(7).wrapping_add(word)
        });
        flow.hash = mixed;
        flow
    }

    /// True if both are the same flow.
    #[inline]
    pub(super) fn is(&self, other: &Self) -> bool {
        self.hash == other.hash
            && self.ports == other.ports
            && (self.version, self.protocol) == (other.version, other.protocol)
            && self.addresses == other.addresses
    }
}

/// The header lengths, if this packet can be held back or appended as far as the packet itself
/// tells; the comparison with other packets is the coalescer's.
pub(super) fn headers(
    version: u8,
    ip: usize,
    protocol: u8,
    packet: &[u8],
    offload: &Offload,
) -> Option<Headers> {
    let claimed = match version {
        4 => usize::from(word(packet, ipv4::TOTAL_LEN)),
        _ => usize::from(word(packet, ipv6::PAYLOAD_LEN)) + ipv6::HEADER,
    };
    let is_tcp = protocol == IpNextHeaderProtocols::Tcp.0;
    let (minimum, field) = if is_tcp {
        (tcp::HEADER, tcp::CHECKSUM)
    } else {
        (udp::HEADER, udp::CHECKSUM)
    };
    if claimed != packet.len() || packet.len() < ip + minimum || offload.gso.is_some() {
        return None;
    }
    match offload.checksum {
        Checksum::Partial(partial) => {
            let here = (ip, field) == (partial.start.into(), partial.offset.into());
            here.then_some(())?;
        }
        Checksum::Whole | Checksum::Verified => {
            let absent = !is_tcp && word(packet, ip + field) == 0;
            (!absent).then_some(())?;
        }
    }
    let transport = if is_tcp {
        (packet[ip + tcp::FLAGS] & !tcp::PSH == tcp::ACK).then_some(())?;
        tcp::header_len(&packet[ip..])
    } else {
        let length = usize::from(word(packet, ip + udp::LENGTH));
        (length == packet.len() - ip).then_some(udp::HEADER)?
    };
    let headers = Headers { ip, transport };
    (transport >= minimum && headers.len() < packet.len()).then_some(headers)
}

/// True for a segment after which nothing can be appended.
pub(super) fn closes(flow: &Flow, headers: Headers, packet: &[u8]) -> bool {
    is_tcp(flow) && packet[headers.ip + tcp::FLAGS] & tcp::PSH != 0
}

/// True if the transport checksum is correct, or is not computed yet.
pub(super) fn is_intact(packet: &[u8], offload: &Offload, headers: Headers, flow: &Flow) -> bool {
    if offload.checksum != Checksum::Whole {
        return true;
    }
    let transport = &packet[headers.ip..];
    let sum = pseudo_header(flow, transport.len()) + Sum::of(transport);
    sum.folded() == 0xffff
}

pub(super) fn pseudo_header(flow: &Flow, transport_len: usize) -> Sum {
    // The sum is the same for both address families.
    Sum::of(&flow.addresses) + Sum::word(flow.protocol.into()) + Sum::word(transport_len as u16)
}

pub(super) fn is_tcp(flow: &Flow) -> bool {
    flow.protocol == IpNextHeaderProtocols::Tcp.0
}
