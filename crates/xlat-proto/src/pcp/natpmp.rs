//! NAT Port Mapping Protocol (RFC 6886): what hosts ask that do not know PCP, and what they are
//! answered.

use std::net::{Ipv4Addr, SocketAddrV4};

use xlat_core::wire::IpNextHeaderProtocols as Protocols;

/// Version of the protocol.
pub const VERSION: u8 = 0;

const ADDRESS: u8 = 0;
const MAP_UDP: u8 = 1;
const MAP_TCP: u8 = 2;
const RESPONSE: u8 = 0x80;

/// A request (sections 3.2 and 3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Which address does the IPv4 side see?
    Address,
    /// An external port.
    Map(Map),
}

/// An external port for a port of the host's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Map {
    /// IP protocol number: TCP or UDP.
    pub protocol: u8,
    /// The host's port; 0 with a lifetime of 0 for all of them.
    pub internal_port: u16,
    /// Suggested external port; 0 for any.
    pub external_port: u16,
    /// How long the host wants it, in seconds; 0 deletes.
    pub lifetime: u32,
}

/// How a request ended (section 3.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Outcome {
    /// Carried out.
    Success = 0,
    /// Another version than 0.
    UnsupportedVersion = 1,
    /// Policy forbids it.
    NotAuthorized = 2,
    /// There is no external address at the moment.
    NetworkFailure = 3,
    /// No port is left.
    OutOfResources = 4,
    /// An unknown opcode.
    UnsupportedOpcode = 5,
}

impl From<super::ResultCode> for Outcome {
    fn from(code: super::ResultCode) -> Self {
        use super::ResultCode as Code;
        match code {
            Code::Success => Self::Success,
            Code::NotAuthorized | Code::UnsuppProtocol => Self::NotAuthorized,
            Code::NoResources
            | Code::UserExQuota
            | Code::CannotProvideExternal
            | Code::ExcessiveRemotePeers => Self::OutOfResources,
            // The server does not understand the proxy: not the host's fault.
            Code::UnsuppVersion
            | Code::MalformedRequest
            | Code::UnsuppOpcode
            | Code::UnsuppOption
            | Code::MalformedOption
            | Code::NetworkFailure
            | Code::AddressMismatch => Self::NetworkFailure,
        }
    }
}

/// Why a datagram is no request that can be carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// It gets no response: it is one itself, or too short.
    Ignore,
    /// The opcode is unknown.
    Opcode(u8),
}

impl Request {
    /// Parses a datagram of version 0.
    ///
    /// # Errors
    /// How it ends if it cannot be read.
    pub fn parse(datagram: &[u8]) -> Result<Self, Unreadable> {
        let &[VERSION, opcode, ref rest @ ..] = datagram else {
            return Err(Unreadable::Ignore);
        };
        let protocol = match opcode {
            ADDRESS => return Ok(Self::Address),
            MAP_UDP => Protocols::Udp.0,
            MAP_TCP => Protocols::Tcp.0,
            RESPONSE.. => return Err(Unreadable::Ignore),
            _ => return Err(Unreadable::Opcode(opcode)),
        };
        let &[_, _, a, b, c, d, e, f, g, h] = rest else {
            return Err(Unreadable::Ignore);
        };
        Ok(Self::Map(Map {
            protocol,
            internal_port: u16::from_be_bytes([a, b]),
            external_port: u16::from_be_bytes([c, d]),
            lifetime: u32::from_be_bytes([e, f, g, h]),
        }))
    }
}

impl Map {
    /// The response that gives `external` for so many seconds, or says why not.
    pub fn response(&self, given: Result<(u16, u32), Outcome>, epoch: u32) -> Vec<u8> {
        let is_tcp = self.protocol == Protocols::Tcp.0;
        let opcode = if is_tcp { MAP_TCP } else { MAP_UDP };
        let (outcome, (port, lifetime)) = match given {
            Ok(given) => (Outcome::Success, given),
            Err(outcome) => (outcome, (0, 0)),
        };
        let mut message = header(opcode, outcome, epoch);
        message.extend(self.internal_port.to_be_bytes());
        message.extend(port.to_be_bytes());
        message.extend(lifetime.to_be_bytes());
        message
    }
}

/// The response that tells the external address, also to all hosts when it changes (section 3.2.1).
pub fn address_response(address: Result<Ipv4Addr, Outcome>, epoch: u32) -> Vec<u8> {
    let outcome = address.err().unwrap_or(Outcome::Success);
    let mut message = header(ADDRESS, outcome, epoch);
    message.extend(address.unwrap_or(Ipv4Addr::UNSPECIFIED).octets());
    message
}

/// The response to an opcode that does not exist.
pub fn unsupported(opcode: u8, epoch: u32) -> Vec<u8> {
    header(opcode, Outcome::UnsupportedOpcode, epoch)
}

fn header(opcode: u8, outcome: Outcome, epoch: u32) -> Vec<u8> {
    let mut message = vec![VERSION, opcode | RESPONSE];
    message.extend((outcome as u16).to_be_bytes());
    message.extend(epoch.to_be_bytes());
    message
}

/// The port that a mapping is suggested with: the address is the server's choice.
pub(super) fn suggested(port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port)
}
