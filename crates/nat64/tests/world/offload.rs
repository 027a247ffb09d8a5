//! An offload in memory, which carries packets as the kernel would: plain ones of the sessions that
//! are installed.

use std::collections::BTreeMap;
use std::net::{SocketAddrV4, SocketAddrV6};
use std::sync::{Arc, Mutex};

use nat64::Protocol;
use nat64::event::SessionEntry;
use nat64::offload::{FlowOffload, LastUse, Offer, OffloadConfig, Side};
use xlat_core::Instant;

use super::{FIN, RST, SYN};

#[derive(Clone, Debug, Default)]
pub struct FakeOffload {
    inner: Arc<Mutex<Inner>>,
}

/// A session, and from which sides its packets are carried.
#[derive(Debug)]
struct Carried {
    entry: SessionEntry,
    last: LastUse,
    sides: Vec<Side>,
}

#[derive(Debug, Default)]
struct Inner {
    flows: BTreeMap<u32, Carried>,
    carried: u64,
    /// How often something was to be installed.
    calls: u32,
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
        inner.flows.values().map(|flow| flow.entry).collect()
    }

    /// How often something was to be installed.
    pub fn calls(&self) -> u32 {
        self.inner.lock().unwrap().calls
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
        let (entry, last) = &mut self.find((protocol, flags), server, Side::Client, is_it)?;
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
        let (entry, last) = &mut self.find((protocol, flags), server, Side::Remote, is_it)?;
        last.from_remote = Some(now);
        self.note(entry, *last);
        let binding = entry.record.binding;
        Some(SocketAddrV6::new(binding.client, binding.client_port, 0, 0))
    }

    fn find(
        &self,
        (protocol, flags): (Protocol, u8),
        server: SocketAddrV4,
        from: Side,
        is_it: impl Fn(&SessionEntry) -> bool,
    ) -> Option<(SessionEntry, LastUse)> {
        if flags & (SYN | FIN | RST) != 0 {
            return None;
        }
        let inner = self.inner.lock().unwrap();
        let mut flows = inner.flows.values();
        let found = flows.find(|flow| {
            let record = flow.entry.record;
            let remote = SocketAddrV4::new(record.remote, record.remote_port);
            let is_carried = flow.sides.contains(&from);
            is_carried
                && record.binding.protocol == protocol
                && remote == server
                && is_it(&flow.entry)
        });
        let found = found.map(|flow| (flow.entry, flow.last));
        found.filter(|_| !inner.invalid)
    }

    fn note(&self, entry: &SessionEntry, last: LastUse) {
        let mut inner = self.inner.lock().unwrap();
        inner.carried += 1;
        for flow in inner.flows.values_mut() {
            if flow.entry.record == entry.record {
                flow.last = last;
            }
        }
    }
}

impl FlowOffload for FakeOffload {
    fn install(&self, offers: &[Offer]) -> usize {
        let mut inner = self.inner.lock().unwrap();
        inner.calls += 1;
        if inner.refuses {
            return 0;
        }
        for offer in offers {
            assert!(offer.slot < inner.limit, "{}", offer.slot);
            if inner.flows.is_empty() {
                inner.invalid = false;
            }
            assert!(!inner.invalid, "installed before all others were removed");
            let flow = inner.flows.entry(offer.slot).or_insert_with(|| Carried {
                entry: offer.session,
                last: LastUse::default(),
                sides: Vec::new(),
            });
            assert_eq!(flow.entry.record, offer.session.record);
            assert!(!flow.sides.contains(&offer.from));
            flow.sides.push(offer.from);
        }
        offers.len()
    }

    fn last_use(&self, slot: u32, session: &SessionEntry) -> LastUse {
        let inner = self.inner.lock().unwrap();
        let Carried { entry, last, .. } = inner.flows[&slot];
        assert_eq!(entry.record, session.record);
        last
    }

    fn remove(&self, slot: u32, session: &SessionEntry) -> LastUse {
        let mut inner = self.inner.lock().unwrap();
        let Carried { entry, last, .. } = inner.flows.remove(&slot).unwrap();
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
