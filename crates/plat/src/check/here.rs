//! How this host looks to a start with these flags: each part by itself, so that one that is missing
//! hides no other. Nothing is changed.

use std::net::{IpAddr, SocketAddr};

use anyhow::Result;
use plat_host::{Egress, Own6, check_overlaps, egress};
use router_advertiser::Advertiser;
use xlat_host::daemon::check::{Look, Protocol, Verdict};
use xlat_host::daemon::waiting;
use xlat_host::examine;
use xlat_host::host::Host;

use crate::cli::Run;
use crate::facts;
use crate::settings::Settings;

/// UDP and TCP port of the DNS64.
const DNS: u16 = 53;

/// Looks at everything that a start looks at.
pub(super) async fn look(mut run: Run) -> Vec<Look> {
    // What a killed run left stays where it is.
    run.flags.dry_run = true;
    let directories = [run.state_dir.clone(), run.place.run_dir.clone()];
    let mut all = vec![examine::privileges().into(), examine::tun().into()];
    let directories = directories.each_ref().map(|one| &**one);
    all.extend(
        examine::state_files(&directories)
            .into_iter()
            .map(Look::from),
    );
    let settings = match settings(run).await {
        Ok(settings) => settings,
        Err(error) => {
            all.push(Look::of("pool", "", Err::<(), _>(error)));
            return all;
        }
    };
    match Host::connect() {
        Ok(host) => look_at(&host, &settings, &mut all).await,
        Err(error) => all.push(Look::of("host", "", Err::<(), anyhow::Error>(error.into()))),
    }
    ports(&settings, &mut all);
    all
}

async fn settings(run: Run) -> Result<Settings> {
    let facts = facts::look_up(&run).await?;
    Ok(Settings::resolve(run, facts)?)
}

async fn look_at(host: &Host, settings: &Settings, all: &mut Vec<Look>) {
    let lans = &settings.advertise.lan;
    let links = links(host, lans).await;
    let are_there = links.is_ok();
    if !lans.is_empty() {
        let fine = format!("{} is there", lans.join(", "));
        all.push(Look::of("interface", fine, links));
    }
    let outer = settings.egress.interfaces();
    if !outer.is_empty() {
        let fine = format!("{} is there", outer.join(", "));
        let look = Look::of("egress", fine, self::links(host, outer).await);
        // plat starts, and follows the interface when it comes.
        all.push(match look.verdict {
            Verdict::Ok => look,
            _ => Look::new("egress", Verdict::Warns, look.text),
        });
    }
    if !settings.dns.addresses.is_empty() {
        let fine = "this host has its addresses, and somebody to ask";
        all.push(Look::of("dns64", fine, dns64(host, settings).await));
    }
    let own = own_address(host, settings).await;
    let fine = own
        .as_ref()
        .map_or_else(|_| String::new(), |own| own.address.to_string());
    all.push(Look::of("ipv6", fine, own));
    let overlaps = check_overlaps(host, &settings.host_config()).await;
    let fine = "no address of this host lies in a pool or a prefix";
    let overlaps = overlaps.map_err(anyhow::Error::from);
    all.push(Look::of("overlap", fine, overlaps));
    all.extend(pool(host, settings).await);
    if are_there && !lans.is_empty() {
        let others = Advertiser::check(host, lans).await;
        let fine = format!("no other program advertises on {}", lans.join(", "));
        all.push(Look::of(
            "routers",
            fine,
            others.map_err(anyhow::Error::from),
        ));
    }
}

async fn links(host: &Host, names: &[String]) -> Result<()> {
    Ok(waiting::links(host, names).await??)
}

async fn dns64(host: &Host, settings: &Settings) -> Result<()> {
    let dns = &settings.dns;
    waiting::addresses(host, &dns.addresses).await??;
    dns.check()?;
    dns.check_upstreams()?;
    dns.config(host, &settings.advertise.lan, &settings.clients)
        .await?;
    Ok(())
}

async fn own_address(host: &Host, settings: &Settings) -> Result<Own6> {
    let own = Own6::find(host, settings.own_v6, &settings.pref64s).await??;
    settings.policy(own)?;
    Ok(own)
}

/// The address of this host that clients share, and the services that have ports of it.
async fn pool(host: &Host, settings: &Settings) -> Option<Look> {
    const WHAT: &str = "pool";
    let Egress::Own(own) = &settings.egress else {
        return None;
    };
    let outer = match egress::outer(host, &settings.host_config()).await {
        Ok(outer) => outer,
        Err(error) => return Some(Look::new(WHAT, Verdict::Refuses, error.to_string())),
    };
    Some(match outer {
        None => Look::new(WHAT, Verdict::Warns, format!("there is no {own} yet")),
        Some(outer) => {
            let checked = own.check_services(&outer).map_err(anyhow::Error::from);
            Look::of(WHAT, format!("{outer}, {}", own.describe()), checked)
        }
    })
}

/// Whether what listens gets its ports.
fn ports(settings: &Settings, all: &mut Vec<Look>) {
    let place = &settings.instance;
    if Look::runs(&place.run_dir, &place.tun) {
        let text = format!("a plat runs as {} and has its ports", place.tun);
        all.push(Look::new("port", Verdict::Skipped, text));
        return;
    }
    all.extend(
        settings
            .metrics
            .map(|address| Look::port(Protocol::Tcp, address)),
    );
    for address in &settings.dns.addresses {
        let socket = SocketAddr::new(IpAddr::V6(*address), DNS);
        let both = [Protocol::Udp, Protocol::Tcp];
        all.extend(both.map(|protocol| Look::port(protocol, socket)));
    }
}
