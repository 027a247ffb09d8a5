//! Runs the daemon: reads the host's state whenever something has changed, decides on a state of
//! the CLAT, and carries it out.
//!
//! Once a CLAT has run, no change of the network ends the daemon: failures are tried again.

mod active;
mod announce;
mod network;
mod ports;

use std::future::pending;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use clat_host::{SetupError, WorkerFailed, ipv4_addresses, look};
use tokio::time::sleep;
use tracing::{info, warn};
use xlat_core::Instant;
use xlat_host::daemon::control::Socket;
use xlat_host::daemon::fast_path::KernelPath;
use xlat_host::daemon::metrics::Metrics;
use xlat_host::daemon::notify;
use xlat_host::daemon::reservation::Reservation;
use xlat_host::daemon::signals::{Request, Signals};
use xlat_host::host::{Changes, Error, Host};
use xlat_host::nft::RulesetChanges;
use xlat_proto::clat::{Action, Lifecycle, Reconciler, Side4, State};
use xlat_tun::now;

use self::active::Active;
use self::announce::Announcer;
use self::network::Network;
use self::ports::Ports;
use crate::control::StatusSource;
use crate::lifecycle;
use crate::settings::Settings;

/// How often the fast path is looked at while nothing else happens: no message tells that it was
/// detached.
const FAST_PATH_LOOK: Duration = Duration::from_secs(10);

/// The loop's state.
pub(crate) struct Daemon<'a> {
    host: &'a Host,
    settings: &'a Settings,
    _reserved: Option<Reservation>,
    reconciler: Reconciler,
    network: Network,
    active: Active<'a>,
    ports: Ports<'a>,
    /// A CLAT has run: from now on, failures are those of the network and are tried again.
    has_run: bool,
    announcer: Announcer,
    status: StatusSource,
    _metrics: Option<Metrics>,
    socket: tokio::task::JoinHandle<()>,
    watchdog: notify::Watchdog,
    /// `None` where the kernel has no nftables.
    rules: Option<RulesetChanges>,
}

/// The event that ended a wait.
enum Woken {
    Stop,
    /// The administrator asked for a reload.
    Afresh,
    /// The host's state has changed, or is to be read again.
    Host,
    /// Other ports are to be forwarded to IPv4 hosts.
    Ports,
    /// A message of the network has arrived, or something is due.
    Due,
    Broken(WorkerFailed),
}

impl<'a> Daemon<'a> {
    pub(crate) async fn new(
        host: &'a Host,
        settings: &'a Settings,
        kernel: Arc<KernelPath>,
    ) -> Result<Self> {
        let instance = &settings.instance;
        let (side4, reserved) = side4(host, settings).await?;
        let (tun, target) = (&instance.tun, settings.trust.probe);
        let status = StatusSource::new(host, side4, tun, target, kernel.status_source());
        let socket = Socket::bind(
            &instance.run_dir,
            &instance.tun,
            instance.status_group.as_ref(),
        )?;
        let answers = status.clone();
        let answer = move |request, answer| answers.clone().answer(request, answer);
        let network = Network::new(settings)?;
        let config = settings.host_config(side4);
        let life = lifecycle::config(settings, side4)?;
        let (pcp, secret, held) = (settings.pcp.clone(), life.secret, status.ports());
        let ports = Ports::new(host, config.clone(), pcp, secret, held);
        Ok(Self {
            host,
            settings,
            _reserved: reserved,
            reconciler: Reconciler::new(Lifecycle::new(life)),
            network,
            active: Active::new(host, config, kernel, status.clone()),
            ports,
            has_run: false,
            announcer: Announcer::new(status.clone(), side4.host),
            _metrics: metrics(&status, settings).await?,
            status,
            socket: tokio::spawn(socket.serve(answer)),
            watchdog: notify::Watchdog::new(),
            rules: RulesetChanges::listen().ok(),
        })
    }

