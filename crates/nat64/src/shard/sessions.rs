//! The life of a session: made, passed by, timed out, closed.

use std::net::Ipv4Addr;

use xlat_core::mapper::Refusal;
use xlat_core::{DropReason, Instant};

use super::{Shard, full, inside, limited, outside};
use crate::clock::Tick;
use crate::config::Filtering;
use crate::event::{BindingRecord, Change, EventKind, SessionEntry, SessionHandle, SessionRecord};
use crate::feed::Kind;
use crate::table::bib::Binding;
use crate::table::session::Session;
use crate::table::slab::NONE;
use crate::tcp::{AtTimeout, Lifetime, TcpEvent, TcpState};
use crate::tuple::{ClientTuple, ExternalTuple, Inside, Outside, Protocol};

impl Shard {
    /// The next session whose IPv6 endpoint wants to be asked whether it is still there.
    pub(crate) fn next_probe(&mut self) -> Option<Session> {
        while let Some(handle) = self.probes.pop_front() {
            let session = self.sessions.session(handle);
            let is_waiting = session.binding != NONE
                && session.protocol == Protocol::Tcp
                && state(session) == TcpState::Trans;
            if is_waiting {
                return Some(*session);
            }
        }
        None
    }

    /// A packet of the client's in a known session.
    pub(super) fn pass_outbound(
        &mut self,
        handle: u32,
        pref64: u8,
        tcp_flags: u8,
        now: Tick,
    ) -> Outside {
        match self.sessions.session(handle).protocol {
            Protocol::Udp => self.refresh(handle, now.after(self.rules.lifetimes.udp)),
            Protocol::Icmp => self.refresh(handle, now.after(self.rules.lifetimes.icmp)),
            Protocol::Tcp => self.step_tcp(handle, TcpEvent::from_v6(tcp_flags), now),
        }
        let session = self.sessions.session(handle);
        let outside = outside(session);
        if session.pref64 != pref64 {
            self.change_pref64(handle, pref64);
        }
        outside
    }

    /// The client uses another prefix: what carries its packets knows the one before.
    #[cold]
    fn change_pref64(&mut self, handle: u32, pref64: u8) {
        self.recall(handle);
        self.sessions.session_mut(handle).pref64 = pref64;
    }

    /// A packet of the remote node's in a known session.
    pub(super) fn pass_inbound(&mut self, handle: u32, tcp_flags: u8, now: Tick) -> (Inside, u8) {
        match self.sessions.session(handle).protocol {
            Protocol::Tcp => {
                let event = TcpEvent::from_v4(tcp_flags);
                if event != TcpEvent::V4Syn || self.may_begin_anew(handle) {
                    self.step_tcp(handle, event, now);
                }
            }
            Protocol::Udp if self.rules.inbound.refreshes => {
                self.refresh(handle, now.after(self.rules.lifetimes.udp));
            }
            Protocol::Icmp if self.rules.inbound.refreshes => {
                self.refresh(handle, now.after(self.rules.lifetimes.icmp));
            }
            Protocol::Udp | Protocol::Icmp => {}
        }
        let session = self.sessions.session(handle);
        (inside(session), session.pref64)
    }

    /// Whether a SYN from the remote node changes the state of a session. Where both sides have
    /// closed it opens a connection, and hosts outside may be kept from that.
    #[cold]
    fn may_begin_anew(&self, handle: u32) -> bool {
        let session = self.sessions.session(handle);
        state(session) != TcpState::V4V6Fin || self.may_open_tcp(session.binding)
    }

    fn refresh(&mut self, handle: u32, expires: Tick) {
        self.sessions.set_expiry(handle, expires);
    }

    /// A row of the TCP state table.
    fn step_tcp(&mut self, handle: u32, event: TcpEvent, now: Tick) {
        let before = state(self.sessions.session(handle));
        let transition = before.on(event);
        if transition.next != before {
            self.recall(handle);
        }
        self.set_state(handle, transition.next);
        let lifetimes = &self.rules.lifetimes;
        let life = match transition.lifetime {
            Lifetime::Keep => None,
            Lifetime::Established => Some(lifetimes.established),
            Lifetime::Opening => Some(lifetimes.opening),
            Lifetime::Closing => Some(lifetimes.closing),
        };
        if let Some(life) = life {
            self.sessions.set_expiry(handle, now.after(life));
        }
        if transition.next != before {
            self.note_update(handle, now.start());
            if transition.next == TcpState::Trans {
                // Only a RST leads there, and whoever knows the ports can forge one. The client of a
                // connection that lives answers, and makes the session established again.
                self.ask(handle);
            }
        }
    }

