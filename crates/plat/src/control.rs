//! What a running `plat` tells about itself (`plat status`, `plat sessions`).

use std::fmt::Write as _;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nat64::dynamic::DynamicPool;
use nat64::snapshot::{Cursor, SavedSession};
use nat64::{Counts, Nat64, Protocol, TcpState, Usage};
use nat64_host::epoch;
use serde::{Deserialize, Serialize};
use xlat_core::Instant;
use xlat_core::addr::Ipv6Prefix;
use xlat_host::daemon::control::Answer;
use xlat_host::daemon::metrics::Page;
use xlat_tun::counters::{Metric, Snapshot};
use xlat_tun::{Totals, now};

use crate::reload::{self, ReloadRequests};

/// Subscribers that `plat status` names.
const TOP: usize = 5;
/// Sessions taken from a shard at a time.
const PAGE: usize = 1024;

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

/// What there is to tell.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) started: Instant,
    pub(crate) prefixes: Vec<String>,
    pub(crate) pool: Vec<String>,
    pub(crate) totals: Totals,
    pub(crate) nat: Option<Nat64>,
    /// Ports that the pool had before the first session.
    pub(crate) ports: [u64; 3],
    pub(crate) leases: Option<Arc<Mutex<DynamicPool>>>,
    pub(crate) dns64: Option<Arc<dns64_server::Counters>>,
    pub(crate) advertisements: Option<Arc<router_advertiser::Counters>>,
    pub(crate) lost_records: Option<Arc<AtomicU64>>,
    pub(crate) reload: ReloadRequests,
}

