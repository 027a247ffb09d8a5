//! Answers over UDP from the cache, in batches: a thread reads up to [`BATCH`] queries with one system
//! call, writes their answers over what is kept, and sends them with another. What is not in the cache
//! goes to the thread that looks it up.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr, SocketAddrV6, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dns64::Asked;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, MultiHeaders, SockaddrIn6, recvmmsg, sendmmsg};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fd::OwnedFd;
use tokio::sync::mpsc;
use tracing::debug;
use xlat_core::Instant;
use xlat_tun::now;

use crate::limits::Client;
use crate::shared::Shared;

/// Queries that are read at once.
const BATCH: usize = 64;
/// Maximum length of a query in bytes.
const QUERY_MAX: usize = 4096;
/// Queries that may wait for the thread that looks them up.
pub(crate) const MISSES_MAX: usize = 4096;

/// A query for the thread that looks up.
#[derive(Debug)]
pub(crate) struct Miss {
    pub(crate) socket: Arc<UdpSocket>,
    pub(crate) bytes: Vec<u8>,
    pub(crate) from: SocketAddr,
    pub(crate) client: Client,
    /// It was answered; its answer is about to expire.
    pub(crate) is_refresh: bool,
}

/// Ends the threads.
#[derive(Clone, Debug)]
pub(crate) struct Stop(Arc<(AtomicBool, OwnedFd)>);

impl Stop {
    pub(crate) fn new() -> io::Result<Self> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self(Arc::new((AtomicBool::new(false), event))))
    }

    /// They end after the batch under way.
    pub(crate) fn stop(&self) {
        self.0.0.store(true, Ordering::Release);
        let _ = rustix::io::write(&self.0.1, &1_u64.to_ne_bytes());
    }

    fn is_over(&self) -> bool {
        self.0.0.load(Ordering::Acquire)
    }
}

/// A thread's sockets and what it shares.
pub(crate) struct Datagrams {
    pub(crate) sockets: Vec<Arc<UdpSocket>>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) misses: mpsc::Sender<Miss>,
    pub(crate) stop: Stop,
}

/// What is reused from batch to batch.
struct Batch {
    heads: MultiHeaders<SockaddrIn6>,
    queries: Vec<[u8; QUERY_MAX]>,
    read: Vec<(usize, SocketAddrV6)>,
    admitted: Vec<Option<Client>>,
    reply_heads: MultiHeaders<SockaddrIn6>,
    replies: Vec<Vec<u8>>,
    to: Vec<Option<SockaddrIn6>>,
}

impl Batch {
    fn new() -> Self {
        Self {
            heads: MultiHeaders::preallocate(BATCH, None),
            queries: vec![[0; QUERY_MAX]; BATCH],
            read: Vec::with_capacity(BATCH),
            admitted: Vec::with_capacity(BATCH),
            reply_heads: MultiHeaders::preallocate(BATCH, None),
            replies: vec![Vec::new(); BATCH],
            to: Vec::with_capacity(BATCH),
        }
    }
}

impl Datagrams {
    /// Answers until it is stopped.
    pub(crate) fn run(self) {
        let mut batch = Batch::new();
        while !self.stop.is_over() {
            let ready: Vec<bool> = {
                let sockets = self.sockets.iter();
                let mut all: Vec<PollFd<'_>> = sockets
                    .map(|socket| PollFd::new(&**socket, PollFlags::IN))
                    .collect();
                all.push(PollFd::new(&self.stop.0.1, PollFlags::IN));
                if poll(&mut all, None).is_err() {
                    continue;
                }
                all.iter().map(|one| !one.revents().is_empty()).collect()
            };
            for (socket, ready) in self.sockets.iter().zip(ready) {
                if !ready {
                    continue;
                }
                match receive(socket, &mut batch) {
                    Ok(()) => self.answer(socket, &mut batch),
                    // Such as an ICMP error about an answer.
                    Err(Errno::EAGAIN | Errno::EINTR | Errno::ECONNREFUSED) => {}
                    Err(error) => debug!("a query cannot be read: {error}"),
                }
            }
        }
    }

