//! TCP segments that belong to no session: state CLOSED of RFC 6146 section 3.5.2.2, and SYNs from
//! outside that wait for one of the client's.

use xlat_core::mapper::Refusal;
use xlat_core::{DropReason, Instant};

use super::{Shard, client_side, silently};
use crate::clock::Tick;
use crate::config::StoreSyns;
use crate::table::slab::NONE;
use crate::tcp::{TcpEvent, TcpState};
use crate::tuple::{ClientTuple, ExternalTuple, Inside, Outside};

/// What became of a SYN that was to be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    /// It waits.
    Kept,
    /// There is no room.
    Full,
    /// The client has sent its own in the meantime.
    Wanted,
}

impl Shard {
    /// State CLOSED, segment from the client (RFC 6146 section 3.5.2.2).
    pub(super) fn tcp_closed_v6(
        &mut self,
        tuple: ClientTuple,
        pref64: u8,
        flags: u8,
        now: Instant,
    ) -> Result<Outside, Refusal> {
        if TcpEvent::from_v6(flags).is_syn() {
            let binding = self.binding_for(tuple, pref64, now)?;
            let (state, life) = if self.claims_syn(binding, &tuple, now) {
                (TcpState::Established, self.rules.lifetimes.established)
            } else {
                (TcpState::V6Init, self.rules.lifetimes.opening)
            };
            let expires = Tick::at(now).after(life);
            let (remote, remote_port) = (tuple.remote, tuple.remote_port);
            return self.open_session(binding, remote, remote_port, state as u8, expires, now);
        }
        let binding = self
            .open_binding(self.bib.of_inside(client_side(&tuple)))
            .filter(|_| self.rules.inbound.stray_tcp)
            .ok_or(Refusal::Silent(DropReason::NoBinding))?;
        Ok(self.bib.binding(binding).outside())
    }

    /// State CLOSED, segment from outside that a binding exists for.
    pub(super) fn tcp_closed_v4(
        &mut self,
        binding: u32,
        tuple: ExternalTuple,
        flags: u8,
        now: Instant,
    ) -> Result<(Inside, u8), Refusal> {
        if !self.is_admitted(binding, &tuple) {
            return Err(self.filtered_tcp(&tuple, flags));
        }
        if !TcpEvent::from_v4(flags).is_syn() {
            return match self.rules.inbound.stray_tcp {
                true => Ok(self.bound(binding)),
                false => Err(Refusal::Silent(DropReason::NoBinding)),
            };
        }
        if !self.may_open_tcp(binding) {
            return Err(Refusal::Silent(DropReason::Filtered));
        }
        self.check_outsider(binding, now)?;
        let expires = Tick::at(now).after(self.rules.lifetimes.opening);
        let init = TcpState::V4Init as u8;
        self.open_session(binding, tuple.remote, tuple.remote_port, init, expires, now)
            .map_err(silently)?;
        Ok(self.bound(binding))
    }

    /// Whether hosts outside may open connections through a binding (SE-19).
    pub(super) fn may_open_tcp(&self, binding: u32) -> bool {
        self.rules.inbound.opens_tcp || self.is_open(binding)
    }

    /// A segment that the filter keeps out. A SYN may be half of a simultaneous open.
    fn filtered_tcp(&self, tuple: &ExternalTuple, flags: u8) -> Refusal {
        let may_wait =
            self.rules.inbound.stores_syns != StoreSyns::Off && self.rules.inbound.opens_tcp;
        self.wait_or(may_wait, tuple, flags, DropReason::Filtered)
    }

    /// A segment to a port without a binding. For six seconds nothing may answer a SYN; then the
    /// answer is a matter of policy (RFC 5382 REQ-4).
    pub(super) fn unbound_tcp(&self, tuple: &ExternalTuple, flags: u8) -> Refusal {
        let may_wait = self.rules.inbound.stores_syns == StoreSyns::All;
        self.wait_or(may_wait, tuple, flags, DropReason::NoBinding)
    }

    fn wait_or(
        &self,
        may_wait: bool,
        tuple: &ExternalTuple,
        flags: u8,
        reason: DropReason,
    ) -> Refusal {
        let is_opening = TcpEvent::from_v4(flags) == TcpEvent::V4Syn;
        if may_wait && is_opening && !self.syns.is_waiting(tuple) {
            Refusal::Hold
        } else {
            Refusal::Silent(reason)
        }
    }

    /// Keeps a SYN for which [`Refusal::Hold`] was the answer a moment ago.
    pub(crate) fn store_syn(
        &mut self,
        tuple: ExternalTuple,
        packet: &[u8],
        now: Instant,
    ) -> Stored {
        if self.live_of_external(&tuple, NONE, now).is_some() {
            return Stored::Wanted;
        }
        match self.syns.store(tuple, packet, Tick::at(now)) {
            true => Stored::Kept,
            false => Stored::Full,
        }
    }

    /// The answer to the next SYN that the client did not want.
    pub(crate) fn next_answer(&mut self, now: Instant) -> Option<Vec<u8>> {
        self.syns.next_answer(Tick::at(now))
    }

    /// True if the remote node has sent a SYN too, which is waiting and now forgotten.
    fn claims_syn(&mut self, binding: u32, tuple: &ClientTuple, now: Instant) -> bool {
        let bound = self.bib.binding(binding);
        let outside = ExternalTuple {
            protocol: tuple.protocol,
            external: bound.external,
            external_port: bound.external_port,
            remote: tuple.remote,
            remote_port: tuple.remote_port,
        };
        self.syns.claim(&outside, Tick::at(now))
    }
}
