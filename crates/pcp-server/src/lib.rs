//! PCP server (RFC 6887): gives hosts on the links of this router external ports of the stateful
//! NAT64.
//!
//! [`xlat_proto::pcp`] decides, without I/O; [`nat64::Nat64`] has the ports. This crate has the
//! sockets, one on each link, and the clock.

mod counters;
mod nat;
mod saved;
mod socket;
mod status;

use std::net::{Ipv6Addr, SocketAddrV6};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nat64::Nat64;
use thiserror::Error;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tracing::{debug, info, warn};
use xlat_core::addr::Pref64s;
use xlat_host::daemon::state_dir::StateDir;
use xlat_host::host::Host;
use xlat_proto::pcp::{CLIENT_PORT, SERVER_PORT, Server};
use xlat_proto::ra::ALL_NODES;
use xlat_tun::now;

pub use counters::{Counters, Figures};
pub use status::{Line, MAPPINGS, Status, StatusSource};
pub use xlat_proto::pcp::Settings;

use nat::Ports;
use socket::LanSocket;

/// How often clients are told that the server has begun anew (section 14.1.3).
const ANNOUNCEMENTS: u32 = 10;
/// Time between the first two announcements; each further one takes twice as long.
const FIRST_INTERVAL: Duration = Duration::from_millis(250);
/// How often mappings are looked at whose time may be over.
const TICK: Duration = Duration::from_secs(1);
/// How often changed mappings are written to disk.
const SAVE_EVERY: Duration = Duration::from_secs(5);
/// Pause after a socket refused to receive.
const PAUSE: Duration = Duration::from_secs(1);

/// Why the server could not start.
#[derive(Debug, Error)]
pub enum Error {
    /// The kernel refuses the socket.
    #[error(
        "cannot serve PCP on {link}, UDP port {SERVER_PORT}; stop the other PCP or NAT-PMP server \
         (miniupnpd?), or start with --pcp off"
    )]
    Socket {
        /// Name of the link.
        link: String,
        /// The kernel's error.
        source: std::io::Error,
    },
    /// The links of the host could not be read.
    #[error(transparent)]
    Host(#[from] xlat_host::host::Error),
}

/// The running server. Dropping it ends it; [`PcpServer::stop`] also writes down what clients hold.
#[derive(Debug)]
pub struct PcpServer {
    shared: Arc<Shared>,
    sockets: Vec<Arc<LanSocket>>,
    tasks: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    server: Mutex<Server>,
    nat: Nat64,
    pref64s: Pref64s,
    counters: Counters,
    dir: StateDir,
    /// The [`Server::generation`] that is on disk.
    saved: Mutex<u64>,
}

impl PcpServer {
    /// Starts to serve on each of these links, with the mappings that the last run left in `dir`.
    ///
    /// # Errors
    /// If a link is missing or the kernel refuses a socket.
    pub async fn start(
        host: &Host,
        links: &[String],
        settings: Settings,
        nat: Nat64,
        pref64s: Pref64s,
        dir: StateDir,
    ) -> Result<Self, Error> {
        let shared = Arc::new(Shared {
            server: Mutex::new(Server::new(settings, now())),
            nat,
            pref64s,
            counters: Counters::default(),
            dir,
            saved: Mutex::new(0),
        });
        shared.restore();
        let mut tasks = vec![
            tokio::spawn(expire(Arc::clone(&shared))),
            tokio::spawn(save(Arc::clone(&shared))),
        ];
        let mut sockets = Vec::new();
        for name in links {
            let link = host.link(name).await?;
            let socket = LanSocket::open(&link).map_err(|source| Error::Socket {
                link: name.clone(),
                source,
            })?;
            let socket = Arc::new(socket);
            tasks.push(tokio::spawn(announce(
                Arc::clone(&socket),
                Arc::clone(&shared),
            )));
            tasks.push(tokio::spawn(serve(
                Arc::clone(&socket),
                Arc::clone(&shared),
            )));
            sockets.push(socket);
        }
        Ok(Self {
            shared,
            sockets,
            tasks,
        })
    }

