//! What the translator remembers, by the kinds of clients that it has.

use anyhow::Result;
use nat64_host::{Keeper, Leases};
use xlat_host::daemon::state_dir::StateDir;

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
