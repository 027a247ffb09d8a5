//! Other programs of this host that are routers on the same links, as long as they run: hosts there
//! would hear two routers with one address.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::{info, warn};
use xlat_host::host::Host;
use xlat_tun::counters::Metric;

/// Names of the links on which another program is a router, at any time.
pub type RouterPrograms = Arc<Mutex<BTreeSet<String>>>;

/// How many there are, for the metrics page.
pub const ROUTER_PROGRAMS: Metric = Metric::gauge(
    "plat_router_programs",
    "Links of --lan on which another program of this host is a router, too.",
);

/// Watches for other programs while this one advertises.
#[derive(Debug, Default)]
pub struct ProgramWatch {
    found: RouterPrograms,
}

impl ProgramWatch {
    /// Where they are, for status and metrics.
    pub fn found(&self) -> RouterPrograms {
        Arc::clone(&self.found)
    }

    /// Looks for programs that listen to router solicitations on `links`, besides this one, and logs
    /// what is new.
    pub fn look(&self, host: &Host, links: &[String]) {
        /// The socket of this program's `Lan`.
        const OWN: u32 = 1;
        let is_there = |link: &&String| host.router_programs(link) > OWN;
        let now: BTreeSet<String> = links.iter().filter(is_there).cloned().collect();
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        for link in now.difference(&found) {
            warn!(
                "another program of this host (radvd?) answers router solicitations on {link} now: \
                 hosts there hear two routers; stop it, or leave --lan {link} out"
            );
        }
        for link in found.difference(&now) {
            info!("no other program of this host answers router solicitations on {link} any more");
        }
        *found = now;
    }
}
