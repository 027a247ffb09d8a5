//! The parts of a started daemon, and how they end.

use anyhow::{Context, Result};
use dns64_server::Server as Dns64;
use nat64_host::PoolNeighbours;
use pcp_server::PcpServer;
use plat_host::{DataPath, StatusSource};
use router_advertiser::Advertiser;
use tokio::task::JoinHandle;
use xlat_host::daemon::metrics::Metrics;
use xlat_host::host::{Applied, Plan};
use xlat_tun::counters::Snapshot;

/// Everything that runs. The parts that change the host come one after the other, so that a start
/// that fails half way has something to take back.
pub(crate) struct StartedDaemon {
    pub(crate) workers: Box<dyn DataPath>,
    pub(crate) dns64: Option<Dns64>,
    pub(crate) pcp: Option<PcpServer>,
    pub(crate) metrics: Option<Metrics>,
    pub(crate) socket: JoinHandle<()>,
    pub(crate) status: StatusSource,
    pub(crate) applied: Option<Applied>,
    /// The part of what was applied that no reload changes.
    pub(crate) base: Plan,
    pub(crate) advertising: Option<Advertiser>,
    pub(crate) neighbours: PoolNeighbours,
}

impl StartedDaemon {
    /// Ends everything, what came last first, whatever fails on the way.
    pub(crate) async fn end(self) -> (Snapshot, Result<()>) {
        if let Some(advertising) = self.advertising {
            advertising.stop().await;
        }
        drop(self.dns64);
        if let Some(pcp) = self.pcp {
            pcp.stop();
        }
        let undone = match self.applied {
            Some(applied) => applied.undo().await,
            None => Ok(()),
        };
        drop(self.metrics);
        self.socket.abort();
        // The socket is gone from the file system when its task is.
        let _ = self.socket.await;
        let undone = undone.context("not all changes could be undone; try `plat recover`");
        (self.workers.stop(), undone)
    }
}
