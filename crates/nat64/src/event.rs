//! What happened, for the session log (RFC 6888 REQ-12 to REQ-15): plain records in a queue of
//! fixed length. The data path only ever appends; a queue that nobody empties loses records and
//! counts them.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, Ipv6Addr};

use xlat_core::Instant;
use xlat_core::addr::Ipv6Prefix;

use crate::session::Protocol;

/// Something that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub at: Instant,
    /// What.
    pub kind: EventKind,
}

/// What happened. The numbers are those of the natEvent field of IPFIX (RFC 8158).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A binding came to be (10).
    BindingCreated(BindingRecord),
    /// A binding went (11).
    BindingRemoved(BindingRecord),
    /// A session came to be (6).
    SessionCreated(SessionRecord),
    /// A session went (7).
    SessionRemoved(SessionRecord),
    /// A subscriber got a block of ports (16).
    BlockAllocated(BlockRecord),
    /// A block of ports is free again (17).
    BlockFreed(BlockRecord),
    /// A subscriber got nothing because no port was left (12).
    PoolExhausted(Quota),
    /// A subscriber got nothing because of a limit (13).
    LimitReached(Quota),
}

/// A binding, as it is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BindingRecord {
    /// Its protocol.
    pub protocol: Protocol,
    /// The client.
    pub client: Ipv6Addr,
    /// The client's port or identifier.
    pub client_port: u16,
    /// The address that the IPv4 side sees.
    pub external: Ipv4Addr,
    /// The port or identifier that the IPv4 side sees.
    pub external_port: u16,
}

/// A session, as it is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionRecord {
    /// The binding it hangs on.
    pub binding: BindingRecord,
    /// The IPv4 node outside.
    pub remote: Ipv4Addr,
    /// That node's port; 0 for ICMP.
    pub remote_port: u16,
}

/// A block of ports, as it is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockRecord {
    /// Who has it.
    pub subscriber: Ipv6Prefix,
    /// The address that the block belongs to.
    pub external: Ipv4Addr,
    /// Its first port.
    pub first_port: u16,
    /// Its last port.
    pub last_port: u16,
}

/// A subscriber who got nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Who.
    pub subscriber: Ipv6Prefix,
    /// For which protocol.
    pub protocol: Protocol,
}

impl EventKind {
    /// The value of the natEvent field (RFC 8158 section 4.3).
    pub const fn nat_event(&self) -> u8 {
        match self {
            Self::SessionCreated(_) => 6,
            Self::SessionRemoved(_) => 7,
            Self::BindingCreated(_) => 10,
            Self::BindingRemoved(_) => 11,
            Self::PoolExhausted(_) => 12,
            Self::LimitReached(_) => 13,
            Self::BlockAllocated(_) => 16,
            Self::BlockFreed(_) => 17,
        }
    }
}

/// Events that wait for the log.
#[derive(Debug, Default)]
pub(crate) struct EventQueue {
    events: VecDeque<Event>,
    lost: u64,
}

impl EventQueue {
    pub(crate) fn push(&mut self, at: Instant, kind: EventKind) {
        if self.events.len() == CAPACITY {
            self.lost += 1;
            return;
        }
        self.events.push_back(Event { at, kind });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.events.is_empty() && self.lost == 0
    }

    /// Moves everything that waits into `into`; the number of events lost since the last time.
    pub(crate) fn drain(&mut self, into: &mut Vec<Event>) -> u64 {
        into.extend(self.events.drain(..));
        std::mem::take(&mut self.lost)
    }
}

/// About 4 MiB of events.
const CAPACITY: usize = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cg_13_a_full_queue_loses_events_and_counts_them() {
        let mut queue = EventQueue::default();
        let quota = Quota {
            subscriber: Ipv6Prefix::host(Ipv6Addr::LOCALHOST),
            protocol: Protocol::Udp,
        };
        for _ in 0..CAPACITY + 3 {
            queue.push(Instant::ZERO, EventKind::PoolExhausted(quota));
        }
        let mut events = Vec::new();
        assert_eq!(queue.drain(&mut events), 3);
        assert_eq!((events.len(), queue.drain(&mut events)), (CAPACITY, 0));
    }
}
