//! Translates until told to stop.

mod drain;
mod fast_path;
mod names;
mod outer;
mod reconfigure;
mod replace;
pub(crate) mod start;
mod watch;

use std::collections::BTreeSet;
use std::future::pending;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use dns64_server::{ResolvConf, Server as Dns64};
use nat64::View;
use nat64_host::{Conflicts, Keeper, Leases, PoolNeighbours, State};
use pcp_server::PcpServer;
use plat_host::{
    DataPath, DataPathConfig, DnsError, DrainWatch, EgressNames, HealthSource, Own6, RepairTimes,
    RouteWatch, Started, StatusSource, egress,
};
use router_advertiser::{Advertiser, ProgramWatch, ReachWatch};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, interval, sleep_until};
use tracing::info;
use xlat_core::Policy;
use xlat_core::addr::{Ipv4Prefix, Ipv6Prefix};
use xlat_host::daemon::control::Socket;
use xlat_host::daemon::fast_path::KernelPath;
use xlat_host::daemon::metrics::Metrics;
use xlat_host::daemon::notify;
use xlat_host::daemon::recovered;
use xlat_host::daemon::signals::{Request, Signals};
use xlat_host::daemon::values::Values;
use xlat_host::host::{Changes, Host, Plan, RepairLog};
use xlat_host::nft::{self, ForwardWatch};
use xlat_tun::{Failure, Totals, now};

use crate::control::{Control, FOLLOWERS};
use crate::orders::{Given, Orders};
use crate::pcp;
use crate::settings::Settings;
use crate::started::StartedDaemon;
use outer::OuterWatch;

/// How often changed leases are written to disk.
const SAVE_EVERY: Duration = Duration::from_secs(60);

/// Takes back what a killed run left.
pub(crate) async fn recover(recover: &crate::cli::Recover) -> Result<()> {
    let place = &recover.place;
    Ok(recovered::run(&place.run_dir, &place.tun, recover.json).await?)
}

/// Serves these networks of the host where nobody has named clients. Returns what the workers have
/// to adopt.
fn serve(state: &State, settings: &Settings, own: &[Ipv6Prefix]) -> Result<Option<View>> {
    if !settings.serves_own_networks() {
        return Ok(None);
    }
    Ok(state.serve(own, settings.stateful_for(own)?)?)
}

/// Everything that a running translator needs.
struct Daemon<'a> {
    host: &'a Host,
    settings: Settings,
    /// The same as lines of a file, to see what is different after a reload.
    values: Values,
    own_v6: Own6,
    policy: Policy,
    state: State,
    /// Listens since before the host was looked at.
    changes: Changes,
    resolv_conf: ResolvConf,
    /// What this host was last seen to have.
    addresses: BTreeSet<(IpAddr, u8)>,
    /// Its networks and those behind it, as they were last seen: the clients, unless others are
    /// named.
    own_networks: Vec<Ipv6Prefix>,
    advertisements: Arc<router_advertiser::Counters>,
    /// Where clients are seen that share an address of this host.
    outer: OuterWatch,
    /// The interfaces of the egress, by their present names.
    names: EgressNames,
    /// What this host reaches.
    reach: ReachWatch,
    /// Which routes others may learn.
    routes: RouteWatch,
    programs: ProgramWatch,
    repair_log: RepairLog,
    forward_watch: ForwardWatch,
    fast_path: KernelPath,
    /// When the host is compared with the plan again.
    repair_times: RepairTimes,
    /// When the TUN was lost for the last time.
    lost_tun: Option<Instant>,
    /// How far it has been taken out of service.
    drain: DrainWatch,
    /// Where it is told what to do.
    orders: Orders,
}

