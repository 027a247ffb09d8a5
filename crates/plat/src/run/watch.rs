//! The host, watched while the daemon runs: what others undid is restored, and what is reached is
//! told.

use anyhow::Result;
use plat_host::{
    HostConfig, RepairTimes, WorkerConfig, client_plan, egress, is_global, warn_of_on_link_prefixes,
};
use tokio::time::Instant;
use tracing::{debug, info, warn};
use xlat_core::addr::Ipv6Prefix;
use xlat_host::host::{Applied, Repairs};
use xlat_tun::now;

use super::{Daemon, addresses, dns64_config, serve};
use crate::settings::join;
use crate::started::StartedDaemon;

impl Daemon<'_> {
    /// When to look at the host even if the kernel tells of no change.
    pub(super) fn next_look(&self) -> Instant {
        let drain = self.drain.next_look(now());
        let damped = [self.reach.next_timeout(), self.routes.next_timeout(), drain];
        let damped = damped.into_iter().flatten().min();
        let damped = damped.map(|at| Instant::now() + at.saturating_since(now()));
        let repair = self.repair_times.next();
        damped.map_or(repair, |at| at.min(repair))
    }

    /// The kernel has told of an address. Clients reach it until it is hidden: that waits for nothing.
    pub(super) async fn on_addresses(&mut self, started: &StartedDaemon) {
        if let Err(error) = self.watch_addresses(started).await {
            warn!("the addresses of this host are not known: {error:#}");
        }
    }

    /// The kernel has told of a change.
    pub(super) async fn on_change(&mut self, started: &mut StartedDaemon) {
        self.on_addresses(started).await;
        if let Err(error) = self.watch_names(started).await {
            warn!("a new name of an egress is not followed: {error:#}");
        }
        if let Err(error) = self.watch_outer(started).await {
            warn!("the address that clients share is not followed: {error:#}");
        }
        if let Err(error) = self.watch_networks(started).await {
            warn!("the networks of this host are not known: {error:#}");
        }
        self.repair_times.hasten();
        self.reach.forget();
        self.look_again(started).await;
    }

    /// Looks at what is reached, if that may have changed, and, when it is time to, compares the
    /// host with the plan.
    pub(super) async fn look_again(&mut self, started: &mut StartedDaemon) {
        self.watch_drain();
        self.watch_reach(started).await;
        self.watch_routes(started).await;
        if Instant::now() >= self.repair_times.next() {
            self.repair(started).await;
            self.outer.look_for_services(&self.settings);
            let status = started.status.clone();
            // It may have to wait for resolvers.
            tokio::spawn(async move { status.measure(false).await });
        }
    }

    /// Restores what others undid.
    pub(super) async fn repair(&mut self, started: &mut StartedDaemon) -> Repairs {
        self.repair_times = RepairTimes::since(Instant::now());
        self.watch_fast_path();
        if let Some(dns64) = &mut started.dns64 {
            dns64.restart_if_killed(now());
        }
        if started.advertising.is_some() {
            let links = &self.settings.advertise.lan;
            self.programs.look(self.host, links);
        }
        let Some(applied) = &mut started.applied else {
            return Repairs::default();
        };
        let renamed = applied.follow_renames();
        started.base = started.base.renamed(&renamed);
        let mut whole = started.base.clone();
        let config = self.host_config();
        let repaired = match client_plan(&config) {
            Ok(clients) => {
                whole.append(clients);
                applied.reconcile(&whole).await.map_err(anyhow::Error::from)
            }
            Err(error) => Err(error.into()),
        };
        self.forward_watch.look();
        match repaired {
            Ok(repairs) => {
                egress::announce(self.host, &config, &mut started.neighbours).await;
                self.repair_log.record(&repairs, now());
                repairs
            }
            Err(error) => {
                warn!("the host cannot be compared with the plan: {error:#}");
                Repairs::default()
            }
        }
    }

    /// Without an egress this host is no NAT64, and without any default route no router. All routes
    /// are listed only after a change.
    async fn watch_reach(&mut self, started: &StartedDaemon) {
        let reach = match self.reach.again(now()) {
            Some(reach) => reach,
            None => match egress::look(self.host, &self.host_config()).await {
                Ok(seen) => self.reach.update(seen, now()),
                Err(error) => return debug!("{error:#}"),
            },
        };
        if let Some(advertising) = &started.advertising {
            advertising.set_reach(self.told(reach));
        }
    }

    /// Withdraws the routes of what this host cannot serve, and announces them again.
    pub(super) async fn watch_routes(&mut self, started: &mut StartedDaemon) {
        let (Some(reached), Some(applied)) = (self.reach.reaches_ipv4(), &mut started.applied)
        else {
            return;
        };
        let choice = self.settings.on_no_egress;
        let wanted = self.routes.update(reached, choice, now());
        if wanted == self.routes.in_force() {
            return;
        }
        let old = self.host_config();
        let new = HostConfig {
            announced: wanted,
            ..old.clone()
        };
        match change(applied, &old, &new).await {
            Ok(()) => self.routes.made(wanted),
            Err(error) if self.routes.failed() => warn!("the routes cannot be changed: {error:#}"),
            Err(error) => debug!("{error:#}"),
        }
        let status = started.status.clone();
        tokio::spawn(async move { status.measure(false).await });
    }

    /// An address that this host gets is kept from clients, and its network may ask the DNS64.
    async fn watch_addresses(&mut self, started: &StartedDaemon) -> Result<()> {
        let addresses = addresses(self.host).await?;
        if addresses == self.addresses {
            return Ok(());
        }
        self.addresses = addresses;
        self.hide(started);
        warn_of_on_link_prefixes(self.host, &self.host_config()).await?;
        self.update_dns64(started).await
    }

    /// Networks that come and go are served and may ask the DNS64, or no longer.
    async fn watch_networks(&mut self, started: &StartedDaemon) -> Result<()> {
        let lans = &self.settings.advertise.lan;
        let networks = self.host.inner_networks(lans).await?;
        if networks == self.own_networks {
            return Ok(());
        }
        self.own_networks = networks;
        if let Some(view) = serve(&self.state, &self.settings, &self.own_networks)? {
            started.workers.apply(WorkerConfig {
                eams: self.settings.eams.clone(),
                view: Some(view),
                policy: self.policy.clone(),
            });
        }
        self.say_clients();
        self.update_dns64(started).await
    }

    /// `/etc/resolv.conf` names other resolvers.
    pub(super) async fn on_resolv_conf(&self, started: &StartedDaemon) {
        if let Err(error) = self.update_dns64(started).await {
            warn!("the resolvers of the DNS64 stay: {error:#}");
        }
    }

    /// Tells the DNS64 what the settings mean on this host now.
    async fn update_dns64(&self, started: &StartedDaemon) -> Result<()> {
        if let Some(server) = &started.dns64 {
            server.update(dns64_config(self.host, &self.settings).await?);
        }
        Ok(())
    }

    pub(super) fn say_clients(&self) {
        if self.settings.serves_own_networks() {
            let is_global = |network: &&Ipv6Prefix| is_global(network.address());
            let networks: Vec<_> = self.own_networks.iter().filter(is_global).collect();
            let networks = join(&networks);
            info!("clients are those of this host's own networks: {networks}; see --client");
        }
    }

    /// Keeps clients from the addresses that this host has now.
    pub(super) fn hide(&self, started: &StartedDaemon) {
        let stateful = self.state.stateful.as_ref();
        let view = stateful.map(|stateful| stateful.nat().recall());
        self.tell_fast_path();
        let (hidden, shared) = (self.hidden(), self.shared());
        started.workers.hide(hidden, shared, view);
    }
}

/// Changes the host from one configuration to another; with an error nothing has changed.
async fn change(applied: &mut Applied, old: &HostConfig, new: &HostConfig) -> Result<()> {
    let difference = client_plan(old)?.difference(&client_plan(new)?);
    if let Err(error) = applied.bring(&difference).await {
        if let Err(second) = applied.call_off(&difference).await {
            debug!("{second}");
        }
        return Err(error.into());
    }
    Ok(applied.retire(&difference).await?)
}
