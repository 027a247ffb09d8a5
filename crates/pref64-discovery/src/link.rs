//! The discovery on one link: router solicitations and advertisements, PCP and DNS requests and
//! responses, probes. What they mean is decided in [`xlat_proto::discovery`].

use std::future::pending;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use portable_atomic::AtomicU64;
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::time::sleep;
use tracing::{debug, info, warn};
use xlat_core::Instant;
use xlat_core::addr::{Ipv6Prefix, Pref64};
use xlat_host::daemon::state_dir::random;
use xlat_host::host::Link;
use xlat_host::icmp6::{self, RouterMessages};
use xlat_proto::clat::Prefix;
use xlat_proto::discovery::{Answer, Ask, Discovery, Found, Notice, PcpAnswer, Rules, Source};
use xlat_proto::ra::{ALL_ROUTERS, Advertisement, Invalid, Solicitation};
use xlat_tun::now;

use crate::intake::{Intake, LogLimit};
use crate::router_listener::RouterListener;
use crate::{pcp, query, resolvers};

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

/// A kind of log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Invalid(Invalid),
    OddPrefix,
    Unusable,
    Covers,
    NotUsed,
}

/// The discovery on one link.
#[derive(Debug)]
pub struct LinkDiscovery {
    link: Link,
    discovery: Discovery,
    routers: RouterMessages,
    intake: Intake,
    /// The advertisements of the router in use alone: a flood from others does not crowd them out.
    used: Option<(Ipv6Addr, RouterMessages)>,
    used_intake: Intake,
    answers: mpsc::Receiver<Answer>,
    answer: mpsc::Sender<Answer>,
    pcp_answers: mpsc::Receiver<PcpAnswer>,
    pcp_answer: mpsc::Sender<PcpAnswer>,
    /// The IPv4 address that is pinged through a prefix before the prefix is used.
    target: Option<Ipv4Addr>,
    probes: mpsc::Receiver<(Pref64, bool)>,
    probed: mpsc::Sender<(Pref64, bool)>,
    /// Number of advertisements, and of prefixes in them, that were ignored.
    refused: u64,
    /// When the caller is to learn that there are more of them.
    report_at: Option<Instant>,
    limit: LogLimit<Kind>,
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
        let (pcp_answer, pcp_answers) = mpsc::channel(1);
        let (probed, probes) = mpsc::channel(8);
        let mut discovery = Self {
            link: link.clone(),
            discovery: Discovery::new(now(), rules),
            routers,
            intake: Intake::new(),
            used: None,
            used_intake: Intake::new(),
            answers,
            answer,
            pcp_answers,
            pcp_answer,
            target: trust.probe,
            probes,
            probed,
            refused: 0,
            report_at: None,
            limit: LogLimit::new(),
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

    /// Sets the networks on this host's links and its addresses.
    pub fn set_local(&mut self, local: &[Ipv6Prefix]) {
        self.discovery.set_local(local.to_vec(), now());
        self.log_notices();
    }

    /// Sets the PCP servers of the network, which may know the prefix.
    pub fn set_pcp_servers(&mut self, servers: &[Ipv6Addr]) {
        self.discovery.set_pcp_servers(servers.to_vec(), now());
    }

    /// Records that a translation runs with the prefix in use: from now on it stays.
    pub fn on_running(&mut self) {
        self.discovery.on_running();
    }

    /// Asks routers, PCP and DNS servers again. What is known holds until they answer.
    pub fn ask_again(&mut self) {
        self.discovery.ask_again(now());
    }

    /// Listens to the router in use with a socket of its own.
    fn listen_to_used(&mut self) {
        let used = match self.found().map(|found| found.source) {
            Some(Source::Router(router)) => Some(router),
            _ => None,
        };
        if used == self.used.as_ref().map(|(router, _)| *router) {
            return;
        }
        self.used = used.and_then(|router| {
            let messages = RouterMessages::of_router(&self.link, router);
            let messages = messages.inspect_err(|error| debug!("{}: {error}", self.link.name));
            Some((router, messages.ok()?))
        });
    }

    /// Sends the messages that are due.
    pub async fn send(&mut self) {
        self.listen_to_used();
        self.report_at = self.report_at.filter(|at| *at > now());
        self.discovery
            .set_servers(resolvers::to_ask(self.link.index), now());
        while let Some(ask) = self.discovery.poll(now()) {
            match ask {
                Ask::Routers => self.solicit().await,
                Ask::Dns(servers) => self.query(servers),
                Ask::Pcp(servers) => self.ask_pcp(servers),
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

    fn ask_pcp(&self, servers: Vec<Ipv6Addr>) {
        let (link, answer) = (self.link.clone(), self.pcp_answer.clone());
        tokio::spawn(async move {
            let response = pcp::ask(&link, &servers).await;
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

    /// Waits until the result may have changed or a message is due. Call [`send`](Self::send)
    /// afterwards. Can be cancelled.
    pub async fn next(&mut self) {
        loop {
            let wait = self.wait();
            tokio::select! {
                received = take(&self.intake, Some(&self.routers)) => {
                    self.intake.taken(now());
                    if self.on_received(received).await {
                        return;
                    }
                }
                received = take(&self.used_intake, self.used.as_ref().map(|(_, used)| used)) => {
                    self.used_intake.taken(now());
                    if self.on_received(received).await {
                        return;
                    }
                }
                Some(answer) = self.answers.recv() => {
                    debug!("DNS: {answer:?}");
                    self.discovery.on_answer(&answer, now());
                    return self.log_notices();
                }
                Some(answer) = self.pcp_answers.recv() => {
                    debug!("PCP: {answer:?}");
                    self.discovery.on_pcp(&answer, now());
                    return self.log_notices();
                }
                Some((prefix, answered)) = self.probes.recv() => {
                    self.discovery.on_probe(prefix, answered, now());
                    return;
                }
                () = sleep(wait) => return,
            }
        }
    }

    /// Time until a message is due.
    fn wait(&self) -> Duration {
        let due = self.discovery.next_timeout(now());
        let due = due.into_iter().chain(self.report_at).min();
        let wait = due.map_or(Duration::from_secs(3600), |due| {
            due.saturating_since(now()) + Duration::from_millis(1)
        });
        match self.found() {
            // The kernel has no event for a new DNS server.
            None => wait.min(RESOLVERS_LOOK),
            Some(_) => wait,
        }
    }

    /// True if the result may have changed or a message is due.
    async fn on_received(&mut self, received: io::Result<(Ipv6Addr, Vec<u8>)>) -> bool {
        match received {
            Ok((router, message)) => {
                let has_changed = self.on_message(router, &message, now());
                let due = self.discovery.next_timeout(now());
                has_changed || due.is_some_and(|due| due <= now())
            }
            Err(error) => {
                debug!("{}: {error}", self.link.name);
                // The link is gone; the host's change events report that too.
                sleep(Duration::from_secs(1)).await;
                true
            }
        }
    }

    /// True if the result may have changed.
    fn on_message(&mut self, router: Ipv6Addr, message: &[u8], at: Instant) -> bool {
        match Advertisement::parse(router, HOP_LIMIT_SEEN, message) {
            Ok(advertisement) => {
                let routers = self.routers();
                let changed = self.discovery.on_advertisement(router, &advertisement, at);
                if Advertisement::has_odd_pref64(message) {
                    self.refuse(
                        Kind::OddPrefix,
                        &format!("a NAT64 prefix of router {router} says nothing"),
                    );
                }
                self.log_notices();
                changed || routers != self.routers()
            }
            Err(invalid) => {
                let what = format!("a router advertisement of {router}, {invalid}");
                self.refuse(Kind::Invalid(invalid), &what);
                false
            }
        }
    }

    fn log_notices(&mut self) {
        while let Some(notice) = self.discovery.take_notice() {
            match notice {
                Notice::Unusable(prefix) => self.refuse(
                    Kind::Unusable,
                    &format!("nothing can be sent to the NAT64 prefix {prefix}"),
                ),
                Notice::Covers(prefix, network) => self.refuse(
                    Kind::Covers,
                    &format!("the NAT64 prefix {prefix} covers this host's own {network}"),
                ),
                Notice::NotUsed(found) => self.log_not_used(found),
            }
        }
    }

    fn log_not_used(&mut self, other: Found) {
        let Some(used) = self.found() else { return };
        if let Some(more) = self.limit.allows(Kind::NotUsed, now()) {
            info!(
                "the NAT64 prefix {}, {}, is not used: {} stays in use{more}",
                other.prefix, other.source, used.prefix
            );
        }
    }

    /// Counts what is ignored, and logs the first of a kind in ten seconds.
    fn refuse(&mut self, kind: Kind, what: &str) {
        self.refused += 1;
        self.report_at.get_or_insert(now() + REPORT_PAUSE);
        if let Some(more) = self.limit.allows(kind, now()) {
            warn!("{what}: ignored on {}{more}", self.link.name);
        }
    }

    /// The prefix to use and its source.
    pub fn found(&self) -> Option<Found> {
        self.discovery.found(now())
    }

    /// What is known of the prefix.
    pub fn prefix(&self) -> Prefix {
        match self.found() {
            Some(found) => Prefix::Known(found.prefix),
            None if self.discovery.is_asking(now()) => Prefix::Asking,
            None => Prefix::Unknown,
        }
    }

    /// The routers that announce the prefix to use, the one to use first.
    pub fn routers(&self) -> Vec<Ipv6Addr> {
        match self.found() {
            Some(found) => self.discovery.routers(found.prefix, now()),
            None => Vec::new(),
        }
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
        self.refused
    }

    /// Number of DNS messages that were ignored.
    pub fn ignored(&self) -> u64 {
        self.ignored.load(Ordering::Relaxed)
    }
}

/// Receives a message when its turn has come.
async fn take(
    intake: &Intake,
    messages: Option<&RouterMessages>,
) -> io::Result<(Ipv6Addr, Vec<u8>)> {
    let Some(messages) = messages else {
        return pending().await;
    };
    intake.ready().await;
    messages.recv().await
}

/// How soon the caller learns that messages were ignored.
const REPORT_PAUSE: Duration = Duration::from_secs(1);

/// How often the host's list of DNS servers is read while no prefix is known.
const RESOLVERS_LOOK: Duration = Duration::from_secs(2);

/// The socket's filter lets nothing else pass.
pub(crate) const HOP_LIMIT_SEEN: u8 = 255;

/// Logs which prefix is used, if it has changed.
pub fn log_change(before: Option<Found>, after: Option<Found>) {
    match (before, after) {
        (before, Some(found)) if before != Some(found) => {
            info!("NAT64 prefix {}, {}", found.prefix, found.source);
        }
        (Some(gone), None) => warn!("the NAT64 prefix {} is no longer valid", gone.prefix),
        _ => {}
    }
}
