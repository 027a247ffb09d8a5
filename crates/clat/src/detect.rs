//! `clat detect`: reports what the network offers a CLAT, and changes nothing.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use anyhow::Result;
use clat_host::{AddressOrigin, GROWTH, PrefixStatus, StateName, Wanted, look};
use fast_path::Unavailable;
use pref64_discovery::{LinkDiscovery, Trust};
use serde::Serialize;
use xlat_core::addr::Ipv6Prefix;
use xlat_host::daemon::control::SCHEMA;
use xlat_host::daemon::fast_path::KernelPath;
use xlat_host::daemon::state_dir::StateDir;
use xlat_host::daemon::{exit, terminal};
use xlat_host::host::Host;
use xlat_proto::clat::{Clat, Config, Lead, Lifecycle, State, View};
use xlat_proto::discovery::Found;

use crate::cli::Detect;
use crate::discover;

#[derive(Debug, Serialize)]
struct Report {
    schema: u32,
    /// Name of the interface that leads to IPv6.
    uplink: Option<String>,
    gateway: Option<IpAddr>,
    mtu: Option<u16>,
    /// MTU of the IPv4 default route, in bytes.
    ipv4_mtu: Option<u16>,
    prefixes: Vec<Prefix>,
    dns_servers: Vec<IpAddr>,
    /// The CLAT's address, where it is known already.
    address: Option<Ipv6Addr>,
    /// The prefix of the CLAT's address: a /64, or a /128 that it would share.
    address_prefix: Option<String>,
    address_origin: Option<AddressOrigin>,
    native_ipv4: bool,
    /// Whether the kernel can translate established traffic.
    fast_path: FastPath,
    /// The state in which `clat` would be.
    state: StateName,
    /// The same for people.
    verdict: String,
    works: bool,
}

#[derive(Debug, Serialize)]
struct FastPath {
    possible: bool,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    why_not: Option<String>,
}

#[derive(Debug, Serialize)]
struct Prefix {
    #[serde(flatten)]
    prefix: PrefixStatus,
    used: bool,
}

/// Prints the report. True if a CLAT would run.
pub(crate) async fn run(detect: &Detect) -> Result<bool> {
    let host = Host::connect()?;
    let mut wanted = Wanted {
        uplink: detect.uplink.clone(),
        prefix: detect.prefix,
        ..Wanted::default()
    };
    let (mut view, link) = look(&host, &wanted).await?;
    let network = match &link {
        Some(link) if detect.prefix.is_none() => {
            let patience = Duration::from_secs(detect.seconds);
            let trust = Trust::default();
            Some(discover::on_link(link, &view, trust, patience).await?)
        }
        _ => None,
    };
    let given = discover::configured(detect.prefix);
    let found = given.or_else(|| network.as_ref().and_then(LinkDiscovery::found));
    if let Some(network) = &network {
        wanted.discovered = discover::discovered(network);
        view = look(&host, &wanted).await?.0;
    }
    // A user who may not read it sees the prefix of the address.
    let secret = StateDir::known_secret(&detect.state_dir).ok().flatten();
    let report = report(&host, &view, network.as_ref(), found, secret).await;
    let text = if detect.json {
        format!("{}\n", serde_json::to_string(&report)?)
    } else {
        report.to_text()
    };
    exit::print(&terminal::plain(&text))?;
    Ok(report.works)
}

async fn report(
    host: &Host,
    view: &View,
    network: Option<&LinkDiscovery>,
    found: Option<Found>,
    secret: Option<[u64; 2]>,
) -> Report {
    let mut lifecycle = Lifecycle::new(Config {
        always: false,
        address: None,
        secret: secret.unwrap_or_default(),
        neutral_to: None,
    });
    let state = lifecycle.decide(view, found.map(|found| found.prefix));
    let running = match &state {
        State::Running(clat) => Some(clat),
        _ => None,
    };
    let mtu = view.uplink.as_ref().map(|uplink| uplink.mtu);
    let far = found.map(|found| found.prefix.prefix().address());
    let gateway = match (running.map(|clat| clat.lead), far) {
        (Some(Lead::Own(router)), _) => router.map(IpAddr::V6),
        (_, Some(far)) => host.way(far.into()).await.ok().and_then(|way| way.gateway),
        (_, None) => None,
    };
    Report {
        schema: SCHEMA,
        state: (&state).into(),
        uplink: view.uplink.as_ref().map(|uplink| uplink.name.clone()),
        gateway,
        mtu,
        ipv4_mtu: mtu.map(|mtu| mtu - GROWTH),
        prefixes: match network {
            Some(network) => prefixes(&network.all(), found),
            None => prefixes(found.as_slice(), found),
        },
        dns_servers: network.map(LinkDiscovery::servers).unwrap_or_default(),
        address: running
            .filter(|clat| secret.is_some() || clat.is_shared())
            .map(Clat::outer),
        address_prefix: running.map(|clat| {
            let len = if clat.is_shared() { 128 } else { 64 };
            Ipv6Prefix::containing(clat.outer(), len).to_string()
        }),
        address_origin: running.map(|clat| clat.origin.into()),
        native_ipv4: view.native_ipv4,
        fast_path: fast_path(),
        verdict: match running {
            Some(_) => "clat would run".into(),
            None => state.to_string(),
        },
        works: running.is_some(),
    }
}

/// Loads the program, and lets go of it.
fn fast_path() -> FastPath {
    let refused = KernelPath::try_out().err();
    FastPath {
        possible: refused.is_none(),
        state: refused.as_ref().map_or("on", Unavailable::name),
        why_not: refused.map(|error| error.to_string()),
    }
}

fn prefixes(all: &[Found], used: Option<Found>) -> Vec<Prefix> {
    all.iter()
        .map(|found| Prefix {
            prefix: (*found).into(),
            used: Some(*found) == used,
        })
        .collect()
}

impl Report {
    fn to_text(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: &str| {
            // Writing into a string does not fail.
            let _ = writeln!(text, "{name:<14}{value}");
        };
        let none = || "none".to_owned();
        line("uplink", &self.uplink.clone().unwrap_or_else(none));
        if let Some(gateway) = self.gateway {
            line("gateway", &gateway.to_string());
        }
        for prefix in &self.prefixes {
            let used = if prefix.used { "" } else { " (not used)" };
            line("NAT64 prefix", &format!("{}{used}", prefix.prefix));
        }
        if self.prefixes.is_empty() {
            line("NAT64 prefix", "none");
        }
        let servers: Vec<String> = self.dns_servers.iter().map(IpAddr::to_string).collect();
        let servers = if servers.is_empty() {
            none()
        } else {
            servers.join(", ")
        };
        line("DNS servers", &servers);
        if let (Some(prefix), Some(origin)) = (&self.address_prefix, &self.address_origin) {
            let address = match self.address {
                Some(address) => address.to_string(),
                None => format!("one of {prefix}"),
            };
            line("CLAT address", &format!("{address}, {origin}"));
        }
        if let (Some(mtu), Some(ipv4)) = (self.mtu, self.ipv4_mtu) {
            line("MTU", &format!("{mtu}, for IPv4 {ipv4}"));
        }
        line("native IPv4", if self.native_ipv4 { "yes" } else { "no" });
        let fast_path = self.fast_path.why_not.as_ref();
        let fast_path = fast_path.map_or("possible".to_owned(), |why| format!("no: {why}"));
        line("fast path", &fast_path);
        line("verdict", &self.verdict);
        text
    }
}
