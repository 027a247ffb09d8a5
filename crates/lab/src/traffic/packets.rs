//! Whole packets, made and read by hand: what checks the translator must not share its mistakes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::fragments::{checksum, checksum_of};

pub use crate::traffic::fragments::udp as udp_datagram;

/// TCP flags.
pub const FIN: u8 = 1;
/// See [`FIN`].
pub const SYN: u8 = 2;
/// See [`FIN`].
pub const RST: u8 = 4;
/// See [`FIN`].
pub const ACK: u8 = 16;

/// A UDP packet.
#[must_use]
pub fn udp(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    packet(from.ip(), to.ip(), 17, &udp_datagram(from, to, payload))
}

/// A TCP segment.
#[must_use]
pub fn tcp(
    from: SocketAddr,
    to: SocketAddr,
    flags: u8,
    numbers: (u32, u32),
    data: &[u8],
) -> Vec<u8> {
    let mut segment = Vec::new();
    segment.extend(from.port().to_be_bytes());
    segment.extend(to.port().to_be_bytes());
    segment.extend(numbers.0.to_be_bytes());
    segment.extend(numbers.1.to_be_bytes());
    segment.extend([5 << 4, flags, 0xff, 0xff, 0, 0, 0, 0]);
    segment.extend(data);
    let sum = checksum(6, from, to, &segment);
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    packet(from.ip(), to.ip(), 6, &segment)
}

/// An echo request.
#[must_use]
pub fn echo(from: IpAddr, to: IpAddr, id: u16, data: &[u8]) -> Vec<u8> {
    let [high, low] = id.to_be_bytes();
    let kind = if from.is_ipv4() { 8 } else { 128 };
    icmp(from, to, [kind, 0], [high, low, 0, 1], data)
}

/// The answer to an echo request.
#[must_use]
pub fn echo_reply(from: IpAddr, to: IpAddr, id: u16, data: &[u8]) -> Vec<u8> {
    let [high, low] = id.to_be_bytes();
    let kind = if from.is_ipv4() { 0 } else { 129 };
    icmp(from, to, [kind, 0], [high, low, 0, 1], data)
}

/// An ICMP error about a packet.
#[must_use]
pub fn error(from: IpAddr, to: IpAddr, kind: [u8; 2], quoted: &[u8]) -> Vec<u8> {
    icmp(from, to, kind, [0; 4], &quoted[..quoted.len().min(500)])
}

fn icmp(from: IpAddr, to: IpAddr, kind: [u8; 2], word: [u8; 4], rest: &[u8]) -> Vec<u8> {
    let mut message = [&kind[..], &[0, 0], &word, rest].concat();
    let sum = match from {
        IpAddr::V4(_) => checksum_of(&message),
        IpAddr::V6(_) => checksum(58, (from, 0).into(), (to, 0).into(), &message),
    };
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let protocol = if from.is_ipv4() { 1 } else { 58 };
    packet(from, to, protocol, &message)
}

/// A packet with this transport header and payload. IPv4 packets may be cut on their way.
#[must_use]
pub fn packet(from: IpAddr, to: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            piece_v4(from, to, protocol, 0, Place::whole(payload))
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => header_v6(from, to, protocol, payload),
        (from, to) => unreachable!("a packet from {from} to {to}"),
    }
}

/// A piece of a datagram.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// Its bytes.
    pub payload: &'a [u8],
    /// Where they begin, a multiple of 8.
    pub offset: usize,
    /// Others come behind.
    pub more: bool,
}

impl<'a> Place<'a> {
    fn whole(payload: &'a [u8]) -> Self {
        Self {
            payload,
            offset: 0,
            more: false,
        }
    }

    /// The pieces of a datagram, `size` bytes each.
    pub fn pieces(datagram: &'a [u8], size: usize) -> Vec<Self> {
        let count = datagram.len().div_ceil(size);
        let pieces = datagram.chunks(size).enumerate();
        pieces
            .map(|(number, payload)| Self {
                payload,
                offset: number * size,
                more: number + 1 < count,
            })
            .collect()
    }
}

/// A fragment over IPv4.
#[must_use]
pub fn piece_v4(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, id: u16, piece: Place<'_>) -> Vec<u8> {
    let mut packet = vec![0x45, 0];
    packet.extend((piece.payload.len() as u16 + 20).to_be_bytes());
    packet.extend(id.to_be_bytes());
    packet.extend(((piece.offset / 8) as u16 | u16::from(piece.more) << 13).to_be_bytes());
    packet.extend([64, protocol, 0, 0]);
    packet.extend(from.octets());
    packet.extend(to.octets());
    let sum = checksum_of(&packet);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(piece.payload);
    packet
}

