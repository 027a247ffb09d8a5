//! The DNS64 server: sockets, clients and upstreams around the rules of the crate `dns64`.
//!
//! It has a thread and a runtime of its own, so that no query is ever in the way of a packet. A
//! query whose answer is kept is answered at once; others wait together for one lookup.

pub(crate) mod flags;
mod limits;
mod upstream;

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};
use dns64::{Cache, Key, Lookup, Next, Rules, encode, failure, payload_limit};
use hickory_proto::op::{Message, MessageType, ResponseCode};
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{LocalSet, spawn_local};
use tokio::time::timeout;
use tracing::{info, warn};
use xlat_core::addr::Ipv6Prefix;
use xlat_linux::daemon::exit::Usage;
use xlat_linux::host::Host;
use xlat_linux::tun::now;

use crate::settings::Settings;
use limits::Limits;
use upstream::{Upstreams, Wishes, of_resolv_conf};

const PORT: u16 = 53;
/// Lookups at the same time; what comes beyond is dropped.
const LOOKUPS_MAX: usize = 4096;
/// Connections at the same time, and how long one may be silent or slow.
const CONNECTIONS_MAX: usize = 128;
const CONNECTION_PATIENCE: Duration = Duration::from_secs(10);
/// Questions that one lookup may take.
const STEPS_MAX: usize = 4;

/// A running DNS64. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Dns64 {
    addresses: Vec<Ipv6Addr>,
    counters: Arc<Counters>,
    updates: mpsc::UnboundedSender<Orders>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What it counts.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    queries: AtomicU64,
    cached: AtomicU64,
    refused: AtomicU64,
    limited: AtomicU64,
    malformed: AtomicU64,
    failed: AtomicU64,
    synthesised: AtomicU64,
    lookups: AtomicU64,
    micros: AtomicU64,
}

/// The counters at one moment.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Figures {
    /// Queries that were taken up.
    pub(crate) queries: u64,
    /// Those whose answer was kept.
    pub(crate) cached: u64,
    /// Queries of clients that may not ask.
    pub(crate) refused: u64,
    /// Queries beyond a client's rate.
    pub(crate) limited: u64,
    /// Messages that are no queries.
    pub(crate) malformed: u64,
    /// Queries that nobody upstream answered.
    pub(crate) failed: u64,
    /// Answers with IPv6 addresses that were made.
    pub(crate) synthesised: u64,
    /// Queries that were looked up, and the time that all of them took, in microseconds.
    pub(crate) lookups: u64,
    pub(crate) lookup_us: u64,
}

