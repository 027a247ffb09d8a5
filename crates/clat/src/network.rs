//! What is asked of the network on one link, and what it says: router solicitations and
//! advertisements, DNS queries and answers. What they mean is decided in
//! [`xlat_proto::discovery`].

use std::collections::HashMap;
use std::net::Ipv6Addr;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::sync::mpsc;
use tokio::time::sleep;
use tracing::{debug, info, warn};
use xlat_linux::host::Link;
use xlat_linux::icmp6::RouterMessages;
use xlat_linux::tun::now;
use xlat_proto::discovery::{Answer, Ask, Discovery, Found, Source};
use xlat_proto::ra::{ALL_ROUTERS, Advertisement, Invalid, Solicitation};

use crate::{dns, resolvers};

/// The discovery on one link.
pub(crate) struct Network {
    link: Link,
    discovery: Discovery,
    routers: RouterMessages,
    answers: mpsc::Receiver<Answer>,
    answer: mpsc::Sender<Answer>,
    refused: HashMap<Invalid, u64>,
}

impl Network {
    /// Begins to listen on the link.
    pub(crate) fn join(link: &Link) -> Result<Self> {
        let routers = RouterMessages::of_routers(link).with_context(|| {
            format!(
                "cannot hear routers on {}; run as root or with CAP_NET_RAW, or give --prefix",
                link.name
            )
        })?;
        let (answer, answers) = mpsc::channel(1);
        Ok(Self {
            link: link.clone(),
            discovery: Discovery::new(now()),
            routers,
            answers,
            answer,
            refused: HashMap::new(),
        })
    }

    /// Number of the link.
    pub(crate) fn index(&self) -> u32 {
        self.link.index
    }

    /// Sends what is due.
    pub(crate) async fn send(&mut self) {
        self.discovery
            .set_servers(resolvers::of_link(self.link.index));
        while let Some(ask) = self.discovery.poll(now()) {
            match ask {
                Ask::Routers => self.solicit().await,
                Ask::Dns(servers) => self.query(servers),
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
        tokio::spawn(async move {
            let said = dns::ask(&link, &servers).await;
            // Nobody waits for it any more if this fails.
            let _ = answer.send(said).await;
        });
    }

    /// Waits until something has arrived or is due. Must be followed by [`send`](Self::send).
    pub(crate) async fn next(&mut self) {
        let due = self.discovery.next_timeout(now());
        let wait = due.map_or(Duration::from_secs(3600), |due| {
            due.saturating_since(now()) + Duration::from_millis(1)
        });
        tokio::select! {
            received = self.routers.recv() => match received {
                Ok((router, message)) => self.hear(router, &message),
                Err(error) => {
                    debug!("{}: {error}", self.link.name);
                    // A link that is gone; the host says so too.
                    sleep(Duration::from_secs(1)).await;
                }
            },
            Some(answer) = self.answers.recv() => {
                debug!("DNS: {answer:?}");
                self.discovery.on_answer(&answer, now());
            }
            () = sleep(wait) => {}
        }
    }

    fn hear(&mut self, router: Ipv6Addr, message: &[u8]) {
        match Advertisement::parse(router, HOP_LIMIT_SEEN, message) {
            Ok(advertisement) => {
                self.discovery
                    .on_advertisement(router, &advertisement, now());
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

    /// Advertisements that were not believed.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.values().sum()
    }
}

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
