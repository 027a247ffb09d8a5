//! What a running `plat` tells about itself (`plat status`, `plat sessions`).

use std::fmt::Write as _;
use std::io;
use std::net::{Ipv6Addr, SocketAddrV4};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nat64::dynamic::DynamicPool;
use nat64_host::{Conflict, Conflicts, NatStatus, SessionList};
use router_advertiser::ReachStatus;
use serde::{Deserialize, Serialize};
use xlat_core::Instant;
use xlat_core::addr::Ipv6Prefix;
use xlat_host::daemon::control::Answer;
use xlat_host::daemon::metrics::Page;
use xlat_host::daemon::waiting;
use xlat_host::host::{RepairCounters, RepairFigures};
use xlat_host::nft::DroppingChains;
use xlat_tun::counters::{Metric, Snapshot};
use xlat_tun::{Totals, now};

use crate::reload::{self, ReloadRequests};

/// Subscribers that `plat status` names.
const TOP: usize = 5;

/// What can be asked.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    Reload,
    /// Who has an external port.
    Whose {
        external: SocketAddrV4,
    },
    Status {
        json: bool,
    },
    Sessions {
        json: bool,
        /// Only those of clients in this prefix.
        client: Option<String>,
    },
}

/// Where the status comes from.
#[derive(Clone, Debug)]
pub(crate) struct StatusSource {
    pub(crate) started: Instant,
    pub(crate) prefixes: Vec<String>,
    pub(crate) pool: Vec<String>,
    pub(crate) totals: Totals,
    pub(crate) nat: Option<nat64_host::StatusSource>,
    pub(crate) leases: Option<Arc<Mutex<DynamicPool>>>,
    pub(crate) dns64: Option<dns64_server::StatusSource>,
    pub(crate) advertisements: Option<Arc<router_advertiser::Counters>>,
    pub(crate) reach: Arc<Mutex<ReachStatus>>,
    pub(crate) repairs: Arc<RepairCounters>,
    pub(crate) conflicts: Conflicts,
    pub(crate) dropping: DroppingChains,
    pub(crate) pcp: Option<pcp_server::StatusSource>,
    pub(crate) reload: ReloadRequests,
}

impl StatusSource {
    /// Answers one request.
    pub(crate) async fn answer(self, request: Request, mut answer: Answer) -> io::Result<()> {
        match request {
            Request::Reload => match reload::ask(&self.reload).await {
                Ok(line) => answer.text(&format!("{line}\n")).await,
                Err(reason) => answer.refuse(&reason).await,
            },
            Request::Whose { external } => match self.whose(external) {
                Ok(line) => answer.text(&line).await,
                Err(reason) => answer.refuse(reason).await,
            },
            Request::Status { json: true } => answer.json(&self.status(TOP)).await,
            Request::Status { json: false } => answer.text(&self.status(TOP).to_text()).await,
            Request::Sessions { json, client } => self.sessions(json, client, answer).await,
        }
    }

    /// The figures for Prometheus.
    pub(crate) fn page(&self) -> String {
        let status = self.status(0);
        let mut page = Page::new();
        page.families(status.packets.families());
        let single = |figure: u64| [(String::new(), figure)];
        page.family(
            Metric::gauge("xlat_uptime_seconds", "Time since the start."),
            single(status.uptime_s),
        );
        waiting::write_page(&mut page, false);
        if let Some(stateful) = &status.stateful {
            stateful.write_page(&mut page);
        }
        if let Some(leases) = status.leases {
            page.family(
                Metric::gauge("plat_leases", "Leases of the dynamic pool."),
                single(leases.into()),
            );
        }
        if let Some(pcp) = status.pcp {
            let held = pcp.mappings.len() as u64;
            page.family(pcp_server::MAPPINGS, single(held));
            page.families(pcp.requests.families());
        }
        if let Some(dns) = status.dns64 {
            page.families(dns.counted.families());
            let without_edns = dns.resolvers_without_edns();
            page.family(dns64_server::WITHOUT_EDNS, single(without_edns));
        }
        if let Some(advertise) = status.advertisements {
            page.families(advertise.families());
        }
        let (metric, samples) = status.reach.family();
        page.family(metric, samples);
        page.families(status.repairs.families());
        page.family(Conflicts::metric(), single(status.conflicts.len() as u64));
        page.family(
            Metric::gauge(
                "plat_dropping_chains",
                "Chains of other programs that drop translated packets.",
            ),
            single(status.dropping.len() as u64),
        );
        page.into_text()
    }