impl Facts {
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
            Request::Status { json: true } => answer.json(&self.status_with_top()).await,
            Request::Status { json: false } => answer.text(&self.status_with_top().to_text()).await,
            Request::Sessions { json, client } => self.sessions(json, client, answer).await,
        }
    }

    /// The figures for Prometheus.
    pub(crate) fn page(&self) -> String {
        let status = self.status();
        let mut page = Page::new();
        page.families(status.packets.families());
        let single = |figure: u64| [(String::new(), figure)];
        page.family(
            Metric::gauge("xlat_uptime_seconds", "Time since the start."),
            single(status.uptime_s),
        );
        if let Some(stateful) = &status.stateful {
            stateful.write_page(&mut page);
        }
        if let Some(leases) = status.leases {
            page.family(
                Metric::gauge("plat_leases", "Leases of the dynamic pool."),
                single(leases.into()),
            );
        }
        if let Some(dns) = status.dns64 {
            page.families(dns.counted.families());
        }
        if let Some(advertise) = status.advertisements {
            page.families(advertise.families());
        }
        page.into_text()
    }

    /// The whole status: a look at all subscribers, which nobody takes for a figure.
    fn status_with_top(&self) -> Status {
        let mut status = self.status();
        if let (Some(stateful), Some(nat)) = (&mut status.stateful, &self.nat) {
            let top = nat.top_subscribers(TOP);
            stateful.top_subscribers = top.iter().map(Top::new).collect();
        }
        status
    }

    fn status(&self) -> Status {
        let leases = self
            .leases
            .as_ref()
            .map(|pool| pool.lock().unwrap_or_else(PoisonError::into_inner).active());
        Status {
            version: env!("CARGO_PKG_VERSION"),
            uptime_s: now().saturating_since(self.started).as_secs(),
            prefixes: self.prefixes.clone(),
            pool: self.pool.clone(),
            stateful: self.nat.as_ref().map(|nat| self.stateful(nat)),
            leases,
            dns64: self.dns64.as_ref().map(|counters| counters.figures()),
            advertisements: self.advertisements.as_ref().map(|one| one.snapshot()),
            packets: self.totals.snapshot(),
        }
    }

    fn stateful(&self, nat: &Nat64) -> StatefulStatus {
        let counts = nat.counts();
        let lost = self.lost_records.as_ref();
        StatefulStatus {
            sessions: PerProtocol::new(counts.sessions.map(u64::from)),
            sessions_max: nat.config().limits.sessions,
            tcp_states: tcp_states(&counts),
            bindings: counts.bindings,
            subscribers: counts.subscribers,
            ports: PerProtocol::new(self.ports),
            free_ports: PerProtocol::new(counts.free_ports),
            top_subscribers: Vec::new(),
            lost_log_records: lost.map(|lost| lost.load(Ordering::Relaxed)),
        }
    }

    /// The subscriber who has an external port.
    fn whose(&self, external: SocketAddrV4) -> Result<String, &'static str> {
        let nat = self.nat.as_ref();
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
        let mut cursor = Some(Cursor::default());
        while let Some(here) = cursor {
            let epoch = epoch();
            let (sessions, next) = nat.sessions(here, PAGE, now(), epoch);
            let is_wanted = |session: &&SavedSession| {
                wanted.is_none_or(|prefix| prefix.contains(session.binding.client))
            };
            let mut page = String::new();
            for session in sessions.iter().filter(is_wanted) {
                describe(session, epoch, json, &mut page)?;
            }
            answer.text(&page).await?;
            cursor = next;
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

fn describe(session: &SavedSession, epoch: u64, json: bool, into: &mut String) -> io::Result<()> {
    let line = SessionLine::new(session, epoch);
    if json {
        into.push_str(&serde_json::to_string(&line)?);
        into.push('\n');
    } else {
        let _ = writeln!(
            into,
            "{:<4} {:<46} {:<21} {:<21} {:<11} {}",
            line.protocol,
            format!("[{}]:{}", line.client, line.client_port),
            format!("{}:{}", line.external, line.external_port),
            format!("{}:{}", line.remote, line.remote_port),
            line.state.unwrap_or("-"),
            humantime::format_duration(Duration::from_secs(line.expires_in_s)),
        );
    }
    Ok(())
}

#[derive(Debug, Serialize)]
struct SessionLine {
    protocol: &'static str,
    client: Ipv6Addr,
    client_port: u16,
    external: Ipv4Addr,
    external_port: u16,
    remote: Ipv4Addr,
    remote_port: u16,
    state: Option<&'static str>,
    expires_in_s: u64,
}

impl SessionLine {
    fn new(session: &SavedSession, epoch: u64) -> Self {
        let binding = &session.binding;
        Self {
            protocol: binding.protocol.name(),
            client: binding.client,
            client_port: binding.client_port,
            external: binding.external,
            external_port: binding.external_port,
            remote: session.remote,
            remote_port: session.remote_port,
            state: session.tcp.map(TcpState::name),
            expires_in_s: session.expires.saturating_sub(epoch),
        }
    }
}

#[derive(Debug, Serialize)]
struct Status {
    version: &'static str,
    uptime_s: u64,
    prefixes: Vec<String>,
    pool: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stateful: Option<StatefulStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    leases: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dns64: Option<dns64_server::Figures>,
    #[serde(skip_serializing_if = "Option::is_none")]
    advertisements: Option<router_advertiser::Figures>,
    packets: Snapshot,
}

#[derive(Debug, Serialize)]
struct StatefulStatus {
    sessions: PerProtocol,
    sessions_max: u32,
    tcp_states: Vec<TcpCount>,
    bindings: u32,
    subscribers: u32,
    ports: PerProtocol,
    free_ports: PerProtocol,
    top_subscribers: Vec<Top>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lost_log_records: Option<u64>,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct PerProtocol {
    udp: u64,
    tcp: u64,
    icmp: u64,
}

impl PerProtocol {
    fn new(figures: [u64; 3]) -> Self {
        Self {
            udp: figures[Protocol::Udp as usize],
            tcp: figures[Protocol::Tcp as usize],
            icmp: figures[Protocol::Icmp as usize],
        }
    }
}

#[derive(Debug, Serialize)]
struct TcpCount {
    state: &'static str,
    sessions: u32,
}

fn tcp_states(counts: &Counts) -> Vec<TcpCount> {
    let all = TcpState::ALL.into_iter().zip(counts.tcp);
    all.map(|(state, sessions)| TcpCount {
        state: state.name(),
        sessions,
    })
    .collect()
}

#[derive(Debug, Serialize)]
struct Top {
    subscriber: String,
    external: Ipv4Addr,
    sessions: u32,
    bindings: PerProtocol,
    blocks: usize,
}

impl Top {
    fn new(usage: &Usage) -> Self {
        Self {
            subscriber: usage.subscriber.to_string(),
            external: usage.external,
            sessions: usage.sessions,
            bindings: PerProtocol::new(usage.bindings.map(u64::from)),
            blocks: usage.blocks,
        }
    }
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
        if let Some(stateful) = &self.stateful {
            stateful.write_to(f)?;
        }
        if let Some(leases) = self.leases {
            writeln!(f, "leases    {leases}")?;
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

impl PerProtocol {
    fn labelled(self) -> [(String, u64); 3] {
        let Self { udp, tcp, icmp } = self;
        [("udp", udp), ("tcp", tcp), ("icmp", icmp)]
            .map(|(protocol, figure)| (format!("protocol=\"{protocol}\""), figure))
    }
}

impl StatefulStatus {
    fn write_page(&self, page: &mut Page) {
        let single = |figure: u64| [(String::new(), figure)];
        let states = self.tcp_states.iter();
        let states = states.map(|one| (format!("state=\"{}\"", one.state), one.sessions.into()));
        page.family(
            Metric::gauge("plat_sessions", "Sessions."),
            self.sessions.labelled(),
        )
        .family(
            Metric::gauge("plat_sessions_max", "Most sessions there can be."),
            single(self.sessions_max.into()),
        )
        .family(
            Metric::gauge("plat_tcp_sessions", "TCP sessions by state."),
            states.collect::<Vec<_>>(),
        )
        .family(
            Metric::gauge("plat_bindings", "Bindings."),
            single(self.bindings.into()),
        )
        .family(
            Metric::gauge("plat_subscribers", "Subscribers with a binding."),
            single(self.subscribers.into()),
        )
        .family(
            Metric::gauge("plat_ports", "Ports of the pool."),
            self.ports.labelled(),
        )
        .family(
            Metric::gauge("plat_free_ports", "Ports that are free."),
            self.free_ports.labelled(),
        );
        if let Some(lost) = self.lost_log_records {
            page.family(
                Metric::counter(
                    "plat_log_records_lost_total",
                    "Records of the session log that were lost.",
                ),
                single(lost),
            );
        }
    }

    fn write_to(&self, f: &mut String) -> std::fmt::Result {
        let PerProtocol { udp, tcp, icmp } = self.sessions;
        let (all, max) = (udp + tcp + icmp, self.sessions_max);
        writeln!(
            f,
            "sessions  {all} of {max}: udp {udp}, tcp {tcp}, icmp {icmp}"
        )?;
        for TcpCount { state, sessions } in &self.tcp_states {
            if *sessions > 0 {
                writeln!(f, "  tcp     {sessions} {state}")?;
            }
        }
        let (bindings, subscribers) = (self.bindings, self.subscribers);
        writeln!(f, "bindings  {bindings} of {subscribers} subscribers")?;
        let (free, ports) = (self.free_ports, self.ports);
        writeln!(
            f,
            "ports     udp {} of {} free, tcp {} of {}, icmp {} of {}",
            free.udp, ports.udp, free.tcp, ports.tcp, free.icmp, ports.icmp
        )?;
        for top in &self.top_subscribers {
            let PerProtocol { udp, tcp, icmp } = top.bindings;
            writeln!(
                f,
                "  {} behind {}: {} sessions; ports: udp {udp}, tcp {tcp}, icmp {icmp}",
                top.subscriber, top.external, top.sessions
            )?;
        }
        if let Some(lost) = self.lost_log_records.filter(|lost| *lost > 0) {
            writeln!(f, "log       {lost} records lost")?;
        }
        Ok(())
    }
}
