//! A shard whose clients are seen by another address than before.

use std::net::Ipv4Addr;

use xlat_core::Instant;

use super::Shard;
use crate::event::{BindingRecord, BlockRecord, Change, EventKind};
use crate::feed::Kind;
use crate::outer::OuterAddress;
use crate::table::session::Session;
use crate::table::slab::NONE;
use crate::tuple::Protocol;

impl Shard {
    /// Goes by another outer address from now on. TCP connections end with the old one; all else
    /// keeps its port, and is reported as removed and as created: who looks for an address and a port
    /// in a log finds the time of both.
    pub(crate) fn set_outer(&mut self, outer: OuterAddress, now: Instant) {
        if self.outer == Some(outer) {
            return;
        }
        if self.outer.is_some() {
            self.close_connections(now);
        }
        self.report_all(false, now);
        self.outer = Some(outer);
        self.report_all(true, now);
    }

    /// What the IPv4 side sees of an external address.
    pub(super) fn seen(&self, external: u32) -> Ipv4Addr {
        OuterAddress::seen(self.outer, Ipv4Addr::from_bits(external))
    }

    fn close_connections(&mut self, now: Instant) {
        let (all, _) = self.sessions.part(0, u32::MAX);
        let connections = all.filter(|(_, session)| session.protocol == Protocol::Tcp);
        let handles: Vec<u32> = connections.map(|(handle, _)| handle).collect();
        for handle in handles {
            self.close_session(handle, now);
        }
    }

    fn report_all(&mut self, are_new: bool, now: Instant) {
        if self.feed.wants(Kind::Block) {
            for record in self.all_blocks() {
                let change = EventKind::Block(change(record, are_new));
                self.feed.push(Kind::Block, now, change);
            }
        }
        if self.feed.wants(Kind::Binding) {
            for record in self.all_bindings() {
                let change = EventKind::Binding(change(record, are_new));
                self.feed.push(Kind::Binding, now, change);
            }
        }
        if self.feed.wants(Kind::Session) {
            let (all, _) = self.sessions.part(0, u32::MAX);
            let all: Vec<(u32, Session)> =
                all.map(|(handle, session)| (handle, *session)).collect();
            for (handle, session) in all {
                let change = EventKind::Session(change(self.reported(handle, &session), are_new));
                self.feed.push(Kind::Session, now, change);
            }
        }
    }

    fn all_blocks(&self) -> Vec<BlockRecord> {
        let (all, _) = self.subscribers.list(0, u32::MAX);
        let all = all.into_iter().flat_map(|(prefix, subscriber)| {
            let blocks = subscriber.blocks().iter();
            blocks.map(move |first| (prefix, subscriber.address, *first))
        });
        all.map(|(prefix, address, first)| self.block(prefix, address, first))
            .collect()
    }

    /// But for those of the administrator, which are not reported.
    fn all_bindings(&self) -> Vec<BindingRecord> {
        let all = self.bib.all();
        let reported = all.filter(|binding| binding.subscriber != NONE);
        reported
            .map(|binding| self.binding_record(binding))
            .collect()
    }
}

fn change<T>(entry: T, is_new: bool) -> Change<T> {
    if is_new {
        Change::Created(entry)
    } else {
        Change::Removed(entry)
    }
}
