//! Workers in place of those that lost their TUN: another program has removed the interface.

use std::time::Duration;

use anyhow::{Result, anyhow};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};
use xlat_tun::Failure;

use super::Daemon;
use crate::started::StartedDaemon;

/// A TUN that is lost again within this time is made again after a pause of [`PAUSE`].
const AGAIN: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_secs(1);

impl Daemon<'_> {
    /// Makes the TUN again, and what went with it on the host. Tables, sessions and counters stay.
    ///
    /// # Errors
    /// A worker panicked, or the TUN cannot be made.
    pub(super) async fn replace_workers(
        &mut self,
        failure: &Failure,
        started: &mut StartedDaemon,
    ) -> Result<mpsc::UnboundedReceiver<Failure>> {
        if failure.error.is_none() {
            return Err(anyhow!("the data path failed: {failure}"));
        }
        let tun = self.settings.instance.tun.clone();
        warn!("another program has removed the TUN interface {tun}: it is made again");
        if self.lost_tun.is_some_and(|at| at.elapsed() < AGAIN) {
            sleep(PAUSE).await;
        }
        self.lost_tun = Some(Instant::now());
        let before = started.workers.totals();
        let (workers, failures) = self.start_workers(Some(&before))?;
        started.workers = workers;
        self.repair(started).await;
        info!("made the TUN interface {tun} again; the sessions are kept");
        Ok(failures)
    }
}
