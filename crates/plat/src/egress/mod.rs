//! How translated packets leave towards IPv4, and how answers find back.
//!
//! The pool is routed to this host, which is all the translator needs; or it lies in the subnet of
//! an interface, whose neighbours then ask for its addresses and are answered; or it is private and
//! hides behind the address of the interface by which packets leave. With no pool given at all the last one is chosen
//! ([`host_facts`]).

pub(crate) mod host_facts;
pub(crate) mod mode;

use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;

use anyhow::Result;
use nat64_host::PoolNeighbours;
use router_advertiser::{Reach, Seen};
use tracing::{info, warn};
use xlat_core::addr::{Ipv4Prefix, special};
use xlat_host::daemon::exit::Usage;
use xlat_host::host::{Host, Ipv4Route, Link, Plan};
use xlat_host::nft::{Interface, Table};

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
    let addresses = addresses(settings);
    if addresses.len() > PROXIES_MAX {
        let line = format!(
            "--egress proxy-arp answers for {PROXIES_MAX} addresses at most; have larger pools \
             routed to this host"
        );
        return Err(Usage(line).into());
    }
    // The kernel would wait for up to 0.8 s with each answer.
    plan.sysctl(
        format!("net.ipv4.neigh.{}.proxy_delay", interface.replace('.', "/")),
        "0",
    );
    for address in addresses {
        plan.proxy(interface, IpAddr::V4(address));
    }
    Ok(())
}

/// The addresses that the translator speaks for, sorted, as far as they can be answered for one by
/// one.
fn addresses(settings: &Settings) -> Vec<Ipv4Addr> {
    let prefixes = settings.ipv4_prefixes();
    let each = prefixes.iter();
    let each = each.flat_map(|prefix| prefix.address().to_bits()..=prefix.last().to_bits());
    let mut addresses: Vec<Ipv4Addr> = each
        .map(Ipv4Addr::from_bits)
        .take(PROXIES_MAX + 1)
        .collect();
    addresses.sort_unstable();
    addresses
}

/// Tells the neighbours on the link of the pool, if it lies in a link's subnet, where it is.
pub(crate) async fn announce(host: &Host, settings: &Settings, neighbours: &mut PoolNeighbours) {
    let Egress::ProxyArp(name) = &settings.egress else {
        return;
    };
    let link = host.link(name).await.ok();
    neighbours.follow(link.as_ref(), addresses(settings));
}

/// The table that hides the addresses where they are to be hidden. It needs no change when the
/// default route moves: which interface a packet leaves by is looked at when it does.
pub(crate) fn table(settings: &Settings) -> Option<Table> {
    let Egress::Masquerade(names) = &settings.egress else {
        return None;
    };
    let tun = &settings.instance.tun;
    let outs: Vec<Interface> = match names.as_slice() {
        [] => vec![Interface::AnyBut(tun.clone())],
        names => names.iter().cloned().map(Interface::Only).collect(),
    };
    let table = Table::masquerade(&table_name(settings), &sources(settings, |_| true), &outs);
    let private = sources(settings, |prefix| !special::is_global_v4(prefix.address()));
    Some(table.hide(&private, &outs, tun))
}

/// Says in the log what hides the addresses, where something does.
pub(crate) fn say_hidden(settings: &Settings) {
    if let Egress::Masquerade(names) = &settings.egress {
        let table = table_name(settings);
        let by = match names.as_slice() {
            [] => "the interface that they leave by".to_owned(),
            names => format!("{} and leave by no other interface", names.join(", ")),
        };
        info!("IPv4 packets are masqueraded behind the address of {by} (nftables table {table})");
    }
}

/// What this host reaches. What hides behind an interface or is asked for on its link needs the IPv4
/// default route there. Where the pool is routed any IPv4 route will do that leads elsewhere than to
/// the clients: there may be no default route at all.
pub(crate) async fn look(host: &Host, settings: &Settings) -> Result<Seen> {
    let links = host.links().await?;
    let routes = host.ipv4_routes().await?;
    let is_elsewhere = |link: &Link| {
        !link.loopback
            && link.name != settings.instance.tun
            && !settings.advertise.lan.contains(&link.name)
    };
    let leads_by = |is_it: &dyn Fn(&Link, &Ipv4Route) -> bool| {
        routes.iter().find_map(|route| {
            let by = |link: &&Link| route.links.contains(&link.index) && link.running;
            links.iter().filter(by).find(|link| is_it(link, route))
        })
    };
    let (by, wanted) = match &settings.egress {
        Egress::Masquerade(names) if names.is_empty() => (
            leads_by(&|link, route| route.leads_on() && link.name != settings.instance.tun),
            "IPv4 default route".into(),
        ),
        Egress::Masquerade(_) | Egress::ProxyArp(_) => {
            let names = settings.egress.interfaces();
            let is_one =
                |link: &Link, route: &Ipv4Route| route.leads_on() && names.contains(&link.name);
            (
                leads_by(&is_one),
                format!("IPv4 default route by {}", names.join(" or ")),
            )
        }
        Egress::Route => (
            leads_by(&|link, _| is_elsewhere(link)),
            "IPv4 route that leads elsewhere than to the LANs".into(),
        ),
    };
    let ipv6 = host.ipv6_default_links().await?;
    let ipv6 = |link: &Link| ipv6.contains(&link.index) && link.running && is_elsewhere(link);
    Ok(Seen {
        reach: Reach {
            ipv4: by.is_some(),
            ipv6: links.iter().any(ipv6),
        },
        ipv4_by: by.map(|link| link.name.clone()),
        wanted,
    })
}

/// Says where the kernel drops answers because it would not send there what they answer: a strict
/// reverse path filter, and an egress that is not the default route's.
pub(crate) async fn warn_of_reverse_paths(host: &Host, settings: &Settings) {
    let default = default_interface(host).await.unwrap_or_default();
    for name in settings.egress.interfaces() {
        if host.has_strict_filter(name) && default.as_ref() != Some(name) {
            warn!(
                "replies that arrive on {name} will be dropped: the IPv4 default route uses another \
                 interface, and the reverse path filter is strict; sysctl \
                 net.ipv4.conf.{name}.rp_filter=2 makes it loose"
            );
        }
    }
}

/// The name of the tables of this instance.
pub(crate) fn table_name(settings: &Settings) -> String {
    format!("xlat_{}", settings.instance.tun)
}

/// The addresses that the translator speaks for, as far as they are `wanted`.
fn sources(
    settings: &Settings,
    wanted: impl Fn(&Ipv4Prefix) -> bool,
) -> Vec<RangeInclusive<Ipv4Addr>> {
    let prefixes = settings.ipv4_prefixes();
    let wanted = prefixes.iter().filter(|prefix| wanted(prefix));
    wanted
        .map(|prefix| prefix.address()..=prefix.last())
        .collect()
}
