//! The address of this host that clients share, followed while it changes.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use nat64::{Nat64, OuterAddress};
use nat64_host::Keeper;
use plat_host::{Egress, HostConfig, Outer, SeenOuter, WorkerConfig, client_plan, egress};
use tracing::{debug, info, warn};
use xlat_core::mappers::SharedAddress;
use xlat_host::daemon::exit::Usage;
use xlat_host::host::Listening;
use xlat_tun::now;

use super::Daemon;
use crate::settings::Settings;
use crate::started::StartedDaemon;

/// Where clients are seen, as it was last found.
#[derive(Debug)]
pub(super) struct OuterWatch {
    outer: Option<Outer>,
    /// The same, for the status.
    seen: SeenOuter,
    /// The host has no such address at the moment.
    is_lost: bool,
    /// Services on ports of clients, as far as the log has named them.
    late: Vec<Listening>,
}

impl OuterWatch {
    pub(super) fn new(outer: Option<Outer>) -> Self {
        Self {
            is_lost: outer.is_none(),
            late: Vec::new(),
            seen: Arc::new(Mutex::new(outer.clone())),
            outer,
        }
    }

    /// Where clients are seen, at any time.
    pub(super) fn seen(&self) -> SeenOuter {
        Arc::clone(&self.seen)
    }

    /// Says what the status shows from now on: an address that is gone is not shown.
    fn show(&self) {
        let shown = self.outer.clone().filter(|_| !self.is_lost);
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = shown;
    }

    /// What these settings are to the host.
    pub(super) fn config(&self, settings: &Settings) -> HostConfig {
        HostConfig {
            outer: self.outer.clone(),
            ..settings.host_config()
        }
    }

    /// Names services of this host that have begun on ports of clients, each once.
    pub(super) fn look_for_services(&mut self, settings: &Settings) {
        let (Egress::Own(own), Some(outer)) = (&settings.egress, &self.outer) else {
            return;
        };
        let found = own.late_services(outer);
        for service in found.iter().filter(|one| !self.late.contains(one)) {
            warn!(
                "a service of this host listens on {service}, which clients have at {outer}: packets \
                 from outside do not reach it; it needs another port, or plat another start"
            );
        }
        self.late = found;
    }

    /// Refuses port forwards that would take a port from a service of this host.
    pub(super) fn check(&self, settings: &Settings) -> Result<(), Usage> {
        match (&settings.egress, &self.outer) {
            (Egress::Own(own), Some(outer)) => own.check_services(outer),
            _ => Ok(()),
        }
    }
}

/// What the tables have to know of it.
pub(super) fn address(settings: &Settings, outer: Option<&Outer>) -> Option<OuterAddress> {
    match (&settings.egress, outer) {
        (Egress::Own(own), Some(outer)) => Some(OuterAddress {
            inner: own.inner,
            outer: outer.address,
        }),
        _ => None,
    }
}

impl Daemon<'_> {
    pub(super) fn host_config(&self) -> HostConfig {
        self.host_config_of(&self.settings)
    }

    /// The ports of an address of this host that are clients'.
    pub(super) fn shared(&self) -> Option<SharedAddress> {
        self.nat()?.shared_address()
    }

    fn nat(&self) -> Option<&Nat64> {
        self.state.stateful.as_ref().map(Keeper::nat)
    }

    /// Follows the address that clients share. While the host has none, all stays as it is: the same
    /// one may come back.
    pub(super) async fn watch_outer(&mut self, started: &mut StartedDaemon) -> Result<()> {
        let Egress::Own(own) = self.names.present(&self.settings.egress) else {
            return Ok(());
        };
        let found = own.find(self.host, &self.settings.instance.tun).await?;
        let was_lost = std::mem::replace(&mut self.outer.is_lost, found.is_none());
        self.outer.show();
        match (found, &self.outer.outer) {
            (None, Some(outer)) if !was_lost => {
                warn!(
                    "{outer} is gone, and there is no other: bindings stay for when there is one"
                );
                Ok(())
            }
            (None, _) => Ok(()),
            (Some(found), Some(outer)) if found == *outer => {
                if was_lost {
                    info!("{outer} is there again");
                }
                Ok(())
            }
            (Some(found), _) => self.move_to(found, started).await,
        }
    }

    /// Clients are seen by another address from now on. Bindings keep their ports.
    async fn move_to(&mut self, outer: Outer, started: &mut StartedDaemon) -> Result<()> {
        let old = self.host_config();
        let new = HostConfig {
            outer: Some(outer.clone()),
            ..old.clone()
        };
        let difference = client_plan(&old)?.difference(&client_plan(&new)?);
        if let Some(applied) = &mut started.applied {
            applied.bring(&difference).await?;
        }
        let before = self.outer.outer.replace(outer.clone());
        self.outer.show();
        self.tell_tables(started);
        if let Some(applied) = &mut started.applied {
            applied.retire(&difference).await?;
        }
        self.forget_connections(&outer).await;
        if let Some(pcp) = &mut started.pcp {
            pcp.begin_anew();
        }
        match before {
            Some(before) if before.address == outer.address => {
                info!("{} has the address {} now", outer.interface, outer.address);
            }
            Some(before) => info!(
                "the address {before} is {outer} now: bindings keep their ports, TCP connections end"
            ),
            None => {}
        }
        egress::say_hidden(&new);
        Ok(())
    }

    fn tell_tables(&self, started: &StartedDaemon) {
        let outer = address(&self.settings, self.outer.outer.as_ref());
        if let (Some(nat), Some(outer)) = (self.nat(), outer) {
            let view = nat.set_outer(outer, now());
            started.workers.apply(WorkerConfig {
                eams: self.settings.eams.clone(),
                view: Some(view),
                policy: self.policy.clone(),
            });
            self.hide(started);
        }
    }

    /// Connection tracking still translates what it knows to the address before.
    pub(super) async fn forget_connections(&self, outer: &Outer) {
        let Egress::Own(own) = &self.settings.egress else {
            return;
        };
        let forgotten = self.host.forget_connections(own.inner, outer.address);
        match forgotten.await {
            Ok(0) => {}
            Ok(count) => debug!("connection tracking has forgotten {count} connections"),
            Err(error) => warn!(
                "connection tracking keeps connections with the address before {}: {error}",
                outer.address
            ),
        }
    }
}
