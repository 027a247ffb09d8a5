//! The server's thread, and the handle that controls it.

use std::io;
use std::net::Ipv6Addr;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use confinement::{Kind, Thread, spawn};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};
use tracing::{error, info, warn};
use xlat_core::Instant;

use crate::config::{Config, addresses, change_of_upstreams};
use crate::datagrams::{Datagrams, MISSES_MAX, Stop};
use crate::responder::{Inbox, Responder};
use crate::shared::Shared;
use crate::sockets::Sockets;
use crate::status::StatusSource;

/// The port of the DNS, which the server listens on.
pub const PORT: u16 = 53;

/// A running DNS64. Dropping it stops the server.
#[derive(Debug)]
pub struct Server {
    addresses: Vec<Ipv6Addr>,
    /// Kept for the next thread: those of one that was killed cannot be closed.
    sockets: Vec<Sockets>,
    status: StatusSource,
    known: Mutex<Known>,
    running: Running,
    restarts: u32,
    restarted: Option<Instant>,
}

/// What the server was last told.
#[derive(Debug)]
struct Known {
    config: Config,
    /// True if no resolvers are named any more.
    is_stale: bool,
}

/// A configuration, and whom to tell that it is in force.
pub(crate) type Update = (Config, SyncSender<()>);

/// A thread, and what steers it.
#[derive(Debug)]
struct Running {
    updates: mpsc::UnboundedSender<Update>,
    stop: Option<oneshot::Sender<()>>,
    stop_datagrams: Stop,
    threads: Vec<Thread>,
    was_killed: Arc<AtomicBool>,
}

/// Why the server did not start.
#[derive(Debug, Error)]
pub enum Error {
    /// The port is in use, or the address is not one of this host.
    #[error(
        "--dns64 {address}: port {PORT} cannot be had; is it an address of this host, and does no \
         other DNS server run there?"
    )]
    Listen {
        /// The address to listen on.
        address: Ipv6Addr,
        /// The kernel's error.
        source: io::Error,
    },
    /// The thread could not be started.
    #[error(transparent)]
    Thread(#[from] io::Error),
}

impl Server {
    /// Listens on these addresses of the host and starts to answer. So many threads answer from the
    /// cache, each with sockets of its own, among which the kernel shares out the clients.
    ///
    /// # Errors
    /// If port 53 of an address cannot be bound, or the thread does not start.
    pub fn start(
        addresses: Vec<Ipv6Addr>,
        threads: NonZeroUsize,
        config: Config,
    ) -> Result<Self, Error> {
        let open = |address: &Ipv6Addr| {
            Sockets::open(*address, PORT, threads.get()).map_err(|source| Error::Listen {
                address: *address,
                source,
            })
        };
        let sockets = addresses.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        let status = StatusSource::default();
        let running = Running::start(&sockets, config.clone(), status.clone())?;
        let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        info!("DNS64 on {}", texts.join(", "));
        let is_stale = false;
        Ok(Self {
            addresses,
            sockets,
            status,
            known: Mutex::new(Known { config, is_stale }),
            running,
            restarts: 0,
            restarted: None,
        })
    }

