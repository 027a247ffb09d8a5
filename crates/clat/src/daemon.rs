//! Follows the network until told to stop: looks at the host whenever something has changed,
//! decides how things should be, and makes them so.
//!
//! Once it has worked, nothing that the network does ends it: what fails is tried again.

use std::future::pending;
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result};
use clat_host::{ipv4_addresses, look};
use pref64_discovery::{LinkDiscovery, RouterListener, log_change};
use tokio::sync::mpsc;
use tokio::time::sleep;
use tracing::{info, warn};
use xlat_core::Instant;
use xlat_host::daemon::control::Socket;
use xlat_host::daemon::metrics::Metrics;
use xlat_host::daemon::notify;
use xlat_host::daemon::reservation::Reservation;
use xlat_host::daemon::signals::{Request, Signals};
use xlat_host::host::{Changes, Error, Host};
use xlat_host::nft;
use xlat_proto::clat::{Backoff, Clat, Lifecycle, State, View};
use xlat_proto::discovery::Found;
use xlat_tun::{Failure, now};

use crate::control::StatusSource;
use crate::run::{broke, configured, lifecycle_config};
use crate::settings::{Settings, Side4};
use crate::translation::{DataPath, Translation};

/// How long it is believed that other hosts have all addresses that were tried.
const FORGIVEN_AFTER: Duration = Duration::from_secs(60);
/// Pause after a look at the host that failed.
const BLINK: Duration = Duration::from_secs(1);

/// What runs, and what it knows.
pub(crate) struct Daemon<'a> {
    host: &'a Host,
    settings: &'a Settings,
    side4: Side4,
    _reserved: Option<Reservation>,
    lifecycle: Lifecycle,
    view: View,
    listener: Option<RouterListener>,
    network: Option<LinkDiscovery>,
    found: Option<Found>,
    state: Option<State>,
    path: Option<DataPath>,
    translation: Option<Translation>,
    failures: mpsc::UnboundedReceiver<Failure>,
    failed: mpsc::UnboundedSender<Failure>,
    backoff: Backoff,
    /// A look at the host has failed; when to look again.
    blinked: Option<Instant>,
    /// It has worked: from now on the network alone is to blame for what fails.
    has_run: bool,
    status: StatusSource,
    _metrics: Option<Metrics>,
    socket: tokio::task::JoinHandle<()>,
    is_ready: bool,
    watchdog: notify::Watchdog,
}

/// What woke the daemon.
enum Woken {
    Stop,
    /// The administrator wants it to look at everything anew.
    Afresh,
    /// Something about the host has changed.
    Host,
    /// The network has said something, or something is due.
    Network,
    Broken(Failure),
}

impl<'a> Daemon<'a> {
    pub(crate) async fn new(host: &'a Host, settings: &'a Settings) -> Result<Self> {
        let place = &settings.run.place;
        let (side4, reserved) = side4(host, settings).await?;
        let (failed, failures) = mpsc::unbounded_channel();
        let status = StatusSource::new(side4);
        let socket = Socket::bind(&place.run_dir, &place.tun)?;
        let answers = status.clone();
        let answer = move |request, answer| answers.clone().answer(request, answer);
        let found = configured(settings);
        let listener = match found {
            Some(_) => None,
            None => Some(RouterListener::start().context(
                "cannot hear routers; run as root or with CAP_NET_RAW, or give --prefix",
            )?),
        };
        Ok(Self {
            host,
            settings,
            side4,
            _reserved: reserved,
            lifecycle: Lifecycle::new(lifecycle_config(settings, side4)?),
            view: View::default(),
            listener,
            network: None,
            found,
            state: None,
            path: None,
            translation: None,
            failures,
            failed,
            backoff: Backoff::new(),
            blinked: None,
            has_run: false,
            _metrics: metrics(&status, settings).await?,
            status,
            socket: tokio::spawn(socket.serve(answer)),
            is_ready: false,
            watchdog: notify::Watchdog::new(),
        })
    }

    /// Follows the network until told to stop, or until something breaks for good.
    pub(crate) async fn follow(&mut self, mut signals: Signals) -> Result<()> {
        let changes = Changes::listen()?;
        let mut look_again = true;
        loop {
            if look_again {
                look_again = false;
                self.look().await?;
            }
            if let Some(network) = &mut self.network {
                network.send().await;
            }
            if self.note_prefix() {
                // Where it leads is another question to the host.
                look_again = true;
                continue;
            }
            let state = self.lifecycle.decide(&self.view, self.prefix());
            if !self.backoff.holds_back(&state, now()) {
                let made = tokio::select! {
                    made = self.make(&state) => made,
                    () = stop(&mut signals) => return Ok(()),
                };
                look_again = self.judge(&state, made)?;
            }
            if look_again {
                continue;
            }
            match self.wait(&mut signals, &changes).await {
                Woken::Stop => return Ok(()),
                Woken::Afresh => {
                    self.begin_afresh();
                    look_again = true;
                }
                Woken::Host => look_again = true,
                Woken::Network => {}
                Woken::Broken(failure) => return Err(broke(&failure)),
            }
        }
    }

