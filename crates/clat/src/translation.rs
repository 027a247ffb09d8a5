//! A CLAT that runs: the workers, what was changed on the host for them, and who answers the
//! neighbours. It can become another one without the TUN and its IPv4 side going away.

use std::sync::Arc;

use anyhow::{Context, Result};
use clat_host::{ClatEngine, Questions, Responder, questions};
use tokio::sync::mpsc;
use tracing::{info, warn};
use xlat_core::identification::Identifications;
use xlat_core::mappers::Clat as Mapper;
use xlat_core::{Policy, Translator};
use xlat_host::daemon::state_dir::random;
use xlat_host::host::{Applied, Error, Host};
use xlat_proto::clat::Clat;
use xlat_tun::{Failure, Handle, Tun};

use crate::plan::Parts;
use crate::settings::{Settings, Side4};
use crate::tables;

/// The workers and their TUN, whatever they translate.
pub(crate) struct DataPath {
    workers: Handle<ClatEngine>,
    questions: Questions,
}

impl DataPath {
    /// Opens the TUN and starts to translate; no packet comes before the routes are there.
    pub(crate) fn start(
        settings: &Settings,
        side4: Side4,
        clat: &Clat,
        failures: mpsc::UnboundedSender<Failure>,
    ) -> Result<Self> {
        let seed = random().context("no random numbers from the kernel")?;
        let tun = Tun::open(&settings.run.flags.tun(&settings.run.place.tun))?;
        let policy = policy(settings, side4, clat);
        policy.validate()?;
        let mapper = mapper(settings, side4, clat)?;
        let lanes = tun.queues() as u16;
        let (sender, questions) = questions();
        let engines = (0..lanes).map(|lane| {
            let ids = Identifications::new(seed, lane, lanes);
            let translator = Translator::new(mapper.clone(), policy.clone(), ids)?;
            Ok(ClatEngine::new(translator, sender.clone()))
        });
        let mut engines = engines.collect::<Result<Vec<_>>>()?.into_iter();
        let make = move |_| {
            engines
                .next()
                .unwrap_or_else(|| unreachable!("one engine per queue"))
        };
        let workers = xlat_tun::start(tun, make, move |failure| drop(failures.send(failure)))
            .context("the worker threads did not start")?;
        Ok(Self { workers, questions })
    }

    /// Translates as `clat` from now on.
    pub(crate) fn apply(&self, settings: &Settings, side4: Side4, clat: &Clat) -> Result<()> {
        let mapper = mapper(settings, side4, clat)?;
        let policy = policy(settings, side4, clat);
        policy.validate()?;
        self.workers.update(move |engine| {
            let translator = &mut engine.translator;
            *translator.mapper_mut() = mapper.clone();
            if let Err(error) = translator.set_policy(policy.clone()) {
                warn!("the policy stays as it was: {error}");
            }
        });
        Ok(())
    }

    /// The workers.
    pub(crate) fn workers(&self) -> &Handle<ClatEngine> {
        &self.workers
    }

    /// Ends the workers; the TUN goes with them.
    pub(crate) fn stop(self) -> xlat_tun::counters::Snapshot {
        self.workers.stop()
    }
}

fn mapper(settings: &Settings, side4: Side4, clat: &Clat) -> Result<Mapper> {
    let mapper = Mapper::new(side4.host, clat.address, clat.prefix)?;
    Ok(mapper.and_lan(settings.lan_maps()))
}

fn policy(settings: &Settings, side4: Side4, clat: &Clat) -> Policy {
    let (mtu4, mtu6) = (settings.mtu4(clat.mtu), clat.mtu);
    Policy {
        // What comes to the CLAT's address is translated.
        answer_v6: false,
        ..settings
            .run
            .policy
            .policy(side4.hop, clat.address, mtu4, mtu6)
    }
}

/// What was done on the host for the CLAT that runs.
pub(crate) struct Translation {
    clat: Clat,
    parts: Parts,
    applied: Applied,
    _responder: Option<Responder>,
}

