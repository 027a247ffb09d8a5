//! Port Control Protocol (RFC 6887): hosts ask the NAT64 for external ports.
//!
//! [`Server`] decides. It reads a datagram, asks a [`PortMapper`] for ports, remembers who holds what
//! for how long, and returns the response. Sockets, clock and tables are the caller's.
//!
//! [`proxy::Proxy`] is the other side: it asks such a server for the IPv4 hosts of a CLAT, which
//! speak PCP or NAT-PMP ([`natpmp`]) themselves.

mod client;
mod message;
pub mod natpmp;
mod option;
mod port_mapper;
pub mod proxy;
mod server;

pub use client::{Datagram, Request as ClientRequest, Response};
pub use message::{Announcement, Map, Nonce, Operation, Peer, Request, Unreadable};
pub use option::{Filter, Options};
pub use port_mapper::{Held, Internal, PortMapper, Refusal, Remote, Suggestion};
pub use server::{Mapping, Server, Settings};

/// UDP port of servers (RFC 6887 section 19.1).
pub const SERVER_PORT: u16 = 5351;
/// UDP port of clients, for announcements by multicast.
pub const CLIENT_PORT: u16 = 5350;
/// Maximum length of a message in bytes (section 7).
pub const LENGTH_MAX: usize = 1100;

/// Version of the protocol.
const VERSION: u8 = 2;
/// Set in the second byte of a response.
const RESPONSE: u8 = 0x80;
/// Length of the common header in bytes.
const HEADER: usize = 24;

/// How a request ended (section 7.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ResultCode {
    /// Carried out.
    Success = 0,
    /// Another version than 2.
    UnsuppVersion = 1,
    /// Policy forbids it, or the nonce is not the holder's.
    NotAuthorized = 2,
    /// The request cannot be read, or contradicts itself.
    MalformedRequest = 3,
    /// An unknown opcode.
    UnsuppOpcode = 4,
    /// An unknown option that must be processed.
    UnsuppOption = 5,
    /// An option cannot be read, or stands where or as often as it may not.
    MalformedOption = 6,
    /// The server or its NAT has a temporary failure.
    NetworkFailure = 7,
    /// No port is left.
    NoResources = 8,
    /// Another protocol than TCP and UDP.
    UnsuppProtocol = 9,
    /// The subscriber has as many ports as it may have.
    UserExQuota = 10,
    /// The suggested address or port is not to be had, and the client wants no other.
    CannotProvideExternal = 11,
    /// The header names another client than the packet: there is a NAT in between.
    AddressMismatch = 12,
    /// More filters than the server can install.
    ExcessiveRemotePeers = 13,
}

impl ResultCode {
    /// The code with this number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|code| *code as u8 == number)
    }

    const ALL: [Self; 14] = [
        Self::Success,
        Self::UnsuppVersion,
        Self::NotAuthorized,
        Self::MalformedRequest,
        Self::UnsuppOpcode,
        Self::UnsuppOption,
        Self::MalformedOption,
        Self::NetworkFailure,
        Self::NoResources,
        Self::UnsuppProtocol,
        Self::UserExQuota,
        Self::CannotProvideExternal,
        Self::AddressMismatch,
        Self::ExcessiveRemotePeers,
    ];

    /// The name in the RFC.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Success => "SUCCESS",
            Self::UnsuppVersion => "UNSUPP_VERSION",
            Self::NotAuthorized => "NOT_AUTHORIZED",
            Self::MalformedRequest => "MALFORMED_REQUEST",
            Self::UnsuppOpcode => "UNSUPP_OPCODE",
            Self::UnsuppOption => "UNSUPP_OPTION",
            Self::MalformedOption => "MALFORMED_OPTION",
            Self::NetworkFailure => "NETWORK_FAILURE",
            Self::NoResources => "NO_RESOURCES",
            Self::UnsuppProtocol => "UNSUPP_PROTOCOL",
            Self::UserExQuota => "USER_EX_QUOTA",
            Self::CannotProvideExternal => "CANNOT_PROVIDE_EXTERNAL",
            Self::AddressMismatch => "ADDRESS_MISMATCH",
            Self::ExcessiveRemotePeers => "EXCESSIVE_REMOTE_PEERS",
        }
    }

    /// How long the client should not repeat the request, in seconds: half a minute where it may
    /// soon succeed, half an hour where it will not (section 7.4).
    pub(crate) const fn error_lifetime(self) -> u32 {
        const SHORT: u32 = 30;
        const LONG: u32 = 30 * 60;
        match self {
            Self::Success => 0,
            Self::NetworkFailure
            | Self::NoResources
            | Self::UserExQuota
            | Self::CannotProvideExternal => SHORT,
            Self::UnsuppVersion
            | Self::NotAuthorized
            | Self::MalformedRequest
            | Self::UnsuppOpcode
            | Self::UnsuppOption
            | Self::MalformedOption
            | Self::UnsuppProtocol
            | Self::AddressMismatch
            | Self::ExcessiveRemotePeers => LONG,
        }
    }
}

#[cfg(test)]
mod tests;