    async fn wait(&mut self, signals: &mut Signals, changes: &Changes) -> Woken {
        let no_address = matches!(self.state, Some(State::NoFreeAddress(_)));
        let forgiven = no_address.then(|| now() + FORGIVEN_AFTER);
        let due = [self.backoff.next_timeout(), self.blinked, forgiven];
        let due = due.into_iter().flatten().min();
        let retry = async {
            match due {
                Some(at) => sleep(at.saturating_since(now())).await,
                None => pending().await,
            }
        };
        let watchdog = async {
            loop {
                self.watchdog.feed().await;
            }
        };
        let network = async {
            match &mut self.network {
                Some(network) => network.next().await,
                None => pending().await,
            }
        };
        let woken = tokio::select! {
            request = signals.next() => match request {
                Request::Stop => Woken::Stop,
                Request::Reload => Woken::Afresh,
            },
            Some(failure) = self.failures.recv() => Woken::Broken(failure),
            () = changes.next() => Woken::Host,
            () = retry => Woken::Host,
            () = network => Woken::Network,
            () = watchdog => Woken::Network,
        };
        if forgiven.is_some_and(|at| at <= now()) {
            self.lifecycle.forgive();
        }
        woken
    }

    /// Looks at the host, and listens on the link that leads to IPv6 now.
    async fn look(&mut self) -> Result<()> {
        self.blinked = None;
        let Err(error) = self.try_to_look().await else {
            return Ok(());
        };
        if is_hopeless(&error) || (!self.has_run && self.state.is_none()) {
            return Err(error);
        }
        warn!("{error:#}; looking again soon");
        self.blinked = Some(now() + BLINK);
        Ok(())
    }

    async fn try_to_look(&mut self) -> Result<()> {
        let mut wanted = self.settings.wanted();
        wanted.prefix = self.prefix();
        let (view, link) = look(self.host, &wanted).await?;
        self.view = view;
        if self.settings.run.prefix.is_some() {
            return Ok(());
        }
        let is_known = match (&self.network, &link) {
            (Some(network), Some(link)) => network.is_of(link),
            (None, None) => true,
            _ => false,
        };
        if !is_known {
            let (listener, trust) = (self.listener.as_ref(), self.settings.trust());
            let join = |link| LinkDiscovery::join(link, listener, trust);
            self.network = link.as_ref().map(join).transpose()?;
        }
        Ok(())
    }

    fn prefix(&self) -> Option<xlat_core::addr::Pref64> {
        self.found.map(|found| found.prefix)
    }

    /// Notes which prefix holds; true if it is another one.
    fn note_prefix(&mut self) -> bool {
        if self.settings.run.prefix.is_some() {
            return false;
        }
        let before = self.prefix();
        let found = self.network.as_ref().and_then(LinkDiscovery::found);
        log_change(self.found, found);
        self.found = found;
        self.prefix() != before
    }

    /// Makes things as they should be.
    async fn make(&mut self, state: &State) -> Result<()> {
        let State::Running(clat) = state else {
            return self.end(&state.to_string()).await;
        };
        match &mut self.translation {
            None => self.start(clat).await,
            Some(translation) if translation.clat() == clat => {
                let repairs = translation.repair().await?;
                if repairs > 0 {
                    info!("{repairs} changes were undone by others and made again");
                }
                Ok(())
            }
            Some(translation) => {
                let path = self.path.as_ref().context("no data path")?;
                let (host, settings) = (self.host, self.settings);
                let changed = translation.change(host, settings, self.side4, path, clat);
                if let Err(error) = changed.await {
                    // It is neither the old one nor the new one.
                    self.end("it could not become another one").await?;
                    return Err(error);
                }
                info!("IPv4 goes on: {state}");
                Ok(())
            }
        }
    }

    /// Takes everything back: the host is as it was found.
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

    async fn start(&mut self, clat: &Clat) -> Result<()> {
        let (settings, side4) = (self.settings, self.side4);
        // One that is there was left by a start that failed.
        let path = match self.path.take() {
            Some(path) => {
                path.apply(settings, side4, clat)?;
                path
            }
            None => {
                let path = DataPath::start(settings, side4, clat, self.failed.clone())?;
                self.status.set_totals(path.workers().totals());
                path
            }
        };
        let path = self.path.insert(path);
        let translation = Translation::set_up(self.host, settings, side4, path, clat).await?;
        nft::warn_of_dropping_chains(&settings.run.place.tun);
        if self.view.native_ipv4 && self.host.has_strict_filter(&settings.run.place.tun) {
            let tun = &settings.run.place.tun;
            warn!(
                "answers will be dropped: this host has another IPv4 default route, and the \
                 reverse path filter is strict; sysctl net.ipv4.conf.{tun}.rp_filter=2 makes it \
                 loose"
            );
        }
        self.translation = Some(translation);
        info!(
            "IPv4 default route via {} (metric {}, mtu {}), from {}",
            settings.run.place.tun,
            side4.metric,
            settings.mtu4(clat.mtu),
            side4.host
        );
        Ok(())
    }

