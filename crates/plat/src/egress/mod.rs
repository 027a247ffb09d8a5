//! How translated packets leave towards IPv4, and how answers find back.
//!
//! The pool is routed to this host, which is all the translator needs; or it lies in the subnet of
//! an interface, whose neighbours then ask for its addresses and are answered; or it is private and
//! hides behind the interface's own address. With no pool given at all the last one is chosen
//! ([`host_facts`]).

pub(crate) mod host_facts;
pub(crate) mod mode;

use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;

use anyhow::Result;
use tracing::{info, warn};
use xlat_core::addr::Ipv4Prefix;
use xlat_host::daemon::exit::Usage;
use xlat_host::host::{Host, Ipv4Route, Link, Plan};
use xlat_host::nft::Table;

use crate::settings::Settings;
use host_facts::default_interface;
use mode::Egress;

/// Most addresses that are answered for one by one.
const PROXIES_MAX: usize = 4096;

/// What the egress adds to the plan.
pub(crate) fn plan(settings: &Settings, plan: &mut Plan) -> Result<()> {
    let Egress::ProxyArp(interface) = &settings.egress else {
        return Ok(());
    };
    let addresses: Vec<Ipv4Addr> = settings
        .ipv4_prefixes()
        .iter()
        .flat_map(|prefix| prefix.address().to_bits()..=prefix.last().to_bits())
        .map(Ipv4Addr::from_bits)
        .take(PROXIES_MAX + 1)
        .collect();
    if addresses.len() > PROXIES_MAX {
        let line = format!(
            "--egress proxy-arp answers for {PROXIES_MAX} addresses at most; have larger pools \
             routed to this host"
        );
        return Err(Usage(line).into());
    }
    for address in addresses {
        plan.proxy(interface, IpAddr::V4(address));
    }
    Ok(())
}

/// The table that hides the addresses where they are to be hidden.
pub(crate) fn table(settings: &Settings) -> Option<Table> {
    let Egress::Masquerade(interface) = &settings.egress else {
        return None;
    };
    let (name, sources) = (table_name(settings), sources(settings));
    Some(Table::masquerade(&name, &sources, interface))
}

/// Says in the log what hides the addresses, where something does.
pub(crate) fn say_hidden(settings: &Settings) {
    if let Egress::Masquerade(interface) = &settings.egress {
        let name = table_name(settings);
        info!(
            "IPv4 packets are masqueraded behind the address of {interface} (nftables table \
        {name})"
        );
    }
}

/// True if IPv4 can be reached. What hides behind an interface or is asked for on its link needs
/// the default route there. Where the pool is routed any route will do that leads elsewhere than to
/// the clients: there may be no default route at all.
pub(crate) async fn is_open(host: &Host, settings: &Settings) -> Result<bool> {
    let links = host.links().await?;
    let routes = host.ipv4_routes().await?;
    let leads_by = |is_it: &dyn Fn(&Link, &Ipv4Route) -> bool| {
        routes.iter().any(|route| {
            let by = |link: &&Link| route.links.contains(&link.index) && link.running;
            links.iter().filter(by).any(|link| is_it(link, route))
        })
    };
    Ok(match &settings.egress {
        Egress::Masquerade(name) | Egress::ProxyArp(name) => {
            leads_by(&|link, route| route.is_default && link.name == *name)
        }
        Egress::Route => leads_by(&|link, _| {
            !link.loopback
                && link.name != settings.instance.tun
                && !settings.advertise.lan.contains(&link.name)
        }),
    })
}

/// Says where the kernel drops answers because it would not send there what they answer: a strict
/// reverse path filter, and an egress that is not the default route's.
pub(crate) async fn warn_of_reverse_paths(host: &Host, settings: &Settings) {
    let (Egress::Masquerade(name) | Egress::ProxyArp(name)) = &settings.egress else {
        return;
    };
    if !host.has_strict_filter(name) {
        return;
    }
    let leads_there = match default_interface(host).await {
        Ok(other) => other == *name,
        Err(_) => false,
    };
    if !leads_there {
        warn!(
            "replies that arrive on {name} will be dropped: the IPv4 default route uses another \
            interface, and the reverse path filter is strict; sysctl net.ipv4.conf.{name}.rp_filter=2 \
             makes it loose"
        );
    }
}

fn table_name(settings: &Settings) -> String {
    format!("xlat_{}", settings.instance.tun)
}

/// The addresses that hide: all that the translator speaks for.
fn sources(settings: &Settings) -> Vec<RangeInclusive<Ipv4Addr>> {
    let prefixes = settings.ipv4_prefixes();
    let range = |prefix: &Ipv4Prefix| prefix.address()..=prefix.last();
    prefixes.iter().map(range).collect()
}
