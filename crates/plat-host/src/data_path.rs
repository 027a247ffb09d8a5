//! The data path: workers with a translator each over one mapper, and the control plane's handle
//! on them.
//!
//! The mapper's type is known here alone; [`DataPath`] hides it from all others.

use std::sync::Arc;

use nat64::dynamic::Dynamic;
use nat64::{Modes, OneToOne, View};
use nat64_host::{Keeper, Leases, State, Wakeup};
use tokio::sync::mpsc;
use xlat_core::addr::{Eam, EamTable, Ipv4Prefix, Pref64s};
use xlat_core::identification::Identifications;
use xlat_core::mapper::{PacketHolder, Prefetch};
use xlat_core::mappers::{Guarded, Hairpin, SharedAddress, Siit};
use xlat_core::{Frame, Instant, Mapper, Policy, PolicyError, Translator, Verdict};
use xlat_host::daemon::fast_path::Numbering;
use xlat_tun::counters::Snapshot;
use xlat_tun::{Engine, Failure, Handle, Totals, Tun};

use crate::SetupError;

/// The workers, whatever their mapper is. Dropping it stops them.
pub trait DataPath {
    /// Replaces the configuration of every worker between two of its batches.
    fn apply(&self, config: WorkerConfig);
    /// Keeps clients from these IPv4 addresses and no others, but for the ports of one that they share.
    /// `view` is that of the stateful translator, after it has [recalled](nat64::Nat64::recall) its
    /// sessions.
    fn hide(&self, addresses: Vec<Ipv4Prefix>, shared: Option<SharedAddress>, view: Option<View>);
    /// Makes the workers ask their engines for pending packets.
    fn wake(&self);
    /// The workers' counters, to be read from anywhere.
    fn totals(&self) -> Totals;
    /// Stops the workers and returns their last figures.
    fn stop(self: Box<Self>) -> Snapshot;
}

/// What a reload changes in a worker.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    /// Static maps.
    pub eams: EamTable,
    /// Of the stateful translator, where there is one.
    pub view: Option<View>,
    /// Valid: [`Policy::validate`] has accepted it.
    pub policy: Policy,
}

/// A mapper whose tables can be replaced while it runs.
trait Reconfigure: Mapper + PacketHolder + Prefetch {
    fn apply(&mut self, config: &WorkerConfig);

    /// Goes by this view of the stateful translator, if it has one.
    fn adopt(&mut self, _view: View) {}
}

impl Reconfigure for Siit {
    fn apply(&mut self, config: &WorkerConfig) {
        self.set_eams(config.eams.clone());
    }
}

impl Reconfigure for Dynamic {
    fn apply(&mut self, config: &WorkerConfig) {
        self.set_eams(config.eams.clone());
    }
}

impl<S: OneToOne + Reconfigure> Reconfigure for Modes<S> {
    fn apply(&mut self, config: &WorkerConfig) {
        self.own_mut().apply(config);
        if let Some(view) = &config.view {
            self.shared_mut().adopt(view.clone());
        }
    }

    fn adopt(&mut self, view: View) {
        self.shared_mut().adopt(view);
    }
}

impl<M: Reconfigure + Send + 'static> DataPath for Handle<PlatEngine<Guarded<M>>> {
    fn apply(&self, config: WorkerConfig) {
        self.update(move |engine| {
            let translator = &mut engine.translator;
            translator.mapper_mut().inner_mut().apply(&config);
            if translator.set_policy(config.policy.clone()).is_err() {
                unreachable!("it was checked before it was sent");
            }
        });
    }

    fn hide(&self, addresses: Vec<Ipv4Prefix>, shared: Option<SharedAddress>, view: Option<View>) {
        self.update(move |engine| {
            let mapper = engine.translator.mapper_mut();
            mapper.hide(addresses.clone());
            mapper.share(shared.clone());
            if let Some(view) = &view {
                mapper.inner_mut().adopt(view.clone());
            }
        });
    }

    fn wake(&self) {
        // After any message a worker asks for packets of its own.
        self.update(|_| {});
    }

    fn totals(&self) -> Totals {
        Handle::totals(self)
    }

    fn stop(self: Box<Self>) -> Snapshot {
        Handle::stop(*self)
    }
}

/// A translator that wakes the keeper after each batch, if its mapper has state that ends.
struct PlatEngine<M> {
    translator: Translator<M>,
    wakeup: Option<Arc<Wakeup>>,
}

