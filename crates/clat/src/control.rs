//! The status of a running `clat`: for `clat status` and the metrics page.

use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use clat_host::{Known, Path, PrefixStatus, StateName, Status, TARGET};
use pref64_discovery::LinkDiscovery;
use serde::{Deserialize, Serialize};
use xlat_core::Instant;
use xlat_host::daemon::control::{Answer, SCHEMA};
use xlat_host::daemon::fast_path::KernelPathSource;
use xlat_host::daemon::health::{Finding, HealthLog, HealthStatus};
use xlat_host::host::{FailingRepairs, Host, RepairCounters};
use xlat_host::icmp4;
use xlat_host::nft::{DroppingChain, DroppingChains};
use xlat_proto::clat::{Clat, Side4, State};
use xlat_proto::discovery::Found;
use xlat_tun::counters::Snapshot;
use xlat_tun::{Totals, now};

/// A request to the control socket.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    Status {
        json: bool,
        /// As it is known, without measuring anything first.
        #[serde(default)]
        known: bool,
    },
}

/// The status that the daemon updates and the control socket reads; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct StatusSource {
    shared: Arc<Mutex<Shared>>,
    host: Host,
    /// Held while something is measured: who asks meanwhile gets the same outcome.
    measuring: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug)]
struct Shared {
    started: Instant,
    ipv4: Ipv4Addr,
    known: Known,
    /// Counters of the workers, and the sums of workers that have ended.
    totals: Option<Totals>,
    retired: Option<Snapshot>,
    dropping: DroppingChains,
    repairs: Arc<RepairCounters>,
    failing: FailingRepairs,
    fast_path: KernelPathSource,
    ports: pcp_proxy::StatusSource,
    health: HealthLog,
    path: Path,
    /// Whether IPv4 should be reached through the CLAT, and is not.
    is_missing: bool,
    /// Another CLAT gives this host IPv4, and this one waits.
    is_second: bool,
    /// The kernel drops answers behind the TUN, where this program does not see it.
    is_filtered: bool,
    /// The TUN, and what is pinged through it.
    tun: String,
    target: Ipv4Addr,
}

/// All that `clat status` shows.
#[derive(Debug, Serialize)]
struct Whole {
    #[serde(flatten)]
    status: Status,
    /// Ports that IPv4 hosts have from a PCP server.
    pcp: pcp_proxy::Status,
}

impl StatusSource {
    /// `target` is pinged to measure whether anything comes back through the prefix.
    pub(crate) fn new(
        host: &Host,
        side4: Side4,
        tun: &str,
        target: Option<Ipv4Addr>,
        fast_path: KernelPathSource,
    ) -> Self {
        let shared = Arc::new(Mutex::new(Shared {
            started: now(),
            ipv4: side4.host,
            known: Known::default(),
            totals: None,
            retired: None,
            dropping: DroppingChains::default(),
            repairs: Arc::default(),
            failing: FailingRepairs::default(),
            fast_path,
            ports: pcp_proxy::StatusSource::default(),
            health: HealthLog::new(now()),
            path: Path::default(),
            is_missing: true,
            is_second: false,
            is_filtered: false,
            tun: tun.to_owned(),
            target: target.unwrap_or(TARGET),
        }));
        Self {
            shared,
            host: host.clone(),
            measuring: Arc::default(),
        }
    }

    /// Shows these chains.
    pub(crate) fn set_dropping(&self, dropping: DroppingChains) {
        self.lock().dropping = dropping;
    }

    /// Where the PCP proxy shows what hosts hold.
    pub(crate) fn ports(&self) -> pcp_proxy::StatusSource {
        self.lock().ports.clone()
    }

    /// Where repairs of the host are counted.
    pub(crate) fn repairs(&self) -> Arc<RepairCounters> {
        Arc::clone(&self.lock().repairs)
    }

    /// Shows what could not be restored.
    pub(crate) fn set_failing(&self, failing: FailingRepairs) {
        self.lock().failing = failing;
    }

    /// Counts the packets of new workers.
    pub(crate) fn set_totals(&self, totals: Totals) {
        self.lock().totals = Some(totals);
    }

    /// Keeps the final counters of workers that have ended.
    pub(crate) fn retire(&self, counted: Snapshot) {
        let mut shared = self.lock();
        shared.totals = None;
        *shared.retired.get_or_insert_default() += counted;
    }

    /// The sums over all workers since the start.
    pub(crate) fn counters(&self) -> Snapshot {
        self.lock().counted().unwrap_or_default()
    }

    /// Sets the state to `line`: the daemon could not do what the lifecycle decided.
    pub(crate) fn set_state(&self, line: &str) {
        let mut shared = self.lock();
        (shared.known.running, shared.is_missing) = (false, true);
        shared.is_second = false;
        shared.known.state = StateName::Failed;
        line.clone_into(&mut shared.known.state_text);
        shared.path.on_prefix(None);
        shared.judge(now());
    }

