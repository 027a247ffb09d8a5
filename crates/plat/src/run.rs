//! Translates until told to stop.

use std::future::pending;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use nat64::Modes;
use nat64::dynamic::Dynamic;
use tokio::sync::mpsc;
use tokio::time::interval;
use tracing::info;
use xlat_core::addr::Ipv4Prefix;
use xlat_core::mappers::{Guarded, Siit};
use xlat_core::{Mapper, Policy};
use xlat_linux::daemon::control::Socket;
use xlat_linux::daemon::metrics::Metrics;
use xlat_linux::daemon::notify;
use xlat_linux::daemon::signals::{Request, Signals};
use xlat_linux::daemon::state_dir::StateDir;
use xlat_linux::host::{Applied, Changes, Host};
use xlat_linux::nft::Masquerade;
use xlat_linux::tun::{Failure, Handle, now};

use crate::advertise::Advertising;
use crate::control::Facts;
use crate::data_path::{self, Ringing};
use crate::dns::Dns64;
use crate::egress;
use crate::leases::Leases;
use crate::plan::{Own6, check_overlaps, plan};
use crate::settings::Settings;
use crate::stateful::Stateful;

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
        let plan = plan(&host, &settings, own_v6).await?.to_string();
        let more = egress::commands(&settings).join("\n");
        return print(format!("{plan}{more}").trim_end());
    }
    let policy = policy(&settings, own_v6)?;
    for (outer, inner) in settings.eams.overlaps() {
        tracing::warn!("--map {inner} lies inside --map {outer}: each wins on its own side");
    }
    let state = State::load(&settings)?;
    let daemon = Daemon {
        host: &host,
        settings: &settings,
        own_v6,
        policy,
        state,
    };
    daemon.run().await
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

fn policy(settings: &Settings, own_v6: Own6) -> Result<Policy> {
    let policy = settings.run.policy.policy(
        settings.own_v4,
        own_v6.address,
        settings.mtu4,
        settings.run.mtu,
    );
    // What comes to an address that clients share is theirs, by either of its names.
    let is_shared = settings.own_v4_is_shared();
    let is_its_name = settings.pref64s.lookup(own_v6.address).is_some();
    let policy = Policy {
        answer_v4: !is_shared,
        answer_v6: own_v6.is_ours && !(is_shared && is_its_name),
        ..policy
    };
    policy.validate()?;
    Ok(policy)
}

/// What the translator remembers, by the kinds of clients that it has.
struct State {
    leases: Option<Leases>,
    stateful: Option<Stateful>,
}

impl State {
    fn load(settings: &Settings) -> Result<Self> {
        let open = || StateDir::open(&settings.run.state_dir);
        let leases = match settings.pool() {
            Some(config) => Some(Leases::load(config, open()?)?),
            None => None,
        };
        let workers = settings.run.flags.queue_count();
        let stateful = match settings.stateful(workers)? {
            Some(config) => {
                let log = settings.run.stateful.session_log.as_deref();
                let pref64s = settings.pref64s.clone();
                Some(Stateful::load(config, pref64s, open()?, log)?)
            }
            None => None,
        };
        Ok(Self { leases, stateful })
    }

    /// Writes everything to disk; to be called when no packet comes any more.
    fn save(&mut self) {
        if let Some(leases) = &mut self.leases {
            leases.save(true);
        }
        if let Some(stateful) = &mut self.stateful {
            stateful.save();
        }
    }
}

/// Everything that a running translator needs.
struct Daemon<'a> {
    host: &'a Host,
    settings: &'a Settings,
    own_v6: Own6,
    policy: Policy,
    state: State,
}

