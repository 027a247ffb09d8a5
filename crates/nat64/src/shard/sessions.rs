//! The life of a session: made, passed by, timed out, closed.

use std::net::Ipv4Addr;

use xlat_core::mapper::Refusal;
use xlat_core::{DropReason, Instant};

use super::bindings::binding_record;
use super::{Shard, full, inside, limited, outside};
use crate::bib::{Binding, Inside, Outside};
use crate::clock::Tick;
use crate::config::{Filtering, LogLevel};
use crate::event::{EventKind, SessionRecord};
use crate::session::{ClientTuple, ExternalTuple, Protocol, Session};
use crate::slab::NONE;
use crate::tcp::{AtTimeout, Lifetime, TcpEvent, TcpState};

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
        let session = self.sessions.session_mut(handle);
        session.pref64 = pref64;
        outside(session)
    }

    /// A packet of the remote node's in a known session.
    pub(super) fn pass_inbound(&mut self, handle: u32, tcp_flags: u8, now: Tick) -> (Inside, u8) {
        match self.sessions.session(handle).protocol {
            Protocol::Tcp => self.step_tcp(handle, TcpEvent::from_v4(tcp_flags), now),
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

    fn refresh(&mut self, handle: u32, expires: Tick) {
        self.sessions.set_expiry(handle, expires);
    }

    /// A row of the TCP state table.
    fn step_tcp(&mut self, handle: u32, event: TcpEvent, now: Tick) {
        let transition = state(self.sessions.session(handle)).on(event);
        self.set_state(handle, transition.next);
        let lifetimes = &self.rules.lifetimes;
        let life = match transition.lifetime {
            Lifetime::Keep => return,
            Lifetime::Established => lifetimes.established,
            Lifetime::Opening => lifetimes.opening,
            Lifetime::Closing => lifetimes.closing,
        };
        self.sessions.set_expiry(handle, now.after(life));
    }

    fn set_state(&mut self, handle: u32, next: TcpState) {
        let session = self.sessions.session_mut(handle);
        self.per_state[usize::from(session.state)] -= 1;
        self.per_state[next as usize] += 1;
        session.state = next as u8;
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
        if self.sessions.insert(session, expires).is_none() {
            self.release_if_unused(binding, now);
            return Err(full());
        }
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
        if self.rules.log >= LogLevel::Sessions {
            let record = session_record(&bound, remote, remote_port);
            self.events.push(now, EventKind::SessionCreated(record));
        }
        Ok(bound.outside())
    }

    /// Whether somebody outside may open another session on a binding. An eighth of all room is
    /// kept for the clients' own, so that a flood from outside does not keep them from working.
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

    /// Sessions of whoever pays for a binding. The administrator's are each on their own.
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
        let session = self.sessions.session(handle);
        let is_probed =
            session.protocol == Protocol::Tcp && state(session).at_timeout() == AtTimeout::Probe;
        let over = session.expires();
        if !is_probed {
            self.close_session(handle, now);
            return false;
        }
        self.set_state(handle, TcpState::Trans);
        let expires = over.after(self.rules.lifetimes.closing);
        self.sessions.revive(handle, expires);
        if self.probes.len() < MAX_PROBES {
            self.probes.push_back(handle);
        }
        true
    }

    pub(super) fn close_session(&mut self, handle: u32, now: Instant) {
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
        if self.rules.log >= LogLevel::Sessions {
            let record = session_record(&bound, session.remote, session.remote_port);
            self.events.push(now, EventKind::SessionRemoved(record));
        }
        self.release_if_unused(session.binding, now);
    }
}

/// State of a TCP session.
pub(super) fn state(session: &Session) -> TcpState {
    TcpState::ALL[usize::from(session.state)]
}

fn session_record(binding: &Binding, remote: u32, remote_port: u16) -> SessionRecord {
    SessionRecord {
        binding: binding_record(binding),
        remote: Ipv4Addr::from_bits(remote),
        remote_port,
    }
}

/// Probes that wait to be sent. Without its probe a session goes a little earlier than it could.
const MAX_PROBES: usize = 1 << 12;