impl Counters {
    pub(crate) fn figures(&self) -> Figures {
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Figures {
            queries: value(&self.queries),
            cached: value(&self.cached),
            refused: value(&self.refused),
            limited: value(&self.limited),
            malformed: value(&self.malformed),
            failed: value(&self.failed),
            synthesised: value(&self.synthesised),
            lookups: value(&self.lookups),
            lookup_us: value(&self.micros),
        }
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Dns64 {
    /// Opens the sockets and begins to answer; `None` if none is wanted.
    pub(crate) async fn start(host: &Host, settings: &Settings) -> Result<Option<Self>> {
        let flags = &settings.run.dns;
        if flags.dns64.is_empty() {
            return Ok(None);
        }
        let orders = Orders::new(host, settings).await?;
        let sockets = flags
            .dns64
            .iter()
            .map(|address| Sockets::open(*address))
            .collect::<Result<Vec<_>>>()?;
        let counters = Arc::new(Counters::default());
        let (stop, stopped) = oneshot::channel();
        let (updates, changes) = mpsc::unbounded_channel();
        let count = Arc::clone(&counters);
        let thread = thread::Builder::new().name("dns64".into()).spawn(move || {
            let server = Server {
                ways: RefCell::new(Rc::new(Ways::new(&orders))),
                limits: RefCell::new(orders.limits()),
                cache: RefCell::new(Cache::new(orders.cache)),
                waiting: RefCell::new(HashMap::new()),
                connections: RefCell::new(0),
                counters: count,
            };
            if let Err(error) = server.run(sockets, changes, stopped) {
                warn!("the DNS64 has ended: {error}");
            }
        })?;
        let texts: Vec<String> = flags.dns64.iter().map(ToString::to_string).collect();
        info!("DNS64 on {}", texts.join(", "));
        Ok(Some(Self {
            addresses: flags.dns64.clone(),
            counters,
            updates,
            stop: Some(stop),
            thread: Some(thread),
        }))
    }

    /// Where it answers.
    pub(crate) fn addresses(&self) -> Vec<Ipv6Addr> {
        self.addresses.clone()
    }

    /// Goes by other orders from now on. Answers that were kept are forgotten.
    pub(crate) fn update(&self, orders: Orders) {
        // It has ended, and said so, if nobody listens.
        let _ = self.updates.send(orders);
    }

    /// What it counts.
    pub(crate) fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }
}

impl Drop for Dns64 {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// How to answer, and whom.
#[derive(Clone, Debug)]
pub(crate) struct Orders {
    rules: Rules,
    upstreams: Vec<SocketAddr>,
    allowed: Vec<Ipv6Prefix>,
    rate: u32,
    cache: usize,
}

impl Orders {
    /// What the settings come to.
    pub(crate) async fn new(host: &Host, settings: &Settings) -> Result<Self> {
        let flags = &settings.run.dns;
        let mut rules = Rules {
            wkp_strict: settings.run.wkp_strict == xlat_linux::daemon::flags::Switch::On,
            unmapped: flags.dns64_unmapped.clone(),
            prefix_lifetime: flags.dns64_prefix_ttl,
            ..Rules::new(settings.pref64s.iter().copied().collect())
        };
        if !flags.dns64_exclude.is_empty() {
            rules.excluded.clone_from(&flags.dns64_exclude);
        }
        Ok(Self {
            rules,
            upstreams: upstreams(settings)?,
            allowed: allowed(host, settings).await?,
            rate: flags.dns64_rate,
            cache: flags.dns64_cache,
        })
    }

    fn limits(&self) -> Limits {
        Limits::new(self.allowed.clone(), self.rate)
    }
}

fn upstreams(settings: &Settings) -> Result<Vec<SocketAddr>> {
    let flags = &settings.run.dns;
    let mut servers: Vec<SocketAddr> = flags.dns64_upstream.iter().map(|one| one.0).collect();
    if servers.is_empty() {
        let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        servers = of_resolv_conf(&text, &flags.dns64);
    }
    let own = |server: &&SocketAddr| {
        server.port() == PORT
            && flags
                .dns64
                .iter()
                .any(|own| server.ip() == IpAddr::V6(*own))
    };
    if let Some(own) = servers.iter().find(own) {
        return Err(Usage(format!("--dns64-upstream {own} is this DNS64 itself")).into());
    }
    if servers.is_empty() {
        let line = "--dns64 has nobody to ask: /etc/resolv.conf names no resolver; give \
                    --dns64-upstream";
        return Err(Usage(line.into()).into());
    }
    Ok(servers)
}

/// Refuses what makes no sense on any host.
pub(crate) fn check(settings: &Settings) -> Result<()> {
    if settings.run.dns.dns64.is_empty() || settings.run.dns.dns64_upstream.is_empty() {
        return Ok(());
    }
    upstreams(settings).map(drop)
}

/// The clients that may ask.
async fn allowed(host: &Host, settings: &Settings) -> Result<Vec<Ipv6Prefix>> {
    let given = &settings.run.dns.dns64_allow;
    if !given.is_empty() {
        return Ok(given.clone());
    }
    let mut allowed = settings.run.stateful.client.clone();
    for have in host.addresses().await? {
        if let IpAddr::V6(address) = have.address {
            allowed.push(Ipv6Prefix::containing(address, have.len));
        }
    }
    Ok(allowed)
}

/// The sockets of one address.
#[derive(Debug)]
struct Sockets {
    udp: std::net::UdpSocket,
    tcp: std::net::TcpListener,
}

impl Sockets {
    fn open(address: Ipv6Addr) -> Result<Self> {
        let failed = || {
            format!(
                "--dns64 {address}: port {PORT} cannot be had; is it an address of this host, and \
                 does no other DNS server run there?"
            )
        };
        let open = || {
            let sockets = Self {
                udp: std::net::UdpSocket::bind((address, PORT))?,
                tcp: std::net::TcpListener::bind((address, PORT))?,
            };
            sockets.udp.set_nonblocking(true)?;
            sockets.tcp.set_nonblocking(true)?;
            Ok::<_, io::Error>(sockets)
        };
        open().with_context(failed)
    }
}

/// Everything that the tasks of the one thread share.
struct Server {
    ways: RefCell<Rc<Ways>>,
    limits: RefCell<Limits>,
    cache: RefCell<Cache>,
    /// Lookups under way, and who else waits for them.
    waiting: RefCell<HashMap<Key, Vec<oneshot::Sender<Message>>>>,
    connections: RefCell<usize>,
    counters: Arc<Counters>,
}

/// What a lookup goes by from its beginning to its end.
struct Ways {
    rules: Rules,
    upstreams: Upstreams,
}

impl Ways {
    fn new(orders: &Orders) -> Self {
        Self {
            rules: orders.rules.clone(),
            upstreams: Upstreams::new(orders.upstreams.clone()),
        }
    }
}

impl Server {
    fn run(
        self,
        sockets: Vec<Sockets>,
        changes: mpsc::UnboundedReceiver<Orders>,
        stopped: oneshot::Receiver<()>,
    ) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let server = Rc::new(self);
        LocalSet::new().block_on(&runtime, async move {
            for Sockets { udp, tcp } in sockets {
                let udp = Rc::new(UdpSocket::from_std(udp)?);
                spawn_local(Rc::clone(&server).datagrams(udp));
                let tcp = TcpListener::from_std(tcp)?;
                spawn_local(Rc::clone(&server).connections(tcp));
            }
            spawn_local(server.follow(changes));
            let _ = stopped.await;
            Ok(())
        })
    }

