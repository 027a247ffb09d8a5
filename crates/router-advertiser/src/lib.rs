//! Sends router advertisements on links of this host.
//!
//! [`xlat_proto::advertise`] computes their times and contents, without I/O. This crate has the
//! sockets, the clock and the interface: an [`Advertiser`] runs a task for each link (`lan`).

mod counters;
mod domain;
mod error;
mod lan;
mod neighbour_table;
mod preview;
mod programs;
mod reach_watch;

use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use xlat_host::host::Host;
pub use xlat_proto::advertise::{Config, Reach};

pub use counters::{Counters, Figures};
pub use domain::Domain;
pub use error::Error;
use lan::Lan;
pub use neighbour_table::low_neighbour_limits;
pub use preview::Preview;
pub use programs::{ProgramWatch, ROUTER_PROGRAMS, RouterPrograms};
pub use reach_watch::{ReachStatus, ReachWatch, Seen, WITHDRAWALS, Withdrawn};

/// The tasks of all links. [`Advertiser::stop`] ends them and withdraws this router.
#[derive(Debug)]
pub struct Advertiser {
    config: watch::Sender<Config>,
    reach: watch::Sender<Reach>,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Advertiser {
    /// Starts to advertise on each of these links; `reach` as in [`Self::set_reach`].
    ///
    /// # Errors
    /// If a link is missing or the kernel refuses its sockets.
    pub async fn start(
        host: &Host,
        links: &[String],
        config: Config,
        counters: Arc<Counters>,
        reach: Reach,
    ) -> Result<Self, Error> {
        let (reach, is_reached) = watch::channel(reach);
        let (config, is_changed) = watch::channel(config);
        let (stop, is_over) = watch::channel(false);
        if !links.is_empty() {
            neighbour_table::warn_of_limits(host);
        }
        let mut tasks = Vec::new();
        for name in links {
            let link = host.link(name).await?;
            let input = lan::Input {
                config: is_changed.clone(),
                reach: is_reached.clone(),
            };
            let lan = Lan::new(link, input, Arc::clone(&counters)).await?;
            tasks.push(tokio::spawn(lan.run(is_over.clone())));
        }
        Ok(Self {
            config,
            reach,
            stop,
            tasks,
        })
    }

    /// Checks that no other program of this host is the router on a link.
    ///
    /// # Errors
    /// If a link is missing, or another program listens to router solicitations there.
    pub async fn check(host: &Host, links: &[String]) -> Result<(), Error> {
        for name in links {
            let link = host.link(name).await?;
            if host.router_programs(&link.name) > 0 {
                return Err(Error::OtherProgram(name.clone()));
            }
        }
        Ok(())
    }

    /// Replaces the configuration. If it differs, it is announced soon.
    pub fn update(&self, new: Config) {
        self.config.send_if_modified(|config| {
            let is_changed = *config != new;
            *config = new;
            is_changed
        });
    }

    /// Sets what this host reaches. Without IPv4 it is not advertised as a NAT64, and without both
    /// families not as a default router.
    pub fn set_reach(&self, reach: Reach) {
        self.reach.send_if_modified(|before| {
            let is_changed = *before != reach;
            *before = reach;
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
