//! What changes in the tables, as plain records: what subscribers of the [feed](crate::feed) get. The
//! session log is one of them (RFC 6888 REQ-12 to REQ-15).

use std::net::{Ipv4Addr, Ipv6Addr};

use xlat_core::Instant;
use xlat_core::addr::Ipv6Prefix;

use crate::tcp::TcpState;
use crate::tuple::Protocol;

/// A change at a point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// The workers' clock when it happened.
    pub at: Instant,
    /// The change.
    pub kind: EventKind,
}

/// What changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A binding of a client's; those that the administrator configures are not reported.
    Binding(Change<BindingRecord>),
    /// A session. [`Change::Updated`] reports another TCP state.
    Session(Change<SessionEntry>),
    /// A block of ports that a subscriber got or gave back. It is never updated.
    Block(Change<BlockRecord>),
    /// A subscriber got nothing because no port was left.
    PoolExhausted(Quota),
    /// A subscriber got nothing because of a limit.
    LimitReached(Quota),
}

/// How an entry of a table changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<T> {
    /// It was added.
    Created(T),
    /// It stays and is now this.
    Updated(T),
    /// It was this and is gone.
    Removed(T),
}

impl<T> Change<T> {
    /// The entry.
    pub const fn entry(&self) -> &T {
        match self {
            Self::Created(entry) | Self::Updated(entry) | Self::Removed(entry) => entry,
        }
    }
}

/// A session in its table, with all that another translator would need to carry its packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionEntry {
    /// Where it is, and which of the sessions that have been there.
    pub handle: SessionHandle,
    /// Its transport addresses on both sides: what its packets are rewritten to.
    pub record: SessionRecord,
    /// The NAT64 prefix that the client uses, counted in the order of
    /// [`Pref64s`](xlat_core::addr::Pref64s).
    pub pref64: u8,
    /// Its state, if it is a TCP session.
    pub tcp: Option<TcpState>,
    /// When it ends unless packets come. A packet that only moves this is no change.
    pub expires: Instant,
}

/// The place of a session in the tables. After its removal a place is used again, with another
/// generation, so a handle never means another session than the one it was made for
/// ([`Nat64::is_current`](crate::Nat64::is_current)).
/// The default is the handle of no session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SessionHandle {
    pub(crate) shard: u32,
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

/// A binding's transport addresses on both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BindingRecord {
    /// The transport protocol.
    pub protocol: Protocol,
    /// The client's address.
    pub client: Ipv6Addr,
    /// The client's port or identifier.
    pub client_port: u16,
    /// The address that the IPv4 side sees.
    pub external: Ipv4Addr,
    /// The port or identifier that the IPv4 side sees.
    pub external_port: u16,
}

/// A session's transport addresses on both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionRecord {
    /// The binding that it uses.
    pub binding: BindingRecord,
    /// The remote IPv4 node.
    pub remote: Ipv4Addr,
    /// The remote node's port; 0 for ICMP.
    pub remote_port: u16,
}

/// A block of ports of one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockRecord {
    /// The subscriber that the block is allocated to.
    pub subscriber: Ipv6Prefix,
    /// The address that the block belongs to.
    pub external: Ipv4Addr,
    /// Its first port.
    pub first_port: u16,
    /// Its last port.
    pub last_port: u16,
}

/// A refused request for a port or a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// The subscriber that got nothing.
    pub subscriber: Ipv6Prefix,
    /// The transport protocol of its packet.
    pub protocol: Protocol,
}

impl EventKind {
    /// The value of IPFIX's natEvent field (RFC 8158 section 4.3). `None` for an update, which the
    /// RFC does not know.
    pub const fn nat_event(&self) -> Option<u8> {
        Some(match self {
            Self::Session(Change::Created(_)) => 6,
            Self::Session(Change::Removed(_)) => 7,
            Self::Binding(Change::Created(_)) => 10,
            Self::Binding(Change::Removed(_)) => 11,
            Self::PoolExhausted(_) => 12,
            Self::LimitReached(_) => 13,
            Self::Block(Change::Created(_)) => 16,
            Self::Block(Change::Removed(_)) => 17,
            Self::Session(Change::Updated(_))
            | Self::Binding(Change::Updated(_))
            | Self::Block(Change::Updated(_)) => return None,
        })
    }
}