    /// The client of this session is to be asked whether the connection is still there.
    fn ask(&mut self, handle: u32) {
        if self.probes.len() < MAX_PROBES {
            self.probes.push_back(handle);
        }
    }

    fn set_state(&mut self, handle: u32, next: TcpState) {
        let session = self.sessions.session_mut(handle);
        self.per_state[usize::from(session.state)] -= 1;
        self.per_state[next as usize] += 1;
        session.state = next as u8;
    }

    /// Reports that a session has reached another TCP state.
    fn note_update(&mut self, handle: u32, at: Instant) {
        if self.feed.wants(Kind::Update) {
            let entry = self.reported(handle, self.sessions.session(handle));
            let updated = EventKind::Session(Change::Updated(entry));
            self.feed.push(Kind::Update, at, updated);
        }
    }

    /// A session as the feed reports it: with the address that the IPv4 side sees.
    pub(super) fn reported(&self, slot: u32, session: &Session) -> SessionEntry {
        let mut entry = self.entry(slot, session);
        entry.record.binding.external = self.seen(session.external);
        entry
    }

    /// A session as it is in the tables.
    pub(super) fn entry(&self, slot: u32, session: &Session) -> SessionEntry {
        SessionEntry {
            handle: SessionHandle {
                shard: self.number,
                slot,
                generation: session.generation(),
            },
            record: session_record(session),
            pref64: session.pref64,
            tcp: (session.protocol == Protocol::Tcp).then(|| state(session)),
            expires: session.expires().start(),
        }
    }

    /// True if the session that `handle` was made for is in the table.
    pub(crate) fn is_current(&self, handle: SessionHandle) -> bool {
        self.sessions.is_current(handle.slot, handle.generation)
    }

    /// Makes a session on a binding.
    pub(super) fn open_session(
        &mut self,
        binding: u32,
        remote: u32,
        remote_port: u16,
        state: u8,
        expires: Tick,
        now: Instant,
    ) -> Result<Outside, Refusal> {
        let bound = *self.bib.binding(binding);
        if let Err(refusal) = self.check_sessions(&bound, now) {
            self.release_if_unused(binding, now);
            return Err(refusal);
        }
        let session = Session::new(binding, &bound, remote, remote_port, state);
        let Some(handle) = self.sessions.insert(session, expires) else {
            self.release_if_unused(binding, now);
            return Err(full());
        };
        self.per_protocol[bound.protocol as usize] += 1;
        if bound.protocol == Protocol::Tcp {
            self.per_state[usize::from(state)] += 1;
        }
        self.bib.binding_mut(binding).sessions += 1;
        if bound.subscriber != NONE {
            self.subscribers.subscriber_mut(bound.subscriber).sessions += 1;
        }
        if self.rules.filtering == Filtering::AddressDependent {
            self.contacts.add(binding, remote);
        }
        if self.feed.wants(Kind::Session) {
            let entry = self.reported(handle, self.sessions.session(handle));
            let created = EventKind::Session(Change::Created(entry));
            self.feed.push(Kind::Session, now, created);
        }
        Ok(bound.outside())
    }

    /// Whether an IPv4 host may open another session on a binding. An eighth of every limit is
    /// reserved for the clients' own sessions, so that a flood from IPv4 does not lock them out.
    pub(super) fn check_outsider(&mut self, binding: u32, now: Instant) -> Result<(), Refusal> {
        let outsiders = |limit: u32| limit - limit / 8;
        if self.sessions.len() >= outsiders(self.rules.limits.sessions) {
            return Err(Refusal::Silent(DropReason::TableFull));
        }
        let bound = *self.bib.binding(binding);
        if self.held_by(&bound) < outsiders(self.rules.limits.subscriber_sessions) {
            return Ok(());
        }
        self.note_refusal(limited(), bound.client, bound.protocol, now);
        Err(Refusal::Silent(DropReason::SubscriberLimit))
    }

