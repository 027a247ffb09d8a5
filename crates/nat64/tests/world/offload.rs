//! An offload in memory, which carries packets as the kernel would: plain ones of the sessions that
//! are installed.

use std::collections::BTreeMap;
use std::net::{SocketAddrV4, SocketAddrV6};
use std::sync::{Arc, Mutex};

use nat64::Protocol;
use nat64::event::SessionEntry;
use nat64::offload::{FlowOffload, LastUse, OffloadConfig};
use xlat_core::Instant;

use super::{FIN, RST, SYN};

#[derive(Clone, Debug, Default)]
pub struct FakeOffload {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    flows: BTreeMap<u32, (SessionEntry, LastUse)>,
    carried: u64,
    /// Installing fails.
    refuses: bool,
    /// Nothing that is installed is carried any more.
    invalid: bool,
    limit: u32,
}

impl FakeOffload {
    pub fn config(&self, packets: u8, flows: u32) -> OffloadConfig {
        self.inner.lock().unwrap().limit = flows;
        OffloadConfig {
            offload: Arc::new(self.clone()),
            packets,
            flows,
        }
    }

    pub fn refuse(&self, refuses: bool) {
        self.inner.lock().unwrap().refuses = refuses;
    }

    pub fn installed(&self) -> Vec<SessionEntry> {
        let inner = self.inner.lock().unwrap();
        inner.flows.values().map(|(entry, _)| *entry).collect()
    }

    /// Packets carried so far.
    pub fn carried(&self) -> u64 {
        self.inner.lock().unwrap().carried
    }

    /// A packet from IPv6: what its source becomes, if it is carried here.
    pub fn carry_out(
        &self,
        (protocol, flags): (Protocol, u8),
        client: SocketAddrV6,
        server: SocketAddrV4,
        now: Instant,
    ) -> Option<SocketAddrV4> {
        let is_it = |entry: &SessionEntry| {
            let binding = entry.record.binding;
            (binding.client, binding.client_port) == (*client.ip(), client.port())
        };
        let (entry, last) = &mut self.find((protocol, flags), server, is_it)?;
        last.from_client = Some(now);
        self.note(entry, *last);
        let binding = entry.record.binding;
        Some(SocketAddrV4::new(binding.external, binding.external_port))
    }

    /// A packet from IPv4: what its destination becomes, if it is carried here.
    pub fn carry_in(
        &self,
        (protocol, flags): (Protocol, u8),
        server: SocketAddrV4,
        to: SocketAddrV4,
        now: Instant,
    ) -> Option<SocketAddrV6> {
        let is_it = |entry: &SessionEntry| {
            let binding = entry.record.binding;
            (binding.external, binding.external_port) == (*to.ip(), to.port())
        };
        let (entry, last) = &mut self.find((protocol, flags), server, is_it)?;
        last.from_remote = Some(now);
        self.note(entry, *last);
        let binding = entry.record.binding;
        Some(SocketAddrV6::new(binding.client, binding.client_port, 0, 0))
    }

    fn find(
        &self,
        (protocol, flags): (Protocol, u8),
        server: SocketAddrV4,
        is_it: impl Fn(&SessionEntry) -> bool,
    ) -> Option<(SessionEntry, LastUse)> {
        if flags & (SYN | FIN | RST) != 0 {
            return None;
        }
        let inner = self.inner.lock().unwrap();
        let mut flows = inner.flows.values();
        let found = flows.find(|(entry, _)| {
            let record = entry.record;
            let remote = SocketAddrV4::new(record.remote, record.remote_port);
            record.binding.protocol == protocol && remote == server && is_it(entry)
        });
        found.copied().filter(|_| !inner.invalid)
    }

    fn note(&self, entry: &SessionEntry, last: LastUse) {
        let mut inner = self.inner.lock().unwrap();
        inner.carried += 1;
        for (other, used) in inner.flows.values_mut() {
            if other.record == entry.record {
                *used = last;
            }
        }
    }
}

impl FlowOffload for FakeOffload {
    fn install(&self, slot: u32, session: &SessionEntry) -> bool {
        let mut inner = self.inner.lock().unwrap();
        if inner.refuses {
            return false;
        }
        assert!(slot < inner.limit, "{slot}");
        if inner.flows.is_empty() {
            inner.invalid = false;
        }
        assert!(!inner.invalid, "installed before all others were removed");
        let before = inner.flows.insert(slot, (*session, LastUse::default()));
        assert_eq!(before, None);
        true
    }

    fn last_use(&self, slot: u32, session: &SessionEntry) -> LastUse {
        let inner = self.inner.lock().unwrap();
        let (entry, last) = inner.flows[&slot];
        assert_eq!(entry.record, session.record);
        last
    }

    fn remove(&self, slot: u32, session: &SessionEntry) -> LastUse {
        let mut inner = self.inner.lock().unwrap();
        let (entry, last) = inner.flows.remove(&slot).unwrap();
        assert_eq!(
            (entry.record, entry.pref64),
            (session.record, session.pref64)
        );
        last
    }

    fn invalidate(&self) {
        self.inner.lock().unwrap().invalid = true;
    }
}