/// A fragment over IPv6.
#[must_use]
pub fn piece_v6(from: Ipv6Addr, to: Ipv6Addr, protocol: u8, id: u32, piece: Place<'_>) -> Vec<u8> {
    let mut payload = vec![protocol, 0];
    payload.extend((piece.offset as u16 | u16::from(piece.more)).to_be_bytes());
    payload.extend(id.to_be_bytes());
    payload.extend(piece.payload);
    header_v6(from, to, 44, &payload)
}

fn header_v6(from: Ipv6Addr, to: Ipv6Addr, next: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend([next, 64]);
    packet.extend(from.octets());
    packet.extend(to.octets());
    packet.extend(payload);
    packet
}

/// A packet that has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its source.
    pub source: IpAddr,
    /// Its destination.
    pub destination: IpAddr,
    /// Transport protocol, behind the Fragment header if there is one.
    pub protocol: u8,
    /// Identification, offset in bytes, and whether others come behind, of a fragment.
    pub fragment: Option<(u32, usize, bool)>,
    /// Transport header and payload.
    pub body: Vec<u8>,
    /// The hop limit that is left.
    pub hops: u8,
}

impl Seen {
    /// Reads a packet; `None` for those of the kernel's own and for what is no packet.
    #[must_use]
    pub fn parse(packet: &[u8]) -> Option<Self> {
        match packet.first()? >> 4 {
            4 => Self::parse_v4(packet),
            6 => Self::parse_v6(packet),
            _ => None,
        }
    }

    /// Source with its port.
    #[must_use]
    pub fn from(&self) -> SocketAddr {
        (self.source, self.port(0)).into()
    }

    /// Destination with its port.
    #[must_use]
    pub fn to(&self) -> SocketAddr {
        (self.destination, self.port(2)).into()
    }

    /// TCP flags, if it is a segment.
    #[must_use]
    pub fn flags(&self) -> Option<u8> {
        (self.protocol == 6)
            .then(|| self.body.get(13).copied())
            .flatten()
    }

    /// Payload of UDP.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        self.body.get(8..).unwrap_or_default()
    }

    /// Type and code of ICMP.
    #[must_use]
    pub fn kind(&self) -> Option<[u8; 2]> {
        let is_icmp = matches!(self.protocol, 1 | 58);
        is_icmp.then(|| self.body.first_chunk().copied()).flatten()
    }

    /// Identifier of an echo message.
    #[must_use]
    pub fn identifier(&self) -> u16 {
        self.port(4)
    }

    /// The packet that an ICMP error is about.
    #[must_use]
    pub fn quoted(&self) -> Option<Self> {
        Self::parse(self.body.get(8..)?)
    }

    fn port(&self, at: usize) -> u16 {
        let bytes = self.body.get(at..at + 2).unwrap_or(&[0, 0]);
        u16::from_be_bytes([bytes[0], bytes[1]])
    }

    fn parse_v4(packet: &[u8]) -> Option<Self> {
        let header = usize::from(packet[0] & 15) * 4;
        let address = |at: usize| Some(Ipv4Addr::from(*packet.get(at..)?.first_chunk::<4>()?));
        let id = u16::from_be_bytes([*packet.get(4)?, *packet.get(5)?]);
        let place = u16::from_be_bytes([*packet.get(6)?, *packet.get(7)?]);
        let (offset, more) = (usize::from(place & 0x1fff) * 8, place & 0x2000 != 0);
        Some(Self {
            source: address(12)?.into(),
            destination: address(16)?.into(),
            protocol: *packet.get(9)?,
            fragment: (offset > 0 || more).then_some((id.into(), offset, more)),
            body: packet.get(header..)?.to_vec(),
            hops: packet[8],
        })
    }

    fn parse_v6(packet: &[u8]) -> Option<Self> {
        let address = |at: usize| Some(Ipv6Addr::from(*packet.get(at..)?.first_chunk::<16>()?));
        let (mut protocol, mut body, mut fragment) = (*packet.get(6)?, packet.get(40..)?, None);
        if protocol == 44 {
            let header = body.first_chunk::<8>()?;
            let place = u16::from_be_bytes([header[2], header[3]]);
            let id = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
            fragment = Some((id, usize::from(place & 0xfff8), place & 1 != 0));
            (protocol, body) = (header[0], &body[8..]);
        }
        let seen = Self {
            source: address(8)?.into(),
            destination: address(24)?.into(),
            protocol,
            fragment,
            body: body.to_vec(),
            hops: packet[7],
        };
        // Neighbour discovery and group reports.
        let is_own = protocol == 0
            || seen
                .kind()
                .is_some_and(|[kind, _]| (130..=143).contains(&kind));
        (!is_own).then_some(seen)
    }
}
