//! The status of a running `clat`: for `clat status` and the metrics page.

use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use clat_host::{Known, Status};
use pref64_discovery::{LinkDiscovery, origin};
use serde::{Deserialize, Serialize};
use xlat_core::Instant;
use xlat_host::daemon::control::Answer;
use xlat_host::daemon::fast_path::KernelPathSource;
use xlat_host::host::RepairCounters;
use xlat_host::nft::DroppingChains;
use xlat_proto::clat::{Clat, Side4, State};
use xlat_proto::discovery::Found;
use xlat_tun::counters::Snapshot;
use xlat_tun::{Totals, now};

/// A request to the control socket.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    Status { json: bool },
}

/// The status that the daemon updates and the control socket reads; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct StatusSource(Arc<Mutex<Shared>>);

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
    fast_path: KernelPathSource,
    ports: pcp_proxy::StatusSource,
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
    pub(crate) fn new(side4: Side4, fast_path: KernelPathSource) -> Self {
        Self(Arc::new(Mutex::new(Shared {
            started: now(),
            ipv4: side4.host,
            known: Known::default(),
            totals: None,
            retired: None,
            dropping: DroppingChains::default(),
            repairs: Arc::default(),
            fast_path,
            ports: pcp_proxy::StatusSource::default(),
        })))
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
        shared.known.running = false;
        line.clone_into(&mut shared.known.state);
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
        self.lock().known = Known {
            state: state.to_string(),
            running: clat.is_some(),
            uplink: clat.map(|clat| clat.uplink.clone()),
            router: clat.and_then(Clat::router),
            routes_lead_to: clat.and_then(|clat| clat.elsewhere.clone()),
            ipv6: clat.map(Clat::outer),
            ipv6_origin: clat.map(|clat| clat.origin.to_string()),
            mtu: clat.map(|clat| clat.mtu),
            prefix: found.map(|found| found.prefix.to_string()),
            prefix_source: found.map(|found| origin(found.source)),
            dns_servers: network.map(LinkDiscovery::servers).unwrap_or_default(),
            ignored_advertisements: network.map_or(0, LinkDiscovery::refused) + forged,
            ignored_dns_messages: network.map_or(0, LinkDiscovery::ignored),
        };
    }

    /// The metrics page for Prometheus.
    pub(crate) fn page(&self) -> String {
        self.status().page()
    }

    /// Answers one request.
    pub(crate) async fn answer(self, request: Request, mut answer: Answer) -> io::Result<()> {
        let Request::Status { json } = request;
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
            version: env!("CARGO_PKG_VERSION"),
            uptime_s: now().saturating_since(shared.started).as_secs(),
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
        lock(&self.0)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
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
