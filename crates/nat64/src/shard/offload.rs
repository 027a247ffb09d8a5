//! Sessions whose packets are carried below the workers ([`crate::offload`]): when one is offered,
//! when it is taken back, and what that says about its lifetime.

use std::sync::Arc;
use std::time::Duration;

use xlat_core::Instant;

use super::Shard;
use super::sessions::state;
use crate::clock::{Tick, Ticks};
use crate::offload::{FlowOffload, LastUse, Offer, OffloadConfig, Side};
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

    /// Counts a packet from this side. True if such packets are to be offered: the session has carried
    /// enough, and they are not installed. It is asked again after as many packets.
    #[inline]
    pub(super) fn is_ripe(&mut self, handle: u32, from: Side) -> bool {
        let after = self.offload_after;
        let session = self.sessions.session_mut(handle);
        session.carried = session.carried.saturating_add(1);
        let is_ripe = session.carried >= after && is_plain(session) && !session.has_side(from);
        if is_ripe {
            session.carried = 0;
        }
        is_ripe
    }

    /// Installs the packets of sessions of which one was just translated, by a worker that goes by the
    /// configuration of this epoch.
    pub(crate) fn offload(&mut self, offers: &[(ClientTuple, Side)], epoch: u32, now: Instant) {
        let now = Tick::at(now);
        if epoch != self.epoch {
            return;
        }
        let mut chosen = Vec::with_capacity(offers.len());
        for (tuple, from) in offers {
            if self.is_paused(now) {
                break;
            }
            let is_ripe = |handle: &u32| {
                let session = self.sessions.session(*handle);
                session.expires() > now && is_plain(session) && !session.has_side(*from)
            };
            let Some(handle) = self.sessions.of_client(tuple).filter(is_ripe) else {
                continue;
            };
            if self.sessions.session(handle).slot().is_none() && self.is_full() {
                self.install(&mut chosen, now);
                self.make_place(now);
            }
            chosen.extend(self.choose(handle, *from));
        }
        self.install(&mut chosen, now);
    }

    fn is_paused(&self, now: Tick) -> bool {
        let is_open = |one: &Offloading| now >= one.pause_until;
        !self.offloading.as_ref().is_some_and(is_open)
    }

    fn is_full(&self) -> bool {
        let offloading = self.offloading.as_ref();
        offloading.is_some_and(|one| one.flows.is_full())
    }

    /// An offer of a session's packets, if it has a slot or there is one for it. Those of the other side
    /// may follow at once.
    fn choose(&mut self, handle: u32, from: Side) -> Option<Offer> {
        let session = self.entry(handle, self.sessions.session(handle));
        let offloading = self.offloading.as_mut()?;
        let slot = match self.sessions.session(handle).slot() {
            Some(slot) => slot,
            None if offloading.flows.is_full() => return None,
            None => {
                let slot = offloading.flows.insert(handle);
                self.sessions.session_mut(handle).set_slot(Some(slot));
                slot
            }
        };
        let chosen = self.sessions.session_mut(handle);
        chosen.add_side(from);
        chosen.carried = self.offload_after - 1;
        Some(Offer {
            slot,
            from,
            session,
        })
    }

    /// Makes the chosen offers, those from one side after those from the other, and takes the slots of
    /// those that were refused.
    fn install(&mut self, chosen: &mut Vec<Offer>, now: Tick) {
        let Some(offloading) = self.offloading.as_mut().filter(|_| !chosen.is_empty()) else {
            return;
        };
        chosen.sort_by_key(|offer| offer.from);
        let installed = offloading.offload.install(chosen);
        let is_refused = installed < chosen.len();
        for offer in chosen.drain(..).skip(installed) {
            let session = self.sessions.session_mut(offer.session.handle.slot);
            session.carried = 0;
            if !session.remove_side(offer.from) {
                session.set_slot(None);
                offloading.flows.remove(offer.slot);
            }
        }
        if is_refused {
            self.pause(now, REFUSED);
        }
    }

    /// Takes back the least recently used session among some of those that are installed. If all of them
    /// are in use, none is better than another, and it pauses.
    fn make_place(&mut self, now: Tick) {
        let Some(offloading) = &mut self.offloading else {
            return;
        };
        let some = offloading.flows.next(SAMPLE);
        let used = some
            .into_iter()
            .map(|handle| (self.last_used(handle), handle));
        match used.min() {
            Some((used, handle)) if used.after(Ticks::covering(IDLE)) <= now => self.recall(handle),
            _ => self.pause(now, CROWDED),
        }
    }

    fn pause(&mut self, now: Tick, time: Duration) {
        if let Some(offloading) = &mut self.offloading {
            offloading.pause_until = now.after(Ticks::covering(time));
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

/// True for a session whose packets need nothing but their headers rewritten: UDP, echo, and TCP while
/// it is established, without a FIN from either side.
#[inline]
fn is_plain(session: &Session) -> bool {
    match session.protocol {
        Protocol::Udp | Protocol::Icmp => true,
        Protocol::Tcp => state(session) == TcpState::Established,
    }
}

/// Installed sessions among which the least recently used one is looked for.
const SAMPLE: u32 = 8;
/// Sessions that are taken back while a worker may have to wait.
const RECALLED_TOGETHER: usize = 256;
/// Time without offers after one was refused.
const REFUSED: Duration = Duration::from_secs(1);
/// Time without offers while there is no place: to look for one takes many questions.
const CROWDED: Duration = Duration::from_millis(250);
/// A session that has carried no packet for so long makes place for another one.
const IDLE: Duration = Duration::from_secs(1);
