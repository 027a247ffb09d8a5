//! Serves what the cache does not answer: queries for a lookup, and connections, within the limits of
//! each client.
//!
//! All tasks run on one thread. A query with an answer is answered at once; others wait for a lookup.

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, TcpListener as StdListener};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use dns64::{Answer, Asked, Found, Lookup, Next, Question, encode};
use hickory_proto::op::{Message, MessageType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{LocalSet, spawn_local};
use tokio::time::timeout;
use tracing::info;
use xlat_tun::now;

use crate::config::{Config, change_of_upstreams};
use crate::connections::{Connection, Connections};
use crate::counters::Outcome;
use crate::datagrams::Miss;
use crate::limits::{Client, Slot, Slots, descriptors};
use crate::resolver::Resolver;
use crate::server::Update;
use crate::shared::Shared;
use crate::status::Resolvers;
use crate::upstreams::SOCKETS;

/// Maximum number of queries that wait for lookups, if there are descriptors for them.
const WAITING_MAX: u64 = 4096;
/// Connections at the same time, and how long one may be silent or slow.
const CONNECTIONS_MAX: usize = 256;
const CONNECTION_PATIENCE: Duration = Duration::from_secs(10);
/// Length that any answer over UDP may have, in bytes (RFC 1035 section 2.3.4).
const UDP_MIN: usize = 512;
/// Length that an answer over TCP may have, in bytes.
const TCP_MAX: usize = u16::MAX as usize;
/// How long a client waits for resolvers before it gets an answer that is stale (RFC 8767 section 5).
const STALE_AFTER: Duration = Duration::from_millis(1800);
/// Descriptors reserved for other uses.
const DESCRIPTORS: u64 = 256 + CONNECTIONS_MAX as u64;

/// The state that the tasks share.
pub(crate) struct Responder {
    config: RefCell<Config>,
    resolver: RefCell<Rc<Resolver>>,
    shared: Arc<Shared>,
    waiting: Rc<Slots>,
    connections: Rc<Connections>,
    resolvers: Resolvers,
}

/// What reaches the responder from other threads.
pub(crate) struct Inbox {
    pub(crate) misses: mpsc::Receiver<Miss>,
    pub(crate) changes: mpsc::UnboundedReceiver<Update>,
    pub(crate) stopped: oneshot::Receiver<()>,
}

/// A query with what its answer follows from.
struct Query {
    request: Message,
    question: Question,
    asked: Asked<'static>,
    limit: usize,
}

impl Responder {
    pub(crate) fn new(config: Config, shared: Arc<Shared>, resolvers: Resolvers) -> Self {
        let have = descriptors(DESCRIPTORS + WAITING_MAX * SOCKETS);
        let waiting = have.saturating_sub(DESCRIPTORS) / SOCKETS;
        let waiting = waiting.clamp(16, WAITING_MAX) as usize;
        let generation = shared.answers().generation;
        Self {
            resolver: RefCell::new(Resolver::new(&config, generation, &resolvers)),
            config: RefCell::new(config),
            shared,
            waiting: Slots::new(waiting),
            connections: Connections::new(CONNECTIONS_MAX),
            resolvers,
        }
    }

    pub(crate) fn run(self, listeners: Vec<StdListener>, inbox: Inbox) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let responder = Rc::new(self);
        LocalSet::new().block_on(&runtime, async move {
            for listener in listeners {
                let listener = TcpListener::from_std(listener)?;
                spawn_local(Rc::clone(&responder).connections(listener));
            }
            spawn_local(Rc::clone(&responder).misses(inbox.misses));
            spawn_local(responder.apply(inbox.changes));
            let _ = inbox.stopped.await;
            Ok(())
        })
    }

    async fn apply(self: Rc<Self>, mut changes: mpsc::UnboundedReceiver<Update>) {
        while let Some((config, done)) = changes.recv().await {
            let before = self.config.replace(config.clone());
            let generation = self.shared.update(&before, &config);
            if !before.has_same_answers(&config) {
                *self.resolver.borrow_mut() = Resolver::new(&config, generation, &self.resolvers);
            }
            if let Some(change) = change_of_upstreams(&before.upstreams, &config.upstreams) {
                info!("{change}");
            }
            let _ = done.try_send(());
        }
    }

    async fn misses(self: Rc<Self>, mut misses: mpsc::Receiver<Miss>) {
        while let Some(miss) = misses.recv().await {
            self.miss(miss);
        }
    }

    fn miss(self: &Rc<Self>, miss: Miss) {
        let from = miss.from;
        let query = match self.read(&miss.bytes, from.ip(), None) {
            Ok(query) => query,
            Err(reply) => {
                // The client repeats its query.
                let _ = reply.map(|reply| miss.socket.send_to(&reply, from));
                return;
            }
        };
        if miss.is_refresh {
            return self.refresh(&query.question, miss.client);
        }
        if let Some(reply) = self.at_once(&query) {
            let _ = miss.socket.send_to(&reply, from);
            return;
        }
        let Some(slot) = self.slot(miss.client) else {
            return;
        };
        let responder = Rc::clone(self);
        spawn_local(async move {
            if let Some(reply) = responder.look_up(&query, slot).await {
                let _ = miss.socket.send_to(&reply, from);
            }
        });
    }

    /// Looks up again what is in the cache.
    fn refresh(&self, question: &Question, client: Client) {
        let resolver = Rc::clone(&self.resolver.borrow());
        if resolver.is_under_way(question) {
            return;
        }
        if let Some(slot) = self.waiting.take(client) {
            drop(resolver.look_up(question, slot, &self.shared));
        }
    }

    async fn connections(self: Rc<Self>, listener: TcpListener) {
        loop {
            let Ok((stream, from)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let client = self.shared.gate().client(from.ip());
            let Some(client) = client else {
                self.shared.counters.count(Outcome::Refused);
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
            let client = {
                let mut gate = self.shared.gate();
                self.shared.admit(&mut gate, from, now())?
            };
            let reply = match self.read(&buffer, from, Some(TCP_MAX)) {
                Ok(query) => match self.at_once(&query) {
                    Some(reply) => reply,
                    None => {
                        let slot = self.slot(client)?;
                        self.look_up(&query, slot).await?
                    }
                },
                Err(reply) => reply?,
            };
            let mut message = (reply.len() as u16).to_be_bytes().to_vec();
            message.extend(reply);
            let written = timeout(CONNECTION_PATIENCE, stream.write_all(&message));
            written.await.ok()?.ok()?;
            connection.set_idle(Some(now()));
        }
    }

    /// Parses a query of a client that may ask. `limit` is that of the answer, unless the query says.
    ///
    /// # Errors
    /// For what has no question to look up: the response to it, if it gets one.
    fn read(
        &self,
        bytes: &[u8],
        from: IpAddr,
        limit: Option<usize>,
    ) -> Result<Query, Option<Vec<u8>>> {
        let counters = &self.shared.counters;
        let request = match dns64::read(bytes) {
            Ok(request) if request.metadata.message_type == MessageType::Query => request,
            Ok(_) => {
                counters.count(Outcome::Malformed);
                return Err(None);
            }
            Err(malformed) => {
                counters.count(Outcome::Malformed);
                let reply = malformed.reply();
                return Err(reply.and_then(|reply| encode(&reply, limit.unwrap_or(UDP_MIN))));
            }
        };
        let limit = limit.unwrap_or_else(|| dns64::payload_limit(&request));
        let refused = |code| {
            counters.count(Outcome::Local);
            encode(&Answer::empty(code).to(&request, 0), limit)
        };
        let question = Question::of(&request).map_err(refused)?;
        let is_plain = match from {
            IpAddr::V6(address) => self.shared.answers().is_plain(address),
            IpAddr::V4(_) => false,
        };
        let question = match is_plain {
            true => question.plain(),
            false => question,
        };
        let asked = Asked::of(&request).ok_or(None)?;
        Ok(Query {
            request,
            question,
            asked,
            limit,
        })
    }

    /// The answer if it needs no lookup.
    fn at_once(&self, query: &Query) -> Option<Vec<u8>> {
        if let Some(reply) = self.kept(query, |found| found.is_final()) {
            return Some(reply);
        }
        let resolver = self.resolver.borrow();
        match Lookup::start(&resolver.rules, &query.question) {
            (_, Next::Done(answer)) => self.answer(Outcome::Local, &answer, query),
            (_, Next::Ask(_)) => None,
        }
    }

    /// The answer that the cache has, if it is one of these.
    fn kept(&self, query: &Query, is_it: impl Fn(&Found<'_>) -> bool) -> Option<Vec<u8>> {
        let key = query.question.key()?;
        let answers = self.shared.answers();
        let found = answers.cache.find(&key, now()).filter(is_it)?;
        let mut reply = Vec::new();
        if !found.write(&query.asked, query.limit, &mut reply) {
            return None;
        }
        self.shared.counters.count_kept(&found);
        Some(reply)
    }

    fn slot(&self, client: Client) -> Option<Slot> {
        let slot = self.waiting.take(client);
        if slot.is_none() {
            self.limited(client, "too many queries that wait for upstream resolvers");
        }
        slot
    }

    fn limited(&self, client: Client, why: &str) {
        let mut gate = self.shared.gate();
        self.shared.limited(&mut gate, client, why, now());
    }

    /// Finds the answer. Equal questions at the same time share one lookup.
    async fn look_up(&self, query: &Query, slot: Slot) -> Option<Vec<u8>> {
        let resolver = Rc::clone(&self.resolver.borrow());
        let mut under_way = resolver.look_up(&query.question, slot, &self.shared);
        let is_stale = {
            let answers = self.shared.answers();
            let key = query.question.key()?;
            answers.cache.find(&key, now()).is_some()
        };
        let answer = match is_stale {
            false => under_way.await.ok()?,
            true => match timeout(STALE_AFTER, &mut under_way).await {
                Ok(answer) => answer.ok()?,
                Err(_) => match self.kept(query, |_| true) {
                    Some(reply) => return Some(reply),
                    None => under_way.await.ok()?,
                },
            },
        };
        if !answer.is_failure() {
            return self.answer(Outcome::Answered, &answer, query);
        }
        let stale = self.kept(query, |_| true);
        stale.or_else(|| self.answer(Outcome::Failed, &answer, query))
    }

    fn answer(&self, outcome: Outcome, answer: &Answer, query: &Query) -> Option<Vec<u8>> {
        let counters = &self.shared.counters;
        counters.count(outcome);
        if answer.is_made() {
            counters.synthesised.add(1);
        }
        encode(&answer.to(&query.request, 0), query.limit)
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
