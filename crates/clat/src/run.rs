//! Follows the network until told to stop: looks at the host whenever something has changed,
//! decides how things should be, and makes them so.

use std::future::pending;
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};
use xlat_linux::daemon::control::Socket;
use xlat_linux::daemon::metrics::Metrics;
use xlat_linux::daemon::notify;
use xlat_linux::daemon::signals::{Request, Signals};
use xlat_linux::daemon::state_dir::{StateDir, random};
use xlat_linux::host::{Changes, Error, Host, Link};
use xlat_linux::nft;
use xlat_linux::tun::Failure;
use xlat_proto::clat::life::{Clat, Life, Origin, Standing, View, Wishes};
use xlat_proto::discovery::{Found, Source};

use crate::control::Facts;
use crate::network::{Network, report};
use crate::plan::{NoLan, Parts};
use crate::settings::{Settings, Side4};
use crate::translation::{DataPath, Translation, commands};
use crate::view::{ipv4_addresses, look};

/// How long a dry run waits for the network to tell its prefix.
const DRY_RUN_PATIENCE: Duration = Duration::from_secs(5);
/// Pauses after something failed that may work later.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);

pub(crate) async fn run(settings: Settings) -> Result<()> {
    let host = Host::connect()?;
    if settings.run.flags.no_host_setup {
        return translate_only(settings).await;
    }
    if let Some(name) = &settings.run.uplink {
        // A name that was mistyped is not waited for.
        host.link(name).await?;
    }
    if settings.run.flags.dry_run {
        return dry_run(&host, &settings).await;
    }
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
pub(crate) async fn recover(place: &crate::cli::Place) -> Result<()> {
    let count = Host::connect()?.recover(&place.run_dir, &place.tun).await?;
    match count {
        0 => info!("nothing was left behind"),
        count => info!("{count} changes of a killed run were taken back"),
    }
    Ok(())
}

/// Prints what would be done with the network as it is.
async fn dry_run(host: &Host, settings: &Settings) -> Result<()> {
    let side4 = settings.side4(&ipv4_addresses(host, &settings.run.place.tun).await?)?;
    let mut life = Life::new(wishes(settings, side4)?);
    let (mut view, link) = look(host, &settings.wanted()).await?;
    if view.native_ipv4 && !settings.run.always {
        warn!("this host has native IPv4: without --always nothing of this is done");
        view.native_ipv4 = false;
    }
    let found = match (configured(settings), &link) {
        (None, Some(link)) => discover(link, DRY_RUN_PATIENCE).await?,
        (found, _) => found,
    };
    match life.decide(&view, found.map(|found| found.prefix)) {
        Standing::Running(clat) => {
            let parts = Parts::new(host, settings, side4, &clat).await?;
            let more = commands(settings, &clat).join("\n");
            print(format!("{}{more}", parts.whole()).trim_end())
        }
        waiting => Err(anyhow!("{waiting}")),
    }
}

/// Waits for the first prefix on a link, but not for long.
async fn discover(link: &Link, patience: Duration) -> Result<Option<Found>> {
    let mut network = Network::join(link)?;
    let end = Instant::now() + patience;
    while network.found().is_none() && Instant::now() < end {
        network.send().await;
        let _ = tokio::time::timeout_at(end, network.next()).await;
    }
    Ok(network.found())
}

fn configured(settings: &Settings) -> Option<Found> {
    settings.run.prefix.map(|prefix| Found {
        prefix,
        source: Source::Configured,
    })
}

fn wishes(settings: &Settings, side4: Side4) -> Result<Wishes> {
    Ok(Wishes {
        always: settings.run.always,
        address: settings.run.ipv6,
        secret: secret(settings)?,
        neutral_to: settings.run.checksum_neutral.then_some(side4.host),
    })
}

/// The key of stable addresses. A dry run by somebody who may not read it makes one up.
fn secret(settings: &Settings) -> Result<[u64; 2]> {
    let secret = StateDir::open(&settings.run.state_dir).and_then(|dir| dir.secret());
    match secret {
        Err(error) if settings.run.flags.dry_run => {
            warn!("{error}: the IPv6 address below is only an example");
            Ok(random()?)
        }
        secret => Ok(secret?),
    }
}

/// With `--no-host-setup`: only the TUN and the translation.
async fn translate_only(settings: Settings) -> Result<()> {
    let address = settings.run.ipv6.context("--ipv6 is missing")?;
    let prefix = settings.run.prefix.context("--prefix is missing")?;
    let side4 = settings.side4(&[])?;
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

fn broke(failure: &Failure) -> anyhow::Error {
    anyhow!("the data path broke: {failure}")
}

/// What runs, and what it knows.
struct Daemon<'a> {
    host: &'a Host,
    settings: &'a Settings,
    side4: Side4,
    life: Life,
    view: View,
    network: Option<Network>,
    found: Option<Found>,
    standing: Option<Standing>,
    path: Option<DataPath>,
    translation: Option<Translation>,
    failures: mpsc::UnboundedReceiver<Failure>,
    failed: mpsc::UnboundedSender<Failure>,
    retry: Option<Instant>,
    pause: Duration,
    facts: Facts,
    _metrics: Option<Metrics>,
    socket: tokio::task::JoinHandle<()>,
    is_ready: bool,
    watchdog: notify::Watchdog,
}

/// What woke the daemon.
enum Woken {
    Stop,
    Report,
    /// Something about the host has changed.
    Host,
    /// The network has said something, or something is due.
    Network,
    Broken(Failure),
}

impl<'a> Daemon<'a> {
    async fn metrics(facts: &Facts, settings: &Settings) -> Result<Option<Metrics>> {
        let Some(address) = settings.run.flags.metrics else {
            return Ok(None);
        };
        let facts = facts.clone();
        Ok(Some(Metrics::serve(address, move || facts.page()).await?))
    }

    async fn new(host: &'a Host, settings: &'a Settings) -> Result<Self> {
        let place = &settings.run.place;
        let taken: Vec<Ipv4Addr> = ipv4_addresses(host, &place.tun).await?;
        let side4 = settings.side4(&taken)?;
        let (failed, failures) = mpsc::unbounded_channel();
        let facts = Facts::new(side4);
        let socket = Socket::bind(&place.run_dir, &place.tun)?;
        let answers = facts.clone();
        let answer = move |request, answer| answers.clone().answer(request, answer);
        Ok(Self {
            host,
            settings,
            side4,
            life: Life::new(wishes(settings, side4)?),
            view: View::default(),
            network: None,
            found: configured(settings),
            standing: None,
            path: None,
            translation: None,
            failures,
            failed,
            retry: None,
            pause: RETRY_FIRST,
            _metrics: Self::metrics(&facts, settings).await?,
            facts,
            socket: tokio::spawn(socket.serve(answer)),
            is_ready: false,
            watchdog: notify::Watchdog::new(),
        })
    }

    /// Follows the network until told to stop, or until something breaks for good.
    async fn follow(&mut self, mut signals: Signals) -> Result<()> {
        let changes = Changes::listen()?;
        let mut look_again = true;
        loop {
            if look_again {
                self.look().await?;
            }
            if let Some(network) = &mut self.network {
                network.send().await;
            }
            self.note_prefix();
            let prefix = self.found.map(|found| found.prefix);
            let standing = self.life.decide(&self.view, prefix);
            let made = tokio::select! {
                made = self.make(standing) => Some(made),
                () = stop(&mut signals) => None,
            };
            match made {
                None => return Ok(()),
                Some(made) => look_again = self.judge(made)?,
            }
            if look_again {
                continue;
            }
            match self.wait(&mut signals, &changes).await {
                Woken::Stop => return Ok(()),
                Woken::Report => self.report(),
                Woken::Host => look_again = true,
                Woken::Network => {}
                Woken::Broken(failure) => return Err(broke(&failure)),
            }
        }
    }

    async fn wait(&mut self, signals: &mut Signals, changes: &Changes) -> Woken {
        let retry = self.retry;
        let retry = async {
            match retry {
                Some(at) => sleep_until(at).await,
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
        tokio::select! {
            request = signals.next() => match request {
                Request::Stop => Woken::Stop,
                Request::Reload => Woken::Report,
            },
            Some(failure) = self.failures.recv() => Woken::Broken(failure),
            () = changes.next() => Woken::Host,
            () = retry => Woken::Host,
            () = network => Woken::Network,
            () = watchdog => Woken::Network,
        }
    }

    /// Looks at the host, and listens on the link that leads to IPv6 now.
    async fn look(&mut self) -> Result<()> {
        let (view, link) = look(self.host, &self.settings.wanted()).await?;
        self.view = view;
        if self.settings.run.prefix.is_some() {
            return Ok(());
        }
        let is_known = match (&self.network, &link) {
            (Some(network), Some(link)) => network.index() == link.index,
            (None, None) => true,
            _ => false,
        };
        if !is_known {
            self.network = link.as_ref().map(Network::join).transpose()?;
        }
        Ok(())
    }

    fn note_prefix(&mut self) {
        if self.settings.run.prefix.is_some() {
            return;
        }
        let found = self.network.as_ref().and_then(Network::found);
        report(self.found, found);
        self.found = found;
    }

    /// Makes things as they should be.
    async fn make(&mut self, standing: Standing) -> Result<()> {
        let Standing::Running(clat) = &standing else {
            if let Some(translation) = self.translation.take() {
                info!("IPv4 is off: {standing}");
                translation.take_back().await?;
            }
            self.tell(standing);
            return Ok(());
        };
        match &mut self.translation {
            None => self.start(clat).await?,
            Some(translation) if translation.clat() == clat => {
                let repairs = translation.repair().await?;
                if repairs > 0 {
                    info!("{repairs} routes had gone and were put back");
                }
            }
            Some(translation) => {
                let path = self.path.as_ref().context("no data path")?;
                let (host, settings) = (self.host, self.settings);
                translation
                    .change(host, settings, self.side4, path, clat)
                    .await?;
                info!("IPv4 goes on: {standing}");
            }
        }
        self.tell(standing);
        Ok(())
    }

    async fn start(&mut self, clat: &Clat) -> Result<()> {
        let (settings, side4) = (self.settings, self.side4);
        match &self.path {
            Some(path) => path.become_(settings, side4, clat)?,
            None => {
                let path = DataPath::start(settings, side4, clat, self.failed.clone())?;
                self.facts.set_totals(path.workers().totals());
                self.path = Some(path);
            }
        }
        let path = self.path.as_ref().context("no data path")?;
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

    /// Says how things are, if that has changed, and notes it for those who ask.
    fn tell(&mut self, standing: Standing) {
        self.facts.set(&standing, self.found, self.network.as_ref());
        if self.standing.as_ref() == Some(&standing) {
            return;
        }
        let line = match &standing {
            Standing::Running(_) => format!("this host is {} on IPv4, {standing}", self.side4.host),
            waiting => waiting.to_string(),
        };
        if let Standing::Running(_) = standing {
            info!("ready: {line}");
        } else {
            info!("{line}");
        }
        if self.is_ready {
            notify::status(&line);
        } else {
            self.is_ready = true;
            notify::ready(&line);
        }
        self.standing = Some(standing);
    }

    /// What follows from how it went. True to look at the host again at once.
    fn judge(&mut self, made: Result<()>) -> Result<bool> {
        let Err(error) = made else {
            (self.retry, self.pause) = (None, RETRY_FIRST);
            return Ok(false);
        };
        if error.is::<NoLan>() {
            if self.pause == RETRY_FIRST {
                warn!("waiting: {error}");
            }
            // It is one of the changes that wake us.
            (self.retry, self.pause) = (None, RETRY_MAX);
            return Ok(false);
        }
        match error.downcast_ref::<Error>() {
            Some(Error::Duplicate { address, .. }) => {
                warn!("{error}; another address is tried");
                self.life.conflict(*address);
                Ok(true)
            }
            Some(
                Error::NoLink(_)
                | Error::NoRoute(_)
                | Error::Tentative { .. }
                | Error::Kernel { .. },
            ) => {
                // The network is changing under us.
                debug!("tried again in {:?}: {error:#}", self.pause);
                warn!("{error:#}; tried again soon");
                self.retry = Some(Instant::now() + self.pause);
                self.pause = (self.pause * 2).min(RETRY_MAX);
                Ok(false)
            }
            _ => Err(error),
        }
    }

    fn report(&self) {
        if let Some(path) = &self.path {
            info!("{}", path.workers().counters().to_string().trim_end());
        }
    }

    /// Puts everything back.
    async fn stop(self) -> Result<()> {
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
        let counters = self.path.map(|path| path.stop().to_string());
        info!(
            "stopped, the host is as it was\n{}",
            counters.unwrap_or_default().trim_end()
        );
        Ok(())
    }
}

/// Waits for the request to stop; others can wait.
async fn stop(signals: &mut Signals) {
    while signals.next().await != Request::Stop {}
}

#[expect(clippy::print_stdout, reason = "the plan is what was asked for")]
fn print(text: &str) -> Result<()> {
    print!("{text}");
    Ok(())
}
