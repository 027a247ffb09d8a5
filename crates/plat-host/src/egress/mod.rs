//! How translated packets leave towards IPv4, and how answers find back.
//!
//! The pool is routed to this host, which is all the translator needs; or it lies in the subnet of
//! an interface, whose neighbours then ask for its addresses and are answered; or it is private and
//! hides behind the address of the interface by which packets leave. With no pool given at all the
//! last one is chosen ([`HostFacts`]).

mod host_facts;
mod mode;
mod names;
mod own_address;
mod pool;

use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;

use nat64_host::PoolNeighbours;
use router_advertiser::{Reach, Seen};
use tracing::{info, warn};
use xlat_core::addr::{Ipv4Prefix, special};
use xlat_host::daemon::exit::Usage;
use xlat_host::host::{Error, Host, Ipv4Route, Link, Plan};
use xlat_host::nft::{Interface, Table};

pub use host_facts::{FactsError, HostFacts, OwnFacts, POOLS};
pub use mode::Egress;
pub use names::EgressNames;
pub use own_address::{
    Ephemeral, Forward, InterfacePool, Outer, OwnAddress, PORTS as OWN_PORTS, without,
};

use crate::HostConfig;
pub use pool::Pool;

use host_facts::{SOMEWHERE, default_interface};

/// What masquerading means for clients that share a pool.
pub const OF_THE_KERNEL: &str = "egress masquerade: filtering and external ports are those of the \
                                 kernel's NAT; IPv4 hosts reach no client that has not sent to them, \
                                 and the session log has addresses that they do not see";

/// Most addresses that are answered for one by one.
const PROXIES_MAX: usize = 4096;

