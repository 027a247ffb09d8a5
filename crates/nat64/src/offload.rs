//! Carrying sessions' packets below the workers: in the kernel, for example.
//!
//! A session that has carried some packets is offered to a [`FlowOffload`], each direction by its own
//! packets, which then carries what it can by itself: plain packets of exactly this session. All others come to a worker as before: the
//! segments that open or close a connection, fragments, errors. The table of the NAT64 stays the
//! truth. Whatever changes a session, or might refuse its packets, takes it back first, and before a
//! session ends it is asked when it was last used.
//!
//! Nothing here may be lost, so nothing goes through a queue: both calls are made with the session's
//! shard locked, and are effective when they return.

use std::fmt::Debug;
use std::sync::Arc;

use xlat_core::Instant;

use crate::event::SessionEntry;

/// What carries packets of sessions in the workers' place. Called with a lock of the tables held, so
/// it must not call back, and should be quick.
pub trait FlowOffload: Debug + Send + Sync {
    /// Carries these packets from now on. Returns how many of the offers, from the first on, it takes:
    /// fewer if it cannot, for want of memory for example, and nothing has changed for the others then.
    fn install(&self, offers: &[Offer]) -> usize;

    /// When the session's packets were last carried.
    fn last_use(&self, slot: u32, session: &SessionEntry) -> LastUse;

    /// Carries no packet of the session from now on; when the last ones were carried.
    fn remove(&self, slot: u32, session: &SessionEntry) -> LastUse;

    /// What was carried of the session since it was installed; `None` where that is not counted, or the
    /// session is not installed any more. Called without a lock.
    fn carried(&self, _session: &SessionEntry) -> Option<Carried> {
        None
    }

    /// Carries no packet of any session that is installed now. Each of them will be
    /// [removed](Self::remove).
    fn invalidate(&self);
}

/// The packets of a session in one direction. A worker that goes by the present configuration has
/// just translated one of them; about the other direction that says nothing.
#[derive(Clone, Copy, Debug)]
pub struct Offer {
    /// A number below [`OffloadConfig::flows`] that no other session has now.
    pub slot: u32,
    /// Where they come from.
    pub from: Side,
    /// Their session.
    pub session: SessionEntry,
}

/// An end of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// The IPv6 client.
    Client,
    /// The IPv4 node outside.
    Remote,
}

/// The times of the last packets of a session that were carried, on the workers' clock; `None` if there
/// was none since it was installed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LastUse {
    /// Of those from the client.
    pub from_client: Option<Instant>,
    /// Of those from the remote node.
    pub from_remote: Option<Instant>,
}

/// Packets and bytes of a session that were carried, on the way there and back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// Those from the client.
    pub from_client: Load,
    /// Those from the remote node.
    pub from_remote: Load,
}

/// Packets, and their bytes as they came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Number of packets; a super-packet is one.
    pub packets: u64,
    /// Number of bytes, IP headers included.
    pub bytes: u64,
}

/// What carries packets in the workers' place, and which sessions it is offered.
#[derive(Clone, Debug)]
pub struct OffloadConfig {
    /// What carries them.
    pub offload: Arc<dyn FlowOffload>,
    /// Packets after which a session is offered, not counting the one that began it; from 1.
    pub packets: u8,
    /// Most sessions that are installed at a time; the least recently used one makes place.
    pub flows: u32,
}
