//! A reload of the running translator: what is different in its file is applied to every part.

use std::collections::BTreeSet;

use anyhow::Result;
use dns64_server::Server as Dns64;
use nat64::View;
use plat_host::{WorkerConfig, check_overlaps, client_plan};
use tracing::info;
use xlat_core::Policy;
use xlat_host::host::{Applied, Difference, Error};
use xlat_tun::now;

use super::{Daemon, dns64_config};
use crate::reload;
use crate::settings::Settings;
use crate::started::StartedDaemon;

impl Daemon<'_> {
    /// Reads the configuration file again, writes down how things are, and looks at the host
    /// again.
    pub(super) async fn reload(&mut self, started: &mut StartedDaemon) -> Result<String, String> {
        let mut counters = started.workers.totals().snapshot();
        self.fast_path
            .status_source()
            .status()
            .add_to(&mut counters);
        info!("{}", counters.to_string().trim_end());
        if let Some(leases) = &mut self.state.leases {
            leases.save(true);
            info!("{} leases saved", leases.active());
        }
        if let Some(stateful) = &self.state.stateful {
            stateful.reopen_log();
        }
        let repairs = self.repair(started).await;
        let outcome = self.apply_file(started).await;
        self.hide(started);
        match outcome.map(|changed| reload::describe(&changed, &repairs)) {
            Ok(line) => {
                info!("{line}");
                Ok(line)
            }
            Err(error) => {
                let line = reload::refused(&error);
                tracing::warn!("{line}");
                Err(line)
            }
        }
    }

    /// Applies what is different in the configuration file: all of it or, with an error, nothing.
    /// Returns the names of the values that are others now, and the new resolvers of the DNS64.
    async fn apply_file(&mut self, started: &mut StartedDaemon) -> Result<BTreeSet<String>> {
        let reading = reload::read_again(&self.settings, &self.values)?;
        let settings = &reading.settings;
        let host_config = self.host_config_of(settings);
        self.outer.check(settings)?;
        check_overlaps(self.host, &host_config).await?;
        let policy = settings.policy(self.own_v6)?;
        let dns64 = match &started.dns64 {
            Some(_) => {
                settings.dns.check()?;
                Some(dns64_config(self.host, settings).await?)
            }
            None => None,
        };
        let config = settings.stateful_for(&self.own_networks)?;
        // While both are wanted, the table hides the old addresses and the new ones.
        let host = client_plan(&self.host_config())?;
        let host = host.difference(&client_plan(&host_config)?);
        if let Some(applied) = &mut started.applied
            && let Err(error) = applied.bring(&host).await
        {
            call_off(applied, &host).await;
            return Err(error.into());
        }
        let view = match (&self.state.stateful, config) {
            (Some(stateful), Some(config)) => match stateful.nat().reconfigure(config, now()) {
                Ok(view) => Some(view),
                Err(error) => {
                    if let Some(applied) = &mut started.applied {
                        call_off(applied, &host).await;
                    }
                    return Err(error.into());
                }
            },
            _ => None,
        };

        // From here on nothing fails.
        self.hand_out(started, settings, view, &policy);
        let resolvers = match (&started.dns64, dns64) {
            (Some(server), Some(config)) => server.update(config),
            _ => None,
        };
        let servers = started.dns64.as_ref().map(Dns64::addresses);
        if let Some(advertising) = &started.advertising {
            advertising.update(settings.advertise.with_dns64(servers.unwrap_or_default()));
        }
        if let Some(applied) = &mut started.applied {
            log_failure(applied.retire(&host).await);
        }
        (self.settings, self.values) = (reading.settings, reading.values);
        self.policy = policy;
        let mut changed = reading.changed;
        changed.extend(resolvers);
        Ok(changed)
    }

    /// Gives the new settings to the state and to the workers.
    fn hand_out(
        &self,
        started: &StartedDaemon,
        settings: &Settings,
        view: Option<View>,
        policy: &Policy,
    ) {
        if let Some(stateful) = &self.state.stateful {
            stateful.set_log_level(settings.session_log.level);
        }
        if let (Some(leases), Some(pool)) = (&self.state.leases, settings.pool()) {
            for conflict in leases.reserve(&pool.reserved) {
                tracing::warn!("a client has an address of a new --map: {conflict:?}");
            }
        }
        started.workers.apply(WorkerConfig {
            eams: settings.eams.clone(),
            view,
            policy: policy.clone(),
        });
    }
}

/// Takes back what was brought, as far as that goes: whoever calls has an outcome of his own.
async fn call_off(applied: &mut Applied, difference: &Difference) {
    log_failure(applied.call_off(difference).await);
}

fn log_failure(taken_back: Result<(), Error>) {
    if let Err(error) = taken_back {
        tracing::warn!("not all changes could be undone: {error}");
    }
}
