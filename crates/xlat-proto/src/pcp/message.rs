//! Requests and responses (RFC 6887 sections 7, 11.1, 12.1 and 14.1).

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};

use xlat_core::addr::Pref64;

use super::option::Options;
use super::{HEADER, LENGTH_MAX, RESPONSE, ResultCode, VERSION};

pub(super) const ANNOUNCE: u8 = 0;
pub(super) const MAP: u8 = 1;
pub(super) const PEER: u8 = 2;

/// Bytes of a MAP request or response behind the header.
pub(super) const MAP_DATA: usize = 36;
/// The same of PEER.
pub(super) const PEER_DATA: usize = 56;

/// Random bytes of the client, by which it proves that a mapping is its own.
pub type Nonce = [u8; 12];

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// How long the client wants it, in seconds; 0 deletes.
    pub lifetime: u32,
    /// The client's address, as it sees it itself.
    pub client: Ipv6Addr,
    /// What it wants.
    pub operation: Operation,
    /// What it adds to that.
    pub options: Options,
}

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// The server is to say that it is there, and its epoch.
    Announce,
    /// An external port for anyone to send to.
    Map(Map),
    /// A connection to one remote peer is to be kept.
    Peer(Peer),
}

/// An external port for a port of the client's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Map {
    /// Proves later that the mapping is the client's.
    pub nonce: Nonce,
    /// IP protocol number; 0 for all.
    pub protocol: u8,
    /// The client's port; 0 for all.
    pub internal_port: u16,
    /// Suggested external port; 0 for any.
    pub external_port: u16,
    /// Suggested external address; unspecified, or IPv4-mapped 0.0.0.0, for any.
    pub external: Ipv6Addr,
}

/// A connection of the client's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The client's port, and the suggestion for the external one.
    pub map: Map,
    /// The remote peer's port.
    pub remote_port: u16,
    /// The remote peer's address, as the client sees it.
    pub remote: Ipv6Addr,
}

/// Why a datagram is no request that can be carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// It gets no response: it is one itself, or too short to have an opcode.
    Ignore,
    /// It gets a response with this code.
    Respond(ResultCode),
}

impl From<ResultCode> for Unreadable {
    fn from(code: ResultCode) -> Self {
        Self::Respond(code)
    }
}

impl Request {
    /// Parses a datagram, in the order of section 8.2.
    ///
    /// # Errors
    /// How it ends if it cannot be read.
    pub fn parse(datagram: &[u8]) -> Result<Self, Unreadable> {
        let &[version, opcode, ..] = datagram else {
            return Err(Unreadable::Ignore);
        };
        if opcode & RESPONSE != 0 {
            return Err(Unreadable::Ignore);
        }
        if version != VERSION {
            return Err(ResultCode::UnsuppVersion.into());
        }
        if datagram.len() > LENGTH_MAX || !datagram.len().is_multiple_of(4) {
            return Err(ResultCode::MalformedRequest.into());
        }
        let Some((header, rest)) = datagram.split_first_chunk::<HEADER>() else {
            return Err(ResultCode::MalformedRequest.into());
        };
        let (operation, options) = match opcode {
            ANNOUNCE => (Operation::Announce, rest),
            MAP => {
                let (data, options) = split::<MAP_DATA>(rest)?;
                (Operation::Map(Map::parse(data)), options)
            }
            PEER => {
                let (data, options) = split::<PEER_DATA>(rest)?;
                (Operation::Peer(Peer::parse(data)), options)
            }
            _ => return Err(ResultCode::UnsuppOpcode.into()),
        };
        Ok(Self {
            lifetime: double(header, 4),
            client: address(header, 8),
            operation,
            options: Options::parse(options, opcode == MAP)?,
        })
    }
}

impl Operation {
    pub(super) const fn opcode(&self) -> u8 {
        match self {
            Self::Announce => ANNOUNCE,
            Self::Map(_) => MAP,
            Self::Peer(_) => PEER,
        }
    }

    pub(super) fn emit(&self, message: &mut Vec<u8>) {
        match self {
            Self::Announce => {}
            Self::Map(map) => map.emit(message),
            Self::Peer(peer) => peer.emit(message),
        }
    }
}

