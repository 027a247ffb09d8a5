//! `clat run --dry-run`: prints the commands that would set up the host.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use anyhow::Result;
use clat_host::{AddressOrigin, Parts, PrefixStatus, ipv4_addresses, look};
use serde::Serialize;
use tracing::warn;
use xlat_host::daemon::control::SCHEMA;
use xlat_host::daemon::exit::{self, Nothing};
use xlat_host::daemon::terminal;
use xlat_host::host::Host;
use xlat_proto::clat::{Clat, Lead, Lifecycle, Side4, State};
use xlat_proto::discovery::Found;

use crate::settings::Settings;
use crate::{discover, lifecycle};

/// How long a dry run waits for the network to announce its prefix.
const PATIENCE: Duration = Duration::from_secs(5);

/// Prints the plan for the network as it is now.
pub(crate) async fn run(host: &Host, settings: &Settings) -> Result<()> {
    if let Some(name) = &settings.uplink {
        host.link(name).await?;
    }
    let taken = ipv4_addresses(host, &settings.instance.tun).await?;
    let side4 = settings.side4(&taken, |_| true)?;
    let mut life = Lifecycle::new(lifecycle::config(settings, side4)?);
    let mut wanted = settings.wanted();
    let (mut view, link) = look(host, &wanted).await?;
    if view.has_ipv4() && !settings.always {
        warn!("this host has IPv4 already: without --always clat would change nothing");
        (view.native_ipv4, view.other_clat) = (false, None);
    }
    let found = match (discover::configured(settings.prefix), &link) {
        (None, Some(link)) => {
            let trust = settings.trust;
            let network = discover::on_link(link, &view, trust, PATIENCE).await?;
            wanted.discovered = discover::discovered(&network);
            // The route depends on the prefix.
            view.uplink = look(host, &wanted).await?.0.uplink;
            network.found()
        }
        (found, _) => found,
    };
    if let Some(uplink) = &mut view.uplink
        && uplink.lead == Lead::Nowhere
    {
        warn!("{} has no route to the NAT64 prefix yet", uplink.name);
        uplink.lead = Lead::Ordinary;
    }
    match life.decide(&view, found.map(|found| found.prefix)) {
        State::Running(clat) => {
            let config = settings.host_config(side4);
            let parts = Parts::new(host, &config, &clat, &[], &|key| host.sysctl(key)).await?;
            let plan = parts.whole().to_string();
            let all: Vec<String> = plan.lines().map(str::to_owned).collect();
            if settings.json {
                let dry = DryRun::new(&clat, side4, found, all);
                return print(&format!("{}\n", serde_json::to_string(&dry)?));
            }
            print(&format!("{}\n", all.join("\n")))
        }
        waiting => Err(Nothing(waiting.to_string()).into()),
    }
}

/// The result as JSON.
#[derive(Debug, Serialize)]
struct DryRun {
    schema: u32,
    uplink: String,
    #[serde(flatten)]
    prefix: Option<PrefixStatus>,
    ipv4: Ipv4Addr,
    ipv6: Ipv6Addr,
    ipv6_origin: AddressOrigin,
    mtu: u16,
    commands: Vec<String>,
}

impl DryRun {
    fn new(clat: &Clat, side4: Side4, found: Option<Found>, commands: Vec<String>) -> Self {
        Self {
            schema: SCHEMA,
            uplink: clat.uplink.clone(),
            prefix: found.map(PrefixStatus::from),
            ipv4: side4.host,
            ipv6: clat.outer(),
            ipv6_origin: clat.origin.into(),
            mtu: clat.mtu,
            commands,
        }
    }
}

fn print(text: &str) -> Result<()> {
    Ok(exit::print(&terminal::plain(text))?)
}
