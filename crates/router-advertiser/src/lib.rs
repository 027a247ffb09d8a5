//! Sends router advertisements on links of this host.
//!
//! When they are sent and what is in them is decided in [`xlat_proto::advertise`], without I/O. Here
//! are the sockets, the clock and the interface: an [`Advertiser`] has a task for each link (`lan`).

mod counters;
mod error;
mod lan;

use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use xlat_host::host::Host;
pub use xlat_proto::advertise::Config;

pub use counters::{Counters, Figures};
pub use error::Error;
use lan::Lan;

/// The advertising on all links. [`Advertiser::stop`] ends it and withdraws this router.
#[derive(Debug)]
pub struct Advertiser {
    config: watch::Sender<Config>,
    /// False while IPv4 cannot be reached.
    open: watch::Sender<bool>,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Advertiser {
    /// Begins to advertise on each of these links; `open` as in [`Self::set_open`].
    ///
    /// # Errors
    /// If a link is missing or the kernel refuses its sockets.
    pub async fn start(
        host: &Host,
        links: &[String],
        config: Config,
        counters: Arc<Counters>,
        open: bool,
    ) -> Result<Self, Error> {
        let (open, is_open) = watch::channel(open);
        let (config, is_changed) = watch::channel(config);
        let (stop, is_over) = watch::channel(false);
        let mut tasks = Vec::new();
        for name in links {
            let link = host.link(name).await?;
            let input = lan::Input {
                config: is_changed.clone(),
                open: is_open.clone(),
            };
            let lan = Lan::new(link, input, Arc::clone(&counters)).await?;
            tasks.push(tokio::spawn(lan.run(is_over.clone())));
        }
        Ok(Self {
            config,
            open,
            stop,
            tasks,
        })
    }

    /// Refuses to be a second router program on a link of this host.
    ///
    /// # Errors
    /// If a link is missing, or another program listens to router solicitations there.
    pub async fn check(host: &Host, links: &[String]) -> Result<(), Error> {
        for name in links {
            let link = host.link(name).await?;
            if host.has_router_program(&link) {
                return Err(Error::OtherProgram(name.clone()));
            }
        }
        Ok(())
    }

    /// Announces another configuration, soon if it differs.
    pub fn update(&self, new: Config) {
        self.config.send_if_modified(|config| {
            let is_changed = *config != new;
            *config = new;
            is_changed
        });
    }

    /// Whether IPv4 can be reached: without it this host is neither a NAT64 nor a default router.
    pub fn set_open(&self, open: bool) {
        self.open.send_if_modified(|before| {
            let is_changed = *before != open;
            *before = open;
            is_changed
        });
    }

    /// Withdraws this router, and what it announced, on all links.
    pub async fn stop(self) {
        let _ = self.stop.send(true);
        for task in self.tasks {
            let _ = task.await;
        }
    }
}
