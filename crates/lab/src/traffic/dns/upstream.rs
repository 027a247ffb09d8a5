//! A resolver that says what a test wants.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Result;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::message::{Message, Record, kind};
use crate::namespace::Namespace;

const TICK: Duration = Duration::from_millis(50);

/// A question that the resolver was asked.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The whole message.
    pub message: Message,
    /// Its name in lower case.
    pub name: String,
    /// Its type.
    pub kind: u16,
    /// Whether it came over TCP.
    pub is_tcp: bool,
    /// How often the same was asked before.
    pub before: usize,
}

impl Asked {
    /// An answer with these records.
    #[must_use]
    pub fn answer(&self, records: Vec<Record>) -> Message {
        Message {
            id: self.message.id,
            flags: Message::QR | Message::RD | Message::RA,
            questions: self.message.questions.clone(),
            answers: records,
            ..Message::default()
        }
    }

    /// An answer without records, and with a code.
    #[must_use]
    pub fn code(&self, code: u16) -> Message {
        let mut message = self.answer(vec![]);
        message.flags |= code;
        message
    }

    /// "There is none", for so many seconds.
    #[must_use]
    pub fn nothing(&self, ttl: u32) -> Message {
        let mut message = self.answer(vec![]);
        message.authorities.push(Record::soa("example", ttl));
        message
    }

    /// One IPv4 address and no IPv6 one, for 300 seconds.
    #[must_use]
    pub fn v4_only(&self, address: Ipv4Addr) -> Message {
        match self.kind {
            kind::A => self.answer(vec![Record::a(&self.name, 300, address.octets())]),
            _ => self.nothing(300),
        }
    }

    /// Answers with the IPv6 loopback address, each wrong in another way: identifier, name, type,
    /// direction, no question, another source, and what is no message.
    #[must_use]
    pub fn forgeries(&self) -> Vec<Act> {
        let forged = self.answer(vec![Record::aaaa(&self.name, 300, Ipv6Addr::LOCALHOST)]);
        let mut id = forged.clone();
        id.id = id.id.wrapping_add(1);
        let mut question = forged.clone();
        question.questions[0].0 = "bank.example".to_owned();
        let mut other = forged.clone();
        other.questions[0].1 = kind::TXT;
        let mut query = forged.clone();
        query.flags &= !Message::QR;
        let mut none = forged.clone();
        none.questions.clear();
        vec![
            Act::Say(id),
            Act::Say(question),
            Act::Say(other),
            Act::Say(query),
            Act::Say(none),
            Act::SendFromElsewhere(forged.to_bytes()),
            Act::Send(vec![0; 3]),
        ]
    }

    /// True if the client of this resolver wants no validation.
    #[must_use]
    pub fn is_unchecked(&self) -> bool {
        self.message.has(Message::CD)
    }
}

/// What the resolver does about a question, one after the other.
#[derive(Clone, Debug)]
pub enum Act {
    /// Answers.
    Say(Message),
    /// Answers with these bytes.
    Send(Vec<u8>),
    /// Answers from another port, over UDP.
    SendFromElsewhere(Vec<u8>),
    /// Waits.
    Wait(Duration),
}

impl From<Message> for Vec<Act> {
    fn from(message: Message) -> Self {
        vec![Act::Say(message)]
    }
}

/// What is done about which question. Nothing is silence.
type Script = dyn Fn(&Asked) -> Vec<Act> + Send + Sync;

/// A resolver.
pub struct Upstream {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    script: Box<Script>,
    tls: Option<Arc<ServerConfig>>,
    asked: Mutex<Vec<Asked>>,
    connections: AtomicU64,
    is_over: AtomicBool,
}

impl Upstream {
    /// Answers on port 53 of `address` in the namespace. Each name has so many IPv4 addresses, from
    /// `first` on, and nothing else.
    ///
    /// # Errors
    /// When the address is not there, or the port is taken.
    pub fn start(
        namespace: &Namespace,
        address: Ipv4Addr,
        first: Ipv4Addr,
        count: u8,
    ) -> Result<Self> {
        Self::scripted(namespace, (address, 53).into(), move |asked| {
            let count = if asked.kind == kind::A { count } else { 0 };
            let address = |number| Ipv4Addr::from_bits(first.to_bits() + u32::from(number));
            let records = (0..count)
                .map(|number| Record::a(&asked.name, 300, address(number).octets()))
                .collect();
            asked.answer(records).into()
        })
    }

    /// Goes by a script, over UDP and TCP.
    ///
    /// # Errors
    /// When the address is not there, or the port is taken.
    pub fn scripted(
        namespace: &Namespace,
        address: SocketAddr,
        script: impl Fn(&Asked) -> Vec<Act> + Send + Sync + 'static,
    ) -> Result<Self> {
        let (udp, tcp) =
            namespace.run(|| Ok((UdpSocket::bind(address)?, TcpListener::bind(address)?)))?;
        udp.set_read_timeout(Some(TICK))?;
        tcp.set_nonblocking(true)?;
        let mut elsewhere = address;
        elsewhere.set_port(0);
        let elsewhere = namespace.run(|| Ok(UdpSocket::bind(elsewhere)?))?;
        let shared = Shared::new(script, None);
        let (one, other) = (Arc::clone(&shared), Arc::clone(&shared));
        let threads = vec![
            thread::spawn(move || one.datagrams(&Arc::new(udp), &Arc::new(elsewhere))),
            thread::spawn(move || other.connections(&tcp)),
        ];
        Ok(Self { shared, threads })
    }

