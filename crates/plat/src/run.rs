//! Translates until told to stop.

use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use nat64::dynamic::Dynamic;
use tokio::sync::mpsc;
use tokio::time::interval;
use tracing::info;
use xlat_core::identification::Identifications;
use xlat_core::mappers::Siit;
use xlat_core::{Mapper, Policy, Translator};
use xlat_linux::counters::Snapshot;
use xlat_linux::daemon::notify;
use xlat_linux::daemon::signals::{Request, Signals};
use xlat_linux::daemon::state_dir::{StateDir, random};
use xlat_linux::host::{Applied, Host};
use xlat_linux::tun::{self, Failure, Handle, Tun};

use crate::leases::Leases;
use crate::plan::{Own6, check_overlaps, plan};
use crate::settings::Settings;

/// How often changed leases are written to disk.
const SAVE_EVERY: Duration = Duration::from_secs(60);

pub(crate) async fn run(settings: Settings) -> Result<()> {
    let host = Host::connect()?;
    if !settings.run.flags.dry_run && !settings.run.flags.no_host_setup {
        // The plan is made for the host as it is without the leftovers of a killed run.
        let place = &settings.run.place;
        host.recover(&place.run_dir, &place.tun).await?;
    }
    let own_v6 = Own6::find(&host, &settings).await?;
    check_overlaps(&host, &settings).await?;
    if settings.run.flags.dry_run {
        return print(&plan(&host, &settings, own_v6).await?.to_string());
    }
    let mut policy = settings.run.policy.policy(
        settings.own_v4,
        own_v6.address,
        settings.mtu4,
        settings.run.mtu,
    );
    policy.answer_v6 = own_v6.is_ours;
    policy.validate()?;
    for (outer, inner) in settings.eams.overlaps() {
        tracing::warn!("--map {inner} lies inside --map {outer}: each wins on its own side");
    }

    let hairpin = settings.run.hairpin.into();
    let (eams, pref64s) = (settings.eams.clone(), settings.pref64s.clone());
    match settings.pool() {
        None => {
            let mapper = Siit::new(eams, pref64s, hairpin);
            serve(&host, &settings, own_v6, policy, || mapper.clone(), None).await
        }
        Some(config) => {
            let leases = Leases::load(config, StateDir::open(&settings.run.state_dir)?)?;
            let pool = leases.pool();
            let mapper = Dynamic::new(eams, pref64s, hairpin, pool);
            serve(
                &host,
                &settings,
                own_v6,
                policy,
                || mapper.clone(),
                Some(leases),
            )
            .await
        }
    }
}

/// Takes back what a killed run left.
pub(crate) async fn recover(place: &crate::cli::Place) -> Result<()> {
    let count = Host::connect()?.recover(&place.run_dir, &place.tun).await?;
    match count {
        0 => info!("nothing was left behind"),
        count => info!("{count} changes of a killed run were taken back"),
    }
    Ok(())
}

async fn serve<M: Mapper + Send + 'static>(
    host: &Host,
    settings: &Settings,
    own_v6: Own6,
    policy: Policy,
    mapper: impl Fn() -> M,
    mut leases: Option<Leases>,
) -> Result<()> {
    let mut signals = Signals::catch()?;
    let (workers, failures) = start(settings, &policy, mapper)?;
    let applied = set_up(host, settings, own_v6).await?;
    let line = describe(settings);
    info!("translator is {} and {}", settings.own_v4, own_v6.address);
    info!("ready: {line}");
    notify::ready(&line);

    let end = wait(
        &mut signals,
        failures,
        || workers.counters(),
        leases.as_mut(),
    )
    .await;
    notify::stopping();
    if let Some(applied) = applied {
        applied
            .undo()
            .await
            .context("not everything could be put back; try `plat recover`")?;
    }
    let counters = workers.stop();
    if let Some(leases) = &mut leases {
        leases.save(true);
    }
    info!(
        "stopped, the host is as it was\n{}",
        counters.to_string().trim_end()
    );
    end
}

/// Opens the TUN and starts to translate; no packet comes before the routes are there.
fn start<M: Mapper + Send + 'static>(
    settings: &Settings,
    policy: &Policy,
    mapper: impl Fn() -> M,
) -> Result<(Handle<Translator<M>>, mpsc::UnboundedReceiver<Failure>)> {
    let seed = random().context("no random numbers from the kernel")?;
    let options = tun::Options::new(&settings.run.place.tun);
    let tun = Tun::open(&options.queues(settings.run.flags.queue_count()))?;
    let lanes = tun.queues() as u16;
    let engines = (0..lanes).map(|lane| {
        let ids = Identifications::new(seed, lane, lanes);
        Translator::new(mapper(), policy.clone(), ids)
    });
    let mut engines = engines.collect::<Result<Vec<_>, _>>()?.into_iter();
    let (sender, failures) = mpsc::unbounded_channel();
    let make = move |_| {
        engines
            .next()
            .unwrap_or_else(|| unreachable!("one engine per queue"))
    };
    let workers = tun::start(tun, make, move |failure| drop(sender.send(failure)))
        .context("the worker threads did not start")?;
    Ok((workers, failures))
}

async fn set_up(host: &Host, settings: &Settings, own_v6: Own6) -> Result<Option<Applied>> {
    if settings.run.flags.no_host_setup {
        return Ok(None);
    }
    let plan = plan(host, settings, own_v6).await?;
    let place = &settings.run.place;
    Ok(Some(host.apply(&plan, &place.run_dir, &place.tun).await?))
}

fn describe(settings: &Settings) -> String {
    let prefixes: Vec<String> = settings.pref64s.iter().map(ToString::to_string).collect();
    let maps = settings.eams.iter().count();
    let clients = match settings.run.dynamic_pool {
        Some(pool) => format!("each IPv6 source gets an address of {pool}; {maps} static maps"),
        None => format!("{maps} static maps"),
    };
    match prefixes.as_slice() {
        [] => format!("translating; {clients}"),
        some => format!("translating {}; {clients}", some.join(", ")),
    }
}

/// Waits for the end: a signal, or a data path that broke.
async fn wait(
    signals: &mut Signals,
    mut failures: mpsc::UnboundedReceiver<Failure>,
    counters: impl Fn() -> Snapshot,
    mut leases: Option<&mut Leases>,
) -> Result<()> {
    let mut save = interval(SAVE_EVERY);
    let has_leases = leases.is_some();
    loop {
        tokio::select! {
            request = signals.next() => match request {
                Request::Stop => return Ok(()),
                Request::Reload => {
                    info!("{}", counters().to_string().trim_end());
                    if let Some(leases) = leases.as_deref_mut() {
                        leases.save(true);
                        info!("{} leases saved", leases.active());
                    }
                }
            },
            _ = save.tick(), if has_leases => {
                if let Some(leases) = leases.as_deref_mut() {
                    leases.save(false);
                }
            }
            Some(failure) = failures.recv() => return Err(anyhow!("the data path broke: {failure}")),
        }
    }
}

#[expect(clippy::print_stdout, reason = "the plan is what was asked for")]
fn print(text: &str) -> Result<()> {
    print!("{text}");
    Ok(())
}
