//! The server's thread, and the handle that controls it.

use std::io;
use std::net::Ipv6Addr;
use std::sync::{Mutex, PoisonError};

use confinement::{Kind, Thread, spawn};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};
use tracing::{error, info, warn};

use crate::config::{Config, Upstream, addresses, change_of_upstreams};
use crate::responder::{Responder, Sockets};
use crate::status::StatusSource;

/// The port of the DNS, which the server listens on.
pub const PORT: u16 = 53;

/// A running DNS64. Dropping it stops the server.
#[derive(Debug)]
pub struct Server {
    addresses: Vec<Ipv6Addr>,
    status: StatusSource,
    upstreams: Mutex<Known>,
    updates: mpsc::UnboundedSender<Config>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<Thread>,
}

/// The resolvers that the server was last told to ask.
#[derive(Debug)]
struct Known {
    upstreams: Vec<Upstream>,
    /// True if none are named any more.
    is_stale: bool,
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
    /// Listens on these addresses of the host and starts to answer.
    ///
    /// # Errors
    /// If port 53 of an address cannot be bound, or the thread does not start.
    pub fn start(addresses: Vec<Ipv6Addr>, config: Config) -> Result<Self, Error> {
        let open = |address: &Ipv6Addr| {
            Sockets::open(*address, PORT).map_err(|source| Error::Listen {
                address: *address,
                source,
            })
        };
        let sockets = addresses.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        let status = StatusSource::default();
        let (stop, stopped) = oneshot::channel();
        let (updates, changes) = mpsc::unbounded_channel();
        let source = status.clone();
        let upstreams = Mutex::new(Known {
            upstreams: config.upstreams.clone(),
            is_stale: false,
        });
        let work = move || {
            let responder = Responder::new(config, source);
            if let Err(error) = responder.run(sockets, changes, stopped) {
                warn!("the DNS64 has ended: {error}");
            }
        };
        let killed =
            || error!("the DNS64 answers nobody until the next start; translation goes on");
        let thread = spawn(Kind::Dns64, "dns64", || {}, work, killed)?;
        let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        info!("DNS64 on {}", texts.join(", "));
        Ok(Self {
            addresses,
            status,
            upstreams,
            updates,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// The addresses that it listens on.
    pub fn addresses(&self) -> Vec<Ipv6Addr> {
        self.addresses.clone()
    }

    /// Replaces the configuration. Clears the cache if answers may differ under the new one. Without
    /// upstream resolvers in it those in force stay. Returns the change of resolvers, if there is
    /// one, for people; the log has it when it is in force.
    pub fn update(&self, mut config: Config) -> Option<String> {
        let known = &mut *self
            .upstreams
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let was_stale = known.is_stale;
        known.is_stale = config.upstreams.is_empty();
        if known.is_stale {
            config.upstreams.clone_from(&known.upstreams);
            if !was_stale && !known.upstreams.is_empty() {
                let before = addresses(&known.upstreams);
                warn!("/etc/resolv.conf names no resolver: the DNS64 goes on to ask {before}");
            }
        }
        let change = change_of_upstreams(&known.upstreams, &config.upstreams);
        known.upstreams.clone_from(&config.upstreams);
        // A server that has ended has logged the reason.
        let _ = self.updates.send(config);
        change
    }

    /// Where the status comes from.
    pub fn status_source(&self) -> StatusSource {
        self.status.clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