impl<M: Mapper + PacketHolder + Prefetch + Send + 'static> Engine for PlatEngine<M> {
    #[inline]
    fn translate(&mut self, frame: &mut Frame<'_>, now: Instant) -> Verdict {
        self.translator.translate(frame, now)
    }

    #[inline]
    fn wants_prefetch(&self) -> bool {
        self.translator.wants_prefetch()
    }

    fn prefetch<'a>(&mut self, packets: impl Iterator<Item = &'a [u8]>) {
        self.translator.prefetch(packets);
    }

    #[inline]
    fn poll_packet(&mut self, frame: &mut Frame<'_>, now: Instant) -> Option<Verdict> {
        let next = self.translator.poll_packet(frame, now);
        if next.is_none()
            && let Some(wakeup) = &self.wakeup
        {
            wakeup.wake();
        }
        next
    }
}

/// What the workers start with.
#[derive(Clone, Debug)]
pub struct DataPathConfig {
    /// The TUN interface to open.
    pub tun: xlat_tun::Options,
    /// Valid: [`Policy::validate`] has accepted it.
    pub policy: Policy,
    /// Static maps.
    pub eams: EamTable,
    /// The NAT64 prefixes.
    pub pref64s: Pref64s,
    /// How IPv6 nodes reach each other by their IPv4 addresses.
    pub hairpin: Hairpin,
    /// Hosts with IPv4-translatable addresses.
    pub translatable: Vec<Eam>,
    /// What clients must not reach,
    pub hidden: Vec<Ipv4Prefix>,
    /// but for the ports of one that they share.
    pub shared: Option<SharedAddress>,
    /// How IPv4 identifications are shared.
    pub numbering: Numbering,
}

/// The workers, and where the failure of one is told.
pub type Started = (Box<dyn DataPath>, mpsc::UnboundedReceiver<Failure>);

/// Opens the TUN and starts to translate, with the mapper for the clients that `state` is about; no
/// packet comes before the routes are there. Workers in place of others go on with their counters,
/// `before`.
///
/// # Errors
/// If the TUN cannot be opened, the policy contradicts itself, or the threads do not start.
pub fn start_workers(
    config: DataPathConfig,
    state: &State,
    before: Option<&Totals>,
) -> Result<Started, SetupError> {
    let leases = state.leases.as_ref().map(Leases::pool);
    let shared = state.stateful.as_ref().map(|one| one.nat().worker());
    let wakeup = state.stateful.as_ref().map(Keeper::wakeup);
    let (eams, pref64s) = (config.eams.clone(), config.pref64s.clone());
    let one_to_one = || Siit::new(eams.clone(), pref64s.clone(), config.hairpin);
    let dynamic = |pool| Dynamic::new(eams.clone(), pref64s.clone(), config.hairpin, pool);
    match (leases, shared) {
        (None, None) => start_with(one_to_one(), &config, wakeup, before),
        (Some(pool), None) => start_with(dynamic(pool), &config, wakeup, before),
        (None, Some(shared)) => {
            start_with(Modes::new(one_to_one(), shared), &config, wakeup, before)
        }
        (Some(pool), Some(shared)) => {
            start_with(Modes::new(dynamic(pool), shared), &config, wakeup, before)
        }
    }
}

fn start_with<M: Reconfigure + Clone + Send + 'static>(
    mapper: M,
    config: &DataPathConfig,
    wakeup: Option<Arc<Wakeup>>,
    before: Option<&Totals>,
) -> Result<Started, SetupError> {
    let mut mapper = Guarded::new(mapper, config.pref64s.clone(), config.hidden.clone())
        .with_nodes(config.translatable.clone());
    mapper.share(config.shared.clone());
    let tun = Tun::open(&config.tun)?;
    let Numbering { seed, lanes } = config.numbering;
    let workers = tun.queues() as u16;
    let engines = (0..workers).map(|lane| {
        let ids = Identifications::new(seed, lane, lanes).shared_by(workers);
        let translator = Translator::new(mapper.clone(), config.policy.clone(), ids);
        translator.map(|translator| PlatEngine {
            translator,
            wakeup: wakeup.clone(),
        })
    });
    let mut engines = engines
        .collect::<Result<Vec<_>, PolicyError>>()?
        .into_iter();
    let (sender, failures) = mpsc::unbounded_channel();
    let make = move |_| {
        engines
            .next()
            .unwrap_or_else(|| unreachable!("one engine per queue"))
    };
    let failed = move |failure| drop(sender.send(failure));
    let workers = xlat_tun::resume(tun, before, make, failed).map_err(SetupError::Workers)?;
    Ok((Box::new(workers), failures))
}