impl Map {
    pub(super) fn parse(data: &[u8]) -> Self {
        let mut nonce = [0; 12];
        nonce.copy_from_slice(&data[..12]);
        Self {
            nonce,
            protocol: data[12],
            internal_port: word(data, 16),
            external_port: word(data, 18),
            external: address(data, 20),
        }
    }

    fn emit(&self, message: &mut Vec<u8>) {
        message.extend(self.nonce);
        message.extend([self.protocol, 0, 0, 0]);
        message.extend(self.internal_port.to_be_bytes());
        message.extend(self.external_port.to_be_bytes());
        message.extend(self.external.octets());
    }

    /// The external address that the client suggests, if any.
    pub(super) fn suggested_address(&self) -> Option<Ipv4Addr> {
        let address = self.external.to_ipv4_mapped()?;
        (!address.is_unspecified()).then_some(address)
    }

    /// The mapping as it was made.
    pub(super) fn assigned(self, external: SocketAddrV4) -> Self {
        Self {
            external_port: external.port(),
            external: external.ip().to_ipv6_mapped(),
            ..self
        }
    }
}

impl Peer {
    pub(super) fn parse(data: &[u8]) -> Self {
        Self {
            map: Map::parse(data),
            remote_port: word(data, MAP_DATA),
            remote: address(data, MAP_DATA + 4),
        }
    }

    fn emit(&self, message: &mut Vec<u8>) {
        self.map.emit(message);
        message.extend(self.remote_port.to_be_bytes());
        message.extend([0; 2]);
        message.extend(self.remote.octets());
    }
}

/// Seconds since the server began, or since it lost its mappings last (section 8.5).
pub(super) type Epoch = u32;

/// The response to a request that was carried out.
pub(super) fn success(
    operation: &Operation,
    options: &Options,
    pref64: Option<Pref64>,
    lifetime: u32,
    epoch: Epoch,
) -> Vec<u8> {
    let opcode = operation.opcode();
    let mut message = header(opcode, ResultCode::Success, lifetime, epoch).to_vec();
    operation.emit(&mut message);
    options.emit(pref64, &mut message);
    message
}

/// The response to a request that was not carried out: the request, with another header (section
/// 8.2). `lifetime` says in seconds for how long that will not change.
pub(super) fn error(request: &[u8], code: ResultCode, lifetime: u32, epoch: Epoch) -> Vec<u8> {
    let opcode = request.get(1).copied().unwrap_or_default();
    let mut message = header(opcode, code, lifetime, epoch).to_vec();
    let end = request.len().min(LENGTH_MAX);
    message.extend(request.get(HEADER..end).unwrap_or_default());
    message.resize(message.len().next_multiple_of(4), 0);
    message
}

fn header(opcode: u8, code: ResultCode, lifetime: u32, epoch: Epoch) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..4].copy_from_slice(&[VERSION, opcode | RESPONSE, 0, code as u8]);
    header[4..8].copy_from_slice(&lifetime.to_be_bytes());
    header[8..12].copy_from_slice(&epoch.to_be_bytes());
    header
}

/// An unsolicited ANNOUNCE, for all clients on a link (section 14.1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// Seconds since the server began.
    pub epoch: u32,
}

impl Announcement {
    /// The message.
    pub fn emit(&self) -> Vec<u8> {
        header(ANNOUNCE, ResultCode::Success, 0, self.epoch).to_vec()
    }
}

fn split<const LENGTH: usize>(rest: &[u8]) -> Result<(&[u8], &[u8]), ResultCode> {
    rest.split_at_checked(LENGTH)
        .ok_or(ResultCode::MalformedRequest)
}

pub(super) fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

pub(super) fn double(bytes: &[u8], at: usize) -> u32 {
    u32::from(word(bytes, at)) << 16 | u32::from(word(bytes, at + 2))
}

pub(super) fn address(bytes: &[u8], at: usize) -> Ipv6Addr {
    let mut octets = [0; 16];
    octets.copy_from_slice(&bytes[at..at + 16]);
    octets.into()
}
