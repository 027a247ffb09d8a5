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
use xlat_host::host::{Applied, Error, Host, Plan, Step};
use xlat_host::nft::{Guard, Made, SourceNat};
use xlat_proto::clat::{Clat, Origin};
use xlat_tun::{Failure, Handle, Tun};

use crate::plan::Parts;
use crate::settings::{Settings, Side4};

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
    /// Hides our LANs behind this host's IPv4 address.
    _hidden: Option<Made>,
    /// Hides us behind the uplink's own IPv6 address.
    shared: Option<Made>,
    /// Keeps the uplink from forwarding for anybody else.
    guarded: Option<Made>,
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
        let parts = Parts::new(host, settings, side4, clat).await?;
        let place = &settings.run.place;
        let mut applied = host
            .apply(&parts.without_route(), &place.run_dir, &place.tun)
            .await?;
        let more = async {
            let responder = answer_for(host, path, clat).await?;
            let tables = (hide(settings)?, share(settings, clat)?);
            // Nobody is sent our way before all of it is there.
            applied.extend(&parts.route).await?;
            Ok::<_, anyhow::Error>((responder, tables, guard(host, settings, clat)))
        };
        let (responder, (hidden, shared), guarded) = match more.await {
            Ok(more) => more,
            Err(error) => {
                applied.undo().await?;
                return Err(error);
            }
        };
        Ok(Self {
            clat: clat.clone(),
            parts,
            applied,
            _responder: responder,
            _hidden: hidden,
            shared,
            guarded,
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
        let parts = Parts::new(host, settings, side4, clat).await?;
        let applied = &mut self.applied;
        if clat.mtu != self.clat.mtu {
            applied.extend(&mtu(&parts.tun)).await?;
        }
        if parts.uplink != self.parts.uplink {
            applied.extend(&parts.uplink).await?;
            self.guarded = None;
            self.guarded = guard(host, settings, clat);
        }
        if parts.address != self.parts.address {
            applied.extend(&parts.address).await?;
        }
        path.apply(settings, side4, clat)?;
        if sharing(settings, clat) != sharing(settings, &self.clat) {
            // Two tables cannot have the same name.
            self.shared = None;
            self.shared = share(settings, clat)?;
        }
        if parts.address != self.parts.address {
            self._responder = answer_for(host, path, clat).await?;
            applied.retract(&self.parts.address).await?;
        }
        if parts.uplink != self.parts.uplink {
            applied.retract(&self.parts.uplink).await?;
        }
        if parts.route != self.parts.route {
            applied.swap(&self.parts.route, &parts.route).await?;
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

fn hide(settings: &Settings) -> Result<Option<Made>> {
    let Some(table) = hiding(settings) else {
        return Ok(None);
    };
    let made = table.make()?;
    let name = table.name();
    info!("hosts of --lan leave with this host's IPv4 address (nftables table {name})");
    Ok(Some(made))
}

fn share(settings: &Settings, clat: &Clat) -> Result<Option<Made>> {
    let Some(table) = sharing(settings, clat) else {
        return Ok(None);
    };
    let made = table.make().with_context(|| {
        format!(
            "{} has no /64 prefix for an address of the CLAT's own, and sharing {} does not work; \
             give an address that is routed to this host with --ipv6",
            clat.uplink,
            clat.outer()
        )
    })?;
    let ports = &settings.run.shared_ports;
    info!(
        "{} is shared with this host: the CLAT has ports {} to {} (nftables table {})",
        clat.outer(),
        ports.start(),
        ports.end(),
        table.name()
    );
    Ok(Some(made))
}

/// Where only the uplink and the TUN forward, the uplink forwards to the TUN alone: neighbours do
/// not get through this host to its other networks.
fn guard(host: &Host, settings: &Settings, clat: &Clat) -> Option<Made> {
    let made = guarding(host, settings, clat)?.make();
    if let Err(error) = &made {
        warn!(
            "neighbours on {} can send packets through this host: {error}",
            clat.uplink
        );
    }
    made.ok()
}

fn guarding(host: &Host, settings: &Settings, clat: &Clat) -> Option<Guard> {
    let forwards = host.sysctl("net.ipv6.conf.all.forwarding");
    if !settings.forwards_by_interface(host) || forwards.is_some_and(|value| value != "0") {
        return None;
    }
    let name = format!("{}_guard", table(settings));
    let tun = &settings.run.place.tun;
    Some(Guard::new(&name, &clat.uplink, tun))
}

/// What is not part of the plan, as commands.
pub(crate) fn commands(host: &Host, settings: &Settings, clat: &Clat) -> Vec<String> {
    let tables = hiding(settings).into_iter().chain(sharing(settings, clat));
    let mut commands: Vec<String> = tables.flat_map(|table| table.commands()).collect();
    let guard = guarding(host, settings, clat);
    commands.extend(guard.iter().flat_map(Guard::commands));
    commands
}

/// The table that hides our LANs, where they are to be hidden.
fn hiding(settings: &Settings) -> Option<SourceNat> {
    if !settings.lan_is_hidden() {
        return None;
    }
    let sources = settings
        .run
        .lan
        .iter()
        .map(|lan| lan.address()..=lan.last());
    let sources: Vec<_> = sources.collect();
    let tun = &settings.run.place.tun;
    Some(SourceNat::masquerade(&table(settings), &sources, tun))
}

/// The table that hides the CLAT behind an address of the uplink, where it has none of its own.
fn sharing(settings: &Settings, clat: &Clat) -> Option<SourceNat> {
    let Origin::Shared(with) = clat.origin else {
        return None;
    };
    let (name, ports) = (table(settings), &settings.run.shared_ports);
    Some(SourceNat::share(
        &name,
        clat.address,
        &clat.uplink,
        with,
        ports,
    ))
}

fn table(settings: &Settings) -> String {
    format!("xlat_{}", settings.run.place.tun)
}

/// The steps that give the TUN its MTU.
fn mtu(tun: &Plan) -> Plan {
    let mut plan = Plan::new();
    for step in tun.steps() {
        if let Step::Tun { .. } = step {
            plan.step(step.clone());
        }
    }
    plan
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
