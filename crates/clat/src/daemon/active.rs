//! The data path and the translation: started, changed and ended as the lifecycle decides.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clat_host::{DataPath, HostConfig, Translation, WorkerFailed};
use pcp_proxy::Forward;
use tokio::sync::mpsc;
use tracing::{info, warn};
use xlat_core::Instant;
use xlat_host::daemon::fast_path::KernelPath;
use xlat_host::host::{Error, Host, Link, RepairLog};
use xlat_host::nft::{self, ForwardWatch};
use xlat_proto::clat::{Clat, State};
use xlat_tun::{Failure, now};

use crate::control::StatusSource;

/// The data path and the translation, as far as they are started.
pub(super) struct Active<'a> {
    host: &'a Host,
    config: HostConfig,
    kernel: Arc<KernelPath>,
    path: Option<DataPath>,
    translation: Option<Translation>,
    /// Ports that IPv4 hosts have from a PCP server.
    ports: Vec<Forward>,
    repair_log: RepairLog,
    forward_watch: ForwardWatch,
    failed: mpsc::UnboundedSender<Failure>,
    failures: mpsc::UnboundedReceiver<Failure>,
    /// Interface number of the TUN.
    tun: Option<u32>,
    /// A worker has lost the TUN.
    is_broken: bool,
    /// When the TUN was lost for the last time.
    lost: Option<Instant>,
    status: StatusSource,
}

/// A TUN that is lost again within this time is not made again at once.
const LOST_AGAIN: Duration = Duration::from_secs(10);

impl<'a> Active<'a> {
    /// Nothing started yet.
    pub(super) fn new(
        host: &'a Host,
        config: HostConfig,
        kernel: Arc<KernelPath>,
        status: StatusSource,
    ) -> Self {
        let (failed, failures) = mpsc::unbounded_channel();
        let forward_watch = ForwardWatch::new(&config.tun.name);
        status.set_dropping(forward_watch.found());
        let repair_log = RepairLog::new(status.repairs());
        status.set_failing(repair_log.failing());
        Self {
            host,
            config,
            kernel,
            forward_watch,
            path: None,
            translation: None,
            ports: Vec::new(),
            repair_log,
            failed,
            failures,
            tun: None,
            is_broken: false,
            lost: None,
            status,
        }
    }

    /// Waits until a worker has lost the TUN.
    ///
    /// # Errors
    /// A worker panicked.
    pub(super) async fn broken(&mut self) -> Result<(), WorkerFailed> {
        match self.failures.recv().await {
            Some(failure) if failure.error.is_none() => Err(WorkerFailed(failure)),
            Some(_) => {
                self.is_broken = true;
                Ok(())
            }
            None => std::future::pending().await,
        }
    }

    /// Carries out `state`. `native_ipv4`: the host has another IPv4 default route.
    pub(super) async fn bring(&mut self, state: &State, native_ipv4: bool) -> Result<()> {
        let State::Running(clat) = state else {
            return self.end(&state.to_string()).await;
        };
        if self.path.is_some() && !self.has_tun().await? {
            self.lose().await?;
        }
        self.look_at_fast_path();
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

    /// Notices what others have done to the fast path.
    pub(super) fn look_at_fast_path(&self) {
        if self.path.is_some() {
            self.kernel.look(std::time::Instant::now());
        }
    }

    /// Forwards these ports to hosts that share an address, and no others.
    pub(super) async fn set_ports(&mut self, ports: Vec<Forward>) -> Result<()> {
        if self.ports == ports {
            return Ok(());
        }
        self.ports.clone_from(&ports);
        if let Some(translation) = &mut self.translation {
            translation
                .set_ports(self.host, &self.config, ports)
                .await?;
        }
        Ok(())
    }

    /// Names chains that drop translated packets, if packets are translated.
    pub(super) fn look_at_chains(&mut self) {
        if self.translation.is_some() {
            self.forward_watch.look();
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

    /// True if the TUN is still there under its name, and the workers read from it.
    async fn has_tun(&self) -> Result<bool, Error> {
        let links = self.host.links().await?;
        let name = &self.config.tun.name;
        let is_ours = |link: &Link| Some(link.index) == self.tun && link.name == *name;
        Ok(!self.is_broken && links.iter().any(is_ours))
    }

    /// Undoes what is left after another program has removed or renamed the TUN.
    ///
    /// # Errors
    /// If that has happened only just before: it is made again after a pause.
    async fn lose(&mut self) -> Result<()> {
        let tun = &self.config.tun.name;
        warn!("another program has removed or renamed the TUN interface {tun}: it is made again");
        if let Some(translation) = self.translation.take() {
            translation.take_back().await?;
        }
        if let Some(path) = self.path.take() {
            self.status.retire(path.stop());
        }
        // The workers have ended: these are their last words.
        while self.failures.try_recv().is_ok() {}
        let before = self.lost.replace(now());
        if before.is_some_and(|before| now() < before + LOST_AGAIN) {
            bail!("the TUN interface {} does not stay", self.config.tun.name);
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
                let path = DataPath::start(config, clat, &self.kernel, self.failed.clone())?;
                self.status.set_totals(path.workers().totals());
                self.is_broken = false;
                path
            }
        };
        self.path = Some(path);
        self.tun = Some(self.host.link(tun).await?.index);
        let mut translation = Translation::set_up(self.host, config, clat).await?;
        if !self.ports.is_empty() {
            let ports = self.ports.clone();
            if let Err(error) = translation.set_ports(self.host, config, ports).await {
                warn!("packets to ports of IPv4 hosts are not forwarded to them: {error}");
            }
        }
        self.forward_watch.look();
        nft::warn_of_legacy_rules();
        if native_ipv4 && self.host.has_strict_filter(tun) {
            warn!(
                "answers will be dropped: this host has another IPv4 default route, and the \
                 reverse path filter is strict; sysctl net.ipv4.conf.{tun}.rp_filter=2 makes it \
                 loose"
            );
        }
        let metric = translation.metric().unwrap_or(side4.metric);
        self.translation = Some(translation);
        info!(
            "IPv4 default route via {tun} (metric {metric}, mtu {}), from {}",
            config.mtu4(clat.mtu),
            side4.host
        );
        Ok(())
    }
}
