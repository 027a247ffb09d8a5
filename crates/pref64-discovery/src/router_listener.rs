//! Keeps the latest advertisements of routers on all links.
//!
//! A host learns which link leads to IPv6 from a router's advertisement, and only then is that link
//! listened to. The advertisement is kept here until then: the next one may be
//! minutes away, and an answer to a solicitation three seconds (RFC 4861 section 6.2.6).

use std::collections::HashMap;
use std::io;
use std::net::{Ipv6Addr, SocketAddrV6};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;
use tracing::{debug, warn};
use xlat_core::Instant;
use xlat_host::icmp6::RouterMessages;
use xlat_tun::now;

use crate::intake::Intake;

/// How long an advertisement is kept.
const RECENT: Duration = Duration::from_secs(4);
/// Most advertisements that are kept.
const KEPT_MAX: usize = 32;

/// Listens to routers on all links until it is dropped.
#[derive(Debug)]
pub struct RouterListener {
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

/// A received advertisement.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    link: u32,
    pub(crate) router: Ipv6Addr,
    pub(crate) at: Instant,
    pub(crate) message: Vec<u8>,
}

#[derive(Debug, Default)]
struct State {
    received: Vec<Received>,
    /// Number of forged advertisements, by link: their hop limit shows that they crossed a router.
    forged: HashMap<u32, u64>,
}

impl RouterListener {
    /// Starts to listen.
    ///
    /// # Errors
    /// If the kernel refuses the raw socket, which needs CAP_NET_RAW.
    pub fn start() -> io::Result<Self> {
        let (routers, forgers) = (
            RouterMessages::of_all_routers()?,
            RouterMessages::of_forgers()?,
        );
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        let task = tokio::spawn(async move {
            if let Err(error) = listen(&routers, &forgers, &shared).await {
                debug!("receiving router advertisements on the uplink only: {error}");
            }
        });
        Ok(Self { state, task })
    }

    /// The advertisements of the last seconds on this link.
    pub(crate) fn recent(&self, link: u32) -> Vec<Received> {
        let is_recent = |one: &&Received| now().saturating_since(one.at) < RECENT;
        let state = lock(&self.state);
        let of_link = state.received.iter().filter(|one| one.link == link);
        of_link.filter(is_recent).cloned().collect()
    }

    /// Number of forged advertisements on this link (an interface index): their hop limit shows
    /// that they crossed a router.
    pub fn forged(&self, link: u32) -> u64 {
        lock(&self.state).forged.get(&link).copied().unwrap_or(0)
    }
}

impl Drop for RouterListener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn listen(
    routers: &RouterMessages,
    forgers: &RouterMessages,
    state: &Mutex<State>,
) -> io::Result<()> {
    let (mut of_routers, mut of_forgers) = (Intake::new(), Intake::new());
    loop {
        tokio::select! {
            received = take(&of_routers, routers) => {
                of_routers.taken(now());
                let (from, message) = received?;
                lock(state).keep(Received {
                    link: from.scope_id(),
                    router: *from.ip(),
                    at: now(),
                    message,
                });
            }
            forged = take(&of_forgers, forgers) => {
                of_forgers.taken(now());
                let (from, _) = forged?;
                let mut state = lock(state);
                let count = state.forged.entry(from.scope_id()).or_default();
                *count += 1;
                if *count == 1 {
                    warn!(
                        "a router advertisement of {from} is ignored: its hop limit is not 255, so \
                         it may come from anywhere"
                    );
                }
            }
        }
    }
}

/// Receives a message when its turn has come.
async fn take(intake: &Intake, messages: &RouterMessages) -> io::Result<(SocketAddrV6, Vec<u8>)> {
    intake.ready().await;
    messages.recv_from().await
}

impl State {
    fn keep(&mut self, new: Received) {
        let (link, router) = (new.link, new.router);
        self.received
            .retain(|old| (old.link, old.router) != (link, router));
        if self.received.len() >= KEPT_MAX {
            self.received.remove(0);
        }
        self.received.push(new);
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_of_each_router_is_kept_and_no_flood() {
        let mut state = State::default();
        let said = |link, number, message| Received {
            link,
            router: Ipv6Addr::from_bits(number),
            at: Instant::ZERO,
            message: vec![message],
        };
        for message in 0..3 {
            state.keep(said(1, 7, message));
            state.keep(said(2, 7, message));
        }
        let kept: Vec<_> = state.received.iter().map(|one| &one.message[..]).collect();
        assert_eq!(kept, [[2], [2]]);
        for number in 0..1000 {
            state.keep(said(1, number, 0));
        }
        assert_eq!(state.received.len(), KEPT_MAX);
    }
}