    /// Goes by a script, over TLS and in no other way.
    ///
    /// # Errors
    /// When the address is not there, or the port is taken.
    pub fn over_tls(
        namespace: &Namespace,
        address: SocketAddr,
        tls: Arc<ServerConfig>,
        script: impl Fn(&Asked) -> Vec<Act> + Send + Sync + 'static,
    ) -> Result<Self> {
        let tcp = namespace.run(|| Ok(TcpListener::bind(address)?))?;
        tcp.set_nonblocking(true)?;
        let shared = Shared::new(script, Some(tls));
        let one = Arc::clone(&shared);
        let threads = vec![thread::spawn(move || one.connections(&tcp))];
        Ok(Self { shared, threads })
    }

    /// How many connections it has accepted.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// How many questions it was asked.
    #[must_use]
    pub fn asked(&self) -> u64 {
        self.shared.asked().len() as u64
    }

    /// The questions about a name, in order.
    #[must_use]
    pub fn questions(&self, name: &str) -> Vec<Asked> {
        let all = self.shared.asked();
        all.iter().filter(|one| one.name == name).cloned().collect()
    }

    /// The types that were asked for about a name, in order.
    #[must_use]
    pub fn kinds(&self, name: &str) -> Vec<u16> {
        self.questions(name).iter().map(|one| one.kind).collect()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn new(
        script: impl Fn(&Asked) -> Vec<Act> + Send + Sync + 'static,
        tls: Option<Arc<ServerConfig>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            script: Box::new(script),
            tls,
            asked: Mutex::default(),
            connections: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
        })
    }

    fn asked(&self) -> std::sync::MutexGuard<'_, Vec<Asked>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// What to do about the bytes of a question.
    fn look_up(&self, bytes: &[u8], is_tcp: bool) -> Vec<Act> {
        let Ok(message) = Message::parse(bytes) else {
            return Vec::new();
        };
        let Some((name, kind, _)) = message.questions.first().cloned() else {
            return Vec::new();
        };
        let name = name.to_ascii_lowercase();
        let mut all = self.asked();
        let same = |one: &&Asked| (&one.name, one.kind, one.is_tcp) == (&name, kind, is_tcp);
        let before = all.iter().filter(same).count();
        let asked = Asked {
            message,
            name,
            kind,
            is_tcp,
            before,
        };
        all.push(asked.clone());
        drop(all);
        (self.script)(&asked)
    }

    fn datagrams(&self, socket: &Arc<UdpSocket>, elsewhere: &Arc<UdpSocket>) {
        let mut buffer = [0; 2048];
        while !self.is_over() {
            let Ok((length, from)) = socket.recv_from(&mut buffer) else {
                continue;
            };
            let acts = self.look_up(&buffer[..length], false);
            let (socket, elsewhere) = (Arc::clone(socket), Arc::clone(elsewhere));
            let act = move || {
                for act in acts {
                    // The other side may have gone.
                    let _ = match act {
                        Act::Say(message) => socket.send_to(&message.to_bytes(), from),
                        Act::Send(bytes) => socket.send_to(&bytes, from),
                        Act::SendFromElsewhere(bytes) => elsewhere.send_to(&bytes, from),
                        Act::Wait(time) => {
                            thread::sleep(time);
                            Ok(0)
                        }
                    };
                }
            };
            thread::spawn(act);
        }
    }

    fn connections(self: Arc<Self>, listener: &TcpListener) {
        while !self.is_over() {
            match listener.accept() {
                Ok((stream, _)) => {
                    let shared = Arc::clone(&self);
                    shared.connections.fetch_add(1, Ordering::Relaxed);
                    // Whatever ends a connection is the client's affair.
                    thread::spawn(move || shared.accept(stream));
                }
                Err(_) => thread::sleep(TICK / 10),
            }
        }
    }

    fn accept(&self, stream: TcpStream) -> Result<()> {
        stream.set_nonblocking(false)?;
        match &self.tls {
            None => self.converse(stream),
            Some(tls) => {
                let session = ServerConnection::new(Arc::clone(tls))?;
                self.converse(StreamOwned::new(session, stream))
            }
        }
    }

    fn converse(&self, mut stream: impl Read + Write) -> Result<()> {
        loop {
            let mut length = [0; 2];
            stream.read_exact(&mut length)?;
            let mut bytes = vec![0; u16::from_be_bytes(length).into()];
            stream.read_exact(&mut bytes)?;
            for act in self.look_up(&bytes, true) {
                let bytes = match act {
                    Act::Say(message) => message.to_bytes(),
                    Act::Send(bytes) | Act::SendFromElsewhere(bytes) => bytes,
                    Act::Wait(time) => {
                        thread::sleep(time);
                        continue;
                    }
                };
                stream.write_all(&(bytes.len() as u16).to_be_bytes())?;
                stream.write_all(&bytes)?;
                stream.flush()?;
            }
        }
    }
}
