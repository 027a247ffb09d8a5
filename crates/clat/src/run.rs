//! `clat run` and `clat recover`.

use std::sync::Arc;

use anyhow::{Context, Result};
use clat_host::{DataPath, WorkerFailed};
use tokio::sync::mpsc;
use tracing::info;
use xlat_host::daemon::fast_path::KernelPath;
use xlat_host::daemon::notify;
use xlat_host::daemon::privileges;
use xlat_host::daemon::recovered;
use xlat_host::daemon::signals::{Request, Signals};
use xlat_host::host::{Host, Lock};
use xlat_proto::clat::{Clat, Lead, Origin};

use crate::daemon::Daemon;
use crate::dry_run;
use crate::settings::Settings;

pub(crate) async fn run(settings: Settings, kernel: KernelPath) -> Result<()> {
    let kernel = Arc::new(kernel);
    let host = Host::connect()?;
    if settings.no_host_setup {
        return translate_only(settings, &kernel).await;
    }
    if settings.dry_run {
        return dry_run::run(&host, &settings).await;
    }
    let instance = &settings.instance;
    privileges::write_only_below(&instance.run_dir, &instance.state_dir, None);
    let _lock = Lock::take(&instance.run_dir, &instance.tun)?;
    take_back_leftovers(&host, &settings).await?;
    let signals = Signals::catch()?;
    let mut daemon = Daemon::new(&host, &settings, kernel).await?;
    let end = daemon.follow(signals).await;
    notify::stopping();
    let stopped = daemon.stop().await;
    end.and(stopped)
}

/// Undoes the changes of a killed run. That comes before planning: a plan is the difference to the
/// host as it is.
async fn take_back_leftovers(host: &Host, settings: &Settings) -> Result<()> {
    let instance = &settings.instance;
    let count = host.recover(&instance.run_dir, &instance.tun).await?;
    if count > 0 {
        info!("{count} changes of a killed run were undone");
    }
    Ok(())
}

/// Undoes the changes of a killed run, and reports them.
pub(crate) async fn recover(recover: &crate::cli::Recover) -> Result<()> {
    let place = &recover.place;
    Ok(recovered::run(&place.run_dir, &place.tun, recover.json).await?)
}

/// With `--no-host-setup`: opens the TUN and translates.
async fn translate_only(settings: Settings, kernel: &Arc<KernelPath>) -> Result<()> {
    let address = settings.ipv6.context("--ipv6 is missing")?;
    let prefix = settings.prefix.context("--prefix is missing")?;
    let side4 = settings.side4(&[], |_| true)?;
    if settings.dry_run {
        return Ok(());
    }
    let clat = Clat {
        prefix,
        uplink: String::new(),
        index: 0,
        address,
        origin: Origin::Given,
        mtu: settings.mtu.unwrap_or(1500),
        lead: Lead::Ordinary,
        elsewhere: None,
    };
    let mut signals = Signals::catch()?;
    let (sender, mut failures) = mpsc::unbounded_channel();
    let path = DataPath::start(&settings.host_config(side4), &clat, kernel, sender)?;
    let line = format!(
        "translating {} to {address}; the host is yours to set up",
        side4.host
    );
    info!("ready: {line}");
    notify::ready(&line);
    let end = loop {
        tokio::select! {
            request = signals.next() => match request {
                Request::Stop => break Ok(()),
                Request::Reload => info!("{}", path.workers().counters().to_string().trim_end()),
            },
            Some(failure) = failures.recv() => break Err(WorkerFailed(failure).into()),
        }
    };
    notify::stopping();
    info!("stopped\n{}", path.stop().to_string().trim_end());
    end
}
