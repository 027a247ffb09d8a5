//! Saves the dynamic pool's leases, so that each client keeps its IPv4 address over a restart.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nat64::dynamic::{DynamicPool, PoolConfig, map_file};
use tracing::{info, warn};
use xlat_host::daemon::state_dir::StateDir;
use xlat_tun::now;

use crate::error::Error;
use crate::wall_clock::epoch;

const FILE: &str = "dynamic.map";
/// Maximum number of damaged lines of the file that are logged.
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
    /// If the configuration is refused, or the directory cannot be read.
    pub fn load(config: PoolConfig, dir: StateDir) -> Result<Self, Error> {
        let mut pool = DynamicPool::new(config, dir.secret()?)?;
        if let Some(text) = dir.read(FILE)? {
            restore(&mut pool, &text);
        }
        let saved = pool.generation();
        Ok(Self {
            pool: Arc::new(Mutex::new(pool)),
            dir,
            saved,
        })
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
        match self.dir.write(FILE, &map_file::format(&leases)) {
            Ok(()) => self.saved = generation,
            Err(error) => warn!("the leases are not saved: {error}"),
        }
    }

    /// Number of leases in force.
    pub fn active(&self) -> u32 {
        self.lock().active()
    }

    fn lock(&self) -> MutexGuard<'_, DynamicPool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn restore(pool: &mut DynamicPool, text: &str) {
    let (leases, malformed) = map_file::parse(text);
    let refused = pool.restore(&leases, now(), epoch());
    let lines = malformed
        .iter()
        .map(|skipped| format!("line {}: {}", skipped.line, skipped.reason));
    let lines = lines.chain(
        refused
            .iter()
            .map(|(lease, reason)| format!("{lease}: {reason}")),
    );
    for line in lines.take(COMPLAINTS_MAX) {
        warn!("{FILE}, skipped: {line}");
    }
    info!(
        "{} leases restored, {} skipped",
        leases.len() - refused.len(),
        malformed.len() + refused.len()
    );
}