    /// The IPv4 side sees clients by another address: they are told to ask for their mappings again
    /// (section 8.5).
    pub fn begin_anew(&mut self) {
        self.shared.server().begin_anew(now());
        for socket in &self.sockets {
            let announcing = announce(Arc::clone(socket), Arc::clone(&self.shared));
            self.tasks.push(tokio::spawn(announcing));
        }
        self.tasks.retain(|task| !task.is_finished());
    }

    /// Ends the server; clients find what they hold after the next start.
    pub fn stop(self) {
        self.shared.save();
    }

    /// What shows what clients hold, and what is counted.
    pub fn status_source(&self) -> StatusSource {
        StatusSource(Arc::clone(&self.shared))
    }
}

impl Drop for PcpServer {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Shared {
    fn server(&self) -> MutexGuard<'_, Server> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes up what the last run left.
    fn restore(&self) {
        let now = now();
        let mappings = saved::load(&self.dir, now);
        if mappings.is_empty() {
            return;
        }
        let mut ports = Ports::new(&self.nat, &self.pref64s, now);
        let mut server = self.server();
        let all = mappings.len();
        let restored = mappings
            .into_iter()
            .filter(|mapping| server.restore(mapping.clone(), &mut ports))
            .count();
        info!(
            "{restored} PCP mappings restored, {} skipped: their ports are taken, and clients get \
             others when they ask again",
            all - restored
        );
    }

    /// Writes the mappings down if they are others than on disk.
    fn save(&self) {
        let mut saved = self.saved.lock().unwrap_or_else(PoisonError::into_inner);
        let server = self.server();
        let generation = server.generation();
        if generation == *saved {
            return;
        }
        let mappings: Vec<_> = server.mappings().cloned().collect();
        drop(server);
        match saved::save(&self.dir, &mappings, now()) {
            Ok(()) => *saved = generation,
            Err(error) => warn!("PCP mappings are not saved: {error}"),
        }
    }

    /// The response to a datagram, if it gets one.
    fn answer(&self, datagram: &[u8], from: Ipv6Addr) -> Option<Vec<u8>> {
        const RESULT: usize = 3;
        let now = now();
        let mut ports = Ports::new(&self.nat, &self.pref64s, now);
        let mut server = self.server();
        let response = server.handle(datagram, from, now, &mut ports);
        drop(server);
        self.counters.count(response.as_ref().map(|it| it[RESULT]));
        response
    }
}

async fn serve(socket: Arc<LanSocket>, shared: Arc<Shared>) {
    let mut is_broken = false;
    loop {
        let (datagram, from, to) = match socket.recv().await {
            Ok(received) => received,
            Err(error) => {
                if !std::mem::replace(&mut is_broken, true) {
                    warn!(
                        "PCP requests on {} get no answer for now: {error}",
                        socket.link()
                    );
                }
                sleep(PAUSE).await;
                continue;
            }
        };
        is_broken = false;
        let Some(response) = shared.answer(&datagram, *from.ip()) else {
            continue;
        };
        if let Err(error) = socket.send(&response, from, Some(to)).await {
            debug!("no PCP response to {from}: {error}");
        }
    }
}

/// Tells the clients on a link that the server has begun anew, so that they ask for their mappings
/// again (section 14.1.3).
async fn announce(socket: Arc<LanSocket>, shared: Arc<Shared>) {
    let all = SocketAddrV6::new(ALL_NODES, CLIENT_PORT, 0, socket.index());
    let mut interval = FIRST_INTERVAL;
    for _ in 0..ANNOUNCEMENTS {
        let message = shared.server().announcement(now()).emit();
        if let Err(error) = socket.send(&message, all, None).await {
            debug!("PCP is not announced on {}: {error}", socket.link());
        }
        sleep(interval).await;
        interval *= 2;
    }
}

/// Writes changed mappings to disk from time to time.
async fn save(shared: Arc<Shared>) {
    loop {
        sleep(SAVE_EVERY).await;
        shared.save();
    }
}

/// Ends the mappings whose time is over.
async fn expire(shared: Arc<Shared>) {
    loop {
        sleep(TICK).await;
        let now = now();
        let mut ports = Ports::new(&shared.nat, &shared.pref64s, now);
        let mut server = shared.server();
        if server.next_expiry().is_some_and(|next| next <= now) {
            server.expire(now, &mut ports);
            let left = server.mappings().count();
            info!("PCP mappings have ended in time, {left} are left");
        }
    }
}
