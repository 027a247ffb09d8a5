//! What `clat run` and `clat recover` do.

use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use clat_host::{ipv4_addresses, look};
use pref64_discovery::{LinkDiscovery, Trust, origin};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{info, warn};
use xlat_host::daemon::notify;
use xlat_host::daemon::recovered;
use xlat_host::daemon::signals::{Request, Signals};
use xlat_host::daemon::state_dir::{StateDir, random};
use xlat_host::host::{Host, Link, Lock};
use xlat_proto::clat::{Clat, Config, Lead, Lifecycle, Origin, State};
use xlat_proto::discovery::{Found, Source};
use xlat_tun::Failure;

use crate::daemon::Daemon;
use crate::plan::Parts;
use crate::settings::{Settings, Side4};
use crate::translation::DataPath;

/// How long a dry run waits for the network to tell its prefix.
const DRY_RUN_PATIENCE: Duration = Duration::from_secs(5);

pub(crate) async fn run(settings: Settings) -> Result<()> {
    let host = Host::connect()?;
    if settings.run.flags.no_host_setup {
        return translate_only(settings).await;
    }
    if settings.run.flags.dry_run {
        return dry_run(&host, &settings).await;
    }
    let place = &settings.run.place;
    let _lock = Lock::take(&place.run_dir, &place.tun)?;
    take_back_leftovers(&host, &settings).await?;
    let signals = Signals::catch()?;
    let mut daemon = Daemon::new(&host, &settings).await?;
    let end = daemon.follow(signals).await;
    notify::stopping();
    let stopped = daemon.stop().await;
    end.and(stopped)
}

/// A plan says what is to be changed, so what a killed run changed is taken back before it is
/// made.
async fn take_back_leftovers(host: &Host, settings: &Settings) -> Result<()> {
    let place = &settings.run.place;
    let count = host.recover(&place.run_dir, &place.tun).await?;
    if count > 0 {
        info!("{count} changes of a killed run were taken back");
    }
    Ok(())
}

/// Takes back what a killed run left.
pub(crate) async fn recover(recover: &crate::cli::Recover) -> Result<()> {
    let place = &recover.place;
    Ok(recovered::run(&place.run_dir, &place.tun, recover.json).await?)
}

/// Prints what would be done with the network as it is.
async fn dry_run(host: &Host, settings: &Settings) -> Result<()> {
    if let Some(name) = &settings.run.uplink {
        host.link(name).await?;
    }
    let taken = ipv4_addresses(host, &settings.run.place.tun).await?;
    let side4 = settings.side4(&taken, |_| true)?;
    let mut lifecycle = Lifecycle::new(lifecycle_config(settings, side4)?);
    let mut wanted = settings.wanted();
    let (mut view, link) = look(host, &wanted).await?;
    if view.native_ipv4 && !settings.run.always {
        warn!("this host has native IPv4: without --always nothing of this is done");
        view.native_ipv4 = false;
    }
    let found = match (configured(settings), &link) {
        (None, Some(link)) => discover(link, settings.trust(), DRY_RUN_PATIENCE).await?,
        (found, _) => found,
    };
    if found.map(|found| found.prefix) != wanted.prefix {
        // Where it leads is known only now.
        wanted.prefix = found.map(|found| found.prefix);
        view.uplink = look(host, &wanted).await?.0.uplink;
    }
    if let Some(uplink) = &mut view.uplink
        && uplink.lead == Lead::Nowhere
    {
        warn!("{} has no route to the NAT64 prefix yet", uplink.name);
        uplink.lead = Lead::Ordinary;
    }
    match lifecycle.decide(&view, wanted.prefix) {
        State::Running(clat) => {
            let parts = Parts::new(host, settings, side4, &clat, &|key| host.sysctl(key)).await?;
            let plan = parts.whole().to_string();
            let all: Vec<String> = plan.lines().map(str::to_owned).collect();
            if settings.run.json {
                let dry = DryRun::new(&clat, side4, found, all);
                return print(&format!("{}\n", serde_json::to_string(&dry)?));
            }
            print(&format!("{}\n", all.join("\n")))
        }
        waiting => Err(anyhow!("{waiting}")),
    }
}

