//! The client's side of the messages: requests as they are sent, responses as they are read (RFC
//! 6887 sections 7.1, 7.2 and 8.3).

use std::net::Ipv6Addr;

use xlat_core::addr::Pref64;

use super::message::{ANNOUNCE, MAP, Map, Operation, PEER, Peer, address, double};
use super::option::{Options, pref64s};
use super::{HEADER, LENGTH_MAX, RESPONSE, VERSION};

/// A response of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The result code; 0 is success.
    pub result: u8,
    /// Seconds for which it holds.
    pub lifetime: u32,
    /// Seconds since the server began, or since it lost its mappings last.
    pub epoch: u32,
    /// What was asked, as it was done.
    pub operation: Operation,
    /// NAT64 prefixes of the network (RFC 7225).
    pub pref64s: Vec<Pref64>,
}

impl Request<'_> {
    /// The message.
    pub fn emit(&self) -> Vec<u8> {
        let mut message = vec![VERSION, self.operation.opcode(), 0, 0];
        message.extend(self.lifetime.to_be_bytes());
        message.extend(self.client.octets());
        self.operation.emit(&mut message);
        self.options.emit_request(&mut message);
        message
    }
}

/// A request as a client makes it.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// How long it is wanted, in seconds; 0 deletes.
    pub lifetime: u32,
    /// The address that the request comes from.
    pub client: Ipv6Addr,
    /// What is wanted.
    pub operation: Operation,
    /// What is added to that.
    pub options: &'a Options,
}

impl Response {
    /// Parses a datagram; `None` if it is no response that can be read.
    pub fn parse(datagram: &[u8]) -> Option<Self> {
        if datagram.len() > LENGTH_MAX || !datagram.len().is_multiple_of(4) {
            return None;
        }
        let (header, rest) = datagram.split_first_chunk::<HEADER>()?;
        if header[0] != VERSION || header[1] & RESPONSE == 0 {
            return None;
        }
        let (operation, options) = match header[1] & !RESPONSE {
            ANNOUNCE => (Operation::Announce, rest),
            MAP => {
                let (data, options) = rest.split_at_checked(super::message::MAP_DATA)?;
                (Operation::Map(Map::parse(data)), options)
            }
            PEER => {
                let (data, options) = rest.split_at_checked(super::message::PEER_DATA)?;
                (Operation::Peer(Peer::parse(data)), options)
            }
            _ => return None,
        };
        Some(Self {
            result: header[3],
            lifetime: double(header, 4),
            epoch: double(header, 8),
            operation,
            pref64s: pref64s(options),
        })
    }
}

/// The payload of an IPv6 packet with a UDP datagram in it, and its addresses and ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// Source address.
    pub from: Ipv6Addr,
    /// Source port.
    pub from_port: u16,
    /// Destination address.
    pub to: Ipv6Addr,
    /// Destination port.
    pub to_port: u16,
    /// What is in it.
    pub payload: &'a [u8],
}

impl<'a> Datagram<'a> {
    /// Parses a packet without extension headers. The checksum may be left to the network card
    /// (then it covers the pseudo-header alone), as it is between interfaces of one machine.
    pub fn parse(packet: &'a [u8]) -> Option<Self> {
        const IPV6: usize = 40;
        const UDP: usize = 8;
        const NEXT_HEADER: usize = 6;
        const PROTOCOL_UDP: u8 = 17;
        let (header, udp) = packet.split_at_checked(IPV6)?;
        if header[0] >> 4 != 6 || header[NEXT_HEADER] != PROTOCOL_UDP {
            return None;
        }
        let word = |at: usize| Some(u16::from_be_bytes([*udp.get(at)?, *udp.get(at + 1)?]));
        let length = usize::from(word(4)?);
        let (from, to) = (address(header, 8), address(header, 24));
        let udp = udp.get(..length).filter(|_| length >= UDP)?;
        is_intact(from, to, udp).then_some(Self {
            from,
            from_port: word(0)?,
            to,
            to_port: word(2)?,
            payload: &udp[UDP..],
        })
    }
}

/// True if the checksum is right, or is the part that is summed up before the network card is to
/// sum up the rest.
fn is_intact(from: Ipv6Addr, to: Ipv6Addr, udp: &[u8]) -> bool {
    const PROTOCOL_UDP: u32 = 17;
    let words = |bytes: &[u8]| {
        let pairs = bytes.chunks(2);
        pairs
            .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)))
            .sum::<u32>()
    };
    let fold = |mut sum: u32| {
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum
    };
    let pseudo = words(&from.octets()) + words(&to.octets()) + udp.len() as u32 + PROTOCOL_UDP;
    let field = words(&udp[6..8]);
    fold(pseudo + words(udp)) == 0xffff || fold(pseudo) == field
}
