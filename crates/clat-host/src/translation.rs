//! A CLAT that runs: the changes made to the host for it, and the responder to its neighbours. It
//! can become another CLAT while the TUN and its IPv4 side stay.

use std::io;

use tracing::{debug, info};
use xlat_host::host::{Applied, Error, Host, LinkLocalDefault, Repairs, Step, WriteWatch};
use xlat_proto::clat::Clat;
use xlat_proto::pcp::proxy::Forward;

use crate::plan::Parts;
use crate::{DataPath, HostConfig, Responder, SetupError, tables};

/// The changes made to the host for the CLAT that runs.
#[derive(Debug)]
pub struct Translation {
    clat: Clat,
    /// Ports that hosts have from a PCP server.
    ports: Vec<Forward>,
    parts: Parts,
    applied: Applied,
    /// Answers neighbours; `None` if the CLAT's address is not on the uplink's link.
    responder: Option<Responder>,
    /// On the parameter that lets the uplink forward.
    watch: Option<WriteWatch>,
}

impl Translation {
    /// Sets up the host for `clat`.
    ///
    /// # Errors
    /// The first change that was refused, which may be an address that another host has. The
    /// changes made until then are undone.
    pub async fn set_up(host: &Host, config: &HostConfig, clat: &Clat) -> Result<Self, SetupError> {
        let parts = Parts::new(host, config, clat, &[], &|key| host.sysctl(key)).await?;
        let applied = host
            .apply(&parts.setup, &config.run_dir, &config.tun.name)
            .await;
        let mut applied = applied.map_err(|error| explain(config, clat, error))?;
        let more = async {
            let responder = answer_for(host, clat).await?;
            // Install the route last, once everything works.
            applied.extend(&parts.route).await?;
            Ok::<_, SetupError>(responder)
        };
        let responder = match more.await {
            Ok(responder) => responder,
            Err(error) => {
                applied.undo().await?;
                return Err(error);
            }
        };
        if let Some(table) = tables::masquerade(config) {
            let name = table.name();
            info!(
                "hosts of --lan-network are masqueraded behind this host's IPv4 address (nftables table \
            {name})"
            );
        }
        log_shared(config, clat);
        log_outranked(config, &parts, None);
        Ok(Self {
            clat: clat.clone(),
            ports: Vec::new(),
            parts,
            applied,
            responder,
            watch: watch(host, config, clat),
        })
    }

    /// Metric of the IPv4 default route.
    pub fn metric(&self) -> Option<u32> {
        self.parts.route.steps().iter().find_map(|step| match step {
            Step::Route(route) => route.metric,
            _ => None,
        })
    }

    /// The CLAT that runs.
    pub fn clat(&self) -> &Clat {
        &self.clat
    }

    /// Leads these ports to hosts, and no others.
    ///
    /// # Errors
    /// The first change that was refused.
    pub async fn set_ports(
        &mut self,
        host: &Host,
        config: &HostConfig,
        ports: Vec<Forward>,
    ) -> Result<(), SetupError> {
        self.follow_renames();
        self.ports = ports;
        self.plan_again(host, config).await
    }

    /// Becomes another CLAT. Changes that both need stay; new ones are made before old ones are
    /// undone.
    ///
    /// # Errors
    /// The first change that was refused. The host may then be set up for neither CLAT: call
    /// [`Translation::take_back`].
    pub async fn change(
        &mut self,
        host: &Host,
        config: &HostConfig,
        path: &DataPath,
        clat: &Clat,
    ) -> Result<(), SetupError> {
        self.follow_renames();
        let applied = &mut self.applied;
        let sysctl = |key: &str| applied.sysctl_before(key);
        let parts = Parts::new(host, config, clat, &self.ports, &sysctl).await?;
        let setup = self.parts.setup.difference(&parts.setup);
        let brought = applied.bring(&setup).await;
        brought.map_err(|error| explain(config, clat, error))?;
        path.apply(config, clat)?;
        let neighbours_see = |clat: &Clat| (clat.address, clat.index, clat.is_on_link());
        if neighbours_see(clat) != neighbours_see(&self.clat) {
            self.responder = answer_for(host, clat).await?;
        }
        applied.retire(&setup).await?;
        applied
            .change(&self.parts.route.difference(&parts.route))
            .await?;
        if tables::share(config, clat) != tables::share(config, &self.clat) {
            log_shared(config, clat);
        }
        log_outranked(config, &parts, Some(&self.parts));
        self.watch = watch(host, config, clat);
        (self.parts, self.clat) = (parts, clat.clone());
        Ok(())
    }

