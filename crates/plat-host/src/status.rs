//! The status of a gateway, for `plat status` and the metrics page.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nat64::dynamic::DynamicPool;
use nat64_host::{Conflict, Conflicts, NatStatus};
use router_advertiser::{ROUTER_PROGRAMS, ReachStatus, RouterPrograms, WITHDRAWALS};
use serde::Serialize;
use xlat_core::Instant;
use xlat_host::daemon::control::SCHEMA;
use xlat_host::daemon::fast_path::{KernelPathSource, KernelPathStatus};
use xlat_host::daemon::health::HealthStatus;
use xlat_host::daemon::metrics::Page;
use xlat_host::daemon::waiting;
use xlat_host::host::{FailingRepairs, RepairCounters, RepairFigures};
use xlat_host::nft::{DroppingChain, DroppingChains};
use xlat_tun::counters::{Metric, Snapshot};
use xlat_tun::{Totals, now};

use crate::egress::{self, Outer};
use crate::pool_status::PoolStatus;
use crate::{DrainStatus, HealthSource, ROUTE_WITHDRAWALS, RouteStatus, SeenDrain};

/// Where the status comes from.
#[derive(Clone, Debug)]
pub struct StatusSource {
    /// Version of the program.
    pub version: &'static str,
    /// When the daemon started.
    pub started: Instant,
    /// The NAT64 prefixes.
    pub prefixes: Vec<String>,
    /// The translator's own IPv4 address.
    pub ipv4: Ipv4Addr,
    /// The pools.
    pub pool: Vec<PoolStatus>,
    /// Where clients are seen that share an address of this host.
    pub outer: SeenOuter,
    /// The kernel decides about ports and who gets in, behind its masquerading.
    pub has_kernels_ports: bool,
    /// The workers' counters.
    pub totals: Totals,
    /// Of the stateful translator.
    pub nat: Option<nat64_host::StatusSource>,
    /// The dynamic pool.
    pub leases: Option<Arc<Mutex<DynamicPool>>>,
    /// Of the DNS64.
    pub dns64: Option<dns64_server::StatusSource>,
    /// Of the router advertisements.
    pub advertisements: Option<Arc<router_advertiser::Counters>>,
    /// Links on which another program of this host is a router, too.
    pub router_programs: RouterPrograms,
    /// What this host reaches.
    pub reach: Arc<Mutex<ReachStatus>>,
    /// Which routes others may learn.
    pub routes: Arc<Mutex<RouteStatus>>,
    /// How far a drain is.
    pub drain: SeenDrain,
    /// Changes of the host that others undid and that were made again.
    pub repairs: Arc<RepairCounters>,
    /// Those that could not be made again.
    pub failing: FailingRepairs,
    /// How it does.
    pub health: HealthSource,
    /// Addresses of the pool that other hosts have.
    pub conflicts: Conflicts,
    /// Chains of other programs that drop translated packets.
    pub dropping: DroppingChains,
    /// Of the PCP server.
    pub pcp: Option<pcp_server::StatusSource>,
    /// Of the kernel's fast path.
    pub fast_path: KernelPathSource,
}