    /// The status, with so many of the subscribers that have most sessions.
    fn status(&self, top: usize) -> Status {
        let leases = self
            .leases
            .as_ref()
            .map(|pool| pool.lock().unwrap_or_else(PoisonError::into_inner).active());
        Status {
            version: env!("CARGO_PKG_VERSION"),
            uptime_s: now().saturating_since(self.started).as_secs(),
            prefixes: self.prefixes.clone(),
            pool: self.pool.clone(),
            stateful: self.nat.as_ref().map(|nat| nat.status(top)),
            leases,
            pcp: self.pcp.as_ref().map(pcp_server::StatusSource::status),
            dns64: self.dns64.as_ref().map(|dns64| dns64.figures()),
            advertisements: self.advertisements.as_ref().map(|one| one.snapshot()),
            reach: self
                .reach
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
            repairs: self.repairs.snapshot(),
            conflicts: self.conflicts.list(),
            dropping: self
                .dropping
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
            packets: self.totals.snapshot(),
        }
    }

    /// The subscriber who has an external port.
    fn whose(&self, external: SocketAddrV4) -> Result<String, &'static str> {
        let nat = self.nat.as_ref().map(nat64_host::StatusSource::nat);
        let nat = nat.filter(|nat| nat.config().ports.deterministic);
        let nat = nat.ok_or("this plat runs without --deterministic: the session log knows")?;
        let subscriber = nat.subscriber_of(*external.ip(), external.port());
        let subscriber = subscriber.ok_or("nobody has that address and port")?;
        Ok(format!("{subscriber}\n"))
    }

    async fn sessions(
        self,
        json: bool,
        client: Option<String>,
        mut answer: Answer,
    ) -> io::Result<()> {
        let Some(nat) = &self.nat else {
            let line = "this plat keeps no sessions: it runs without --pool";
            return answer.refuse(line).await;
        };
        let wanted = match client.as_deref().map(client_prefix).transpose() {
            Ok(wanted) => wanted,
            Err(reason) => return answer.refuse(&reason).await,
        };
        // An answer without a line is an answer.
        answer.text("").await?;
        let mut list = SessionList::new(wanted, json);
        while let Some(page) = list.next_page(nat.nat())? {
            answer.text(&page).await?;
        }
        Ok(())
    }
}

/// An address or a prefix.
fn client_prefix(text: &str) -> Result<Ipv6Prefix, String> {
    let address = text.parse::<Ipv6Addr>().map(Ipv6Prefix::host);
    address
        .or_else(|_| text.parse::<Ipv6Prefix>())
        .map_err(|error| format!("--client {text}: {error}"))
}

#[derive(Debug, Serialize)]
struct Status {
    version: &'static str,
    uptime_s: u64,
    prefixes: Vec<String>,
    pool: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stateful: Option<NatStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    leases: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pcp: Option<pcp_server::Status>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dns64: Option<dns64_server::Figures>,
    #[serde(skip_serializing_if = "Option::is_none")]
    advertisements: Option<router_advertiser::Figures>,
    reach: ReachStatus,
    repairs: RepairFigures,
    /// Addresses of the pool that other hosts have.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    conflicts: Vec<Conflict>,
    /// Chains of other programs that drop translated packets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    dropping: Vec<String>,
    packets: Snapshot,
}

impl Status {
    fn to_text(&self) -> String {
        let mut text = String::new();
        // Writing into a string does not fail.
        let _ = self.write_to(&mut text);
        text
    }

    fn write_to(&self, f: &mut String) -> std::fmt::Result {
        let uptime = humantime::format_duration(Duration::from_secs(self.uptime_s));
        writeln!(f, "plat {}, running for {uptime}", self.version)?;
        writeln!(f, "prefix    {}", self.prefixes.join(", "))?;
        if !self.pool.is_empty() {
            writeln!(f, "pool      {}", self.pool.join(", "))?;
        }
        self.reach.write_to(f)?;
        let repairs = self.repairs.total();
        if repairs > 0 {
            writeln!(
                f,
                "repaired  {repairs} changes of the host that others undid"
            )?;
        }
        for chain in &self.dropping {
            writeln!(f, "dropping  {chain}")?;
        }
        for Conflict {
            address,
            link_layer,
        } in &self.conflicts
        {
            writeln!(f, "conflict  {address} is also {link_layer}")?;
        }
        if let Some(stateful) = &self.stateful {
            stateful.write_to(f)?;
        }
        if let Some(leases) = self.leases {
            writeln!(f, "leases    {leases}")?;
        }
        if let Some(pcp) = &self.pcp {
            pcp.write_to(f)?;
        }
        if let Some(dns) = &self.dns64 {
            dns.write_to(f)?;
        }
        if let Some(advertise) = &self.advertisements {
            let router_advertiser::Figures {
                sent,
                solicited,
                ignored,
            } = advertise;
            writeln!(
                f,
                "routers   {sent} advertisements sent, {solicited} solicitations, {ignored} ignored"
            )?;
        }
        write!(f, "{}", self.packets)
    }
}
