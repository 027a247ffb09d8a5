//! The status of the tables, for `plat status` and the metrics page.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use nat64::{Counts, Nat64, Protocol, TcpState, Usage};
use portable_atomic::AtomicU64;
use serde::Serialize;
use xlat_host::daemon::metrics::Page;
use xlat_tun::counters::Metric;

/// Reads the tables of a [`Keeper`](crate::Keeper) for the control socket.
#[derive(Clone, Debug)]
pub struct StatusSource {
    nat: Nat64,
    /// Ports of the pool before the first session.
    ports: [u64; 3],
    lost_records: Option<Arc<AtomicU64>>,
}

impl StatusSource {
    pub(crate) fn new(nat: Nat64, ports: [u64; 3], lost_records: Option<Arc<AtomicU64>>) -> Self {
        Self {
            nat,
            ports,
            lost_records,
        }
    }

    /// The tables.
    pub fn nat(&self) -> &Nat64 {
        &self.nat
    }

    /// The current status, with the `top` subscribers by sessions. A number above 0 reads all
    /// subscribers, which is too expensive for a metrics page.
    pub fn status(&self, top: usize) -> NatStatus {
        let counts = self.nat.counts();
        let lost = self.lost_records.as_ref();
        let top = match top {
            0 => Vec::new(),
            top => self.nat.top_subscribers(top),
        };
        let config = self.nat.config();
        NatStatus {
            clients: config.clients.iter().map(ToString::to_string).collect(),
            sessions: PerProtocol::new(counts.sessions.map(u64::from)),
            sessions_max: config.limits.sessions,
            sessions_in_kernel: counts.offloaded,
            tcp_states: tcp_states(&counts),
            bindings: counts.bindings,
            subscribers: counts.subscribers,
            ports: PerProtocol::new(self.ports),
            free_ports: PerProtocol::new(counts.free_ports),
            top_subscribers: top.iter().map(|usage| Top::new(usage, &self.nat)).collect(),
            lost_log_records: lost.map(|lost| lost.load(Ordering::Relaxed)),
        }
    }
}

/// A snapshot of the tables, as `plat status` shows it.
#[derive(Debug, Serialize)]
pub struct NatStatus {
    /// Prefixes whose hosts are served.
    clients: Vec<String>,
    sessions: PerProtocol,
    sessions_max: u32,
    /// Whose packets the kernel translates.
    sessions_in_kernel: u32,
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
    fn new(usage: &Usage, nat: &Nat64) -> Self {
        Self {
            subscriber: usage.subscriber.to_string(),
            external: nat.seen(usage.external),
            sessions: usage.sessions,
            bindings: PerProtocol::new(usage.bindings.map(u64::from)),
            blocks: usage.blocks,
        }
    }
}

impl PerProtocol {
    fn labelled(self) -> [(String, u64); 3] {
        let Self { udp, tcp, icmp } = self;
        [("udp", udp), ("tcp", tcp), ("icmp", icmp)]
            .map(|(protocol, figure)| (format!("protocol=\"{protocol}\""), figure))
    }
}

impl NatStatus {
    /// Adds the metrics for Prometheus.
    pub fn write_page(&self, page: &mut Page) {
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
            Metric::gauge(
                "plat_fast_path_sessions",
                "Sessions whose packets the kernel translates.",
            ),
            single(self.sessions_in_kernel.into()),
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

    /// Writes the lines of `plat status`.
    ///
    /// # Errors
    /// Never: writing into a string does not fail.
    pub fn write_to(&self, f: &mut String) -> std::fmt::Result {
        let PerProtocol { udp, tcp, icmp } = self.sessions;
        let (all, max) = (udp + tcp + icmp, self.sessions_max);
        if !self.clients.is_empty() {
            writeln!(f, "clients   {}", self.clients.join(", "))?;
        }
        writeln!(
            f,
            "sessions  {all} of {max}: udp {udp}, tcp {tcp}, icmp {icmp}"
        )?;
        if self.sessions_in_kernel > 0 {
            writeln!(f, "  kernel  {} by the fast path", self.sessions_in_kernel)?;
        }
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
