//! What routers on all links have said lately.
//!
//! A host learns which link leads to IPv6 from a router's advertisement, and only then is that link
//! listened to. The advertisement that told it is kept here for that moment: the next one may be
//! minutes away, and an answer to a solicitation three seconds (RFC 4861 section 6.2.6).

use std::collections::HashMap;
use std::io;
use std::net::Ipv6Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;
use tracing::{debug, warn};
use xlat_core::Instant;
use xlat_host::icmp6::RouterMessages;
use xlat_tun::now;

/// How long an advertisement is kept.
const LATELY: Duration = Duration::from_secs(4);
/// Most advertisements that are kept.
const KEPT_MAX: usize = 32;

/// Listens until it is dropped.
#[derive(Debug)]
pub(crate) struct Hearing {
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

/// An advertisement.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    link: u32,
    pub(crate) router: Ipv6Addr,
    pub(crate) at: Instant,
    pub(crate) message: Vec<u8>,
}

#[derive(Debug, Default)]
struct State {
    heard: Vec<Heard>,
    /// Messages from behind a router that pretended to be advertisements, by link.
    forged: HashMap<u32, u64>,
}

impl Hearing {
    /// Listens from now on.
    ///
    /// # Errors
    /// What the system refuses; raw sockets need CAP_NET_RAW.
    pub(crate) fn begin() -> io::Result<Self> {
        let (routers, forgers) = (
            RouterMessages::of_all_routers()?,
            RouterMessages::of_forgers()?,
        );
        let state = Arc::new(Mutex::new(State::default()));
        let noted = Arc::clone(&state);
        let task = tokio::spawn(async move {
            if let Err(error) = listen(&routers, &forgers, &noted).await {
                debug!("advertisements are heard on the uplink alone: {error}");
            }
        });
        Ok(Self { state, task })
    }

    /// What routers on this link have said in the last seconds.
    pub(crate) fn lately(&self, link: u32) -> Vec<Heard> {
        let is_late = |heard: &&Heard| now().saturating_since(heard.at) < LATELY;
        let state = lock(&self.state);
        let of_link = state.heard.iter().filter(|heard| heard.link == link);
        of_link.filter(is_late).cloned().collect()
    }

    /// Messages on this link that came from behind a router.
    pub(crate) fn forged(&self, link: u32) -> u64 {
        lock(&self.state).forged.get(&link).copied().unwrap_or(0)
    }
}

impl Drop for Hearing {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn listen(
    routers: &RouterMessages,
    forgers: &RouterMessages,
    state: &Mutex<State>,
) -> io::Result<()> {
    loop {
        tokio::select! {
            heard = routers.recv_from() => {
                let (from, message) = heard?;
                lock(state).keep(Heard {
                    link: from.scope_id(),
                    router: *from.ip(),
                    at: now(),
                    message,
                });
            }
            forged = forgers.recv_from() => {
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

impl State {
    fn keep(&mut self, new: Heard) {
        let (link, router) = (new.link, new.router);
        self.heard
            .retain(|old| (old.link, old.router) != (link, router));
        if self.heard.len() >= KEPT_MAX {
            self.heard.remove(0);
        }
        self.heard.push(new);
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
        let said = |link, number, message| Heard {
            link,
            router: Ipv6Addr::from_bits(number),
            at: Instant::ZERO,
            message: vec![message],
        };
        for message in 0..3 {
            state.keep(said(1, 7, message));
            state.keep(said(2, 7, message));
        }
        let kept: Vec<_> = state.heard.iter().map(|one| &one.message[..]).collect();
        assert_eq!(kept, [[2], [2]]);
        for number in 0..1000 {
            state.keep(said(1, number, 0));
        }
        assert_eq!(state.heard.len(), KEPT_MAX);
    }
}