impl StatusSource {
    /// The figures for Prometheus.
    pub fn page(&self) -> String {
        let status = self.status(0);
        let mut page = Page::new();
        page.families(status.packets.families());
        let single = |figure: u64| [(String::new(), figure)];
        page.family(
            Metric::gauge("xlat_uptime_seconds", "Time since the start."),
            single(status.uptime_s),
        );
        status.health.write_page(&mut page, "plat", self.version);
        waiting::write_page(&mut page, false);
        status.fast_path.write_page(&mut page);
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
        page.family(ROUTER_PROGRAMS, single(status.router_programs.len() as u64));
        let (metric, samples) = status.reach.family();
        page.family(metric, samples);
        page.family(WITHDRAWALS, single(status.reach.withdrawals));
        let (metric, samples) = status.routes.family();
        page.family(metric, samples);
        page.family(ROUTE_WITHDRAWALS, single(status.routes.withdrawals));
        page.family(
            Metric::gauge("plat_draining", "1 while new subscribers are refused."),
            single(status.drain.is_some().into()),
        );
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

    /// The pools. One that is an address of this host is told with the address that it is now.
    fn pools(&self) -> Vec<PoolStatus> {
        let outer = self.outer.lock().unwrap_or_else(PoisonError::into_inner);
        let pools = self.pool.iter().cloned();
        pools.map(|pool| pool.seen(outer.as_ref())).collect()
    }

    /// The status, with so many of the subscribers that have most sessions.
    pub fn status(&self, top: usize) -> Status {
        let leases = self
            .leases
            .as_ref()
            .map(|pool| pool.lock().unwrap_or_else(PoisonError::into_inner).active());
        let fast_path = self.fast_path.status();
        let mut packets = self.totals.snapshot();
        fast_path.add_to(&mut packets);
        Status {
            schema: SCHEMA,
            fast_path,
            version: self.version,
            uptime_s: now().saturating_since(self.started).as_secs(),
            health: self.health.status(),
            prefixes: self.prefixes.clone(),
            ipv4: self.ipv4,
            pool: self.pools(),
            has_kernels_ports: self.has_kernels_ports,
            stateful: self.nat.as_ref().map(|nat| nat.status(top)),
            leases,
            pcp: self.pcp.as_ref().map(pcp_server::StatusSource::status),
            dns64: self.dns64.as_ref().map(|dns64| dns64.figures()),
            advertisements: self.advertisements.as_ref().map(|one| one.snapshot()),
            router_programs: self
                .router_programs
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .iter()
                .cloned()
                .collect(),
            reach: self
                .reach
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
            routes: self
                .routes
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
            drain: self
                .drain
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
            packets,
        }
    }
}

/// Where clients are seen that share an address of this host; `None` where they share none, or there
/// is none at the moment.
pub type SeenOuter = Arc<Mutex<Option<Outer>>>;

/// A snapshot of a running translator's status, as it is shown.
#[derive(Debug, Serialize)]
pub struct Status {
    schema: u32,
    version: &'static str,
    uptime_s: u64,
    health: HealthStatus,
    prefixes: Vec<String>,
    /// The translator's own IPv4 address: it answers pings through the prefix.
    ipv4: Ipv4Addr,
    pool: Vec<PoolStatus>,
    /// The kernel decides about ports and who gets in, behind its masquerading.
    #[serde(rename = "ports_of_kernel")]
    has_kernels_ports: bool,
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
    /// Links on which another program of this host is a router, too.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    router_programs: Vec<String>,
    reach: ReachStatus,
    routes: RouteStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    drain: Option<DrainStatus>,
    repairs: RepairFigures,
    /// Addresses of the pool that other hosts have.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    conflicts: Vec<Conflict>,
    /// Chains of other programs that drop translated packets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    dropping: Vec<DroppingChain>,
    fast_path: KernelPathStatus,
    /// Those that the kernel translated included.
    packets: Snapshot,
}

impl Status {
    /// The status as text of several lines.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        // Writing into a string does not fail.
        let _ = self.write_to(&mut text);
        text
    }

    fn write_to(&self, f: &mut String) -> std::fmt::Result {
        let uptime = humantime::format_duration(Duration::from_secs(self.uptime_s));
        writeln!(f, "plat {}, running for {uptime}", self.version)?;
        self.health.write_to(f)?;
        writeln!(f, "prefix    {}", self.prefixes.join(", "))?;
        if !self.pool.is_empty() {
            let pools: Vec<String> = self.pool.iter().map(ToString::to_string).collect();
            writeln!(f, "pool      {}", pools.join(", "))?;
        }
        if self.has_kernels_ports {
            writeln!(f, "note      {}", egress::OF_THE_KERNEL)?;
        }
        self.reach.write_to(f)?;
        self.routes.write_to(f)?;
        if let Some(drain) = &self.drain {
            drain.write_to(f)?;
        }
        for link in &self.router_programs {
            writeln!(f, "routers   another program of this host is one on {link}")?;
        }
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
        self.fast_path.write_to(f)?;
        write!(f, "{}", self.packets)
    }
}