    fn answer(&self, socket: &Arc<UdpSocket>, batch: &mut Batch) {
        let now = now();
        let Batch {
            queries,
            read,
            admitted,
            replies,
            to,
            ..
        } = batch;
        {
            let mut gate = self.shared.gate();
            let clients = read
                .iter()
                .map(|(_, from)| self.shared.admit(&mut gate, IpAddr::V6(*from.ip()), now));
            admitted.clear();
            admitted.extend(clients);
        }
        to.clear();
        {
            let answers = self.shared.answers();
            for (index, (length, from)) in read.iter().enumerate() {
                let Some(client) = admitted[index] else {
                    continue;
                };
                let bytes = &queries[index][..*length];
                let is_plain = answers.is_plain(*from.ip());
                let mut miss = Some(false);
                if let Some(asked) = Asked::read(bytes)
                    && let Some(found) = answers.cache.find(&asked.key(is_plain), now)
                    && found.is_final()
                    && found.write(&asked, asked.limit(), &mut replies[to.len()])
                {
                    self.shared.counters.count_kept(&found);
                    to.push(Some((*from).into()));
                    miss = found.wants_refresh().then_some(true);
                }
                if let Some(is_refresh) = miss {
                    self.hand_over(socket, bytes, *from, (client, is_refresh), now);
                }
            }
        }
        send(socket, batch);
    }

    fn hand_over(
        &self,
        socket: &Arc<UdpSocket>,
        bytes: &[u8],
        from: SocketAddrV6,
        (client, is_refresh): (Client, bool),
        now: Instant,
    ) {
        let miss = Miss {
            socket: Arc::clone(socket),
            bytes: bytes.to_vec(),
            from: from.into(),
            client,
            is_refresh,
        };
        if self.misses.try_send(miss).is_err() && !is_refresh {
            let why = "too many queries at once";
            let mut gate = self.shared.gate();
            self.shared.limited(&mut gate, client, why, now);
        }
    }
}

/// Reads what is there.
fn receive(socket: &UdpSocket, batch: &mut Batch) -> nix::Result<()> {
    batch.read.clear();
    let mut slices: Vec<[IoSliceMut<'_>; 1]> = batch
        .queries
        .iter_mut()
        .map(|query| [IoSliceMut::new(query)])
        .collect();
    let flags = MsgFlags::MSG_DONTWAIT;
    let (fd, heads) = (socket.as_raw_fd(), &mut batch.heads);
    let received = recvmmsg(fd, heads, slices.iter_mut(), flags, None)?;
    let read = received.map(|one| {
        // Only IPv6 sockets are read.
        let from = one.address.map(SocketAddrV6::from);
        let nobody = SocketAddrV6::new(std::net::Ipv6Addr::UNSPECIFIED, 0, 0, 0);
        (one.bytes, from.unwrap_or(nobody))
    });
    batch.read.extend(read);
    Ok(())
}

/// Sends the replies. A client whose reply is lost repeats its query.
fn send(socket: &UdpSocket, batch: &mut Batch) {
    let count = batch.to.len();
    let mut sent = 0;
    while sent < count {
        let slices: Vec<[IoSlice<'_>; 1]> = batch.replies[sent..count]
            .iter()
            .map(|reply| [IoSlice::new(reply)])
            .collect();
        let none: [ControlMessage<'_>; 0] = [];
        let flags = MsgFlags::MSG_DONTWAIT;
        let (fd, heads, to) = (
            socket.as_raw_fd(),
            &mut batch.reply_heads,
            &batch.to[sent..count],
        );
        match sendmmsg(fd, heads, slices.iter(), to, none, flags) {
            Ok(results) => sent += results.count().max(1),
            Err(Errno::EINTR) => {}
            // The first of them cannot be sent; the next may.
            Err(Errno::EAGAIN) => return,
            Err(_) => sent += 1,
        }
    }
}
