//! The discovery on one link: router solicitations and advertisements, DNS queries and responses,
//! probes. What they mean is decided in [`xlat_proto::discovery`].

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use thiserror::Error;
use tokio::sync::mpsc;
use tokio::time::sleep;
use tracing::{debug, info, warn};
use xlat_core::Instant;
use xlat_core::addr::Pref64;
use xlat_host::daemon::state_dir::random;
use xlat_host::host::Link;
use xlat_host::icmp6::{self, RouterMessages};
use xlat_proto::discovery::{Answer, Ask, Discovery, Found, Rules, Source};
use xlat_proto::ra::{ALL_ROUTERS, Advertisement, Invalid, Solicitation};
use xlat_tun::now;

use crate::router_listener::RouterListener;
use crate::{query, resolvers};

/// Which discovered prefixes may be used.
#[derive(Clone, Copy, Debug, Default)]
pub struct Trust {
    /// Use only prefixes through which this address answers a ping.
    pub probe: Option<Ipv4Addr>,
    /// Use no prefixes that were discovered by DNS alone.
    pub require_secure: bool,
}

/// The socket for router advertisements could not be opened.
#[derive(Debug, Error)]
#[error(
    "cannot receive router advertisements on {link}; run as root or with CAP_NET_RAW, or give \
--prefix"
)]
pub struct ListenError {
    link: String,
    source: std::io::Error,
}

/// The discovery on one link.
#[derive(Debug)]
pub struct LinkDiscovery {
    link: Link,
    discovery: Discovery,
    routers: RouterMessages,
    answers: mpsc::Receiver<Answer>,
    answer: mpsc::Sender<Answer>,
    /// The IPv4 address that is pinged through a prefix before the prefix is used.
    target: Option<Ipv4Addr>,
    probes: mpsc::Receiver<(Pref64, bool)>,
    probed: mpsc::Sender<(Pref64, bool)>,
    refused: HashMap<Invalid, u64>,
    /// Number of prefixes that are malformed or unusable.
    odd_prefixes: u64,
    /// Number of DNS messages that did not match a query.
    ignored: Arc<AtomicU64>,
}

impl LinkDiscovery {
    /// Starts to listen on the link, with the recent advertisements that `listener` received there.
    ///
    /// # Errors
    /// If the kernel refuses the raw socket.
    pub fn join(
        link: &Link,
        listener: Option<&RouterListener>,
        trust: Trust,
    ) -> Result<Self, ListenError> {
        let rules = Rules {
            probe: trust.probe.is_some(),
            require_secure: trust.require_secure,
        };
        let routers = RouterMessages::of_routers(link).map_err(|source| ListenError {
            link: link.name.clone(),
            source,
        })?;
        let (answer, answers) = mpsc::channel(1);
        let (probed, probes) = mpsc::channel(8);
        let mut discovery = Self {
            link: link.clone(),
            discovery: Discovery::new(now(), rules),
            routers,
            answers,
            answer,
            target: trust.probe,
            probes,
            probed,
            refused: HashMap::new(),
            odd_prefixes: 0,
            ignored: Arc::default(),
        };
        for received in listener
            .iter()
            .flat_map(|listener| listener.recent(link.index))
        {
            discovery.on_message(received.router, &received.message, received.at);
        }
        Ok(discovery)
    }

    /// Follows changes of `link` that leave it the same network, as a new name or link-layer address.
    /// False if it may be another network: it has lost its carrier since.
    pub fn follow(&mut self, link: &Link) -> bool {
        let identity = |link: &Link| (link.index, link.carrier_changes);
        let is_same = identity(&self.link) == identity(link);
        if is_same {
            self.link.clone_from(link);
        }
        is_same
    }

    /// Sends the messages that are due.
    pub async fn send(&mut self) {
        self.discovery
            .set_servers(resolvers::to_ask(self.link.index), now());
        while let Some(ask) = self.discovery.poll(now()) {
            match ask {
                Ask::Routers => self.solicit().await,
                Ask::Dns(servers) => self.query(servers),
                Ask::Probe(prefix) => self.probe(prefix),
            }
        }
    }

    async fn solicit(&self) {
        let link_layer = self.link.mac;
        let message = Solicitation { link_layer }.build();
        if let Err(error) = self.routers.send(ALL_ROUTERS, &message).await {
            debug!("no router solicitation on {}: {error}", self.link.name);
        }
    }

    fn query(&self, servers: Vec<Ipv6Addr>) {
        let (link, answer) = (self.link.clone(), self.answer.clone());
        let ignored = Arc::clone(&self.ignored);
        tokio::spawn(async move {
            let response = query::ask(&link, &servers, &ignored).await;
            // It fails if the link was left meanwhile.
            let _ = answer.send(response).await;
        });
    }