    /// Runs until a signal to stop, or a failure that trying again cannot mend.
    pub(crate) async fn follow(&mut self, mut signals: Signals) -> Result<()> {
        let changes = Changes::listen()?;
        loop {
            self.network.send().await;
            if self.network.update() {
                self.reconciler.changed(now());
            }
            self.reconciler.on_prefix(self.network.prefix(), now());
            let until = match self.reconciler.next(now()) {
                Action::Look => {
                    self.look().await?;
                    continue;
                }
                Action::Apply(state) => {
                    let native_ipv4 = self.reconciler.view().has_ipv4();
                    let made = tokio::select! {
                        made = self.active.bring(&state, native_ipv4) => made,
                        () = stop(&mut signals) => return Ok(()),
                    };
                    self.judge(state.clone(), made)?;
                    self.follow_ports(&state).await;
                    continue;
                }
                Action::Wait(until) => until,
            };
            self.announcer.refresh(&self.network);
            match self.wait(&mut signals, &changes, until).await {
                Woken::Stop => return Ok(()),
                Woken::Afresh => self.begin_afresh(),
                Woken::Host => self.reconciler.changed(now()),
                Woken::Ports => self.forward_ports().await,
                Woken::Due => {}
                Woken::Broken(failure) => return Err(failure.into()),
            }
        }
    }

    async fn wait(
        &mut self,
        signals: &mut Signals,
        changes: &Changes,
        until: Option<Instant>,
    ) -> Woken {
        let due = async {
            match until {
                Some(at) => sleep(at.saturating_since(now()) + Duration::from_millis(1)).await,
                None => pending().await,
            }
        };
        let watchdog = async {
            loop {
                self.watchdog.feed().await;
            }
        };
        tokio::select! {
            request = signals.next() => match request {
                Request::Stop => Woken::Stop,
                Request::Reload => Woken::Afresh,
            },
            broken = self.active.broken() => match broken {
                Ok(()) => Woken::Host,
                Err(failure) => Woken::Broken(failure),
            },
            () = changes.next() => Woken::Host,
            () = self.host.parameter_written() => Woken::Host,
            () = due => Woken::Due,
            () = self.network.next() => Woken::Due,
            () = self.ports.changed() => Woken::Ports,
            () = next(self.rules.as_mut()) => {
                self.active.look_at_chains();
                Woken::Due
            }
            () = watchdog => Woken::Due,
            () = sleep(FAST_PATH_LOOK) => {
                self.active.look_at_fast_path();
                self.announcer.look_at_health();
                Woken::Due
            }
        }
    }

    /// Serves the hosts of the CLAT that runs, if one does.
    async fn follow_ports(&mut self, state: &State) {
        let reached = match self.announcer.state() {
            Some(reached) if reached == state => reached,
            // It failed, and is tried again.
            _ => return,
        };
        self.ports.follow(reached, self.network.routers()).await;
        self.forward_ports().await;
    }

    async fn forward_ports(&mut self) {
        let forwards = self.ports.forwards();
        if let Err(error) = self.active.set_ports(forwards.clone()).await {
            warn!("packets to ports of IPv4 hosts are not forwarded to them: {error:#}");
        }
        self.ports.applied(forwards);
    }

    /// Reads the host's state. Once a state was reached, a failure is tried again.
    async fn look(&mut self) -> Result<()> {
        let Err(error) = self.try_to_look().await else {
            return Ok(());
        };
        if is_hopeless(&error) || (!self.has_run && self.announcer.state().is_none()) {
            return Err(error);
        }
        warn!("{error:#}; trying again soon");
        self.reconciler.on_look_failed(now());
        Ok(())
    }

    async fn try_to_look(&mut self) -> Result<()> {
        let mut wanted = self.settings.wanted();
        wanted.discovered = self.network.discovered();
        wanted.current = self.network.link();
        let (view, link) = look(self.host, &wanted).await?;
        self.network.follow(link.as_ref(), &view)?;
        self.reconciler.on_view(view);
        Ok(())
    }

