//! `plat run --dry-run`: what a start would change on this host, and what it would tell others.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use anyhow::Result;
use plat_host::{HostConfig, Own6, PoolStatus, egress};
use router_advertiser::Preview;
use serde::Serialize;
use xlat_host::daemon::control::SCHEMA;
use xlat_host::daemon::{exit, terminal};
use xlat_host::host::Host;

use crate::settings::Settings;

/// The result as JSON.
#[derive(Debug, Serialize)]
struct DryRun {
    schema: u32,
    prefixes: Vec<String>,
    ipv4: Ipv4Addr,
    ipv6: Ipv6Addr,
    pool: Vec<PoolStatus>,
    commands: Vec<String>,
    advertisements: Vec<Preview>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dns64: Option<Dns64>,
    /// Interfaces whose hosts may ask for ports by PCP.
    pcp: Vec<String>,
    /// What hosts are told when it ends.
    withdrawn_at_end: Vec<Withdrawn>,
    /// And when there has been no way to IPv4 for some seconds.
    withdrawn_without_ipv4: Vec<Withdrawn>,
}

/// What hosts are told to use no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Withdrawn {
    DefaultRouter,
    Nat64Prefix,
    DnsServers,
}

#[derive(Debug, Serialize)]
struct Dns64 {
    addresses: Vec<Ipv6Addr>,
    upstreams: Vec<String>,
    /// Clients that may ask.
    allowed: Vec<String>,
}

/// Prints the plan for the host as it is now; `config` has the address that clients share.
pub(crate) async fn run(
    host: &Host,
    settings: &Settings,
    config: &HostConfig,
    own_v6: Own6,
) -> Result<()> {
    let mut plan = plat_host::base_plan(host, config, own_v6).await?;
    plan.append(plat_host::client_plan(config)?);
    let plan = plan.to_string();
    let dry = DryRun::new(host, settings, config, own_v6, &plan).await?;
    let text = match settings.json {
        true => format!("{}\n", serde_json::to_string(&dry)?),
        false => dry.to_text(),
    };
    Ok(exit::print(&terminal::plain(&text))?)
}

impl DryRun {
    async fn new(
        host: &Host,
        settings: &Settings,
        config: &HostConfig,
        own_v6: Own6,
        plan: &str,
    ) -> Result<Self> {
        let reach = egress::look(host, config).await?.reach;
        let advertise = &settings.advertise;
        let mut advertisements = Vec::new();
        for name in &advertise.lan {
            let told = advertise.with_dns64(settings.dns.addresses.clone());
            advertisements.push(Preview::new(host, name, told, reach).await?);
        }
        let first = advertisements.first();
        let has_router = advertise.config.lifetime > 0 && first.is_some();
        let has_prefix = first.is_some_and(|first| !first.pref64s.is_empty());
        let has_dns = first.is_some_and(|first| !first.dns_servers.is_empty());
        let told = [
            (has_router, Withdrawn::DefaultRouter),
            (has_prefix, Withdrawn::Nat64Prefix),
            (has_dns, Withdrawn::DnsServers),
        ];
        let told = told
            .into_iter()
            .filter_map(|(is_told, what)| is_told.then_some(what));
        let prefix_alone = has_prefix.then_some(Withdrawn::Nat64Prefix);
        Ok(Self {
            schema: SCHEMA,
            prefixes: settings.pref64s.iter().map(ToString::to_string).collect(),
            ipv4: settings.own_v4,
            ipv6: own_v6.address,
            pool: seen(settings.pools(), config),
            commands: plan.lines().map(str::to_owned).collect(),
            dns64: dns64(host, settings).await?,
            pcp: match settings.pcp && settings.stateful.is_some() {
                true => advertise.lan.clone(),
                false => Vec::new(),
            },
            withdrawn_at_end: told.collect(),
            withdrawn_without_ipv4: prefix_alone.into_iter().collect(),
            advertisements,
        })
    }

    /// The commands, and the rest as comments: a shell can read all of it.
    fn to_text(&self) -> String {
        let mut rest = String::new();
        for advertisement in &self.advertisements {
            rest += &advertisement.to_string();
        }
        if let Some(dns64) = &self.dns64 {
            let addresses: Vec<String> = dns64.addresses.iter().map(ToString::to_string).collect();
            let (addresses, upstreams) = (addresses.join(", "), dns64.upstreams.join(", "));
            let _ = writeln!(
                rest,
                "answers as DNS64 on {addresses}, and asks {upstreams}"
            );
            let allowed = dns64.allowed.join(", ");
            let _ = writeln!(rest, "  clients that may ask: {allowed}");
        }
        if !self.pcp.is_empty() {
            let lans = self.pcp.join(", ");
            let _ = writeln!(
                rest,
                "gives external ports to hosts on {lans} by PCP (UDP port 5351)"
            );
        }
        if !self.withdrawn_at_end.is_empty() {
            let all = names(&self.withdrawn_at_end);
            let _ = writeln!(rest, "withdraws when it ends: {all}");
        }
        if !self.withdrawn_without_ipv4.is_empty() {
            let all = names(&self.withdrawn_without_ipv4);
            let _ = writeln!(rest, "withdraws without a way to IPv4: {all}");
        }
        let mut text = self.commands.join("\n");
        text.push('\n');
        for line in rest.lines() {
            let _ = writeln!(text, "# {line}");
        }
        text
    }
}

fn names(all: &[Withdrawn]) -> String {
    let names = all.iter().map(|one| match one {
        Withdrawn::DefaultRouter => "the default router",
        Withdrawn::Nat64Prefix => "the NAT64 prefix",
        Withdrawn::DnsServers => "the DNS servers",
    });
    names.collect::<Vec<_>>().join(", ")
}

fn seen(pools: Vec<PoolStatus>, config: &HostConfig) -> Vec<PoolStatus> {
    let pools = pools.into_iter();
    pools.map(|pool| pool.seen(config.outer.as_ref())).collect()
}

async fn dns64(host: &Host, settings: &Settings) -> Result<Option<Dns64>> {
    let addresses = settings.dns.addresses.clone();
    if addresses.is_empty() {
        return Ok(None);
    }
    let (lans, clients) = (&settings.advertise.lan, &settings.clients);
    let config = settings.dns.config(host, lans, clients).await?;
    Ok(Some(Dns64 {
        addresses,
        upstreams: config.upstreams.iter().map(ToString::to_string).collect(),
        allowed: config.allowed.iter().map(ToString::to_string).collect(),
    }))
}
