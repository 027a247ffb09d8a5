//! The DNS64 of `plat`.
//!
//! It has a thread and a runtime of its own, so that no query is ever in the way of a packet.

mod address;
mod counters;
pub(crate) mod flags;
mod limits;
mod server;
mod tls;
mod upstream;

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result};
use dns64::Rules;
use tokio::sync::{mpsc, oneshot};
use tracing::{info, warn};
use xlat_core::addr::Ipv6Prefix;
use xlat_host::daemon::exit::Usage;
use xlat_host::host::Host;

use crate::settings::Settings;
use address::of_resolv_conf;
pub(crate) use counters::{Counters, Figures};
use flags::Upstream;
use limits::Limits;
use server::Server;
use tls::Trust;

const PORT: u16 = 53;

/// A running DNS64. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Dns64 {
    addresses: Vec<Ipv6Addr>,
    counters: Arc<Counters>,
    updates: mpsc::UnboundedSender<Orders>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
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
            let server = Server::new(orders, count);
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

    /// Goes by other orders from now on. Answers that were kept are forgotten if others may follow
    /// from the new ones.
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
    upstreams: Vec<Upstream>,
    /// Whom resolvers over TLS prove their names to.
    trust: Option<Trust>,
    allowed: Vec<Ipv6Prefix>,
    rate: u32,
    cache: usize,
}

impl Orders {
    /// What the settings come to.
    pub(crate) async fn new(host: &Host, settings: &Settings) -> Result<Self> {
        let flags = &settings.run.dns;
        let mut rules = Rules {
            wkp_strict: settings.run.wkp_strict == xlat_host::daemon::flags::Switch::On,
            unmapped: flags.dns64_unmapped.clone(),
            prefix_lifetime: flags.dns64_prefix_ttl,
            ..Rules::new(settings.pref64s.iter().copied().collect())
        };
        rules.excluded.extend(&flags.dns64_exclude);
        let upstreams = upstreams(settings)?;
        let trust = if upstreams.iter().any(|server| server.tls.is_some()) {
            Some(Trust::load(flags.dns64_ca.as_deref())?)
        } else {
            None
        };
        Ok(Self {
            rules,
            upstreams,
            trust,
            allowed: allowed(host, settings).await?,
            rate: flags.dns64_rate,
            cache: flags.dns64_cache,
        })
    }

    fn has_same_answers(&self, other: &Self) -> bool {
        (&self.rules, &self.upstreams, self.cache) == (&other.rules, &other.upstreams, other.cache)
            && self.trust == other.trust
    }

    fn has_same_limits(&self, other: &Self) -> bool {
        (&self.allowed, self.rate) == (&other.allowed, other.rate)
    }

    fn limits(&self) -> Limits {
        Limits::new(self.allowed.clone(), self.rate)
    }
}

fn upstreams(settings: &Settings) -> Result<Vec<Upstream>> {
    let flags = &settings.run.dns;
    let mut servers = flags.dns64_upstream.clone();
    if servers.is_empty() {
        let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        let found = of_resolv_conf(&text, &flags.dns64);
        servers = found.into_iter().map(Upstream::from).collect();
    }
    let is_own = |server: &SocketAddr| {
        let mut own = flags.dns64.iter();
        server.port() == PORT && own.any(|own| server.ip() == IpAddr::V6(*own))
    };
    let mut addresses = servers.iter().map(|server| server.address);
    if let Some(own) = addresses.find(is_own) {
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