/// A dry run, for programs.
#[derive(Debug, Serialize)]
struct DryRun {
    uplink: String,
    prefix: String,
    prefix_source: Option<String>,
    ipv4: String,
    ipv6: String,
    ipv6_origin: String,
    mtu: u16,
    commands: Vec<String>,
}

impl DryRun {
    fn new(clat: &Clat, side4: Side4, found: Option<Found>, commands: Vec<String>) -> Self {
        Self {
            uplink: clat.uplink.clone(),
            prefix: clat.prefix.to_string(),
            prefix_source: found.map(|found| origin(found.source)),
            ipv4: side4.host.to_string(),
            ipv6: clat.outer().to_string(),
            ipv6_origin: clat.origin.to_string(),
            mtu: clat.mtu,
            commands,
        }
    }
}

/// Waits for the first prefix on a link, but not for long.
async fn discover(link: &Link, trust: Trust, patience: Duration) -> Result<Option<Found>> {
    let mut network = LinkDiscovery::join(link, None, trust)?;
    let end = Instant::now() + patience;
    while network.found().is_none() && Instant::now() < end {
        network.send().await;
        let _ = tokio::time::timeout_at(end, network.next()).await;
    }
    Ok(network.found())
}

pub(crate) fn configured(settings: &Settings) -> Option<Found> {
    settings.run.prefix.map(|prefix| Found {
        prefix,
        source: Source::Configured,
    })
}

pub(crate) fn lifecycle_config(settings: &Settings, side4: Side4) -> Result<Config> {
    Ok(Config {
        always: settings.run.always,
        address: settings.run.ipv6,
        secret: secret(settings)?,
        neutral_to: settings.run.checksum_neutral.then_some(side4.host),
    })
}

/// The key of stable addresses. A dry run makes none, and one by somebody who may not read it makes
/// one up.
fn secret(settings: &Settings) -> Result<[u64; 2]> {
    let directory = &settings.run.state_dir;
    if !settings.run.flags.dry_run {
        return Ok(StateDir::open(directory)?.secret()?);
    }
    match StateDir::known_secret(directory) {
        Ok(Some(secret)) => return Ok(secret),
        Ok(None) => {}
        Err(error) => warn!("{error}: the IPv6 address below is only an example"),
    }
    Ok(random()?)
}

/// With `--no-host-setup`: only the TUN and the translation.
async fn translate_only(settings: Settings) -> Result<()> {
    let address = settings.run.ipv6.context("--ipv6 is missing")?;
    let prefix = settings.run.prefix.context("--prefix is missing")?;
    let side4 = settings.side4(&[], |_| true)?;
    if settings.run.flags.dry_run {
        return Ok(());
    }
    let clat = Clat {
        prefix,
        uplink: String::new(),
        index: 0,
        address,
        origin: Origin::Given,
        mtu: settings.run.mtu.unwrap_or(1500),
        lead: Lead::Ordinary,
    };
    let mut signals = Signals::catch()?;
    let (sender, mut failures) = mpsc::unbounded_channel();
    let path = DataPath::start(&settings, side4, &clat, sender)?;
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
            Some(failure) = failures.recv() => break Err(broke(&failure)),
        }
    };
    notify::stopping();
    info!("stopped\n{}", path.stop().to_string().trim_end());
    end
}

pub(crate) fn broke(failure: &Failure) -> anyhow::Error {
    anyhow!("the data path broke: {failure}")
}

#[expect(clippy::print_stdout, reason = "the plan is what was asked for")]
fn print(text: &str) -> Result<()> {
    print!("{text}");
    Ok(())
}