/// What the egress adds to the plan.
///
/// # Errors
/// There are more addresses than can be answered for one by one.
pub fn plan(config: &HostConfig, plan: &mut Plan) -> Result<(), Usage> {
    if let Egress::Own(own) = &config.egress {
        own.check()?;
        own.plan(plan);
    }
    let Egress::ProxyArp(interface) = &config.egress else {
        return Ok(());
    };
    let addresses = addresses(config);
    if addresses.len() > PROXIES_MAX {
        let line = format!(
            "--egress proxy-arp answers for {PROXIES_MAX} addresses at most; have larger pools \
             routed to this host"
        );
        return Err(Usage(line));
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
fn addresses(config: &HostConfig) -> Vec<Ipv4Addr> {
    let each = config.ipv4.iter();
    let each = each.flat_map(|prefix| prefix.address().to_bits()..=prefix.last().to_bits());
    let mut addresses: Vec<Ipv4Addr> = each
        .map(Ipv4Addr::from_bits)
        .take(PROXIES_MAX + 1)
        .collect();
    addresses.sort_unstable();
    addresses
}

/// Tells the neighbours on the link of the pool, if it lies in a link's subnet, where it is.
pub async fn announce(host: &Host, config: &HostConfig, neighbours: &mut PoolNeighbours) {
    let Egress::ProxyArp(name) = &config.egress else {
        return;
    };
    let link = host.link(name).await.ok();
    neighbours.follow(link.as_ref(), addresses(config));
}

/// The table that hides the addresses where they are to be hidden. It needs no change when the
/// default route moves: which interface a packet leaves by is looked at when it does.
pub fn table(config: &HostConfig) -> Option<Table> {
    let tun = &config.tun;
    let names = match &config.egress {
        Egress::Masquerade(names) => names,
        Egress::Own(own) => {
            return Some(own.table(&config.table_name(), tun, config.outer.as_ref()));
        }
        Egress::Route(_) | Egress::ProxyArp(_) => return None,
    };
    let outs: Vec<Interface> = match names.as_slice() {
        [] => vec![Interface::AnyBut(tun.clone())],
        names => names.iter().cloned().map(Interface::Only).collect(),
    };
    let table = Table::masquerade(&config.table_name(), &sources(config, |_| true), &outs);
    let private = sources(config, |prefix| !special::is_global_v4(prefix.address()));
    Some(table.hide(&private, &outs, tun))
}

/// Where clients are seen that share an address of this host, if they do and it has one.
///
/// # Errors
/// The host cannot be read.
pub async fn outer(host: &Host, config: &HostConfig) -> Result<Option<Outer>, Error> {
    match &config.egress {
        Egress::Own(own) => own.find(host, &config.tun).await,
        Egress::Route(_) | Egress::ProxyArp(_) | Egress::Masquerade(_) => Ok(None),
    }
}

/// Says in the log what hides the addresses, where something does.
pub fn say_hidden(config: &HostConfig) {
    if let Egress::Own(own) = &config.egress {
        own.say(config.outer.as_ref());
    }
    if let Egress::Masquerade(names) = &config.egress {
        let table = config.table_name();
        let by = match names.as_slice() {
            [] => "the interface that they leave by".to_owned(),
            names => format!("{} and leave by no other interface", names.join(", ")),
        };
        info!("IPv4 packets are masqueraded behind the address of {by} (nftables table {table})");
    }
}

/// What this host reaches. What hides behind an interface or is asked for on its link needs the IPv4
/// default route there. Where the pool is routed any IPv4 route will do that leads elsewhere than to
/// the clients, there may be no default route at all; unless the administrator has named a prefix
/// that it has to cover.
///
/// # Errors
/// The host cannot be read.
pub async fn look(host: &Host, config: &HostConfig) -> Result<Seen, Error> {
    let links = host.links().await?;
    let routes = host.ipv4_routes().await?;
    let is_elsewhere = |link: &Link| {
        !link.loopback && link.name != config.tun && !config.lans.contains(&link.name)
    };
    let leads_by = |is_it: &dyn Fn(&Link, &Ipv4Route) -> bool| {
        routes.iter().find_map(|route| {
            let by = |link: &&Link| route.links.contains(&link.index) && link.running;
            links.iter().filter(by).find(|link| is_it(link, route))
        })
    };
    let (by, wanted) = match &config.egress {
        Egress::Masquerade(_) | Egress::Own(_) if config.egress.interfaces().is_empty() => (
            leads_by(&|link, route| route.leads_on() && link.name != config.tun),
            "IPv4 default route".into(),
        ),
        Egress::Masquerade(_) | Egress::Own(_) | Egress::ProxyArp(_) => {
            let names = config.egress.interfaces();
            let is_one =
                |link: &Link, route: &Ipv4Route| route.leads_on() && names.contains(&link.name);
            (
                leads_by(&is_one),
                format!("IPv4 default route by {}", names.join(" or ")),
            )
        }
        Egress::Route(None) => (
            leads_by(&|link, _| is_elsewhere(link)),
            "IPv4 route that leads elsewhere than to the LANs".into(),
        ),
        Egress::Route(Some(prefix)) => (
            leads_by(&|link, route| is_elsewhere(link) && route.covers(prefix)),
            format!("IPv4 route to {prefix}"),
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
pub async fn warn_of_reverse_paths(host: &Host, config: &HostConfig) {
    let default = default_interface(host).await.unwrap_or_default();
    for name in config.egress.interfaces() {
        if host.has_strict_filter(name) && default.as_ref() != Some(name) {
            warn!(
                "replies that arrive on {name} will be dropped: the IPv4 default route uses another \
                 interface, and the reverse path filter is strict; sysctl \
                 net.ipv4.conf.{name}.rp_filter=2 makes it loose"
            );
        }
    }
}

/// The addresses that the translator speaks for, as far as they are `wanted`.
fn sources(
    config: &HostConfig,
    wanted: impl Fn(&Ipv4Prefix) -> bool,
) -> Vec<RangeInclusive<Ipv4Addr>> {
    let wanted = config.ipv4.iter().filter(|prefix| wanted(prefix));
    wanted
        .map(|prefix| prefix.address()..=prefix.last())
        .collect()
}
