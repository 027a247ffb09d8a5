//! Encodes events as lines of the session log.

use std::net::{Ipv4Addr, Ipv6Addr};

use nat64::event::{BindingRecord, BlockRecord, Change, Event, EventKind, Quota, SessionRecord};
use serde::Serialize;

use super::Clock;

/// One line of the log.
#[derive(Debug, Serialize)]
pub(super) struct Record {
    /// RFC 3339, UTC.
    time: String,
    event: &'static str,
    /// IPFIX natEvent (RFC 8158 section 4.3).
    nat_event: u8,
    #[serde(flatten)]
    what: What,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum What {
    Binding(BindingLine),
    Session(SessionLine),
    Block(BlockLine),
    Quota(QuotaLine),
}

#[derive(Debug, Serialize)]
struct BindingLine {
    protocol: &'static str,
    client: Ipv6Addr,
    client_port: u16,
    external: Ipv4Addr,
    external_port: u16,
}

#[derive(Debug, Serialize)]
struct SessionLine {
    #[serde(flatten)]
    binding: BindingLine,
    remote: Ipv4Addr,
    remote_port: u16,
}

#[derive(Debug, Serialize)]
struct BlockLine {
    subscriber: String,
    external: Ipv4Addr,
    first_port: u16,
    last_port: u16,
}

#[derive(Debug, Serialize)]
struct QuotaLine {
    protocol: &'static str,
    subscriber: String,
}

impl Record {
    /// The line for an event; `None` for an update, which is not logged.
    pub(super) fn new(event: &Event, clock: &Clock) -> Option<Self> {
        Some(Self {
            time: humantime::format_rfc3339_millis(clock.wall_at(event.at)).to_string(),
            event: name(&event.kind)?,
            nat_event: event.kind.nat_event()?,
            what: describe(&event.kind),
        })
    }
}

const fn name(kind: &EventKind) -> Option<&'static str> {
    Some(match kind {
        EventKind::Binding(Change::Created(_)) => "binding-created",
        EventKind::Binding(Change::Removed(_)) => "binding-removed",
        EventKind::Session(Change::Created(_)) => "session-created",
        EventKind::Session(Change::Removed(_)) => "session-removed",
        EventKind::Block(Change::Created(_)) => "block-allocated",
        EventKind::Block(Change::Removed(_)) => "block-freed",
        EventKind::PoolExhausted(_) => "pool-exhausted",
        EventKind::LimitReached(_) => "limit-reached",
        EventKind::Binding(Change::Updated(_))
        | EventKind::Session(Change::Updated(_))
        | EventKind::Block(Change::Updated(_)) => return None,
    })
}

fn describe(kind: &EventKind) -> What {
    match kind {
        EventKind::Binding(change) => What::Binding(binding(change.entry())),
        EventKind::Session(change) => What::Session(session(&change.entry().record)),
        EventKind::Block(change) => What::Block(block(change.entry())),
        EventKind::PoolExhausted(record) | EventKind::LimitReached(record) => {
            What::Quota(quota(record))
        }
    }
}

fn binding(record: &BindingRecord) -> BindingLine {
    BindingLine {
        protocol: record.protocol.name(),
        client: record.client,
        client_port: record.client_port,
        external: record.external,
        external_port: record.external_port,
    }
}

fn session(record: &SessionRecord) -> SessionLine {
    SessionLine {
        binding: binding(&record.binding),
        remote: record.remote,
        remote_port: record.remote_port,
    }
}

fn block(record: &BlockRecord) -> BlockLine {
    BlockLine {
        subscriber: record.subscriber.to_string(),
        external: record.external,
        first_port: record.first_port,
        last_port: record.last_port,
    }
}

fn quota(record: &Quota) -> QuotaLine {
    QuotaLine {
        protocol: record.protocol.name(),
        subscriber: record.subscriber.to_string(),
    }
}