    /// Updates the status after a decision was carried out.
    pub(crate) fn set(
        &self,
        state: &State,
        found: Option<Found>,
        network: Option<&LinkDiscovery>,
        forged: u64,
    ) {
        let clat = match state {
            State::Running(clat) => Some(clat),
            _ => None,
        };
        let mut shared = self.lock();
        let prefix = clat.map(|clat| clat.prefix.to_string());
        shared.path.on_prefix(prefix.as_deref());
        shared.is_second = matches!(state, State::OtherClat(_));
        shared.is_missing = !matches!(
            state,
            State::Running(_) | State::NativeIpv4 | State::OtherClat(_)
        );
        shared.known = Known {
            state: state.into(),
            state_text: state.to_string(),
            running: clat.is_some(),
            uplink: clat.map(|clat| clat.uplink.clone()),
            router: clat.and_then(Clat::router),
            routes_lead_to: clat.and_then(|clat| clat.elsewhere.clone()),
            ipv6: clat.map(Clat::outer),
            ipv6_origin: clat.map(|clat| clat.origin.into()),
            mtu: clat.map(|clat| clat.mtu),
            prefix: found.map(PrefixStatus::from),
            dns_servers: network.map(LinkDiscovery::servers).unwrap_or_default(),
            ignored_advertisements: network.map_or(0, LinkDiscovery::refused) + forged,
            ignored_dns_messages: network.map_or(0, LinkDiscovery::ignored),
        };
        shared.judge(now());
    }

    /// Measures how the CLAT does, as far as that is not known. `is_asked`: somebody wants to know.
    pub(crate) async fn measure(&self, is_asked: bool) -> HealthStatus {
        let _measuring = self.measuring.lock().await;
        let tun = self.lock().tun.clone();
        let is_filtered = self.host.has_strict_filter(&tun)
            && self.host.ipv4_defaults().await.is_ok_and(|all| all.native);
        let wanted = {
            let mut shared = self.lock();
            shared.is_filtered = is_filtered;
            shared.judge(now());
            let is_wanted = shared.path.wants_ping(is_asked, now());
            is_wanted.then(|| {
                let tun = shared.tun.clone();
                (tun, shared.ipv4, shared.target, shared.path.tries())
            })
        };
        if let Some((tun, source, target, tries)) = wanted {
            // Without the privilege for it nothing is measured.
            if let Ok(ping) = icmp4::ping(&tun, source, target, tries).await {
                let mut shared = self.lock();
                shared.path.on_ping(ping, now());
                shared.judge(now());
            }
        }
        self.lock().health.status(now())
    }

    /// The metrics page for Prometheus.
    pub(crate) fn page(&self) -> String {
        self.status().page()
    }

    /// Answers one request.
    pub(crate) async fn answer(self, request: Request, mut answer: Answer) -> io::Result<()> {
        let Request::Status { json, known } = request;
        match known {
            true => self.lock().judge(now()),
            false => drop(self.measure(true).await),
        }
        let status = self.status();
        let pcp = self.ports().status();
        if json {
            answer.json(&Whole { status, pcp }).await
        } else {
            answer.text(&(status.to_text() + &pcp.to_text())).await
        }
    }

    fn status(&self) -> Status {
        let shared = self.lock();
        Status {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION"),
            uptime_s: now().saturating_since(shared.started).as_secs(),
            health: shared.health.status(now()),
            ipv4: shared.ipv4,
            known: shared.known.clone(),
            dropping: match shared.known.running {
                true => lock(&shared.dropping).clone(),
                false => Vec::new(),
            },
            repairs: shared.repairs.snapshot(),
            fast_path: shared.fast_path.status(),
            packets: shared.counted(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        lock(&self.shared)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Says what is wrong.
    fn judge(&mut self, now: Instant) {
        if let Some(counted) = self.counted() {
            self.path.on_counters(&counted, now);
        }
        let mut findings = Vec::new();
        if self.is_missing && self.known.state != StateName::Starting {
            findings.push(Finding::broken("state", self.known.state_text.clone()));
        }
        if self.is_second {
            findings.push(Finding::degraded(
                "other-clat",
                self.known.state_text.clone(),
            ));
        }
        if self.known.running && self.is_filtered {
            let tun = &self.tun;
            let text = format!(
                "answers are dropped: another IPv4 default route, and a strict reverse path filter; \
                 sysctl net.ipv4.conf.{tun}.rp_filter=2 makes it loose"
            );
            findings.push(Finding::broken("rp-filter", text));
        }
        if self.known.running {
            let failing = lock(&self.failing);
            let missing = |step: &String| format!("missing and cannot be restored: {step}");
            findings.extend(
                failing
                    .iter()
                    .map(|step| Finding::degraded("host", missing(step))),
            );
            let dropping = lock(&self.dropping);
            let drops =
                |chain: &DroppingChain| Finding::degraded("forward", format!("dropping {chain}"));
            findings.extend(dropping.iter().map(drops));
        }
        findings.extend(self.path.finding(now));
        self.health.judge(findings, now);
    }

    fn counted(&self) -> Option<Snapshot> {
        let mut counted = self.totals.as_ref().map(Totals::snapshot);
        if let Some(retired) = &self.retired {
            *counted.get_or_insert_default() += retired.clone();
        }
        if let Some(counted) = &mut counted {
            self.fast_path.status().add_to(counted);
        }
        counted
    }
}