    fn check_sessions(&mut self, bound: &Binding, now: Instant) -> Result<(), Refusal> {
        if self.held_by(bound) < self.rules.limits.subscriber_sessions {
            return Ok(());
        }
        self.note_refusal(limited(), bound.client, bound.protocol, now);
        Err(limited())
    }

    /// Sessions of the subscriber that a binding is charged to. Static bindings count each by
    /// itself.
    fn held_by(&self, bound: &Binding) -> u32 {
        match bound.subscriber {
            NONE => bound.sessions,
            payer => self.subscribers.subscriber(payer).sessions,
        }
    }

    pub(super) fn live_of_client(
        &mut self,
        tuple: &ClientTuple,
        hint: u32,
        now: Instant,
    ) -> Option<u32> {
        let handle = match self.sessions.is_client(hint, tuple) {
            true => hint,
            false => self.sessions.of_client(tuple)?,
        };
        self.is_live(handle, now).then_some(handle)
    }

    pub(super) fn live_of_external(
        &mut self,
        tuple: &ExternalTuple,
        hint: u32,
        now: Instant,
    ) -> Option<u32> {
        let handle = match self.sessions.is_external(hint, tuple) {
            true => hint,
            false => self.sessions.of_external(tuple)?,
        };
        self.is_live(handle, now).then_some(handle)
    }

    /// Whether a session is still there after all timeouts up to now. The wheel may be a little
    /// behind, and a packet must not see that.
    fn is_live(&mut self, handle: u32, now: Instant) -> bool {
        while self.sessions.session(handle).expires() <= Tick::at(now) {
            if !self.time_out(handle, now) {
                return false;
            }
        }
        true
    }

    /// The end of a session's lifetime. True if the session lives on.
    pub(super) fn time_out(&mut self, handle: u32, now: Instant) -> bool {
        if self.sessions.session(handle).slot().is_some() && self.was_used(handle, now) {
            return true;
        }
        let session = self.sessions.session(handle);
        let is_probed =
            session.protocol == Protocol::Tcp && state(session).at_timeout() == AtTimeout::Probe;
        if (is_probed || session.protocol == Protocol::Udp)
            && let Some(until) = self.held_until(session)
        {
            self.sessions.revive(handle, until);
            return true;
        }
        let over = session.expires();
        if !is_probed {
            self.close_session(handle, now);
            return false;
        }
        self.set_state(handle, TcpState::Trans);
        let expires = over.after(self.rules.lifetimes.closing);
        self.sessions.revive(handle, expires);
        self.note_update(handle, now);
        self.ask(handle);
        true
    }

    pub(super) fn close_session(&mut self, handle: u32, now: Instant) {
        self.recall(handle);
        let session = self.sessions.remove(handle);
        self.per_protocol[session.protocol as usize] -= 1;
        if session.protocol == Protocol::Tcp {
            self.per_state[usize::from(session.state)] -= 1;
        }
        let binding = self.bib.binding_mut(session.binding);
        binding.sessions -= 1;
        let bound = *binding;
        if bound.subscriber != NONE {
            self.subscribers.subscriber_mut(bound.subscriber).sessions -= 1;
        }
        if self.rules.filtering == Filtering::AddressDependent {
            self.contacts.remove(session.binding, session.remote);
        }
        if self.feed.wants(Kind::Session) {
            let removed = EventKind::Session(Change::Removed(self.reported(handle, &session)));
            self.feed.push(Kind::Session, now, removed);
        }
        self.release_if_unused(session.binding, now);
    }
}

/// State of a TCP session.
pub(super) fn state(session: &Session) -> TcpState {
    TcpState::ALL[usize::from(session.state)]
}

/// The transport addresses of a session on both sides.
pub(crate) fn session_record(session: &Session) -> SessionRecord {
    SessionRecord {
        binding: BindingRecord {
            protocol: session.protocol,
            client: session.client,
            client_port: session.client_port,
            external: Ipv4Addr::from_bits(session.external),
            external_port: session.external_port,
        },
        remote: Ipv4Addr::from_bits(session.remote),
        remote_port: session.remote_port,
    }
}

/// Probes that wait to be sent. Without its probe a session goes a little earlier than it could.
const MAX_PROBES: usize = 1 << 12;
