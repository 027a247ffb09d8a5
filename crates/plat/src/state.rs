//! What the translator remembers, by the kinds of clients that it has.

use std::sync::PoisonError;

use anyhow::Result;
use nat64::View;
use nat64_host::{Keeper, Leases};
use xlat_core::addr::Ipv6Prefix;
use xlat_host::daemon::state_dir::StateDir;
use xlat_tun::now;

use crate::settings::Settings;

/// Leases of the dynamic pool, sessions of the shared one.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) leases: Option<Leases>,
    pub(crate) stateful: Option<Keeper>,
}

impl State {
    /// What the last run has left. Its files stay until [`State::taken_up`].
    pub(crate) fn load(settings: &Settings) -> Result<Self> {
        let open = || StateDir::open(&settings.instance.state_dir);
        let leases = match settings.pool() {
            Some(config) => Some(Leases::load(config, open()?)?),
            None => None,
        };
        let stateful = match settings.checked_stateful()? {
            Some(config) => {
                let log = settings.session_log.open_as();
                let pref64s = settings.pref64s.clone();
                Some(Keeper::load(config.clone(), pref64s, open()?, log)?)
            }
            None => None,
        };
        Ok(Self { leases, stateful })
    }

    /// Serves these networks of the host where nobody has named clients. Returns what the workers
    /// have to adopt.
    pub(crate) fn serve(&self, settings: &Settings, own: &[Ipv6Prefix]) -> Result<Option<View>> {
        if !settings.serves_own_networks() {
            return Ok(None);
        }
        if let Some(leases) = &self.leases {
            let pool = leases.pool();
            let mut pool = pool.lock().unwrap_or_else(PoisonError::into_inner);
            pool.set_clients(own.to_vec());
        }
        match (&self.stateful, settings.stateful_for(own)?) {
            (Some(stateful), Some(config)) => Ok(Some(stateful.nat().reconfigure(config, now())?)),
            _ => Ok(None),
        }
    }

    /// The start has succeeded: from now on the files are out of date.
    pub(crate) fn taken_up(&self) {
        if let Some(stateful) = &self.stateful {
            stateful.discard_saved();
        }
    }

    /// Writes everything to disk; to be called when no packet comes any more.
    pub(crate) fn save(&mut self) {
        if let Some(leases) = &mut self.leases {
            leases.save(true);
        }
        if let Some(stateful) = &mut self.stateful {
            stateful.save();
        }
    }
}
