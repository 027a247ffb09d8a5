//! PCP proxy of a CLAT (RFC 6887): IPv4 hosts ask it by PCP or NAT-PMP (RFC 6886) for external
//! ports, and it asks the network's PCP server in their place.
//!
//! [`xlat_proto::pcp::proxy`] decides, without I/O. This crate has the sockets, on the hosts' links
//! and on the uplink, and the clock. Ports of hosts that share an address have to be forwarded by
//! the caller: [`PcpProxy::forwards`].

mod hosts;
mod status;
mod uplink;

use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use thiserror::Error;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tracing::{debug, info, warn};
use xlat_host::host::Link;
use xlat_proto::pcp::proxy::{Hosts, Output, Proxy, Settings};
use xlat_tun::now;

pub use hosts::Listen;
pub use status::{Line, Status};
pub use xlat_proto::pcp::proxy::Forward;

use hosts::{Answer, Question};
use uplink::{Received, UplinkSockets};

/// Mappings of one host, and of all.
const PER_HOST: usize = 64;
const TOTAL: usize = 1024;
/// Questions and answers that may wait.
const QUEUE: usize = 64;
/// Pause after a socket refused.
const PAUSE: Duration = Duration::from_secs(1);

/// The proxy could not start.
#[derive(Debug, Error)]
#[error("hosts cannot ask for ports: no socket for PCP on {link}: {source}")]
pub struct Error {
    link: String,
    source: io::Error,
}

/// What the proxy serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// The link to the PCP server.
    pub uplink: Link,
    /// The hosts, as the server knows them.
    pub hosts: Hosts,
    /// Where they ask.
    pub listen: Vec<Listen>,
}

/// The running proxy, until it is dropped.
#[derive(Debug)]
pub struct PcpProxy {
    network: Network,
    shared: Arc<Mutex<Status>>,
    servers: watch::Sender<Vec<Ipv6Addr>>,
    forwards: watch::Receiver<Vec<Forward>>,
    applied: watch::Sender<Vec<Forward>>,
    tasks: Vec<JoinHandle<()>>,
}

/// Reads the status of a proxy.
#[derive(Clone, Debug, Default)]
pub struct StatusSource(Arc<Mutex<Status>>);

impl PcpProxy {
    /// Starts to serve. `secret` makes the nonces of hosts that have none.
    ///
    /// # Errors
    /// If the kernel refuses a socket on the uplink.
    pub fn start(
        network: Network,
        servers: Vec<Ipv6Addr>,
        secret: [u64; 2],
        status: &StatusSource,
    ) -> Result<Self, Error> {
        let uplink = UplinkSockets::open(network.uplink.clone()).map_err(|source| Error {
            link: network.uplink.name.clone(),
            source,
        })?;
        let settings = Settings {
            secret,
            per_host: PER_HOST,
            total: TOTAL,
        };
        let (questions, incoming) = mpsc::channel(QUEUE);
        let mut tasks = Vec::new();
        let mut sockets = Vec::new();
        for (number, listen) in network.listen.iter().enumerate() {
            let (sender, answers) = mpsc::channel(QUEUE);
            sockets.push(sender);
            let (listen, questions) = (listen.clone(), questions.clone());
            tasks.push(tokio::spawn(hosts::serve(
                number, listen, questions, answers,
            )));
        }
        let (sender, forwards) = watch::channel(Vec::new());
        let (applied, confirmed) = watch::channel(Vec::new());
        let (servers, changed) = watch::channel(servers);
        let known = changed.borrow().clone();
        let shared = Arc::clone(&status.0);
        let run = Running {
            proxy: Proxy::new(settings, network.hosts.clone(), known, now()),
            uplink,
            sockets,
            questions: incoming,
            servers: changed,
            forwards: sender,
            applied: confirmed,
            shared: Arc::clone(&shared),
            has_server: false,
        };
        tasks.push(tokio::spawn(run.run()));
        Ok(Self {
            network,
            shared,
            servers,
            forwards,
            applied,
            tasks,
        })
    }

    /// What it serves.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Asks these servers from now on, the first one first.
    pub fn set_servers(&self, servers: Vec<Ipv6Addr>) {
        self.servers.send_if_modified(|have| {
            let is_other = *have != servers;
            *have = servers;
            is_other
        });
    }