impl Daemon<'_> {
    async fn run(mut self, mut signals: Signals, given: mpsc::Receiver<Given>) -> Result<()> {
        // Its port may be taken: that is found out before anything is changed.
        let dns64 = start_dns64(self.host, &self.settings).await?;
        let pcp = pcp::start(self.host, &self.settings, self.state.stateful.as_ref()).await?;
        let (workers, failures) = self.start_workers(None)?;
        if let Some(stateful) = &mut self.state.stateful {
            stateful.watch(workers.totals());
        }
        let neighbours = PoolNeighbours::default();
        let source = StatusSource {
            pcp: pcp.as_ref().map(PcpServer::status_source),
            ..self.status_source(&*workers, dns64.as_ref(), neighbours.conflicts())
        };
        let mut started = StartedDaemon {
            metrics: self.metrics(&source).await?,
            socket: self.control_socket(source.clone())?,
            status: source,
            workers,
            dns64,
            pcp,
            applied: None,
            base: Plan::new(),
            advertising: None,
            neighbours,
        };
        let outcome = match self.begin(&mut started).await {
            Ok(()) => {
                self.say_ready();
                let end = self.wait(&mut signals, failures, given, &mut started).await;
                notify::stopping();
                Ok(end)
            }
            Err(error) => Err(error),
        };
        let (mut counters, undone) = started.end().await;
        self.fast_path
            .status_source()
            .status()
            .add_to(&mut counters);
        // A start that failed leaves the files of the last run as they are.
        let end = outcome?;
        self.state.save();
        undone?;
        let counters = counters.to_string();
        info!("stopped, the host is as it was\n{}", counters.trim_end());
        end
    }

    /// The workers go on with the counters `before`.
    fn start_workers(&self, before: Option<&Totals>) -> Result<Started> {
        let settings = &self.settings;
        let config = DataPathConfig {
            tun: settings.tun.clone(),
            policy: self.policy.clone(),
            eams: settings.eams.clone(),
            pref64s: settings.pref64s.clone(),
            hairpin: settings.hairpin,
            translatable: settings.translatable.clone(),
            hidden: self.hidden(),
            shared: self.shared(),
            numbering: self.fast_path.numbering(),
        };
        let started = plat_host::start_workers(config, &self.state, before)?;
        self.start_fast_path()?;
        Ok(started)
    }

    /// Changes the host and tells the clients. What was done before an error is in `started`.
    async fn begin(&mut self, started: &mut StartedDaemon) -> Result<()> {
        self.set_up(started).await?;
        started.advertising = Some(self.advertise(started.dns64.as_ref()).await?);
        Ok(())
    }

    fn say_ready(&self) {
        self.state.taken_up();
        let line = self.settings.describe();
        let (v4, v6) = (self.settings.own_v4, self.own_v6.address);
        info!("translator is {v4} and {v6}");
        self.say_clients();
        info!("ready: {line}");
        notify::ready(&line);
    }

    async fn advertise(&self, dns64: Option<&Dns64>) -> Result<Advertiser> {
        let servers = dns64.map(Dns64::addresses).unwrap_or_default();
        let counters = Arc::clone(&self.advertisements);
        let config = self.settings.advertise.with_dns64(servers);
        let links = &self.settings.advertise.lan;
        let reach = self.reach.announced();
        Ok(Advertiser::start(self.host, links, config, counters, reach).await?)
    }

    async fn set_up(&mut self, started: &mut StartedDaemon) -> Result<()> {
        if self.settings.no_host_setup {
            return Ok(());
        }
        let config = self.host_config();
        let base = plat_host::base_plan(self.host, &config, self.own_v6).await?;
        let mut whole = base.clone();
        whole.append(plat_host::client_plan(&config)?);
        let place = &self.settings.instance;
        let applied = self.host.apply(&whole, &place.run_dir, &place.tun).await?;
        (started.applied, started.base) = (Some(applied), base);
        egress::announce(self.host, &config, &mut started.neighbours).await;
        self.forward_watch.look();
        nft::warn_of_legacy_rules();
        egress::warn_of_reverse_paths(self.host, &config).await;
        egress::say_hidden(&config);
        if self.settings.has_kernels_ports() {
            info!("{}", egress::OF_THE_KERNEL);
        }
        if let Some(outer) = &config.outer {
            self.forget_connections(outer).await;
        }
        Ok(())
    }

    /// What clients must not reach through the prefix: the addresses of this host (SE-06).
    fn hidden(&self) -> Vec<Ipv4Prefix> {
        if self.settings.expose_host {
            return Vec::new();
        }
        let v4 = self
            .addresses
            .iter()
            .filter_map(|(address, _)| match address {
                IpAddr::V4(address) => Some(Ipv4Prefix::host(*address)),
                IpAddr::V6(_) => None,
            });
        v4.collect()
    }

    fn status_source(
        &self,
        workers: &dyn DataPath,
        dns64: Option<&Dns64>,
        conflicts: Conflicts,
    ) -> StatusSource {
        let settings = &self.settings;
        let stateful = self.state.stateful.as_ref();
        StatusSource {
            version: env!("CARGO_PKG_VERSION"),
            started: now(),
            prefixes: settings.pref64s.iter().map(ToString::to_string).collect(),
            ipv4: settings.own_v4,
            pool: settings.pools(),
            outer: self.outer.seen(),
            has_kernels_ports: settings.has_kernels_ports(),
            totals: workers.totals(),
            nat: stateful.map(Keeper::status_source),
            leases: self.state.leases.as_ref().map(Leases::pool),
            dns64: dns64.map(Dns64::status_source),
            advertisements: (!settings.advertise.lan.is_empty())
                .then(|| Arc::clone(&self.advertisements)),
            router_programs: self.programs.found(),
            reach: self.reach.status(),
            routes: self.routes.status(),
            drain: self.drain.seen(),
            repairs: self.repair_log.counters(),
            failing: self.repair_log.failing(),
            health: HealthSource::new(now()),
            conflicts,
            dropping: self.forward_watch.found(),
            pcp: None,
            fast_path: self.fast_path.status_source(),
        }
    }

    async fn metrics(&self, source: &StatusSource) -> Result<Option<Metrics>> {
        let Some(address) = self.settings.metrics else {
            return Ok(None);
        };
        let (source, asked) = (source.clone(), source.clone());
        let measure = move || {
            let asked = asked.clone();
            async move { asked.measure(true).await }
        };
        let metrics = Metrics::serve(address, move || source.page(), measure);
        Ok(Some(metrics?))
    }

    fn control_socket(&self, source: StatusSource) -> Result<tokio::task::JoinHandle<()>> {
        let place = &self.settings.instance;
        let socket = Socket::bind(&place.run_dir, &place.tun, place.status_group.as_ref())?;
        let control = Control {
            source,
            orders: self.orders.clone(),
            followers: Arc::new(Semaphore::new(FOLLOWERS)),
        };
        let answer = move |request, answer| control.clone().answer(request, answer);
        Ok(tokio::spawn(socket.serve(answer)))
    }

    /// Waits for the end: a signal, or a data path that broke.
    async fn wait(
        &mut self,
        signals: &mut Signals,
        mut failures: mpsc::UnboundedReceiver<Failure>,
        mut given: mpsc::Receiver<Given>,
        started: &mut StartedDaemon,
    ) -> Result<()> {
        let mut watchdog = notify::Watchdog::new();
        let mut save = interval(SAVE_EVERY);
        let has_leases = self.state.leases.is_some();
        loop {
            let next_look = self.next_look();
            let watches_resolv_conf = self.settings.dns.follows_resolv_conf();
            tokio::select! {
                request = signals.next() => match request {
                    Request::Stop => return Ok(()),
                    Request::Reload => {
                        // The log says what came of it.
                        drop(self.reload(started).await);
                    }
                },
                Some((order, answer)) = given.recv() => {
                    // Whoever gave it may have gone away.
                    let _ = answer.send(self.obey(order, started).await);
                }
                _ = save.tick(), if has_leases => {
                    if let Some(leases) = &mut self.state.leases {
                        leases.save(false);
                    }
                }
                () = due(self.state.stateful.as_mut()) => {
                    if let Some(stateful) = &mut self.state.stateful
                        && stateful.tick()
                    {
                        started.workers.wake();
                    }
                }
                () = watchdog.feed() => {}
                () = self.changes.of_addresses() => self.on_addresses(started).await,
                () = self.changes.next() => self.on_change(started).await,
                () = sleep_until(next_look) => self.look_again(started).await,
                () = self.resolv_conf.changed(&self.settings.dns.addresses), if watches_resolv_conf => {
                    self.on_resolv_conf(started).await;
                }
                Some(failure) = failures.recv() => {
                    failures = self.replace_workers(&failure, started).await?;
                }
            }
        }
    }
}

/// The addresses of this host, with the lengths of their networks.
async fn addresses(host: &Host) -> Result<BTreeSet<(IpAddr, u8)>> {
    let all = host.addresses().await?;
    Ok(all.iter().map(|have| (have.address, have.len)).collect())
}

/// Starts the DNS64; `None` if none is wanted.
async fn start_dns64(host: &Host, settings: &Settings) -> Result<Option<Dns64>> {
    let addresses = settings.dns.addresses.clone();
    if addresses.is_empty() {
        return Ok(None);
    }
    let config = dns64_config(host, settings).await?;
    let threads = settings.dns.threads;
    Ok(Some(Dns64::start(addresses, threads, config)?))
}

/// What the DNS64's settings mean on this host now.
async fn dns64_config(host: &Host, settings: &Settings) -> Result<dns64_server::Config, DnsError> {
    let (lans, clients) = (&settings.advertise.lan, &settings.clients);
    settings.dns.config(host, lans, clients).await
}

/// When the stateful translator wants its turn.
async fn due(stateful: Option<&mut Keeper>) {
    match stateful {
        Some(stateful) => stateful.due().await,
        None => pending().await,
    }
}
