//! The server: sockets and clients around the rules of the crate `dns64`.
//!
//! One thread does everything. A query whose answer is kept is answered at once; others wait
//! together for one lookup.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use dns64::{Answer, Ask, Cache, Lookup, Next, Question, Rules, encode, payload_limit};
use hickory_proto::op::{Message, MessageType};
use hickory_proto::rr::RecordType;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{LocalSet, spawn_local};
use tokio::time::timeout;
use xlat_tun::now;

use super::counters::{Counters, Outcome};
use super::limits::{Limits, Place, Places, descriptors};
use super::upstream::{SOCKETS, Upstreams};
use super::{Orders, Sockets};

/// Queries that wait for lookups at the same time, as far as the system gives descriptors.
const WAITING_MAX: u64 = 4096;
/// Connections at the same time, those of one client, and how long one may be silent or slow.
const CONNECTIONS_MAX: usize = 256;
const CONNECTIONS_EACH: usize = 64;
const CONNECTION_PATIENCE: Duration = Duration::from_secs(10);
/// Descriptors for everything else.
const DESCRIPTORS: u64 = 256 + CONNECTIONS_MAX as u64;
/// How long clients wait for an answer, less than the 5 seconds after which a stub resolver has
/// given up.
const PATIENCE: Duration = Duration::from_millis(4500);

/// Everything that the tasks of the one thread share.
pub(super) struct Server {
    orders: RefCell<Orders>,
    ways: RefCell<Rc<Ways>>,
    limits: RefCell<Limits>,
    waiting: Rc<Places>,
    connections: Rc<Places>,
    counters: Arc<Counters>,
}

/// What lookups go by, and what came of them. Other orders make a new one, so that no lookup that
/// began before them has a say after them.
struct Ways {
    rules: Rules,
    upstreams: Upstreams,
    cache: RefCell<Cache>,
    /// Lookups under way, and who else waits for them.
    under_way: RefCell<HashMap<Question, Vec<oneshot::Sender<Rc<Answer>>>>>,
}

impl Ways {
    fn new(orders: &Orders) -> Rc<Self> {
        Rc::new(Self {
            rules: orders.rules.clone(),
            upstreams: Upstreams::new(orders.upstreams.clone(), orders.trust.as_ref()),
            cache: RefCell::new(Cache::new(orders.cache)),
            under_way: RefCell::default(),
        })
    }
}

impl Server {
    pub(super) fn new(orders: Orders, counters: Arc<Counters>) -> Self {
        let have = descriptors(DESCRIPTORS + WAITING_MAX * SOCKETS);
        let waiting = have.saturating_sub(DESCRIPTORS) / SOCKETS;
        let waiting = waiting.clamp(16, WAITING_MAX) as usize;
        Self {
            ways: RefCell::new(Ways::new(&orders)),
            limits: RefCell::new(orders.limits()),
            orders: RefCell::new(orders),
            waiting: Places::new(waiting, waiting / 2),
            connections: Places::new(CONNECTIONS_MAX, CONNECTIONS_EACH),
            counters,
        }
    }

