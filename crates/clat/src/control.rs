//! The status of a running `clat`: for `clat status` and the metrics page.

use std::fmt::Write as _;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pref64_discovery::{LinkDiscovery, origin};
use serde::{Deserialize, Serialize};
use xlat_core::Instant;
use xlat_host::daemon::control::Answer;
use xlat_host::daemon::metrics::Page;
use xlat_proto::clat::{Clat, Side4, State};
use xlat_proto::discovery::Found;
use xlat_tun::counters::{Metric, Snapshot};
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
}

#[derive(Clone, Debug, Default, Serialize)]
struct Known {
    state: String,
    running: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    uplink: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ipv6: Option<Ipv6Addr>,
    ipv6_origin: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mtu: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prefix: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prefix_source: Option<String>,
    dns_servers: Vec<Ipv6Addr>,
    ignored_advertisements: u64,
    ignored_dns_messages: u64,
}

#[derive(Debug, Serialize)]
struct Status {
    version: &'static str,
    uptime_s: u64,
    ipv4: Ipv4Addr,
    #[serde(flatten)]
    known: Known,
    #[serde(skip_serializing_if = "Option::is_none")]
    packets: Option<Snapshot>,
}

impl StatusSource {
    pub(crate) fn new(side4: Side4) -> Self {
        Self(Arc::new(Mutex::new(Shared {
            started: now(),
            ipv4: side4.host,
            known: Known::default(),
            totals: None,
            retired: None,
        })))
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
        let status = self.status();
        let mut page = Page::new();
        let single = |figure: u64| [(String::new(), figure)];
        page.family(
            Metric::gauge("xlat_uptime_seconds", "Time since the start."),
            single(status.uptime_s),
        )
        .family(
            Metric::gauge("clat_running", "1 while IPv4 is reached through the CLAT."),
            single(status.known.running.into()),
        )
        .family(
            Metric::counter(
                "clat_ignored_advertisements_total",
                "Router advertisements that were not believed.",
            ),
            single(status.known.ignored_advertisements),
        );
        if let Some(packets) = &status.packets {
            page.families(packets.families());
        }
        page.into_text()
    }

    /// Answers one request.
    pub(crate) async fn answer(self, request: Request, mut answer: Answer) -> io::Result<()> {
        let Request::Status { json } = request;
        let status = self.status();
        if json {
            answer.json(&status).await
        } else {
            answer.text(&status.to_text()).await
        }
    }

    fn status(&self) -> Status {
        let shared = self.lock();
        Status {
            version: env!("CARGO_PKG_VERSION"),
            uptime_s: now().saturating_since(shared.started).as_secs(),
            ipv4: shared.ipv4,
            known: shared.known.clone(),
            packets: shared.counted(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn counted(&self) -> Option<Snapshot> {
        let mut counted = self.totals.as_ref().map(Totals::snapshot);
        if let Some(retired) = &self.retired {
            *counted.get_or_insert_default() += retired.clone();
        }
        counted
    }
}

impl Status {
    fn to_text(&self) -> String {
        let uptime = humantime::format_duration(Duration::from_secs(self.uptime_s));
        let mut text = format!("clat {}, running for {uptime}\n", self.version);
        let known = &self.known;
        let mut line = |name: &str, value: &str| {
            // Writing into a string does not fail.
            let _ = writeln!(text, "{name:<10}{value}");
        };
        line("state", &known.state);
        if let (Some(prefix), Some(source)) = (&known.prefix, &known.prefix_source) {
            line("prefix", &format!("{prefix}, {source}"));
        }
        if let (Some(uplink), Some(ipv6), Some(mtu)) = (&known.uplink, known.ipv6, known.mtu) {
            line("uplink", &format!("{uplink}, MTU {mtu}"));
            line("address", &format!("{} as {ipv6}", self.ipv4));
            if let Some(origin) = &known.ipv6_origin {
                line("chosen", origin);
            }
        }
        if !known.dns_servers.is_empty() {
            let servers: Vec<String> = known.dns_servers.iter().map(Ipv6Addr::to_string).collect();
            line("dns", &servers.join(", "));
        }
        if known.ignored_dns_messages > 0 {
            line(
                "ignored",
                &format!("{} DNS messages", known.ignored_dns_messages),
            );
        }
        if known.ignored_advertisements > 0 {
            line(
                "ignored",
                &format!("{} router advertisements", known.ignored_advertisements),
            );
        }
        if let Some(packets) = &self.packets {
            let _ = write!(text, "{packets}");
        }
        text
    }
}
