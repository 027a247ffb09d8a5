//! The status of a CLAT, for `clat status` and the metrics page.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use serde::Serialize;
use xlat_host::daemon::fast_path::KernelPathStatus;
use xlat_host::daemon::health::HealthStatus;
use xlat_host::daemon::metrics::Page;
use xlat_host::host::RepairFigures;
use xlat_host::nft::DroppingChain;
use xlat_tun::counters::{Metric, Snapshot};

use crate::names::{AddressOrigin, PrefixStatus, StateName};

/// A snapshot of a running CLAT's status.
#[derive(Debug, Serialize)]
pub struct Status {
    /// The form of what follows, [`SCHEMA`](xlat_host::daemon::control::SCHEMA).
    pub schema: u32,
    /// Version of the program.
    pub version: &'static str,
    /// Time since the start, in seconds.
    pub uptime_s: u64,
    /// How it does, as it was measured.
    pub health: HealthStatus,
    /// This host's address on the IPv4 side.
    pub ipv4: Ipv4Addr,
    /// The outcome of the last decision.
    #[serde(flatten)]
    pub known: Known,
    /// Forward chains of other programs that drop translated packets.
    pub dropping: Vec<DroppingChain>,
    /// Changes of the host that others undid and that were made again.
    pub repairs: RepairFigures,
    /// What the kernel translated by itself.
    pub fast_path: KernelPathStatus,
    /// Sums of the workers' counters, and what the kernel translated; `None` before the first worker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packets: Option<Snapshot>,
}

/// The outcome of a decision about the CLAT. Uplink, address and MTU are `None` without a CLAT.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Known {
    /// The name of the state.
    pub state: StateName,
    /// The state, or the failure to reach one, in one line for people.
    pub state_text: String,
    /// Whether a CLAT translates.
    pub running: bool,
    /// Name of the uplink.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uplink: Option<String>,
    /// The router that the CLAT's packets are led to; `None` where the host's own routes lead them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub router: Option<Ipv6Addr>,
    /// Name of the interface to which the host's own IPv6 routes lead, if that is another one than
    /// the uplink.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub routes_lead_to: Option<String>,
    /// The CLAT's IPv6 address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<Ipv6Addr>,
    /// How that address was chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv6_origin: Option<AddressOrigin>,
    /// MTU towards the IPv6-only network, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
    /// The NAT64 prefix in use, and where it comes from.
    #[serde(flatten)]
    pub prefix: Option<PrefixStatus>,
    /// DNS servers of the uplink's network that are asked for the prefix.
    pub dns_servers: Vec<IpAddr>,
    /// Router advertisements, and prefixes in them, that were ignored.
    pub ignored_advertisements: u64,
    /// DNS messages that were ignored.
    pub ignored_dns_messages: u64,
}

impl Status {
    /// The metrics page for Prometheus.
    pub fn page(&self) -> String {
        let mut page = Page::new();
        let single = |figure: u64| [(String::new(), figure)];
        page.family(
            Metric::gauge("xlat_uptime_seconds", "Time since the start."),
            single(self.uptime_s),
        );
        self.health.write_page(&mut page, "clat", self.version);
        page.family(
            Metric::gauge("clat_running", "1 while IPv4 is reached through the CLAT."),
            single(self.known.running.into()),
        )
        .family(
            Metric::counter(
                "clat_ignored_advertisements_total",
                "Router advertisements that were not believed.",
            ),
            single(self.known.ignored_advertisements),
        );
        page.family(
            Metric::gauge(
                "clat_dropping_chains",
                "Forward chains of other programs that drop translated packets.",
            ),
            single(self.dropping.len() as u64),
        );
        self.fast_path.write_page(&mut page);
        page.families(self.repairs.families());
        if let Some(packets) = &self.packets {
            page.families(packets.families());
        }
        page.into_text()
    }

    /// The status as text of several lines.
    pub fn to_text(&self) -> String {
        let uptime = humantime::format_duration(Duration::from_secs(self.uptime_s));
        let mut text = format!("clat {}, running for {uptime}\n", self.version);
        // Writing into a string does not fail.
        let _ = self.health.write_to(&mut text);
        let known = &self.known;
        let mut line = |name: &str, value: &str| {
            // Writing into a string does not fail.
            let _ = writeln!(text, "{name:<10}{value}");
        };
        line("state", &known.state_text);
        if let Some(prefix) = &known.prefix {
            line("prefix", &prefix.to_string());
        }
        if let (Some(uplink), Some(ipv6), Some(mtu)) = (&known.uplink, known.ipv6, known.mtu) {
            line("uplink", &format!("{uplink}, MTU {mtu}"));
            line("address", &format!("{} as {ipv6}", self.ipv4));
            if let Some(origin) = &known.ipv6_origin {
                line("chosen", &origin.to_string());
            }
        }
        if !known.dns_servers.is_empty() {
            let servers: Vec<String> = known.dns_servers.iter().map(IpAddr::to_string).collect();
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
        for chain in &self.dropping {
            line("dropping", &chain.to_string());
        }
        let repairs = self.repairs.total();
        if repairs > 0 {
            line(
                "repaired",
                &format!("{repairs} changes of the host that others undid"),
            );
        }
        let _ = self.fast_path.write_to(&mut text);
        if let Some(packets) = &self.packets {
            let _ = write!(text, "{packets}");
        }
        text
    }
}