impl Daemon<'_> {
    /// Picks the mapper for the clients that there are, and serves them.
    async fn run(self) -> Result<()> {
        let settings = self.settings;
        let hairpin = settings.run.hairpin.into();
        let (eams, pref64s) = (settings.eams.clone(), settings.pref64s.clone());
        let leases = self.state.leases.as_ref().map(Leases::pool);
        let nat = self.state.stateful.as_ref().map(|one| one.nat().clone());
        match (leases, nat) {
            (None, None) => self.serve(Siit::new(eams, pref64s, hairpin)).await,
            (Some(pool), None) => self.serve(Dynamic::new(eams, pref64s, hairpin, pool)).await,
            (None, Some(nat)) => {
                let own = Siit::new(eams, pref64s, hairpin);
                self.serve(Modes::new(own, nat)).await
            }
            (Some(pool), Some(nat)) => {
                let own = Dynamic::new(eams, pref64s, hairpin, pool);
                self.serve(Modes::new(own, nat)).await
            }
        }
    }

    async fn serve<M: Mapper + Clone + Send + 'static>(mut self, mapper: M) -> Result<()> {
        let mut signals = Signals::catch()?;
        // Its port may be taken: that is found out before anything is changed.
        let dns64 = Dns64::start(self.host, self.settings).await?;
        let pref64s = self.settings.pref64s.clone();
        let mapper = Guarded::new(mapper, pref64s, self.hidden().await?);
        let alarm = self.state.stateful.as_ref().map(Stateful::alarm);
        let (workers, failures) =
            data_path::start(&self.settings.run, &self.policy, &mapper, alarm.as_ref())?;
        let facts = self.facts(&workers, dns64.as_ref());
        let _metrics = self.metrics(&facts).await?;
        let socket = self.control_socket(facts)?;
        let applied = self.set_up().await?;
        let way_out = self.open_way_out()?;
        let dns_servers = dns64.as_ref().map(Dns64::addresses).unwrap_or_default();
        let advertising = Advertising::start(self.host, self.settings, dns_servers).await?;
        let line = self.settings.describe();
        info!(
            "translator is {} and {}",
            self.settings.own_v4, self.own_v6.address
        );
        info!("ready: {line}");
        notify::ready(&line);

        let end = self
            .wait(&mut signals, failures, &workers, &advertising)
            .await;
        notify::stopping();
        advertising.stop().await;
        drop(dns64);
        drop(way_out);
        if let Some(applied) = applied {
            applied
                .undo()
                .await
                .context("not everything could be put back; try `plat recover`")?;
        }
        socket.abort();
        // The socket is gone from the file system when its task is.
        let _ = socket.await;
        let counters = workers.stop();
        self.state.save();
        info!(
            "stopped, the host is as it was\n{}",
            counters.to_string().trim_end()
        );
        end
    }

    async fn set_up(&self) -> Result<Option<Applied>> {
        if self.settings.run.flags.no_host_setup {
            return Ok(None);
        }
        let plan = plan(self.host, self.settings, self.own_v6).await?;
        let place = &self.settings.run.place;
        let applied = self.host.apply(&plan, &place.run_dir, &place.tun).await?;
        Ok(Some(applied))
    }

    fn open_way_out(&self) -> Result<Option<Masquerade>> {
        if self.settings.run.flags.no_host_setup {
            return Ok(None);
        }
        egress::warn_of_filters(&self.settings.run.place.tun);
        egress::open(self.settings)
    }

    /// What clients must not reach through the prefix: the addresses of this host (SE-06).
    async fn hidden(&self) -> Result<Vec<Ipv4Prefix>> {
        if self.settings.run.expose_host {
            return Ok(Vec::new());
        }
        let addresses = self.host.addresses().await?;
        let v4 = addresses.iter().filter_map(|have| match have.address {
            IpAddr::V4(address) => Some(Ipv4Prefix::host(address)),
            IpAddr::V6(_) => None,
        });
        Ok(v4.collect())
    }

    fn facts<M: Mapper + Send + 'static>(
        &self,
        workers: &Handle<Ringing<Guarded<M>>>,
        dns64: Option<&Dns64>,
    ) -> Facts {
        let settings = self.settings;
        let stateful = self.state.stateful.as_ref();
        Facts {
            started: now(),
            prefixes: settings.pref64s.iter().map(ToString::to_string).collect(),
            pool: settings.pools(),
            totals: workers.totals(),
            nat: stateful.map(|stateful| stateful.nat().clone()),
            ports: stateful.map_or([0; 3], Stateful::ports),
            leases: self.state.leases.as_ref().map(Leases::pool),
            dns64: dns64.map(Dns64::counters),
            lost_records: stateful.and_then(Stateful::lost_records),
        }
    }

    async fn metrics(&self, facts: &Facts) -> Result<Option<Metrics>> {
        let Some(address) = self.settings.run.flags.metrics else {
            return Ok(None);
        };
        let facts = facts.clone();
        Ok(Some(Metrics::serve(address, move || facts.page()).await?))
    }

    fn control_socket(&self, facts: Facts) -> Result<tokio::task::JoinHandle<()>> {
        let place = &self.settings.run.place;
        let socket = Socket::bind(&place.run_dir, &place.tun)?;
        let answer = move |request, answer| facts.clone().answer(request, answer);
        Ok(tokio::spawn(socket.serve(answer)))
    }

    /// Waits for the end: a signal, or a data path that broke.
    async fn wait<M: Mapper + Send + 'static>(
        &mut self,
        signals: &mut Signals,
        mut failures: mpsc::UnboundedReceiver<Failure>,
        workers: &Handle<Ringing<Guarded<M>>>,
        advertising: &Advertising,
    ) -> Result<()> {
        let changes = Changes::listen()?;
        let mut save = interval(SAVE_EVERY);
        let has_leases = self.state.leases.is_some();
        loop {
            tokio::select! {
                request = signals.next() => match request {
                    Request::Stop => return Ok(()),
                    Request::Reload => self.reload(workers).await,
                },
                _ = save.tick(), if has_leases => {
                    if let Some(leases) = &mut self.state.leases {
                        leases.save(false);
                    }
                }
                () = due(self.state.stateful.as_mut()) => {
                    if let Some(stateful) = &mut self.state.stateful
                        && stateful.tick()
                    {
                        // After any message a worker asks for packets of its own.
                        workers.update(|_| {});
                    }
                }
                () = changes.next() => self.watch_way_out(advertising).await,
                Some(failure) = failures.recv() => {
                    return Err(anyhow!("the data path broke: {failure}"));
                }
            }
        }
    }

    /// Without a way out this host is no router for IPv4.
    async fn watch_way_out(&self, advertising: &Advertising) {
        match egress::is_open(self.host, self.settings).await {
            Ok(open) => advertising.set_open(open),
            Err(error) => tracing::debug!("{error:#}"),
        }
    }

    /// Writes down how things are, and looks at the host again.
    async fn reload<M: Mapper + Send + 'static>(&mut self, workers: &Handle<Ringing<Guarded<M>>>) {
        info!("{}", workers.counters().to_string().trim_end());
        if let Some(leases) = &mut self.state.leases {
            leases.save(true);
            info!("{} leases saved", leases.active());
        }
        if let Some(stateful) = &self.state.stateful {
            stateful.reload();
        }
        match self.hidden().await {
            Ok(hidden) => workers.update(move |engine| {
                engine.translator_mut().mapper_mut().hide(hidden.clone());
            }),
            Err(error) => tracing::warn!("the addresses of this host are not known: {error:#}"),
        }
    }
}

/// When the stateful translator wants its turn.
async fn due(stateful: Option<&mut Stateful>) {
    match stateful {
        Some(stateful) => stateful.due().await,
        None => pending().await,
    }
}

#[expect(clippy::print_stdout, reason = "the plan is what was asked for")]
fn print(text: &str) -> Result<()> {
    println!("{text}");
    Ok(())
}
