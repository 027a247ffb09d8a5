//! What is asked of the network on one link, and what it says: router solicitations and
//! advertisements, DNS queries and answers. What they mean is decided in
//! [`xlat_proto::discovery`].

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
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

use crate::hearing::Hearing;
use crate::{dns, resolvers};

/// Which prefixes are to be used.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Trust {
    /// Those through which this address answers.
    pub(crate) probe: Option<Ipv4Addr>,
    /// Not those that only the DNS tells.
    pub(crate) require_secure: bool,
}

/// The discovery on one link.
pub(crate) struct Network {
    link: Link,
    discovery: Discovery,
    routers: RouterMessages,
    answers: mpsc::Receiver<Answer>,
    answer: mpsc::Sender<Answer>,
    /// Who is asked through a prefix, to see whether it leads there.
    target: Option<Ipv4Addr>,
    probes: mpsc::Receiver<(Pref64, bool)>,
    probed: mpsc::Sender<(Pref64, bool)>,
    refused: HashMap<Invalid, u64>,
    /// Prefixes that say nothing, or that nothing can be sent to.
    odd_prefixes: u64,
    /// DNS messages that did not belong to a question.
    ignored: Arc<AtomicU64>,
}

impl Network {
    /// Begins to listen on the link.
    pub(crate) fn join(link: &Link, hearing: Option<&Hearing>, trust: Trust) -> Result<Self> {
        let rules = Rules {
            probe: trust.probe.is_some(),
            require_secure: trust.require_secure,
        };
        let routers = RouterMessages::of_routers(link).with_context(|| {
            format!(
                "cannot hear routers on {}; run as root or with CAP_NET_RAW, or give --prefix",
                link.name
            )
        })?;
        let (answer, answers) = mpsc::channel(1);
        let (probed, probes) = mpsc::channel(8);
        let mut network = Self {
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
        for heard in hearing
            .iter()
            .flat_map(|hearing| hearing.lately(link.index))
        {
            network.hear(heard.router, &heard.message, heard.at);
        }
        Ok(network)
    }

    /// True if this is still the network on that link: the cable, or the radio, was not out of it
    /// since.
    pub(crate) fn is_of(&self, link: &Link) -> bool {
        let identity = |link: &Link| {
            (
                link.index,
                link.name.clone(),
                link.mac,
                link.carrier_changes,
            )
        };
        identity(&self.link) == identity(link)
    }

    /// Sends what is due.
    pub(crate) async fn send(&mut self) {
        self.discovery
            .set_servers(resolvers::of_link(self.link.index), now());
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
            let said = dns::ask(&link, &servers, &ignored).await;
            // Nobody waits for it any more if this fails.
            let _ = answer.send(said).await;
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
            // Nobody waits for it any more if this fails.
            let _ = probed.send((prefix, answered)).await;
        });
    }

    /// Waits until something has arrived or is due. Must be followed by [`send`](Self::send).
    pub(crate) async fn next(&mut self) {
        let due = self.discovery.next_timeout(now());
        let mut wait = due.map_or(Duration::from_secs(3600), |due| {
            due.saturating_since(now()) + Duration::from_millis(1)
        });
        if self.found().is_none() {
            // Nobody tells when the host hears of a DNS server.
            wait = wait.min(RESOLVERS_LOOK);
        }
        tokio::select! {
            received = self.routers.recv() => match received {
                Ok((router, message)) => self.hear(router, &message, now()),
                Err(error) => {
                    debug!("{}: {error}", self.link.name);
                    // A link that is gone; the host says so too.
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

    fn hear(&mut self, router: Ipv6Addr, message: &[u8], at: Instant) {
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

    /// Once on each link; the rest is counted.
    fn complain(&mut self, what: &str) {
        self.odd_prefixes += 1;
        if self.odd_prefixes == 1 {
            warn!("{what}: ignored on {}", self.link.name);
        }
    }

    /// The prefix to use.
    pub(crate) fn found(&self) -> Option<Found> {
        self.discovery.found(now())
    }

    /// All prefixes that are known.
    pub(crate) fn all(&self) -> Vec<Found> {
        self.discovery.all(now())
    }

    /// The DNS servers of the link.
    pub(crate) fn servers(&self) -> Vec<Ipv6Addr> {
        self.discovery.servers(now())
    }

    /// Number of the link.
    pub(crate) fn index(&self) -> u32 {
        self.link.index
    }

    /// Advertisements, and prefixes in them, that were not believed.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.values().sum::<u64>() + self.odd_prefixes
    }

    /// DNS messages that were not believed.
    pub(crate) fn ignored(&self) -> u64 {
        self.ignored.load(Ordering::Relaxed)
    }
}

/// How often the host's list of DNS servers is read while no prefix is known.
const RESOLVERS_LOOK: Duration = Duration::from_secs(2);

/// The socket's filter lets nothing else pass.
const HOP_LIMIT_SEEN: u8 = 255;

/// Where a prefix is from, for people.
pub(crate) fn origin(source: Source) -> String {
    match source {
        Source::Configured => "given by --prefix".into(),
        Source::Router(router) => format!("announced by router {router}"),
        Source::Dns => "told by the network's DNS64".into(),
    }
}

/// Says which prefix is used, when it has changed.
pub(crate) fn report(before: Option<Found>, after: Option<Found>) {
    match (before, after) {
        (before, Some(found)) if before != Some(found) => {
            info!("NAT64 prefix {}, {}", found.prefix, origin(found.source));
        }
        (Some(gone), None) => warn!("the NAT64 prefix {} holds no longer", gone.prefix),
        _ => {}
    }
}