    pub(super) fn run(
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
            let before = self.orders.replace(orders.clone());
            if !before.has_same_answers(&orders) {
                *self.ways.borrow_mut() = Ways::new(&orders);
            }
            if !before.has_same_limits(&orders) {
                *self.limits.borrow_mut() = orders.limits();
            }
        }
    }

    async fn datagrams(self: Rc<Self>, socket: Rc<UdpSocket>) {
        let mut buffer = vec![0; 4096];
        loop {
            let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
                continue;
            };
            let Some((request, client)) = self.accept(&buffer[..length], from.ip()) else {
                continue;
            };
            let limit = payload_limit(&request);
            match self.at_once(&request) {
                Ok(reply) => send(&socket, &reply, limit, from).await,
                Err(question) => {
                    let Some(place) = self.place(client) else {
                        continue;
                    };
                    let (server, socket) = (Rc::clone(&self), Rc::clone(&socket));
                    spawn_local(async move {
                        if let Some(reply) = server.look_up(&request, question, place).await {
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
            let IpAddr::V6(client) = from.ip() else {
                continue;
            };
            if !self.limits.borrow().allows(from.ip()) {
                self.counters.count(Outcome::Refused);
                continue;
            }
            let Some(place) = self.connections.take(client) else {
                self.counters.count(Outcome::Limited);
                continue;
            };
            let server = Rc::clone(&self);
            spawn_local(async move {
                // Whatever ends a connection is the client's affair.
                let _ = server.converse(stream, from.ip()).await;
                drop(place);
            });
        }
    }

    /// Queries of one connection, one after the other (RFC 7766).
    async fn converse(&self, mut stream: TcpStream, from: IpAddr) -> Result<()> {
        loop {
            let length = timeout(CONNECTION_PATIENCE, stream.read_u16()).await??;
            let mut buffer = vec![0; length.into()];
            timeout(CONNECTION_PATIENCE, stream.read_exact(&mut buffer)).await??;
            let (request, client) = self.accept(&buffer, from).context("no query")?;
            let reply = match self.at_once(&request) {
                Ok(reply) => reply,
                Err(question) => {
                    let place = self.place(client).context("too many")?;
                    let reply = self.look_up(&request, question, place).await;
                    reply.context("no answer")?
                }
            };
            let bytes = encode(&reply, usize::from(u16::MAX)).context("no answer")?;
            let mut message = (bytes.len() as u16).to_be_bytes().to_vec();
            message.extend(bytes);
            timeout(CONNECTION_PATIENCE, stream.write_all(&message)).await??;
        }
    }

    /// A query that is to be answered, and whose it is.
    fn accept(&self, bytes: &[u8], from: IpAddr) -> Option<(Message, Ipv6Addr)> {
        let mut limits = self.limits.borrow_mut();
        let (true, IpAddr::V6(client)) = (limits.allows(from), from) else {
            self.counters.count(Outcome::Refused);
            return None;
        };
        if !limits.take(client, now()) {
            self.counters.count(Outcome::Limited);
            return None;
        }
        let request = Message::from_vec(bytes).ok();
        let request = request.filter(|request| request.metadata.message_type == MessageType::Query);
        if request.is_none() {
            self.counters.count(Outcome::Malformed);
        }
        Some((request?, client))
    }

    /// The answer, if nobody has to be asked for it, or what is to be looked up.
    fn at_once(&self, request: &Message) -> Result<Message, Question> {
        let question = match Question::of(request) {
            Ok(question) => question,
            Err(code) => {
                self.counters.count(Outcome::Local);
                return Ok(Answer::empty(code).to(request, 0));
            }
        };
        let ways = self.ways.borrow();
        if let Some((answer, age)) = ways.cache.borrow().find(&question, now()) {
            return Ok(self.tell(Outcome::Cached, answer, request, age));
        }
        match Lookup::start(&ways.rules, &question) {
            (_, Next::Done(answer)) => Ok(self.tell(Outcome::Local, &answer, request, 0)),
            (_, Next::Ask(_)) => Err(question),
        }
    }

    fn place(&self, client: Ipv6Addr) -> Option<Place> {
        let place = self.waiting.take(client);
        if place.is_none() {
            self.counters.count(Outcome::Limited);
        }
        place
    }

    /// Finds the answer, together with all who ask the same at this time.
    async fn look_up(
        &self,
        request: &Message,
        question: Question,
        _place: Place,
    ) -> Option<Message> {
        let ways = Rc::clone(&self.ways.borrow());
        let answer = match ways.join(&question) {
            Some(other) => other.await.ok()?,
            None => {
                let begin = now();
                let answer = Rc::new(ways.resolve(&question).await);
                self.counters.count_lookup(now().saturating_since(begin));
                ways.end(&question, &answer);
                answer
            }
        };
        let outcome = if answer.is_failure() {
            Outcome::Failed
        } else {
            Outcome::Answered
        };
        Some(self.tell(outcome, &answer, request, 0))
    }

    fn tell(&self, outcome: Outcome, answer: &Answer, request: &Message, age: u32) -> Message {
        self.counters.count(outcome);
        if answer.is_made() {
            self.counters.count_synthesis();
        }
        answer.to(request, age)
    }
}

impl Ways {
    /// Waits for a lookup that is under way; `None` if there was none, and this one is begun.
    fn join(&self, question: &Question) -> Option<oneshot::Receiver<Rc<Answer>>> {
        let mut under_way = self.under_way.borrow_mut();
        if let Some(others) = under_way.get_mut(question) {
            let (sender, receiver) = oneshot::channel();
            others.push(sender);
            return Some(receiver);
        }
        under_way.insert(question.clone(), Vec::new());
        None
    }

    /// Keeps the answer and tells it to all who wait for it.
    fn end(&self, question: &Question, answer: &Rc<Answer>) {
        self.cache.borrow_mut().keep(question, answer, now());
        let others = self.under_way.borrow_mut().remove(question);
        for other in others.unwrap_or_default() {
            let _ = other.send(Rc::clone(answer));
        }
    }

    async fn resolve(&self, question: &Question) -> Answer {
        let begin = now();
        let (mut lookup, mut next) = Lookup::start(&self.rules, question);
        loop {
            match next {
                Next::Done(answer) => return answer,
                Next::Ask(ask) => {
                    let left = PATIENCE.saturating_sub(now().saturating_since(begin));
                    let reply = self.upstreams.ask(&ask, patience(&ask, left)).await;
                    next = lookup.on_reply(&self.rules, reply);
                }
            }
        }
    }
}

/// How long one question may take of the time that is left: half of it if IPv4 may have to be asked
/// for after it (RFC 6147 section 5.1.3).
fn patience(ask: &Ask, left: Duration) -> Duration {
    match ask.query.query_type {
        RecordType::AAAA => left / 2,
        _ => left,
    }
}

async fn send(socket: &UdpSocket, reply: &Message, limit: usize, to: SocketAddr) {
    if let Some(bytes) = encode(reply, limit) {
        // The client asks again.
        let _ = socket.send_to(&bytes, to).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::Query;
    use hickory_proto::rr::Name;

    #[test]
    fn dn_05_all_questions_of_a_lookup_fit_into_the_clients_patience() {
        let ask = |kind| Ask {
            query: Query::query(Name::root(), kind),
            dnssec_ok: false,
            checking_disabled: false,
        };
        let mut left = PATIENCE;
        for kind in [RecordType::AAAA, RecordType::AAAA, RecordType::A] {
            let time = patience(&ask(kind), left);
            assert!(time >= Duration::from_secs(1), "{time:?} for {kind}");
            left -= time;
        }
        assert!(left.is_zero() && PATIENCE < Duration::from_secs(5));
    }
}
