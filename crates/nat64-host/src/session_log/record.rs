//! The lines of the session log.

use std::net::{Ipv4Addr, Ipv6Addr};

use nat64::event::{BindingRecord, BlockRecord, Event, EventKind, Quota, SessionRecord};
use serde::Serialize;

use super::Clock;

/// One line.
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
    pub(super) fn new(event: &Event, clock: &Clock) -> Self {
        let (name, what) = describe(&event.kind);
        Self {
            time: humantime::format_rfc3339_millis(clock.wall_at(event.at)).to_string(),
            event: name,
            nat_event: event.kind.nat_event(),
            what,
        }
    }
}

fn describe(kind: &EventKind) -> (&'static str, What) {
    match kind {
        EventKind::BindingCreated(record) => ("binding-created", What::Binding(binding(record))),
        EventKind::BindingRemoved(record) => ("binding-removed", What::Binding(binding(record))),
        EventKind::SessionCreated(record) => ("session-created", What::Session(session(record))),
        EventKind::SessionRemoved(record) => ("session-removed", What::Session(session(record))),
        EventKind::BlockAllocated(record) => ("block-allocated", What::Block(block(record))),
        EventKind::BlockFreed(record) => ("block-freed", What::Block(block(record))),
        EventKind::PoolExhausted(record) => ("pool-exhausted", What::Quota(quota(record))),
        EventKind::LimitReached(record) => ("limit-reached", What::Quota(quota(record))),
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