    /// Makes changes again that other programs undid, and follows what they changed: the uplink's
    /// link-layer address, and parameters that the plan depends on. Returns the repairs.
    ///
    /// # Errors
    /// If the host cannot be read, or the first change that follows from it is refused.
    pub async fn repair(
        &mut self,
        host: &Host,
        config: &HostConfig,
    ) -> Result<Repairs, SetupError> {
        self.follow_renames();
        if let Some(responder) = &self.responder {
            responder.follow(&host.link(&self.clat.uplink).await?);
        }
        self.leave_to_others(host)?;
        self.plan_again(host, config).await?;
        let repairs = self.applied.reconcile(&self.parts.whole()).await?;
        if !repairs.is_empty() {
            // It may have seen the repair.
            self.watch = watch(host, config, &self.clat);
            self.plan_again(host, config).await?;
        }
        Ok(repairs)
    }

    /// The forwarding is not ours alone where another program has written that it wants it.
    fn leave_to_others(&mut self, host: &Host) -> Result<(), Error> {
        let Some(watch) = self.watch.as_ref().filter(|watch| watch.take()) else {
            return Ok(());
        };
        let key = watch.key();
        if host.sysctl(key).is_some_and(|value| value != "0") && self.applied.leave_sysctl(key)? {
            info!("another program has set {key} too: it stays as it is when this one ends");
        }
        Ok(())
    }

    async fn plan_again(&mut self, host: &Host, config: &HostConfig) -> Result<(), SetupError> {
        let applied = &mut self.applied;
        let sysctl = |key: &str| applied.sysctl_before(key);
        let parts = Parts::new(host, config, &self.clat, &self.ports, &sysctl).await?;
        let setup = self.parts.setup.difference(&parts.setup);
        if !setup.is_empty() {
            applied.change(&setup).await?;
            log_guard(&self.clat.uplink, &self.parts, &parts);
        }
        let route = self.parts.route.difference(&parts.route);
        if !route.is_empty() {
            applied.change(&route).await?;
            log_outranked(config, &parts, Some(&self.parts));
        }
        self.parts = parts;
        Ok(())
    }

    /// An interface that gets another name keeps the changes that were made to it.
    fn follow_renames(&mut self) {
        let renamed = self.applied.follow_renames();
        self.parts = self.parts.renamed(&renamed);
    }

    /// Undoes all changes.
    ///
    /// # Errors
    /// The first change that could not be undone.
    pub async fn take_back(self) -> Result<(), Error> {
        self.applied.undo().await
    }
}

/// Adds what to do if the table that shares the uplink's address was refused.
fn explain(config: &HostConfig, clat: &Clat, error: Error) -> SetupError {
    let shared = tables::share(config, clat);
    let is_refused = match (&error, &shared) {
        (Error::Nftables(error), Some(table)) => error.is_of(table),
        _ => false,
    };
    if !is_refused {
        return error.into();
    }
    SetupError::SharedAddress {
        uplink: clat.uplink.clone(),
        address: clat.outer(),
        source: error,
    }
}

fn log_guard(uplink: &str, before: &Parts, after: &Parts) {
    match (&before.guard, &after.guard) {
        (Some(table), None) => info!(
            "another program lets this host forward IPv6: neighbours on {uplink} are no longer kept \
             from its other networks (nftables table {table} removed)"
        ),
        (None, Some(table)) => info!(
            "no other program lets this host forward IPv6 any more: packets from {uplink} are \
             forwarded to the CLAT alone (nftables table {table})"
        ),
        (Some(_), Some(_)) | (None, None) => {}
    }
}

fn log_shared(config: &HostConfig, clat: &Clat) {
    let Some(table) = tables::share(config, clat) else {
        return;
    };
    let ports = &config.shared_ports;
    info!(
        "{} is shared with this host: the CLAT has ports {} to {} (nftables table {})",
        clat.outer(),
        ports.start(),
        ports.end(),
        table.name()
    );
}

/// Logs a default route of another program that ours has to get ahead of, if that is new.
fn log_outranked(config: &HostConfig, parts: &Parts, before: Option<&Parts>) {
    let Some(LinkLocalDefault { dev, metric }) = &parts.outranked else {
        return;
    };
    if before.is_some_and(|before| before.outranked == parts.outranked) {
        return;
    }
    info!(
        "the IPv4 default route of {dev} (metric {metric}) leads to no router and would come before \
         ours: {} is preferred by {}",
        config.tun.name,
        if *metric == 0 {
            "the routes 0.0.0.0/1 and 128.0.0.0/1"
        } else {
            "a lower metric"
        }
    );
}

/// A watch on the parameter by which the uplink forwards.
fn watch(host: &Host, config: &HostConfig, clat: &Clat) -> Option<WriteWatch> {
    let watch = host.watch_parameter(tables::forwarding_key(host, config, clat));
    let log = |error: &io::Error| debug!("writes of other programs go unnoticed: {error}");
    watch.inspect_err(log).ok()
}

/// The responder for the CLAT's address; `None` if neighbours do not ask for it.
async fn answer_for(host: &Host, clat: &Clat) -> Result<Option<Responder>, SetupError> {
    if !clat.is_on_link() {
        return Ok(None);
    }
    let link = host.link(&clat.uplink).await?;
    Ok(Responder::start(&link, clat.address)?)
}