    /// Decides what follows from carrying out `state`.
    fn judge(&mut self, state: State, made: Result<()>) -> Result<()> {
        let Err(error) = made else {
            if let State::Running(clat) = &state {
                self.has_run = true;
                self.network.on_running(clat.prefix);
            }
            self.announcer.reached(&state, &self.network);
            self.reconciler.on_reached(state, now());
            return Ok(());
        };
        match host_error(&error) {
            Some(Error::Duplicate { address, .. }) => {
                warn!("{error}; trying another address");
                self.reconciler.on_duplicate(*address, now());
                return Ok(());
            }
            // The network is changing at this moment.
            Some(
                Error::NoLink(_)
                | Error::NoRoute(_)
                | Error::Tentative { .. }
                | Error::TakenAway { .. }
                | Error::Kernel { .. },
            ) => {}
            _ if self.has_run && !is_hopeless(&error) => {}
            _ => return Err(error),
        }
        let pause = self.reconciler.on_failed(&state, now());
        let line = format!("{error:#}; tried again in {} s", pause.as_secs());
        warn!("{line}");
        self.announcer.failed(&error);
        Ok(())
    }

    /// Asks the network again, and tries at once what has failed.
    fn begin_afresh(&mut self) {
        self.active.log_counters();
        info!("restarting detection; what runs goes on until the answers differ");
        self.network.ask_again();
        self.reconciler.restart(now());
    }

    /// Undoes all changes to the host.
    pub(crate) async fn stop(self) -> Result<()> {
        self.socket.abort();
        // The task removes the socket from the file system when it ends.
        let _ = self.socket.await;
        self.active.stop().await?;
        let counters = self.status.counters().to_string();
        info!("stopped, the host is as it was\n{}", counters.trim_end());
        Ok(())
    }
}

async fn metrics(status: &StatusSource, settings: &Settings) -> Result<Option<Metrics>> {
    let Some(address) = settings.metrics else {
        return Ok(None);
    };
    let (status, asked) = (status.clone(), status.clone());
    let measure = move || {
        let asked = asked.clone();
        async move { asked.measure(true).await }
    };
    let metrics = Metrics::serve(address, move || status.page(), measure);
    Ok(Some(metrics?))
}

/// The IPv4 side, and its reservation against other instances.
async fn side4(host: &Host, settings: &Settings) -> Result<(Side4, Option<Reservation>)> {
    let taken: Vec<Ipv4Addr> = ipv4_addresses(host, &settings.instance.tun).await?;
    let reserved = std::cell::RefCell::new(None);
    let run_dir = &settings.instance.run_dir;
    let reserve = |address: Ipv4Addr| match Reservation::take(run_dir, &address.to_string()) {
        Ok(ours) => {
            *reserved.borrow_mut() = Some(ours);
            true
        }
        Err(Error::Running(_)) => false,
        Err(error) => {
            warn!("{address} is not reserved against other instances: {error}");
            true
        }
    };
    let side4 = settings.side4(&taken, reserve)?;
    Ok((side4, reserved.into_inner()))
}

/// True if trying again is of no use: the cause is not the network.
fn is_hopeless(error: &anyhow::Error) -> bool {
    let refused = |cause: &(dyn std::error::Error + 'static)| {
        let io = cause.downcast_ref::<std::io::Error>();
        io.is_some_and(|io| io.kind() == std::io::ErrorKind::PermissionDenied)
    };
    matches!(
        host_error(error),
        Some(Error::Permission { .. } | Error::Running(_) | Error::Journal { .. })
    ) || error.chain().any(refused)
}

/// The host's refusal that is the cause of `error`, if one is.
fn host_error(error: &anyhow::Error) -> Option<&Error> {
    let setup = error.downcast_ref::<SetupError>();
    setup.map_or_else(|| error.downcast_ref(), SetupError::host)
}

/// Waits for a change of the ruleset.
async fn next(rules: Option<&mut RulesetChanges>) {
    match rules {
        Some(rules) => rules.next().await,
        None => pending().await,
    }
}

/// Waits for a request to stop; ignores others.
async fn stop(signals: &mut Signals) {
    while signals.next().await != Request::Stop {}
}
