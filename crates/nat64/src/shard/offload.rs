//! Sessions whose packets are carried below the workers ([`crate::offload`]): when one is offered,
//! when it is taken back, and what that says about its lifetime.

use std::sync::Arc;
use std::time::Duration;

use xlat_core::Instant;

use super::Shard;
use super::sessions::state;
use crate::clock::{Tick, Ticks};
use crate::offload::{FlowOffload, LastUse, OffloadConfig};
use crate::table::flows::Flows;
use crate::table::session::Session;
use crate::table::slab::NONE;
use crate::tcp::TcpState;
use crate::tuple::{ClientTuple, Protocol};

/// A shard's part of the offload.
#[derive(Debug)]
pub(crate) struct Offloading {
    offload: Arc<dyn FlowOffload>,
    flows: Flows,
    /// Nothing is installed before this, because it was refused.
    pause_until: Tick,
}

impl Shard {
    /// Offers sessions to `config` from now on; to nothing, if there is none. No session may be
    /// installed. `share` is the number of sessions that this shard may install.
    pub(crate) fn set_offload(&mut self, config: Option<&OffloadConfig>, share: u32) {
        self.offload_after = config.map_or(0, |config| config.packets.max(1));
        self.offloading = config.map(|config| Offloading {
            offload: Arc::clone(&config.offload),
            flows: Flows::new(self.number * share, share),
            pause_until: Tick::from_raw(0),
        });
    }

    /// Number of installed sessions.
    pub(super) fn offloaded(&self) -> u32 {
        let flows = self.offloading.as_ref().map(|one| one.flows.len());
        flows.unwrap_or(0)
    }

    /// Offers from workers that go by an older configuration are refused from now on.
    pub(crate) fn set_epoch(&mut self, epoch: u32) {
        self.epoch = epoch;
    }

    /// Counts a packet from the client. True if the session is to be offered: it has carried enough,
    /// in both directions, and is not installed. It is asked again after as many packets.
    pub(super) fn is_ripe(&mut self, handle: u32) -> bool {
        let after = self.offload_after;
        let session = self.sessions.session_mut(handle);
        session.from_client = session.from_client.saturating_add(1);
        let carried = session.from_client.saturating_add(session.from_remote);
        let is_ripe = carried >= after && session.from_remote > 0 && is_plain(session);
        if is_ripe {
            (session.from_client, session.from_remote) = (0, 0);
        }
        is_ripe
    }

    /// Installs the session of a client's packet that was just translated, by a worker that goes by
    /// the configuration of this epoch.
    pub(crate) fn offload(&mut self, tuple: &ClientTuple, epoch: u32, now: Instant) {
        let now = Tick::at(now);
        let Some(handle) = self.sessions.of_client(tuple) else {
            return;
        };
        let session = self.sessions.session(handle);
        if epoch == self.epoch && session.expires() > now && is_plain(session) {
            self.make_place();
            self.install(handle, now);
        }
    }

    fn install(&mut self, handle: u32, now: Tick) {
        let entry = self.entry(handle, self.sessions.session(handle));
        let is_open = |one: &&mut Offloading| !one.flows.is_full() && now >= one.pause_until;
        let Some(offloading) = self.offloading.as_mut().filter(is_open) else {
            return;
        };
        let slot = offloading.flows.insert(handle);
        if offloading.offload.install(slot, &entry) {
            self.sessions.session_mut(handle).set_slot(Some(slot));
        } else {
            offloading.flows.remove(slot);
            offloading.pause_until = now.after(Ticks::covering(PAUSE));
        }
    }

    /// Takes back the least recently used session among some of those that are installed, if they
    /// are as many as there may be.
    fn make_place(&mut self) {
        let is_full = |one: &&mut Offloading| one.flows.is_full();
        let Some(offloading) = self.offloading.as_mut().filter(is_full) else {
            return;
        };
        let some = offloading.flows.next(SAMPLE);
        let oldest = some
            .into_iter()
            .min_by_key(|handle| self.last_used(*handle));
        if let Some(handle) = oldest {
            self.recall(handle);
        }
    }

    /// Takes a session back, if it is installed: from now on all its packets come to a worker.
    #[inline]
    pub(super) fn recall(&mut self, handle: u32) {
        if self.sessions.session(handle).slot().is_some() {
            self.recall_installed(handle);
        }
    }