    /// Starts another thread in the place of one that the kernel has killed, some time after the last
    /// such start and a few times in all: what a killed thread holds is never given back.
    pub fn restart_if_killed(&mut self, now: Instant) {
        let is_soon = |at: Instant| now.saturating_since(at) < PAUSE;
        if !self.running.was_killed()
            || self.restarts >= RESTARTS_MAX
            || self.restarted.is_some_and(is_soon)
        {
            return;
        }
        self.restarts += 1;
        self.restarted = Some(now);
        let config = self.known().config.clone();
        match Running::start(&self.sockets, config, self.status.clone()) {
            Ok(running) => {
                self.running = running;
                info!("the DNS64 answers again, with an empty cache");
                if self.restarts == RESTARTS_MAX {
                    warn!("it was the last time: if it is killed again, it stays so");
                }
            }
            Err(error) => warn!("the DNS64 cannot be started again: {error}"),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The addresses that it listens on.
    pub fn addresses(&self) -> Vec<Ipv6Addr> {
        self.addresses.clone()
    }

    /// Replaces the configuration. Clears the cache if answers may differ under the new one. Without
    /// upstream resolvers in it those in force stay. Returns the change of resolvers, if there is
    /// one, for people; the log has it when it is in force.
    pub fn update(&self, mut config: Config) -> Option<String> {
        let known = &mut *self.known();
        let before = &known.config.upstreams;
        let was_stale = known.is_stale;
        known.is_stale = config.upstreams.is_empty();
        if known.is_stale {
            config.upstreams.clone_from(before);
            if !was_stale && !before.is_empty() {
                let before = addresses(before);
                warn!("/etc/resolv.conf names no resolver: the DNS64 goes on to ask {before}");
            }
        }
        let change = change_of_upstreams(before, &config.upstreams);
        known.config.clone_from(&config);
        self.running.update(config);
        change
    }

    /// Where the status comes from.
    pub fn status_source(&self) -> StatusSource {
        self.status.clone()
    }
}

impl Running {
    fn start(sockets: &[Sockets], config: Config, status: StatusSource) -> io::Result<Self> {
        let (stop, stopped) = oneshot::channel();
        let (updates, changes) = mpsc::unbounded_channel();
        let (sender, misses) = mpsc::channel(MISSES_MAX);
        let shared = Arc::new(Shared::new(&config, status.counters));
        let stop_datagrams = Stop::new()?;
        let was_killed = Arc::new(AtomicBool::new(false));
        let killed = || {
            let (theirs, stop) = (Arc::clone(&was_killed), stop_datagrams.clone());
            move || {
                if !theirs.swap(true, Ordering::AcqRel) {
                    error!(
                        "the DNS64 answers nobody until it is started again; translation goes on"
                    );
                }
                // The others may wait for a lock of the one that was killed; the queries are not theirs.
                stop.stop();
            }
        };
        let listeners = sockets.iter().map(Sockets::listener);
        let listeners = listeners.collect::<io::Result<Vec<_>>>()?;
        let inbox = Inbox {
            misses,
            changes,
            stopped,
        };
        let (theirs, resolvers) = (Arc::clone(&shared), status.resolvers);
        let work = move || {
            let responder = Responder::new(config, theirs, resolvers);
            if let Err(error) = responder.run(listeners, inbox) {
                warn!("the DNS64 has ended: {error}");
            }
        };
        let mut running = Self {
            updates,
            stop: Some(stop),
            stop_datagrams: stop_datagrams.clone(),
            threads: vec![spawn(Kind::Dns64, "dns64", || {}, work, killed())?],
            was_killed: Arc::clone(&was_killed),
        };
        let count = sockets.iter().map(Sockets::count).min().unwrap_or_default();
        for number in 0..count {
            let own = sockets.iter().map(|one| one.datagrams(number));
            let datagrams = Datagrams {
                sockets: own.collect::<io::Result<Vec<_>>>()?,
                shared: Arc::clone(&shared),
                misses: sender.clone(),
                stop: stop_datagrams.clone(),
            };
            let name = format!("dns64-{number}");
            let work = || datagrams.run();
            running
                .threads
                .push(spawn(Kind::Dns64, &name, || {}, work, killed())?);
        }
        Ok(running)
    }

    /// True if the kernel has killed it. It is not talked to then: it may hold the locks of its mailbox.
    fn was_killed(&self) -> bool {
        self.was_killed.load(Ordering::Acquire)
    }

    /// Returns when the configuration is in force, so that whoever is told of it finds it so.
    fn update(&self, config: Config) {
        if self.was_killed() {
            return;
        }
        let (done, is_done) = sync_channel(1);
        // A server that has ended has logged the reason.
        if self.updates.send((config, done)).is_ok() {
            let _ = is_done.recv_timeout(IN_FORCE);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop_datagrams.stop();
        if self.was_killed() {
            // The others may wait for what it held.
            return;
        }
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Time for a configuration to come into force, before nobody waits for it any more.
const IN_FORCE: Duration = Duration::from_secs(1);
/// Time between two starts of the thread.
const PAUSE: Duration = Duration::from_secs(10);
/// Starts after the first one.
const RESTARTS_MAX: u32 = 5;
