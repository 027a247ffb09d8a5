//! What the translator remembers, by the kinds of clients that it has.

use std::path::Path;

use nat64::config::Config;
use nat64::dynamic::PoolConfig;
use nat64::{OuterAddress, ReloadError, View};
use xlat_core::addr::{Ipv6Prefix, Pref64s};
use xlat_host::daemon::state_dir::StateDir;
use xlat_tun::now;

use crate::{Error, Keeper, Leases, LogLevel};

/// What there is to remember.
#[derive(Clone, Copy, Debug)]
pub struct StateConfig<'a> {
    /// The directory of the files.
    pub dir: &'a Path,
    /// The NAT64 prefixes.
    pub pref64s: &'a Pref64s,
    /// The pool that clients share.
    pub stateful: Option<&'a Config>,
    /// Target and level of the session log.
    pub session_log: Option<(&'a Path, LogLevel)>,
    /// What the IPv4 side sees of the pool, if it is another address.
    pub outer: Option<OuterAddress>,
}

/// Leases of the dynamic pool, sessions of the shared one.
#[derive(Debug)]
pub struct State {
    /// Of the dynamic pool, if there is one.
    pub leases: Option<Leases>,
    /// Of the shared pool, if there is one.
    pub stateful: Option<Keeper>,
}

impl State {
    /// What the last run has left. Its files stay until [`State::taken_up`].
    ///
    /// # Errors
    /// If a configuration is refused, or the directory or the log cannot be used.
    pub fn load(config: StateConfig<'_>, dynamic: Option<PoolConfig>) -> Result<Self, Error> {
        let open = || StateDir::open(config.dir);
        let leases = match dynamic {
            Some(pool) => Some(Leases::load(pool, open()?)?),
            None => None,
        };
        let stateful = match config.stateful {
            Some(shared) => {
                let (shared, pref64s) = (shared.clone(), config.pref64s.clone());
                let (log, outer) = (config.session_log, config.outer);
                Some(Keeper::load(shared, pref64s, open()?, log, outer)?)
            }
            None => None,
        };
        Ok(Self { leases, stateful })
    }

    /// Serves these clients; `stateful` says the same to the stateful translator. Returns what the
    /// workers have to adopt.
    ///
    /// # Errors
    /// If `stateful` is refused.
    pub fn serve(
        &self,
        clients: &[Ipv6Prefix],
        stateful: Option<Config>,
    ) -> Result<Option<View>, ReloadError> {
        if let Some(leases) = &self.leases {
            leases.serve(clients.to_vec());
        }
        match (&self.stateful, stateful) {
            (Some(keeper), Some(config)) => keeper.nat().reconfigure(config, now()).map(Some),
            _ => Ok(None),
        }
    }

    /// The start has succeeded: from now on the files are out of date.
    pub fn taken_up(&self) {
        if let Some(stateful) = &self.stateful {
            stateful.discard_saved();
        }
    }

    /// Writes everything to disk; to be called when no packet comes any more.
    pub fn save(&mut self) {
        if let Some(leases) = &mut self.leases {
            leases.save(true);
        }
        if let Some(stateful) = &mut self.stateful {
            stateful.save();
        }
    }
}
