//! Sessions for the control plane: listed, saved, and restored after a restart.

use std::time::Duration;

use xlat_core::Instant;

use super::{Nat64, lock};
use crate::clock::{Tick, Ticks};
use crate::event::SessionEntry;
use crate::offload::Carried;
use crate::shard::session_record;
use crate::snapshot::{Cursor, ListedSession, SavedSession, SkipReason};
use crate::table::session::Session;
use crate::tcp::TcpState;
use crate::tuple::{Outside, Protocol};

impl Nat64 {
    /// Sessions from `cursor` on, `limit` at the most and maybe none, and where to go on; `None` at
    /// the end. Holds up no worker for longer than that takes. `epoch` is the wall clock's time at
    /// `now`, in seconds since 1970. Sessions that come and go between two calls may be missed.
    pub fn sessions(
        &self,
        cursor: Cursor,
        limit: usize,
        now: Instant,
        epoch: u64,
    ) -> (Vec<SavedSession>, Option<Cursor>) {
        let (listed, next) = self.listed(cursor, limit, now, epoch);
        let sessions = listed.into_iter().map(|listed| listed.session);
        (sessions.collect(), next)
    }

    /// The same, with what [`carried`](Self::carried) needs.
    pub fn listed(
        &self,
        cursor: Cursor,
        limit: usize,
        now: Instant,
        epoch: u64,
    ) -> (Vec<ListedSession>, Option<Cursor>) {
        let Some(shard) = self.shared.shards.get(cursor.shard as usize) else {
            return (Vec::new(), None);
        };
        let (listed, next) =
            lock(shard).list(cursor.handle, u32::try_from(limit).unwrap_or(u32::MAX));
        let next = match next {
            Some(handle) => Cursor { handle, ..cursor },
            None => Cursor {
                shard: cursor.shard + 1,
                handle: 0,
            },
        };
        let sessions = listed
            .into_iter()
            .filter(|(session, ..)| session.expires() > Tick::at(now))
            .map(|(session, tcp, installed)| ListedSession {
                session: self.saved(&session, tcp, now, epoch),
                installed,
            })
            .collect();
        let is_more = (next.shard as usize) < self.shared.shards.len();
        (sessions, is_more.then_some(next))
    }

    /// What was carried below the workers of a session that was installed when it was listed.
    pub fn carried(&self, installed: &SessionEntry) -> Option<Carried> {
        let offload = lock(&self.shared.offload).clone();
        offload?.carried(installed)
    }

    /// Takes up a saved session; to be called before the first packet. `epoch` is the wall clock's
    /// time at `now`, in seconds since 1970.
    ///
    /// # Errors
    /// Why it was not restored.
    pub fn restore(
        &self,
        saved: &SavedSession,
        now: Instant,
        epoch: u64,
    ) -> Result<(), SkipReason> {
        let left = saved.expires.saturating_sub(epoch);
        let longest = self.lifetime(saved);
        if left == 0 {
            return Err(SkipReason::Expired);
        }
        let expires = Tick::at(now).after(Ticks::covering(longest.min(Duration::from_secs(left))));
        let prefix = self
            .shared
            .prefixes
            .iter()
            .position(|one| *one == saved.pref64);
        let pref64 = prefix.ok_or(SkipReason::Prefix)? as u8;
        let view = self.view();
        let number = view.layout.shard_of_client(saved.binding.client);
        let outside = Outside {
            protocol: saved.binding.protocol,
            external: saved.binding.external.to_bits(),
            port: saved.binding.external_port,
        };
        if view.layout.shard_of_external(outside) != Some(number) {
            return Err(SkipReason::NotInPool);
        }
        if let Some(deterministic) = view.layout.deterministic() {
            let owner = deterministic.subscriber_of(saved.binding.external, outside.port);
            if owner.is_none_or(|owner| !owner.contains(saved.binding.client)) {
                return Err(SkipReason::NotInPool);
            }
        }
        lock(&self.shared.shards[number as usize]).restore(saved, pref64, expires, now)
    }

    /// The longest that a session of this kind can live: what a changed clock cannot stretch.
    fn lifetime(&self, saved: &SavedSession) -> Duration {
        let config = self.config();
        let timers = &config.timers;
        match saved.binding.protocol {
            Protocol::Udp => timers.udp,
            Protocol::Icmp => timers.icmp,
            Protocol::Tcp => timers.tcp_established,
        }
    }

    fn saved(
        &self,
        session: &Session,
        tcp: Option<TcpState>,
        now: Instant,
        epoch: u64,
    ) -> SavedSession {
        let record = session_record(session);
        SavedSession {
            binding: record.binding,
            remote: record.remote,
            remote_port: record.remote_port,
            pref64: self.shared.prefixes[usize::from(session.pref64)],
            tcp,
            expires: epoch + session.expires().seconds_after(now),
        }
    }
}