    /// Waits until other ports are to be forwarded.
    pub async fn changed(&mut self) {
        if self.forwards.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// The ports to forward. Hosts hear nothing before [`PcpProxy::applied`] says that they are.
    pub fn forwards(&self) -> Vec<Forward> {
        self.forwards.borrow().clone()
    }

    /// These ports are forwarded now.
    pub fn applied(&self, forwards: Vec<Forward>) {
        self.applied.send_replace(forwards);
    }
}

impl Drop for PcpProxy {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
        *lock(&self.shared) = Status::default();
    }
}

impl StatusSource {
    /// The status now.
    pub fn status(&self) -> Status {
        lock(&self.0).clone()
    }
}

/// The proxy and its sockets, in a task.
struct Running {
    proxy: Proxy,
    uplink: UplinkSockets,
    sockets: Vec<mpsc::Sender<Answer>>,
    questions: mpsc::Receiver<Question>,
    servers: watch::Receiver<Vec<Ipv6Addr>>,
    forwards: watch::Sender<Vec<Forward>>,
    applied: watch::Receiver<Vec<Forward>>,
    shared: Arc<Mutex<Status>>,
    has_server: bool,
}

impl Running {
    async fn run(mut self) {
        loop {
            self.proxy.tick(now());
            self.show();
            self.send().await;
            let due = self.proxy.next_due();
            let wait = due.map(|at| at.saturating_since(now()) + Duration::from_millis(1));
            let due = async {
                match wait {
                    Some(wait) => sleep(wait).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                question = self.questions.recv() => {
                    let Some(Question { arrival, datagram }) = question else { return };
                    let addresses = self.own_addresses();
                    let is_free = |protocol, port| hosts::is_free(&addresses, protocol, port);
                    self.proxy.on_request(arrival, &datagram, now(), &is_free);
                }
                received = self.uplink.recv() => match received {
                    Ok(Received::Datagram(message, from, to)) => {
                        self.proxy.on_response(from, to, &message, now());
                    }
                    Ok(Received::Packet(packet)) => self.proxy.on_packet(&packet, now()),
                    Ok(Received::Announcement) => self.proxy.on_announcement(now()),
                    Err(error) => {
                        debug!("no PCP response: {error}");
                        sleep(PAUSE).await;
                    }
                },
                changed = self.servers.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let servers = self.servers.borrow_and_update().clone();
                    self.proxy.set_servers(servers, now());
                }
                changed = self.applied.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                () = due => {}
            }
        }
    }

    /// Addresses of this host at which a port that is given to another host must be free.
    fn own_addresses(&self) -> Vec<IpAddr> {
        let hosts = self.proxy.hosts();
        let mut addresses = vec![hosts.own.into()];
        if hosts.shared_ports.is_some() {
            addresses.push(hosts.client.into());
        }
        addresses
    }

    /// Passes on what others want to know.
    fn show(&mut self) {
        let forwards = self.proxy.forwards();
        self.forwards.send_if_modified(|have| {
            let is_other = *have != forwards;
            *have = forwards;
            is_other
        });
        *lock(&self.shared) = Status::new(&self.proxy, now());
        if self.proxy.has_server() && !std::mem::replace(&mut self.has_server, true) {
            info!("a PCP server of the network gives external ports to IPv4 hosts that ask");
        }
        // The uplink's own address needs no help.
        let is_foreign = self.proxy.hosts().shared_ports.is_none();
        let is_wanted = is_foreign && self.proxy.is_busy();
        if let Err(error) = self.uplink.listen(is_wanted) {
            warn!("responses of PCP servers cannot be received: {error}");
        }
    }

    async fn send(&mut self) {
        // A port that is given leads somewhere from the first packet on.
        if *self.applied.borrow_and_update() != *self.forwards.borrow() {
            return;
        }
        while let Some(output) = self.proxy.poll() {
            match output {
                Output::Reply { to, message } => {
                    if let Some(socket) = self.sockets.get(to.socket) {
                        let _ = socket.try_send(Answer::To(to.from, message));
                    }
                }
                Output::Announce(message) => {
                    for socket in &self.sockets {
                        let _ = socket.try_send(Answer::All(message.clone()));
                    }
                }
                Output::Ask { from, to, message } => {
                    if let Err(error) = self.uplink.send(&message, from, to).await {
                        debug!("{to} is not asked for {from}: {error}");
                    }
                }
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
