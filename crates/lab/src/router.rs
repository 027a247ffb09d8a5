//! A router and a DNS64 that say what a test wants them to say.

use std::net::{Ipv6Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use tokio::sync::mpsc;
use xlat_host::host::Host;
use xlat_host::icmp6::RouterMessages;
use xlat_proto::ra::{ALL_NODES, Advertisement, Solicitation};

use crate::namespace::Namespace;

/// A router on one link: it answers solicitations and announces what it is told to.
pub struct Router {
    orders: Option<mpsc::UnboundedSender<Vec<u8>>>,
    thread: Option<JoinHandle<Result<()>>>,
    solicited: Arc<AtomicU64>,
}

impl Router {
    /// Starts to advertise on an interface of the namespace.
    ///
    /// # Errors
    /// When there is no such interface.
    pub fn start(
        namespace: &Namespace,
        interface: &str,
        advertisement: &Advertisement,
    ) -> Result<Self> {
        let (orders, received) = mpsc::unbounded_channel();
        let solicited = Arc::new(AtomicU64::new(0));
        let (count, interface) = (Arc::clone(&solicited), interface.to_owned());
        orders.send(advertisement.build())?;
        let (ready, wait) = std::sync::mpsc::channel();
        // A socket belongs to the namespace of the thread that opens it.
        let thread = namespace.run(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            let socket = runtime.block_on(async {
                let link = Host::connect()?.link(&interface).await?;
                Ok::<_, anyhow::Error>(RouterMessages::of_hosts(&link)?)
            })?;
            Ok(thread::spawn(move || {
                let _ = ready.send(());
                runtime.block_on(serve(&socket, received, &count))
            }))
        })?;
        wait.recv().context("the router's thread did not start")?;
        Ok(Self {
            orders: Some(orders),
            thread: Some(thread),
            solicited,
        })
    }

    /// Announces this now, and to whoever asks from now on.
    ///
    /// # Errors
    /// When the router has ended.
    pub fn announce(&self, advertisement: &Advertisement) -> Result<()> {
        self.announce_bytes(advertisement.build())
    }

    /// The same with a message of the caller's making.
    ///
    /// # Errors
    /// When the router has ended.
    pub fn announce_bytes(&self, message: Vec<u8>) -> Result<()> {
        let orders = self.orders.as_ref().context("the router has ended")?;
        orders
            .send(message)
            .map_err(|_| anyhow!("the router has ended"))
    }

    /// How many solicitations it has heard.
    #[must_use]
    pub fn solicited(&self) -> u64 {
        self.solicited.load(Ordering::Relaxed)
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve(
    socket: &RouterMessages,
    mut orders: mpsc::UnboundedReceiver<Vec<u8>>,
    solicited: &AtomicU64,
) -> Result<()> {
    let mut message = Vec::new();
    loop {
        tokio::select! {
            order = orders.recv() => match order {
                Some(order) => message = order,
                None => return Ok(()),
            },
            received = socket.recv() => {
                let (from, asked) = received?;
                if Solicitation::parse(from, 255, &asked).is_err() {
                    continue;
                }
                solicited.fetch_add(1, Ordering::Relaxed);
            }
        }
        // An interface may be down for a while.
        let _ = socket.send(ALL_NODES, &message).await;
    }
}

/// A DNS server that has one answer for everything.
pub struct Dns64 {
    answer: Arc<Mutex<(Vec<Ipv6Addr>, u32)>>,
    asked: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Dns64 {
    /// Listens on port 53 of an address of the namespace; answers AAAA records with these addresses
    /// and this lifetime in seconds. Without addresses there is no such name.
    ///
    /// # Errors
    /// When the address is not there, or the port is taken.
    pub fn start(
        namespace: &Namespace,
        address: Ipv6Addr,
        addresses: &[Ipv6Addr],
        lifetime: u32,
    ) -> Result<Self> {
        let socket = namespace.run(|| Ok(UdpSocket::bind((address, 53))?))?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        let answer = Arc::new(Mutex::new((addresses.to_vec(), lifetime)));
        let asked = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let (answer, asked, stop) =
                (Arc::clone(&answer), Arc::clone(&asked), Arc::clone(&stop));
            move || {
                let mut buffer = [0; 512];
                while !stop.load(Ordering::Relaxed) {
                    if let Ok((length, from)) = socket.recv_from(&mut buffer) {
                        asked.fetch_add(1, Ordering::Relaxed);
                        let (addresses, lifetime) =
                            &*answer.lock().unwrap_or_else(PoisonError::into_inner);
                        let reply = reply(&buffer[..length], addresses, *lifetime);
                        let _ = socket.send_to(&reply, from);
                    }
                }
            }
        });
        Ok(Self {
            answer,
            asked,
            stop,
            thread: Some(thread),
        })
    }

    /// Says something else from now on.
    pub fn say(&self, addresses: &[Ipv6Addr], lifetime: u32) {
        let mut answer = self.answer.lock().unwrap_or_else(PoisonError::into_inner);
        *answer = (addresses.to_vec(), lifetime);
    }

    /// How many questions it was asked.
    #[must_use]
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Drop for Dns64 {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// RFC 1035 by hand: the question again, and a record for each address.
fn reply(query: &[u8], addresses: &[Ipv6Addr], lifetime: u32) -> Vec<u8> {
    let code = if addresses.is_empty() { 3 } else { 0 };
    let mut reply = query.to_vec();
    reply.truncate(query.len());
    if reply.len() < 12 {
        return Vec::new();
    }
    reply[2..4].copy_from_slice(&[0x81, 0x80 | code]);
    reply[6..8].copy_from_slice(&(addresses.len() as u16).to_be_bytes());
    for address in addresses {
        reply.extend([0xc0, 12, 0, 28, 0, 1]);
        reply.extend(lifetime.to_be_bytes());
        reply.extend([0, 16]);
        reply.extend(address.octets());
    }
    reply
}