    /// What follows from how it went. True to look at the host again at once.
    fn judge(&mut self, state: &State, made: Result<()>) -> Result<bool> {
        let Err(error) = made else {
            self.backoff.worked();
            self.has_run |= matches!(state, State::Running(_));
            self.tell(state);
            return Ok(false);
        };
        match error.downcast_ref::<Error>() {
            Some(Error::Duplicate { address, .. }) => {
                warn!("{error}; another address is tried");
                self.lifecycle.conflict(*address);
                return Ok(true);
            }
            // The network is changing under us.
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
        let pause = self.backoff.failed(state, now());
        let line = format!("{error:#}; tried again in {} s", pause.as_secs());
        warn!("{line}");
        self.notify(&format!("waiting: {error:#}"));
        self.status.set_state(&format!("waiting: {error:#}"));
        self.state = None;
        Ok(false)
    }

    /// Says how things are, if that has changed, and notes it for those who ask.
    fn tell(&mut self, state: &State) {
        let network = self.network.as_ref();
        let forged = match (&self.listener, network) {
            (Some(listener), Some(network)) => listener.forged(network.index()),
            _ => 0,
        };
        self.status.set(state, self.found, network, forged);
        if self.state.as_ref() == Some(state) {
            return;
        }
        let line = match state {
            State::Running(_) => format!("this host is {} on IPv4, {state}", self.side4.host),
            waiting => waiting.to_string(),
        };
        if let State::Running(_) = state {
            info!("ready: {line}");
        } else {
            info!("{line}");
        }
        self.notify(&line);
        self.state = Some(state.clone());
    }

    fn notify(&mut self, line: &str) {
        if self.is_ready {
            notify::status(line);
        } else {
            self.is_ready = true;
            notify::ready(line);
        }
    }

    /// Forgets what the network has said, and asks it again.
    fn begin_afresh(&mut self) {
        if let Some(path) = &self.path {
            info!("{}", path.workers().counters().to_string().trim_end());
        }
        info!("looking at the network anew");
        self.network = None;
        self.backoff.worked();
        self.lifecycle.forgive();
    }

    /// Puts everything back.
    pub(crate) async fn stop(self) -> Result<()> {
        let host = self.host;
        self.socket.abort();
        // The socket is gone from the file system when its task is.
        let _ = self.socket.await;
        match self.translation {
            Some(translation) => translation
                .take_back()
                .await
                .context("not everything could be put back; try `clat recover`")?,
            // It may have been stopped in the middle of setting up.
            None => {
                let place = &self.settings.run.place;
                host.recover(&place.run_dir, &place.tun).await?;
            }
        }
        if let Some(path) = self.path {
            self.status.retire(path.stop());
        }
        let counters = self.status.counters().to_string();
        info!("stopped, the host is as it was\n{}", counters.trim_end());
        Ok(())
    }
}

async fn metrics(status: &StatusSource, settings: &Settings) -> Result<Option<Metrics>> {
    let Some(address) = settings.run.flags.metrics else {
        return Ok(None);
    };
    let status = status.clone();
    Ok(Some(Metrics::serve(address, move || status.page()).await?))
}

/// The IPv4 side, which other instances do not take as long as this one lives.
async fn side4(host: &Host, settings: &Settings) -> Result<(Side4, Option<Reservation>)> {
    let taken: Vec<Ipv4Addr> = ipv4_addresses(host, &settings.run.place.tun).await?;
    let reserved = std::cell::RefCell::new(None);
    let reserve = |address: Ipv4Addr| match Reservation::take(&address.to_string()) {
        Ok(ours) => {
            *reserved.borrow_mut() = Some(ours);
            true
        }
        Err(error) => error.kind() != std::io::ErrorKind::AddrInUse,
    };
    let side4 = settings.side4(&taken, reserve)?;
    Ok((side4, reserved.into_inner()))
}

/// True if trying again is of no use: it is not the network that refuses.
fn is_hopeless(error: &anyhow::Error) -> bool {
    let refused = |cause: &(dyn std::error::Error + 'static)| {
        let io = cause.downcast_ref::<std::io::Error>();
        io.is_some_and(|io| io.kind() == std::io::ErrorKind::PermissionDenied)
    };
    matches!(
        error.downcast_ref::<Error>(),
        Some(Error::Permission { .. } | Error::Running(_) | Error::Journal { .. })
    ) || error.chain().any(refused)
}

/// Waits for the request to stop; others can wait.
async fn stop(signals: &mut Signals) {
    while signals.next().await != Request::Stop {}
}