impl Translation {
    /// Sets up the host for `clat`.
    ///
    /// # Errors
    /// The first change that was refused, an address that another host has among them; what was
    /// done until then is taken back.
    pub(crate) async fn set_up(
        host: &Host,
        settings: &Settings,
        side4: Side4,
        path: &DataPath,
        clat: &Clat,
    ) -> Result<Self> {
        let parts = Parts::new(host, settings, side4, clat, &|key| host.sysctl(key)).await?;
        let place = &settings.run.place;
        let applied = host.apply(&parts.setup, &place.run_dir, &place.tun).await;
        let mut applied = applied.map_err(|error| explain(settings, clat, error))?;
        let more = async {
            let responder = answer_for(host, path, clat).await?;
            // Install the route last, once everything works.
            applied.extend(&parts.route).await?;
            Ok::<_, anyhow::Error>(responder)
        };
        let responder = match more.await {
            Ok(responder) => responder,
            Err(error) => {
                applied.undo().await?;
                return Err(error);
            }
        };
        if let Some(table) = tables::hide(settings) {
            let name = table.name();
            info!("hosts of --lan leave with this host's IPv4 address (nftables table {name})");
        }
        say_shared(settings, clat);
        Ok(Self {
            clat: clat.clone(),
            parts,
            applied,
            _responder: responder,
        })
    }

    /// What runs.
    pub(crate) fn clat(&self) -> &Clat {
        &self.clat
    }

    /// Becomes another CLAT. What is the same for both stays as it is; what is new comes before
    /// what is old goes.
    ///
    /// # Errors
    /// The first change that was refused. The translation may then be neither the old nor the new
    /// one and is to be taken back.
    pub(crate) async fn change(
        &mut self,
        host: &Host,
        settings: &Settings,
        side4: Side4,
        path: &DataPath,
        clat: &Clat,
    ) -> Result<()> {
        let applied = &mut self.applied;
        let sysctl = |key: &str| applied.sysctl_before(key);
        let parts = Parts::new(host, settings, side4, clat, &sysctl).await?;
        let setup = self.parts.setup.difference(&parts.setup);
        let brought = applied.bring(&setup).await;
        brought.map_err(|error| explain(settings, clat, error))?;
        path.apply(settings, side4, clat)?;
        let asked_for = |clat: &Clat| (clat.address, clat.uplink.clone(), clat.is_on_link());
        if asked_for(clat) != asked_for(&self.clat) {
            self._responder = answer_for(host, path, clat).await?;
        }
        applied.retire(&setup).await?;
        applied
            .change(&self.parts.route.difference(&parts.route))
            .await?;
        if tables::share(settings, clat) != tables::share(settings, &self.clat) {
            say_shared(settings, clat);
        }
        (self.parts, self.clat) = (parts, clat.clone());
        Ok(())
    }

    /// Puts back what others took away.
    pub(crate) async fn repair(&mut self) -> Result<usize, Error> {
        self.applied.reconcile(&self.parts.whole()).await
    }

    /// Takes everything back.
    pub(crate) async fn take_back(self) -> Result<(), Error> {
        self.applied.undo().await
    }
}

/// Says what to do where the table that shares the uplink's address is refused.
fn explain(settings: &Settings, clat: &Clat, error: Error) -> anyhow::Error {
    let shared = tables::share(settings, clat);
    let is_refused = match (&error, &shared) {
        (Error::Nftables(error), Some(table)) => error.is_of(table),
        _ => false,
    };
    if !is_refused {
        return error.into();
    }
    anyhow::Error::from(error).context(format!(
        "{} has no /64 prefix for an address of the CLAT's own, and sharing {} does not work; give \
         an address that is routed to this host with --ipv6",
        clat.uplink,
        clat.outer()
    ))
}

fn say_shared(settings: &Settings, clat: &Clat) {
    let Some(table) = tables::share(settings, clat) else {
        return;
    };
    let ports = &settings.run.shared_ports;
    info!(
        "{} is shared with this host: the CLAT has ports {} to {} (nftables table {})",
        clat.outer(),
        ports.start(),
        ports.end(),
        table.name()
    );
}

/// Whoever answers the neighbours who ask for the CLAT's address, where they do.
async fn answer_for(host: &Host, path: &DataPath, clat: &Clat) -> Result<Option<Responder>> {
    if !clat.is_on_link() {
        return Ok(None);
    }
    let link = host.link(&clat.uplink).await?;
    let questions = Arc::clone(&path.questions);
    Ok(Some(Responder::start(&link, clat.address, questions)?))
}