    async fn follow(self: Rc<Self>, mut changes: mpsc::UnboundedReceiver<Orders>) {
        while let Some(orders) = changes.recv().await {
            *self.ways.borrow_mut() = Rc::new(Ways::new(&orders));
            *self.limits.borrow_mut() = orders.limits();
            *self.cache.borrow_mut() = Cache::new(orders.cache);
        }
    }

    async fn datagrams(self: Rc<Self>, socket: Rc<UdpSocket>) {
        let mut buffer = vec![0; 4096];
        loop {
            let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
                continue;
            };
            let Some(request) = self.accept(&buffer[..length], from.ip()) else {
                continue;
            };
            let limit = payload_limit(&request);
            match self.kept(&request) {
                Some(reply) => send(&socket, &reply, limit, from).await,
                None => {
                    let (server, socket) = (Rc::clone(&self), Rc::clone(&socket));
                    spawn_local(async move {
                        if let Some(reply) = server.look_up(request).await {
                            send(&socket, &reply, limit, from).await;
                        }
                    });
                }
            }
        }
    }

    async fn connections(self: Rc<Self>, listener: TcpListener) {
        loop {
            let Ok((stream, from)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let is_full = *self.connections.borrow() >= CONNECTIONS_MAX;
            if is_full || !self.limits.borrow().allows(from.ip()) {
                count(&self.counters.refused);
                continue;
            }
            *self.connections.borrow_mut() += 1;
            let server = Rc::clone(&self);
            spawn_local(async move {
                // Whatever ends a connection is the client's affair.
                let _ = server.converse(stream, from.ip()).await;
                *server.connections.borrow_mut() -= 1;
            });
        }
    }

    /// Queries of one connection, one after the other (RFC 7766).
    async fn converse(&self, mut stream: TcpStream, from: IpAddr) -> Result<()> {
        loop {
            let length = timeout(CONNECTION_PATIENCE, stream.read_u16()).await??;
            let mut buffer = vec![0; length.into()];
            timeout(CONNECTION_PATIENCE, stream.read_exact(&mut buffer)).await??;
            let Some(request) = self.accept(&buffer, from) else {
                return Ok(());
            };
            let reply = match self.kept(&request) {
                Some(reply) => Some(reply),
                None => self.look_up(request).await,
            };
            let bytes = reply.and_then(|reply| encode(&reply, usize::from(u16::MAX)));
            let bytes = bytes.context("no answer")?;
            let mut message = (bytes.len() as u16).to_be_bytes().to_vec();
            message.extend(bytes);
            timeout(CONNECTION_PATIENCE, stream.write_all(&message)).await??;
        }
    }

    /// A query that is to be answered.
    fn accept(&self, bytes: &[u8], from: IpAddr) -> Option<Message> {
        let mut limits = self.limits.borrow_mut();
        if !limits.allows(from) {
            count(&self.counters.refused);
            return None;
        }
        let IpAddr::V6(client) = from else {
            return None;
        };
        if !limits.take(client, now()) {
            count(&self.counters.limited);
            return None;
        }
        let request = Message::from_vec(bytes).ok();
        let request = request.filter(|request| request.metadata.message_type == MessageType::Query);
        match &request {
            Some(_) => count(&self.counters.queries),
            None => count(&self.counters.malformed),
        }
        request
    }

    fn kept(&self, request: &Message) -> Option<Message> {
        let key = Key::of(request)?;
        let reply = self.cache.borrow().find(&key, request, now())?;
        count(&self.counters.cached);
        Some(reply)
    }

    /// Finds the answer, together with all who ask the same at this time.
    async fn look_up(&self, request: Message) -> Option<Message> {
        let Some(key) = Key::of(&request) else {
            return Some(failure(&request, ResponseCode::FormErr));
        };
        let wait = self.join(&key)?;
        if let Some(wait) = wait {
            let mut reply = wait.await.ok()?;
            reply.metadata.id = request.metadata.id;
            reply.queries.clone_from(&request.queries);
            return Some(reply);
        }
        let begin = now();
        let reply = self.resolve(request).await;
        let took = now().saturating_since(begin).as_micros() as u64;
        self.counters.micros.fetch_add(took, Ordering::Relaxed);
        count(&self.counters.lookups);
        self.cache.borrow_mut().keep(key.clone(), &reply, now());
        for waiting in self.waiting.borrow_mut().remove(&key).unwrap_or_default() {
            let _ = waiting.send(reply.clone());
        }
        Some(reply)
    }

    /// Waits for a lookup that is under way, or begins one (`None` inside). `None` if there are too
    /// many.
    #[expect(clippy::option_option, reason = "too many, mine, or somebody else's")]
    fn join(&self, key: &Key) -> Option<Option<oneshot::Receiver<Message>>> {
        let mut waiting = self.waiting.borrow_mut();
        if let Some(others) = waiting.get_mut(key) {
            let (sender, receiver) = oneshot::channel();
            others.push(sender);
            return Some(Some(receiver));
        }
        if waiting.len() >= LOOKUPS_MAX {
            count(&self.counters.limited);
            return None;
        }
        waiting.insert(key.clone(), Vec::new());
        Some(None)
    }

    async fn resolve(&self, request: Message) -> Message {
        let edns = request.edns.as_ref();
        let wishes = Wishes {
            dnssec_ok: edns.is_some_and(|edns| edns.flags().dnssec_ok),
            checking_disabled: request.metadata.checking_disabled,
        };
        let fail = failure(&request, ResponseCode::ServFail);
        let ways = Rc::clone(&self.ways.borrow());
        let (mut lookup, mut next) = Lookup::start(&ways.rules, request);
        for _ in 0..STEPS_MAX {
            match next {
                Next::Done(reply) => {
                    if lookup.has_synthesised(&reply) {
                        count(&self.counters.synthesised);
                    }
                    return reply;
                }
                Next::Ask(query) => {
                    let reply = ways.upstreams.ask(&query, wishes).await;
                    if reply.is_none() {
                        count(&self.counters.failed);
                    }
                    next = lookup.on_reply(&ways.rules, reply);
                }
            }
        }
        fail
    }
}

async fn send(socket: &UdpSocket, reply: &Message, limit: usize, to: SocketAddr) {
    if let Some(bytes) = encode(reply, limit) {
        // The client asks again.
        let _ = socket.send_to(&bytes, to).await;
    }
}
