//! Serves the clients: their datagrams and connections, within the limits of each.
//!
//! All tasks run on one thread. A query with a cached answer is answered at once; others wait for a
//! lookup.

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use dns64::{Answer, Lookup, Next, Question, encode, payload_limit};
use hickory_proto::op::{Message, MessageType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{LocalSet, spawn_local};
use tokio::time::timeout;
use tracing::{info, warn};
use xlat_tun::now;

use crate::config::{Config, change_of_upstreams};
use crate::connections::{Connection, Connections};
use crate::counters::{Counters, Outcome};
use crate::limits::{Client, Limits, Notices, Slot, Slots, descriptors};
use crate::resolver::Resolver;
use crate::server::Update;
use crate::status::{Resolvers, StatusSource};
use crate::upstreams::SOCKETS;

/// Maximum number of queries that wait for lookups, if there are descriptors for them.
const WAITING_MAX: u64 = 4096;
/// Connections at the same time, and how long one may be silent or slow.
const CONNECTIONS_MAX: usize = 256;
const CONNECTION_PATIENCE: Duration = Duration::from_secs(10);
/// Length that any answer over UDP may have, in bytes (RFC 1035 section 2.3.4).
const UDP_MIN: usize = 512;
/// Descriptors reserved for other uses.
const DESCRIPTORS: u64 = 256 + CONNECTIONS_MAX as u64;

/// The sockets of one address.
#[derive(Debug)]
pub(crate) struct Sockets {
    udp: std::net::UdpSocket,
    tcp: std::net::TcpListener,
}

impl Sockets {
    pub(crate) fn open(address: Ipv6Addr, port: u16) -> io::Result<Self> {
        let sockets = Self {
            udp: std::net::UdpSocket::bind((address, port))?,
            tcp: std::net::TcpListener::bind((address, port))?,
        };
        sockets.udp.set_nonblocking(true)?;
        sockets.tcp.set_nonblocking(true)?;
        Ok(sockets)
    }

    /// The same sockets once more.
    pub(crate) fn another(&self) -> io::Result<Self> {
        Ok(Self {
            udp: self.udp.try_clone()?,
            tcp: self.tcp.try_clone()?,
        })
    }
}

/// The state that the tasks share.
pub(crate) struct Responder {
    config: RefCell<Config>,
    resolver: RefCell<Rc<Resolver>>,
    limits: RefCell<Limits>,
    notices: RefCell<Notices>,
    waiting: Rc<Slots>,
    connections: Rc<Connections>,
    counters: Arc<Counters>,
    resolvers: Resolvers,
}

impl Responder {
    pub(crate) fn new(config: Config, status: StatusSource) -> Self {
        let have = descriptors(DESCRIPTORS + WAITING_MAX * SOCKETS);
        let waiting = have.saturating_sub(DESCRIPTORS) / SOCKETS;
        let waiting = waiting.clamp(16, WAITING_MAX) as usize;
        Self {
            resolver: RefCell::new(Resolver::new(&config, &status.resolvers)),
            limits: RefCell::new(limits(&config)),
            config: RefCell::new(config),
            notices: RefCell::default(),
            waiting: Slots::new(waiting),
            connections: Connections::new(CONNECTIONS_MAX),
            counters: status.counters,
            resolvers: status.resolvers,
        }
    }

    pub(crate) fn run(
        self,
        sockets: Vec<Sockets>,
        changes: mpsc::UnboundedReceiver<Update>,
        stopped: oneshot::Receiver<()>,
    ) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let responder = Rc::new(self);
        LocalSet::new().block_on(&runtime, async move {
            for Sockets { udp, tcp } in sockets {
                let udp = Rc::new(UdpSocket::from_std(udp)?);
                spawn_local(Rc::clone(&responder).datagrams(udp));
                let tcp = TcpListener::from_std(tcp)?;
                spawn_local(Rc::clone(&responder).connections(tcp));
            }
            spawn_local(responder.apply(changes));
            let _ = stopped.await;
            Ok(())
        })
    }

    async fn apply(self: Rc<Self>, mut changes: mpsc::UnboundedReceiver<Update>) {
        while let Some((config, done)) = changes.recv().await {
            let before = self.config.replace(config.clone());
            if !before.has_same_answers(&config) {
                *self.resolver.borrow_mut() = Resolver::new(&config, &self.resolvers);
            }
            if !before.has_same_limits(&config) {
                *self.limits.borrow_mut() = limits(&config);
            }
            if let Some(change) = change_of_upstreams(&before.upstreams, &config.upstreams) {
                info!("{change}");
            }
            let _ = done.try_send(());
        }
    }

    async fn datagrams(self: Rc<Self>, socket: Rc<UdpSocket>) {
        let mut buffer = vec![0; 4096];
        loop {
            let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
                continue;
            };
            let (request, client) = match self.accept(&buffer[..length], from.ip()) {
                Ok(accepted) => accepted,
                Err(Some(refusal)) => {
                    send(&socket, &refusal, UDP_MIN, from).await;
                    continue;
                }
                Err(None) => continue,
            };
            let limit = payload_limit(&request);
            match self.at_once(&request, from.ip()) {
                Ok(reply) => send(&socket, &reply, limit, from).await,
                Err(question) => {
                    let Some(slot) = self.slot(client) else {
                        continue;
                    };
                    let (responder, socket) = (Rc::clone(&self), Rc::clone(&socket));
                    spawn_local(async move {
                        if let Some(reply) = responder.look_up(&request, question, slot).await {
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
            let Some(client) = self.limits.borrow().client(from.ip()) else {
                self.counters.count(Outcome::Refused);
                continue;
            };
            let Some(connection) = self.connections.open(client, now()) else {
                self.limited(client, "too many connections, each with a query under way");
                continue;
            };
            let responder = Rc::clone(&self);
            spawn_local(async move {
                // An error ends only this client's connection.
                let _ = responder.converse(stream, from.ip(), &connection).await;
            });
        }
    }

    /// Answers the queries of one connection, one after the other (RFC 7766), until it ends.
    async fn converse(
        &self,
        mut stream: TcpStream,
        from: IpAddr,
        connection: &Connection,
    ) -> Option<()> {
        loop {
            let buffer = tokio::select! {
                buffer = receive(&mut stream) => buffer?,
                () = connection.closed() => return None,
            };
            connection.set_idle(None);
            let reply = match self.accept(&buffer, from) {
                Ok((request, client)) => match self.at_once(&request, from) {
                    Ok(reply) => reply,
                    Err(question) => {
                        let slot = self.slot(client)?;
                        self.look_up(&request, question, slot).await?
                    }
                },
                Err(refusal) => *refusal?,
            };
            let bytes = encode(&reply, usize::from(u16::MAX))?;
            let mut message = (bytes.len() as u16).to_be_bytes().to_vec();
            message.extend(bytes);
            let written = timeout(CONNECTION_PATIENCE, stream.write_all(&message));
            written.await.ok()?.ok()?;
            connection.set_idle(Some(now()));
        }
    }

    /// Parses a query, and returns it with its client.
    ///
    /// # Errors
    /// For anything else: the response to it, if it gets one.
    fn accept(
        &self,
        bytes: &[u8],
        from: IpAddr,
    ) -> Result<(Message, Client), Option<Box<Message>>> {
        let mut limits = self.limits.borrow_mut();
        let Some(client) = limits.client(from) else {
            self.counters.count(Outcome::Refused);
            return Err(None);
        };
        if !limits.take(client, now()) {
            self.limited(client, "more queries a second than --dns64-rate allows");
            return Err(None);
        }
        let refusal = match dns64::read(bytes) {
            Ok(request) if request.metadata.message_type == MessageType::Query => {
                return Ok((request, client));
            }
            Ok(_) => None,
            Err(malformed) => malformed.reply().map(Box::new),
        };
        self.counters.count(Outcome::Malformed);
        Err(refusal)
    }

    /// The answer if it needs no lookup, or the question to look up.
    fn at_once(&self, request: &Message, from: IpAddr) -> Result<Message, Question> {
        let question = match Question::of(request) {
            Ok(question) if self.is_served(from) => question,
            Ok(question) => question.plain(),
            Err(code) => {
                self.counters.count(Outcome::Local);
                return Ok(Answer::empty(code).to(request, 0));
            }
        };
        let resolver = self.resolver.borrow();
        if let Some((answer, age)) = resolver.cache.borrow().find(&question, now()) {
            return Ok(self.answer(Outcome::Cached, answer, request, age));
        }
        match Lookup::start(&resolver.rules, &question) {
            (_, Next::Done(answer)) => Ok(self.answer(Outcome::Local, &answer, request, 0)),
            (_, Next::Ask(_)) => Err(question),
        }
    }

    /// True if addresses are made for this client.
    fn is_served(&self, from: IpAddr) -> bool {
        let served = &self.config.borrow().served;
        let is_in = |address| served.iter().any(|prefix| prefix.contains(address));
        served.is_empty() || matches!(from, IpAddr::V6(address) if is_in(address))
    }

    fn slot(&self, client: Client) -> Option<Slot> {
        let slot = self.waiting.take(client);
        if slot.is_none() {
            self.limited(client, "too many queries that wait for upstream resolvers");
        }
        slot
    }

    /// Counts what a client is refused, and says so once a minute.
    fn limited(&self, client: Client, why: &str) {
        self.counters.count(Outcome::Limited);
        if self.notices.borrow_mut().is_due(client, now()) {
            warn!("DNS64: {why}: client {client} is not answered");
        }
    }

    /// Finds the answer. Equal questions at the same time share one lookup.
    async fn look_up(&self, request: &Message, question: Question, _slot: Slot) -> Option<Message> {
        let resolver = Rc::clone(&self.resolver.borrow());
        let answer = match resolver.join(&question) {
            Some(other) => other.await.ok()?,
            None => {
                let begin = now();
                let answer = Rc::new(resolver.resolve(&question).await);
                self.counters.lookups.add(now().saturating_since(begin));
                resolver.end(&question, &answer);
                answer
            }
        };
        let outcome = if answer.is_failure() {
            Outcome::Failed
        } else {
            Outcome::Answered
        };
        Some(self.answer(outcome, &answer, request, 0))
    }

    fn answer(&self, outcome: Outcome, answer: &Answer, request: &Message, age: u32) -> Message {
        self.counters.count(outcome);
        if answer.is_made() {
            self.counters.synthesised.add(1);
        }
        answer.to(request, age)
    }
}

/// The next message of a connection; `None` at its end, or if that takes too long.
async fn receive(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let length = timeout(CONNECTION_PATIENCE, stream.read_u16());
    let mut buffer = vec![0; length.await.ok()?.ok()?.into()];
    let read = timeout(CONNECTION_PATIENCE, stream.read_exact(&mut buffer));
    read.await.ok()?.ok()?;
    Some(buffer)
}

async fn send(socket: &UdpSocket, reply: &Message, limit: usize, to: SocketAddr) {
    if let Some(bytes) = encode(reply, limit) {
        // The client repeats its query.
        let _ = socket.send_to(&bytes, to).await;
    }
}

fn limits(config: &Config) -> Limits {
    Limits::new(config.allowed.clone(), config.on_link.clone(), config.rate)
}
