//! The NAT as the server sees it: what it asks for and what it may be refused.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};

use xlat_core::Instant;

use super::ResultCode;
use super::option::Filter;

/// A port of a host behind the NAT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Internal {
    /// The host.
    pub client: Ipv6Addr,
    /// Number of the transport protocol: TCP or UDP.
    pub protocol: u8,
    /// Its port.
    pub port: u16,
}

/// The far end of a connection, as the client sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Remote {
    /// Its address: an IPv4 address in the NAT64 prefix.
    pub address: Ipv6Addr,
    /// Its port.
    pub port: u16,
}

/// What a client holds of one of its ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Held {
    /// The port is open (MAP).
    Open,
    /// A connection is kept (PEER).
    Connection(Remote),
}

/// What a client suggests as external address and port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suggestion {
    /// The address, if it has a wish.
    pub address: Option<Ipv4Addr>,
    /// The port, if it has a wish.
    pub port: Option<u16>,
    /// Nothing else will do.
    pub exact: bool,
}

/// Why there is no external port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// Policy: the host may not, or the port is another's by the administrator's will.
    NotAuthorized,
    /// No port is left.
    NoResources,
    /// The subscriber has as many as it may have.
    Quota,
    /// Another one could be had, but not this one.
    NotThisOne,
    /// The tables cannot be changed at the moment.
    Temporary,
}

impl Refusal {
    pub(super) const fn code(self) -> ResultCode {
        match self {
            Self::NotAuthorized => ResultCode::NotAuthorized,
            Self::NoResources => ResultCode::NoResources,
            Self::Quota => ResultCode::UserExQuota,
            Self::NotThisOne => ResultCode::CannotProvideExternal,
            Self::Temporary => ResultCode::NetworkFailure,
        }
    }
}

/// The NAT whose ports the server gives away.
pub trait PortMapper {
    /// Gives a port an external one, and lets those send to it whom the filters allow: anyone
    /// without filters. If the port has one already, it stays, unless the suggestion is exact and
    /// another; filters are replaced.
    ///
    /// # Errors
    /// Why not; nothing has changed then.
    fn map(
        &mut self,
        internal: Internal,
        suggested: Suggestion,
        filters: &[Filter],
    ) -> Result<SocketAddrV4, Refusal>;

    /// Keeps the external port of a connection, and makes it if there is none. The connection may be
    /// idle until then.
    ///
    /// # Errors
    /// Why not; nothing has changed then.
    fn keep(
        &mut self,
        internal: Internal,
        remote: Remote,
        suggested: Suggestion,
        until: Instant,
    ) -> Result<SocketAddrV4, Refusal>;

    /// What the IPv4 side sees of an external address that was given: another one where a further NAT
    /// exchanges addresses and keeps ports.
    fn seen(&self, external: SocketAddrV4) -> SocketAddrV4 {
        external
    }

    /// A connection is not kept any more: it ends when it has been idle for as long as others may be.
    fn let_go(&mut self, internal: Internal, remote: Remote);

    /// A port is no longer open to others, but connections of it are kept.
    fn close(&mut self, internal: Internal);

    /// Nobody holds anything of a port any more.
    fn release(&mut self, internal: Internal);
}
