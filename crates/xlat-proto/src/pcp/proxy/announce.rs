//! Announcements: to the hosts, that what they hold may be gone (RFC 6887 section 14.1.3, RFC 6886
//! section 3.2.1), and by a server, which is asked whether it is true.

use std::net::SocketAddrV4;
use std::time::Duration;

use xlat_core::Instant;

use super::ask::Job;
use super::{Key, Output, Proxy};
use crate::pcp::client::Request;
use crate::pcp::message::Operation;
use crate::pcp::option::Options;
use crate::pcp::{Announcement, natpmp};

/// How often hosts are told; each interval is twice the one before.
const TIMES: u32 = 10;
const FIRST_INTERVAL: Duration = Duration::from_millis(250);
/// Between the questions whether a server has begun anew.
const CHECK_INTERVAL: Duration = Duration::from_secs(3);
const CHECKS: u32 = 4;
/// Over which mappings are asked for again after the server has lost them, so that not all clients
/// of a network ask at the same moment.
const SPREAD_MILLIS: u64 = 2000;

/// Announcements that are under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Announcing {
    left: u32,
    interval: Duration,
    pub(super) next: Instant,
}

impl Announcing {
    pub(super) fn begin(now: Instant) -> Self {
        Self {
            left: TIMES,
            interval: FIRST_INTERVAL,
            next: now,
        }
    }
}

/// The question to the server whether it has begun anew.
#[derive(Clone, Copy, Debug)]
pub(super) struct Check {
    left: u32,
    pub(super) next: Instant,
}

impl Proxy {
    /// A server has announced itself. What it says is believed when it answers a question: anyone
    /// on the link can send to all.
    pub fn on_announcement(&mut self, now: Instant) {
        self.silent_until = None;
        if self.check.is_none() && !self.mappings.is_empty() {
            self.check = Some(Check {
                left: CHECKS,
                next: now,
            });
        }
    }

    pub(super) fn check_again(&mut self, now: Instant) {
        let Some(check) = self.check.filter(|check| check.next <= now) else {
            return;
        };
        let server = self.servers.get(self.current).copied();
        self.check = (check.left > 0).then(|| Check {
            left: check.left - 1,
            next: now + CHECK_INTERVAL,
        });
        let (Some(to), true) = (server, self.check.is_some()) else {
            return;
        };
        let from = self.hosts.client;
        let request = Request {
            lifetime: 0,
            client: from,
            operation: Operation::Announce,
            options: &Options::default(),
        };
        let message = request.emit();
        self.outputs.push_back(Output::Ask { from, to, message });
    }

    /// The server has lost what it knew, and has begun anew `epoch` seconds ago: all mappings but
    /// `answered` are asked for again, and hosts are told (RFC 6887 section 8.5).
    pub(super) fn on_loss(&mut self, answered: Option<Key>, epoch: u32, now: Instant) {
        let nanos = Duration::from_secs(epoch.into()).as_nanos() as u64;
        let begun = Instant::from_nanos(now.as_nanos().saturating_sub(nanos));
        // Hosts see that their time has begun anew in any case.
        self.start = if begun > self.start { begun } else { now };
        let lost: Vec<(Key, SocketAddrV4, Instant)> = self
            .mappings
            .iter()
            .filter(|(key, it)| !it.is_probe && Some(**key) != answered)
            .filter_map(|(key, it)| Some((*key, it.external?, it.until)))
            .collect();
        self.mappings.retain(|_, it| !it.is_probe);
        for (key, external, until) in lost {
            if self.jobs.contains_key(&key) {
                continue;
            }
            let wait = Duration::from_millis(self.hash(&key, 4) % SPREAD_MILLIS);
            let lifetime = until.saturating_since(now).as_secs().max(1);
            let job = Job::again(lifetime as u32, external, now + wait);
            self.jobs.insert(key, job);
        }
        self.announcing = Some(Announcing::begin(now));
    }

    pub(super) fn announce(&mut self, now: Instant) {
        let Some(current) = self.announcing.filter(|it| it.next <= now) else {
            return;
        };
        let epoch = self.epoch(now);
        let pcp = Announcement { epoch }.emit();
        self.outputs.push_back(Output::Announce(pcp));
        let mut known = self.mappings.values().filter_map(|it| it.external);
        if let Some(external) = known.next() {
            let message = natpmp::address_response(Ok(*external.ip()), epoch);
            self.outputs.push_back(Output::Announce(message));
        }
        self.announcing = (current.left > 1).then(|| Announcing {
            left: current.left - 1,
            interval: current.interval * 2,
            next: now + current.interval,
        });
    }
}
