//! Router advertisements on the LAN interfaces. What is in them is decided in [`content`], when
//! they are sent in [`xlat_proto::advertise`]; [`lan`] does the sending.

mod compare;
mod content;
pub(crate) mod flags;
mod lan;

use std::net::Ipv6Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Result, bail};
use serde::Serialize;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use xlat_host::host::Host;

use crate::settings::Settings;
use content::Content;
use lan::Lan;

/// What is counted on all LANs together.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    sent: AtomicU64,
    solicited: AtomicU64,
    ignored: AtomicU64,
}

/// The counters at one moment.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Figures {
    /// Advertisements that were sent.
    pub(crate) sent: u64,
    /// Solicitations that were heard.
    pub(crate) solicited: u64,
    /// Solicitations that are none.
    pub(crate) ignored: u64,
}

impl Counters {
    pub(crate) fn figures(&self) -> Figures {
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Figures {
            sent: value(&self.sent),
            solicited: value(&self.solicited),
            ignored: value(&self.ignored),
        }
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// The advertising on all LANs. Ends, with a word to the hosts, by [`Advertising::stop`].
#[derive(Debug)]
pub(crate) struct Advertising {
    content: watch::Sender<Content>,
    /// False while IPv4 cannot be reached.
    open: watch::Sender<bool>,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Advertising {
    /// Begins to advertise on each LAN; `open` as in [`Self::set_open`].
    pub(crate) async fn start(
        host: &Host,
        settings: &Settings,
        dns_servers: Vec<Ipv6Addr>,
        counters: Arc<Counters>,
        open: bool,
    ) -> Result<Self> {
        let content = Content::new(settings, dns_servers);
        let (open, is_open) = watch::channel(open);
        let (content, is_changed) = watch::channel(content);
        let (stop, is_over) = watch::channel(false);
        let mut tasks = Vec::new();
        for name in &settings.run.advertise.lan {
            let link = host.link(name).await?;
            let orders = lan::Orders {
                content: is_changed.clone(),
                open: is_open.clone(),
            };
            let lan = Lan::new(link, orders, Arc::clone(&counters)).await?;
            tasks.push(tokio::spawn(lan.run(is_over.clone())));
        }
        Ok(Self {
            content,
            open,
            stop,
            tasks,
        })
    }

    /// Refuses to be a second router program on a link of this host.
    pub(crate) async fn check(host: &Host, settings: &Settings) -> Result<()> {
        for name in &settings.run.advertise.lan {
            let link = host.link(name).await?;
            if host.has_router_program(&link) {
                bail!(
                    "another program of this host (radvd?) answers router solicitations on {name} \
                     already; stop it, or leave --lan {name} out"
                );
            }
        }
        Ok(())
    }

    /// Says other things from now on, and says them soon.
    pub(crate) fn update(&self, settings: &Settings, dns_servers: Vec<Ipv6Addr>) {
        let new = Content::new(settings, dns_servers);
        self.content.send_if_modified(|content| {
            let is_news = *content != new;
            *content = new;
            is_news
        });
    }

    /// Whether IPv4 can be reached: without it this host is neither a NAT64 nor a default router.
    pub(crate) fn set_open(&self, open: bool) {
        self.open.send_if_modified(|before| {
            let is_news = *before != open;
            *before = open;
            is_news
        });
    }

    /// Tells the hosts that this router goes.
    pub(crate) async fn stop(self) {
        let _ = self.stop.send(true);
        for task in self.tasks {
            let _ = task.await;
        }
    }
}
