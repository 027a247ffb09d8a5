//! The data path and the translation: started, changed and ended as the lifecycle decides.

use anyhow::{Context, Result};
use clat_host::{DataPath, HostConfig, Translation};
use tokio::sync::mpsc;
use tracing::{info, warn};
use xlat_host::host::{Host, RepairLog};
use xlat_host::nft;
use xlat_proto::clat::{Clat, State};
use xlat_tun::{Failure, now};

use crate::control::StatusSource;

/// The data path and the translation, as far as they are started.
pub(super) struct Active<'a> {
    host: &'a Host,
    config: HostConfig,
    path: Option<DataPath>,
    translation: Option<Translation>,
    repair_log: RepairLog,
    failed: mpsc::UnboundedSender<Failure>,
    status: StatusSource,
}

impl<'a> Active<'a> {
    /// Nothing started yet. Workers that end by themselves send their failure to `failed`.
    pub(super) fn new(
        host: &'a Host,
        config: HostConfig,
        failed: mpsc::UnboundedSender<Failure>,
        status: StatusSource,
    ) -> Self {
        Self {
            host,
            config,
            path: None,
            translation: None,
            repair_log: RepairLog::default(),
            failed,
            status,
        }
    }

    /// Carries out `state`. `native_ipv4`: the host has another IPv4 default route.
    pub(super) async fn bring(&mut self, state: &State, native_ipv4: bool) -> Result<()> {
        let State::Running(clat) = state else {
            return self.end(&state.to_string()).await;
        };
        match &mut self.translation {
            None => self.start(clat, native_ipv4).await,
            Some(translation) if translation.clat() == clat => {
                let repairs = translation.repair(self.host, &self.config).await?;
                self.repair_log.record(&repairs, now());
                repairs.into_result()?;
                Ok(())
            }
            Some(translation) => {
                let path = self.path.as_ref().context("no data path")?;
                let changed = translation.change(self.host, &self.config, path, clat);
                if let Err(error) = changed.await {
                    // The host may be set up for neither CLAT.
                    self.end("it could not become another one").await?;
                    return Err(error.into());
                }
                info!("IPv4 goes on: {state}");
                Ok(())
            }
        }
    }

    /// Logs the counters of the workers.
    pub(super) fn log_counters(&self) {
        if let Some(path) = &self.path {
            info!("{}", path.workers().counters().to_string().trim_end());
        }
    }

    /// Undoes all changes to the host and ends the workers, before the daemon exits.
    pub(super) async fn stop(self) -> Result<()> {
        match self.translation {
            Some(translation) => translation
                .take_back()
                .await
                .context("not all changes could be undone; try `clat recover`")?,
            // It may have been stopped in the middle of setting up.
            None => {
                let (run_dir, tun) = (&self.config.run_dir, &self.config.tun.name);
                self.host.recover(run_dir, tun).await?;
            }
        }
        if let Some(path) = self.path {
            self.status.retire(path.stop());
        }
        Ok(())
    }

    async fn end(&mut self, reason: &str) -> Result<()> {
        if let Some(translation) = self.translation.take() {
            info!("IPv4 is off: {reason}");
            translation.take_back().await?;
        }
        if let Some(path) = self.path.take() {
            self.status.retire(path.stop());
        }
        Ok(())
    }

    async fn start(&mut self, clat: &Clat, native_ipv4: bool) -> Result<()> {
        let (config, side4) = (&self.config, self.config.side4);
        let tun = &config.tun.name;
        // A data path that exists already is left from a start that failed.
        let path = match self.path.take() {
            Some(path) => {
                path.apply(config, clat)?;
                path
            }
            None => {
                let path = DataPath::start(config, clat, self.failed.clone())?;
                self.status.set_totals(path.workers().totals());
                path
            }
        };
        self.path = Some(path);
        let translation = Translation::set_up(self.host, config, clat).await?;
        nft::warn_of_dropping_chains(tun);
        if native_ipv4 && self.host.has_strict_filter(tun) {
            warn!(
                "answers will be dropped: this host has another IPv4 default route, and the \
                 reverse path filter is strict; sysctl net.ipv4.conf.{tun}.rp_filter=2 makes it \
                 loose"
            );
        }
        self.translation = Some(translation);
        info!(
            "IPv4 default route via {tun} (metric {}, mtu {}), from {}",
            side4.metric,
            config.mtu4(clat.mtu),
            side4.host
        );
        Ok(())
    }
}