    #[cold]
    fn recall_installed(&mut self, handle: u32) {
        let session = self.sessions.session(handle);
        let (Some(slot), entry) = (session.slot(), self.entry(handle, session)) else {
            return;
        };
        let Some(offloading) = &mut self.offloading else {
            return;
        };
        let last = offloading.offload.remove(slot, &entry);
        offloading.flows.remove(slot);
        let until = self.used_until(self.sessions.session(handle), last);
        self.sessions.session_mut(handle).set_slot(None);
        self.sessions.set_expiry(handle, until);
    }

    /// Takes back some of the installed sessions; true if there are more. Holds up no worker for
    /// long.
    pub(crate) fn recall_some(&mut self) -> bool {
        let some = match &self.offloading {
            Some(offloading) => offloading.flows.some(RECALLED_TOGETHER),
            None => return false,
        };
        for handle in &some {
            self.recall(*handle);
        }
        some.len() == RECALLED_TOGETHER
    }

    /// The end of a session's lifetime as its table knows it. If it was used below the workers it
    /// lives on: true, and it has a later end.
    #[cold]
    pub(super) fn was_used(&mut self, handle: u32, now: Instant) -> bool {
        let mut until = self.ends(self.sessions.session(handle));
        if until <= Tick::at(now) {
            // What is carried between the question and the removal counts, too.
            self.recall(handle);
            until = self.sessions.session(handle).expires();
        }
        let is_alive = until > Tick::at(now);
        if is_alive {
            self.sessions.revive(handle, until);
        }
        is_alive
    }

    /// When a session ends unless packets come, whoever carries them.
    #[inline]
    pub(super) fn ends(&self, session: &Session) -> Tick {
        match session.slot() {
            None => session.expires(),
            Some(_) => self.used_until(session, self.last_use(session)),
        }
    }

    fn last_use(&self, session: &Session) -> LastUse {
        let (Some(offloading), Some(slot)) = (&self.offloading, session.slot()) else {
            return LastUse::default();
        };
        // Only the tuple and the slot matter to what carries it.
        offloading
            .offload
            .last_use(slot, &self.entry(NONE, session))
    }

    /// The end of a session's lifetime with these last packets.
    fn used_until(&self, session: &Session, last: LastUse) -> Tick {
        let lifetimes = &self.rules.lifetimes;
        let (life, refreshes) = match session.protocol {
            Protocol::Tcp => (lifetimes.established, true),
            Protocol::Udp => (lifetimes.udp, self.rules.inbound.refreshes),
            Protocol::Icmp => (lifetimes.icmp, self.rules.inbound.refreshes),
        };
        let from_remote = last.from_remote.filter(|_| refreshes);
        let used = last.from_client.max(from_remote);
        let until = used.map(|used| Tick::at(used).after(life));
        until.map_or(session.expires(), |until| until.max(session.expires()))
    }

    /// When an installed session was last used, to be compared with others.
    fn last_used(&self, handle: u32) -> Tick {
        let session = self.sessions.session(handle);
        let lifetimes = &self.rules.lifetimes;
        let life = match session.protocol {
            Protocol::Tcp => lifetimes.established,
            Protocol::Udp => lifetimes.udp,
            Protocol::Icmp => lifetimes.icmp,
        };
        let last = self.last_use(session);
        let used = last.from_client.max(last.from_remote);
        let before = session.expires().before(life);
        used.map_or(before, |used| Tick::at(used).max(before))
    }
}

/// True for a session whose packets need nothing but their headers rewritten: TCP while it is
/// established, without a FIN from either side, and UDP.
fn is_plain(session: &Session) -> bool {
    let is_plain = match session.protocol {
        Protocol::Udp => true,
        Protocol::Tcp => state(session) == TcpState::Established,
        Protocol::Icmp => false,
    };
    is_plain && session.slot().is_none()
}

/// Installed sessions among which the least recently used one is looked for.
const SAMPLE: u32 = 8;
/// Sessions that are taken back while a worker may have to wait.
const RECALLED_TOGETHER: usize = 256;
/// Time without offers after one was refused.
const PAUSE: Duration = Duration::from_secs(1);
