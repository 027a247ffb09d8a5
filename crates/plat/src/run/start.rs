//! A start: from flags, and the host as it is, to a daemon that runs.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Result, anyhow};
use dns64_server::ResolvConf;
use nat64_host::{State, StateConfig};
use plat_host::{
    DrainWatch, Egress, EgressNames, OnNoEgress, Outer, Own6, RepairTimes, RouteWatch,
    check_overlaps, egress, warn_of_on_link_prefixes,
};
use router_advertiser::{Advertiser, ProgramWatch, ReachWatch};
use tokio::sync::mpsc;
use tokio::time::Instant;
use xlat_host::daemon::exit::Usage;
use xlat_host::daemon::fast_path::KernelPath;
use xlat_host::daemon::privileges;
use xlat_host::daemon::reservation::Reservation;
use xlat_host::daemon::waiting::{self, Waiting};
use xlat_host::host::{Changes, Error, Host, RepairLog};
use xlat_host::nft::ForwardWatch;

use super::outer::{self, OuterWatch};
use super::{Daemon, addresses, serve};
use crate::cli::Run;
use crate::settings::Settings;
use crate::{NAME, dry_run, facts, reload};

/// Starts as soon as what the flags leave to the host is there, and runs.
pub(crate) async fn start(run: Run, fast_path: KernelPath) -> Result<()> {
    let place = (&*run.place.run_dir, &*run.place.tun);
    let mut waiting = Waiting::new(NAME, place, &run.flags)?;
    let is_patient = !run.flags.dry_run;
    let missing = |error: &anyhow::Error| error.downcast_ref().cloned().filter(|_| is_patient);
    let facts = facts::look_up(&run).await?;
    let settings = Settings::resolve(run, facts)?;
    let host = Host::connect()?;
    if !settings.dry_run {
        let place = &settings.instance;
        let log = settings.session_log.open_as().map(|(target, _)| target);
        privileges::write_only_below(&place.run_dir, &place.state_dir, log);
    }
    if !settings.dry_run && !settings.no_host_setup {
        // The plan is made for the host as it is without the leftovers of a killed run.
        let place = &settings.instance;
        host.recover(&place.run_dir, &place.tun).await?;
    }
    let own_v6 = waiting.until_there(missing, || look_at(&host, &settings));
    let Some(own_v6) = own_v6.await? else {
        return Ok(());
    };
    if settings.dry_run {
        let outer = egress::outer(&host, &settings.host_config()).await?;
        let config = OuterWatch::new(outer).config(&settings);
        return dry_run::run(&host, &settings, &config, own_v6).await;
    }
    let _ports = reserve_ports(&settings)?;
    let policy = settings.policy(own_v6)?;
    for (outer, inner) in settings.eams.overlaps() {
        tracing::warn!("--map {inner} lies inside --map {outer}: each wins on its own side");
    }
    let outer = egress::outer(&host, &settings.host_config()).await?;
    let state = load(&settings, outer.as_ref())?;
    let outer = OuterWatch::new(outer);
    let own_networks = host.inner_networks(&settings.advertise.lan).await?;
    serve(&state, &settings, &own_networks)?;
    let changes = Changes::listen()?;
    let resolv_conf = ResolvConf::watch(&settings.dns.addresses);
    let mut names = EgressNames::default();
    names.follow(&settings.egress, &host.links().await?);
    let reach = egress::look(&host, &outer.config(&settings)).await?;
    let choice = match settings.no_host_setup {
        true => OnNoEgress::Keep,
        false => settings.on_no_egress,
    };
    let routes = RouteWatch::new(reach.reach.ipv4, choice);
    let reach = ReachWatch::new(reach, !settings.advertise.lan.is_empty());
    let (orders, given) = mpsc::channel(1);
    let daemon = Daemon {
        host: &host,
        fast_path,
        values: reload::values_at_start()?,
        forward_watch: ForwardWatch::new(&settings.instance.tun),
        settings,
        own_v6,
        policy,
        state,
        changes,
        resolv_conf,
        addresses: addresses(&host).await?,
        own_networks,
        outer,
        names,
        advertisements: Arc::default(),
        reach,
        routes,
        programs: ProgramWatch::default(),
        repair_log: RepairLog::default(),
        repair_times: RepairTimes::since(Instant::now()),
        lost_tun: None,
        drain: DrainWatch::default(),
        orders,
    };
    daemon.run(waiting.into_signals(), given).await
}

/// Looks at the host: what the start needs is there, and nothing is in the way.
async fn look_at(host: &Host, settings: &Settings) -> Result<Own6> {
    waiting::links(host, &settings.advertise.lan).await??;
    waiting::addresses(host, &settings.dns.addresses).await??;
    settings.dns.check()?;
    settings.dns.check_upstreams()?;
    let own_v6 = Own6::find(host, settings.own_v6, &settings.pref64s).await??;
    let config = settings.host_config();
    check_overlaps(host, &config).await?;
    let outer = OuterWatch::new(egress::outer(host, &config).await?);
    outer.check(settings)?;
    Advertiser::check(host, &settings.advertise.lan).await?;
    warn_of_on_link_prefixes(host, &config).await?;
    Ok(own_v6)
}

/// Keeps other instances on this host from the ports that clients share with it, a thousand at a time:
/// they would get each other's packets.
fn reserve_ports(settings: &Settings) -> Result<Vec<Reservation>> {
    const AT_ONCE: u16 = 1000;
    let Egress::Own(own) = &settings.egress else {
        return Ok(Vec::new());
    };
    let parts = own.ranges.iter();
    let parts = parts.flat_map(|range| range.start() / AT_ONCE..=range.end() / AT_ONCE);
    let parts: BTreeSet<u16> = parts.collect();
    let reserve = |part: u16| {
        let name = format!("ports-{part}000");
        match Reservation::take(&settings.instance.run_dir, &name) {
            Err(Error::Running(_)) => Err(anyhow!(Usage(format!(
                "another plat shares ports {part}000-{part}999 of an address of this host; give other \
                 ones with --pool IFACE:LOW-HIGH"
            )))),
            taken => Ok(taken?),
        }
    };
    parts.into_iter().map(reserve).collect()
}

/// What the last run has left.
fn load(settings: &Settings, outer: Option<&Outer>) -> Result<State> {
    let config = StateConfig {
        dir: &settings.instance.state_dir,
        pref64s: &settings.pref64s,
        stateful: settings.checked_stateful()?,
        session_log: settings.session_log.open_as(),
        outer: outer::address(settings, outer),
    };
    Ok(State::load(config, settings.pool())?)
}