    fn probe(&self, prefix: Pref64) {
        let Some(target) = self.target else { return };
        let (link, probed) = (self.link.clone(), self.probed.clone());
        tokio::spawn(async move {
            let id = random().map_or(0, |random| random[0] as u16);
            let answered = icmp6::answers(&link, prefix.embed(target), id).await;
            let answered = answered.unwrap_or_else(|error| {
                debug!("no probe of {prefix}: {error}");
                false
            });
            if !answered {
                info!("{target} does not answer through the NAT64 prefix {prefix}");
            }
            // It fails if the link was left meanwhile.
            let _ = probed.send((prefix, answered)).await;
        });
    }

    /// Waits until a message has arrived or is due. Call [`send`](Self::send) afterwards.
    pub async fn next(&mut self) {
        let due = self.discovery.next_timeout(now());
        let mut wait = due.map_or(Duration::from_secs(3600), |due| {
            due.saturating_since(now()) + Duration::from_millis(1)
        });
        if self.found().is_none() {
            // The kernel has no event for a new DNS server.
            wait = wait.min(RESOLVERS_LOOK);
        }
        tokio::select! {
            received = self.routers.recv() => match received {
                Ok((router, message)) => self.on_message(router, &message, now()),
                Err(error) => {
                    debug!("{}: {error}", self.link.name);
                    // The link is gone; the host's change events report that too.
                    sleep(Duration::from_secs(1)).await;
                }
            },
            Some(answer) = self.answers.recv() => {
                debug!("DNS: {answer:?}");
                self.discovery.on_answer(&answer, now());
                self.complain_of_refused();
            }
            Some((prefix, answered)) = self.probes.recv() => {
                self.discovery.on_probe(prefix, answered, now());
            }
            () = sleep(wait) => {}
        }
    }

    fn on_message(&mut self, router: Ipv6Addr, message: &[u8], at: Instant) {
        match Advertisement::parse(router, HOP_LIMIT_SEEN, message) {
            Ok(advertisement) => {
                self.discovery.on_advertisement(router, &advertisement, at);
                if Advertisement::has_odd_pref64(message) {
                    self.complain(&format!("a NAT64 prefix of router {router} says nothing"));
                }
                self.complain_of_refused();
            }
            Err(invalid) => {
                let count = self.refused.entry(invalid).or_default();
                *count += 1;
                if *count == 1 {
                    warn!(
                        "a router advertisement of {router} on {} is ignored: {invalid}",
                        self.link.name
                    );
                }
            }
        }
    }

    fn complain_of_refused(&mut self) {
        while let Some(prefix) = self.discovery.take_refused() {
            self.complain(&format!("nothing can be sent to the NAT64 prefix {prefix}"));
        }
    }

    /// Logs the first one on each link; all are counted.
    fn complain(&mut self, what: &str) {
        self.odd_prefixes += 1;
        if self.odd_prefixes == 1 {
            warn!("{what}: ignored on {}", self.link.name);
        }
    }

    /// The prefix to use and its source.
    pub fn found(&self) -> Option<Found> {
        self.discovery.found(now())
    }

    /// All known prefixes.
    pub fn all(&self) -> Vec<Found> {
        self.discovery.all(now())
    }

    /// The DNS servers that are asked: those of the link, then those on this host.
    pub fn servers(&self) -> Vec<IpAddr> {
        let all = self.discovery.servers(now());
        all.iter().map(Ipv6Addr::to_canonical).collect()
    }

    /// Interface index of the link.
    pub fn index(&self) -> u32 {
        self.link.index
    }

    /// Number of advertisements, and of prefixes in them, that were ignored.
    pub fn refused(&self) -> u64 {
        self.refused.values().sum::<u64>() + self.odd_prefixes
    }

    /// Number of DNS messages that were ignored.
    pub fn ignored(&self) -> u64 {
        self.ignored.load(Ordering::Relaxed)
    }
}

/// How often the host's list of DNS servers is read while no prefix is known.
const RESOLVERS_LOOK: Duration = Duration::from_secs(2);

/// The socket's filter lets nothing else pass.
const HOP_LIMIT_SEEN: u8 = 255;

/// The source of a prefix, as text.
pub fn origin(source: Source) -> String {
    match source {
        Source::Configured => "given by --prefix".into(),
        Source::Router(router) => format!("announced by router {router}"),
        Source::Dns => "told by the network's DNS64".into(),
    }
}

/// Logs which prefix is used, if it has changed.
pub fn log_change(before: Option<Found>, after: Option<Found>) {
    match (before, after) {
        (before, Some(found)) if before != Some(found) => {
            info!("NAT64 prefix {}, {}", found.prefix, origin(found.source));
        }
        (Some(gone), None) => warn!("the NAT64 prefix {} is no longer valid", gone.prefix),
        _ => {}
    }
}
