//! Saves the dynamic pool's leases, so that each client keeps its IPv4 address over a restart.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nat64::dynamic::map_file::{self, Lease};
use nat64::dynamic::{Conflict, DynamicPool, PoolConfig};
use tracing::{info, warn};
use xlat_core::addr::{Ipv4Prefix, Ipv6Prefix};
use xlat_host::daemon::state_dir::StateDir;
use xlat_host::daemon::wall_clock::epoch;
use xlat_tun::now;

use crate::error::Error;

const FILE: &str = "dynamic.map";
/// Maximum number of refused leases that are logged.
const COMPLAINTS_MAX: usize = 10;

/// The pool and its file.
#[derive(Debug)]
pub struct Leases {
    pool: Arc<Mutex<DynamicPool>>,
    dir: StateDir,
    saved: u64,
}

impl Leases {
    /// Creates a pool with the leases of the file, if there is one.
    ///
    /// # Errors
    /// If the configuration is refused.
    pub fn load(config: PoolConfig, dir: StateDir) -> Result<Self, Error> {
        let mut pool = DynamicPool::new(config, dir.secret()?)?;
        if let Some(leases) = read(&dir) {
            restore(&mut pool, &leases);
        }
        let saved = pool.generation();
        Ok(Self {
            pool: Arc::new(Mutex::new(pool)),
            dir,
            saved,
        })
    }

    /// Writes leases for a pool that has none yet.
    ///
    /// # Errors
    /// If there are some, or they cannot be written.
    pub fn write_new(dir: &Path, leases: &[Lease]) -> Result<(), Error> {
        let state = StateDir::open(dir)?;
        if dir.join(FILE).exists() {
            return Err(Error::HasLeases(dir.join(FILE)));
        }
        let text = map_file::format(leases);
        Ok(state.save(FILE, |file| file.write_all(text.as_bytes()))?)
    }

    /// Removes the leases in this directory.
    ///
    /// # Errors
    /// If they cannot be removed.
    pub fn remove(dir: &Path) -> Result<(), Error> {
        Ok(StateDir::open(dir)?.remove(FILE)?)
    }

    /// The pool, which the workers share.
    pub fn pool(&self) -> Arc<Mutex<DynamicPool>> {
        Arc::clone(&self.pool)
    }

    /// Writes the file if something has changed. `always` also writes newer times of last use.
    pub fn save(&mut self, always: bool) {
        let (generation, leases) = {
            let mut pool = self.lock();
            // Removes leases that were unused for two weeks, a few at a time.
            pool.expire(now(), 4096);
            let generation = pool.generation();
            if generation == self.saved && !always {
                return;
            }
            (generation, pool.snapshot(now(), epoch()))
        };
        let text = map_file::format(&leases);
        let saved = self.dir.save(FILE, |file| file.write_all(text.as_bytes()));
        match saved {
            Ok(()) => self.saved = generation,
            Err(error) => warn!("the leases are not saved: {error}"),
        }
    }

    /// Number of leases in force.
    pub fn active(&self) -> u32 {
        self.lock().active()
    }

    /// Serves these clients from now on.
    pub(crate) fn serve(&self, clients: Vec<Ipv6Prefix>) {
        self.lock().set_clients(clients);
    }

    /// Keeps these addresses out of the pool. Those that a client is using already come back.
    pub fn reserve(&self, reserved: &[Ipv4Prefix]) -> Vec<Conflict> {
        self.lock().set_reserved(reserved, now())
    }

    fn lock(&self) -> MutexGuard<'_, DynamicPool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The leases of the file; `None` if there is none that can be believed. In a file without a
/// checksum, one line that is no lease makes all others doubtful.
fn read(dir: &StateDir) -> Option<Vec<Lease>> {
    let saved = dir.open_saved(FILE, CONSEQUENCE)?;
    let leases = saved.text().map_err(|error| error.to_string());
    let leases = leases.and_then(|text| match map_file::parse(&text) {
        (leases, malformed) if malformed.is_empty() => Ok(leases),
        (_, malformed) => Err(format!(
            "line {}: {}",
            malformed[0].line, malformed[0].reason
        )),
    });
    match leases {
        Ok(leases) => Some(leases),
        Err(damage) => {
            dir.set_aside(FILE, &damage, CONSEQUENCE);
            None
        }
    }
}

fn restore(pool: &mut DynamicPool, leases: &[Lease]) {
    let refused = pool.restore(leases, now(), epoch());
    for (lease, reason) in refused.iter().take(COMPLAINTS_MAX) {
        warn!("{FILE}, skipped: {lease}: {reason}");
    }
    info!(
        "{} leases restored, {} skipped",
        leases.len() - refused.len(),
        refused.len()
    );
}

/// What follows from a damaged file.
const CONSEQUENCE: &str = "no lease is restored, clients get other IPv4 addresses";

#[cfg(test)]
mod tests {
    use super::*;

    fn pool() -> PoolConfig {
        PoolConfig::new("192.168.64.0/24".parse().unwrap())
    }

    fn lease(host: u8) -> Lease {
        Lease {
            v4: [192, 168, 64, host].into(),
            v6: format!("2001:db8::{host}").parse().unwrap(),
            last_use: epoch(),
        }
    }

    #[test]
    fn fp_14_leases_are_read_from_both_versions_and_not_from_a_damaged_file() {
        let root = tempfile::tempdir().unwrap();
        let (dir, path) = (StateDir::open(root.path()).unwrap(), root.path().join(FILE));
        let old = map_file::format(&[lease(7), lease(9)]);
        std::fs::write(&path, &old).unwrap();
        let mut leases = Leases::load(pool(), dir.clone()).unwrap();
        assert_eq!(leases.active(), 2);
        leases.save(true);
        let new = std::fs::read_to_string(&path).unwrap();
        assert!(new.starts_with("464xlat dynamic.map 2\n"), "{new}");
        assert_eq!(Leases::load(pool(), dir.clone()).unwrap().active(), 2);

        for damaged in [
            new.replace("64.7", "64.8").into_bytes(),
            new.replacen('4', "x", 1).into_bytes(),
            old.replace("64.7", "64.x").into_bytes(),
            [old.as_bytes(), &[0xff]].concat(),
        ] {
            std::fs::write(&path, &damaged).unwrap();
            assert_eq!(Leases::load(pool(), dir.clone()).unwrap().active(), 0);
            let kept = std::fs::read(root.path().join("dynamic.map.damaged"));
            assert_eq!(kept.unwrap(), damaged);
            assert!(!path.exists());
        }
    }
}
