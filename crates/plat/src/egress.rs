//! How translated packets leave towards IPv4, and how answers find back.
//!
//! The pool is routed to this host, which is all the translator needs; or it lies in the subnet of
//! an interface, whose neighbours then ask for its addresses and are answered; or it is private and
//! hides behind the interface's own address. With no pool given at all the last one is chosen.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;
use std::str::FromStr;

use anyhow::{Context, Result};
use tracing::{info, warn};
use xlat_core::addr::{Ipv4Prefix, Pref64};
use xlat_host::daemon::exit::Usage;
use xlat_host::daemon::flags::interface_name;
use xlat_host::host::{Error, Host, Ipv4Route, Link, Plan};
use xlat_host::nft::Table;

use crate::cli::Run;
use crate::settings::Settings;

/// Somewhere on the Internet: what leads there is the egress.
const SOMEWHERE: Ipv4Addr = Ipv4Addr::new(198, 41, 0, 4);

/// Most addresses that are answered for one by one.
const PROXIES_MAX: usize = 4096;

/// Private pools for a `plat` without flags, the first that this host does not use.
pub(crate) const POOLS: [&str; 3] = ["192.168.64.0/28", "172.31.64.0/28", "10.64.64.0/28"];

/// How packets leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Egress {
    /// The pool is routed to this host.
    Route,
    /// The pool lies in the subnet of this interface.
    ProxyArp(String),
    /// The pool hides behind the address of this interface.
    Masquerade(String),
}

impl FromStr for Egress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let interface = |name: &str| interface_name(name);
        match text.split_once(':') {
            None if text == "route" => Ok(Self::Route),
            Some(("proxy-arp", name)) => interface(name).map(Self::ProxyArp),
            Some(("masquerade", name)) => interface(name).map(Self::Masquerade),
            _ => Err("not `route`, `proxy-arp:IFACE` or `masquerade:IFACE`".into()),
        }
    }
}

impl fmt::Display for Egress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Route => f.write_str("route"),
            Self::ProxyArp(name) => write!(f, "proxy-arp:{name}"),
            Self::Masquerade(name) => write!(f, "masquerade:{name}"),
        }
    }
}

/// Chooses what nobody has said: with neither pools nor maps all clients share a private pool that
/// hides behind the interface of the IPv4 default route, and reach IPv4 under the well-known
/// prefix.
pub(crate) async fn fill_in(mut run: Run) -> Result<Run> {
    if !is_to_choose(&run)? {
        return Ok(run);
    }
    let host = Host::connect()?;
    if !run.flags.dry_run {
        // What a killed run left is not in the way.
        host.recover(&run.place.run_dir, &run.place.tun).await?;
    }
    if run.egress.is_none() {
        run.egress = Some(Egress::Masquerade(default_interface(&host).await?));
    }
    let pool = free_pool(&host).await?;
    choose(&mut run, pool)?;
    if let Some(egress) = &run.egress {
        info!("no pool was given: all clients share {pool}, --egress {egress}");
    }
    Ok(run)
}

/// True if nobody has said whom to translate for.
pub(crate) fn is_to_choose(run: &Run) -> Result<bool, Usage> {
    if !run.map.is_empty() || run.dynamic_pool.is_some() || !run.stateful.pool.is_empty() {
        return Ok(false);
    }
    if !run.stateful.bind.is_empty() {
        return Err(Usage("--bind needs --pool".into()));
    }
    Ok(true)
}

/// Puts a pool in, and the well-known prefix unless there is another one.
pub(crate) fn choose(run: &mut Run, pool: &str) -> Result<()> {
    let pool = pool.parse().context("a pool of ours")?;
    run.stateful.pool.push(pool);
    if run.prefix.is_empty() {
        let prefix = WELL_KNOWN.parse::<Pref64>();
        run.prefix.push(prefix.context("the well-known prefix")?);
    }
    Ok(())
}

const WELL_KNOWN: &str = "64:ff9b::/96";

/// The interface of the IPv4 default route.
async fn default_interface(host: &Host) -> Result<String> {
    let way = match host.way(SOMEWHERE.into()).await {
        Ok(way) => way,
        Err(Error::NoRoute(_)) => {
            let line = "nobody to translate for: give --pool SPEC (IPv4 addresses that all IPv6 \
                        sources share), --dynamic-pool CIDR (one for each) or --map V4=V6; \
                        without any of them this host needs an IPv4 default route to hide them \
                        behind";
            return Err(Usage(line.into()).into());
        }
        Err(error) => return Err(error.into()),
    };
    let links = host.links().await?;
    let link = links.into_iter().find(|link| link.index == way.index);
    Ok(link
        .context("the interface of the default route has gone")?
        .name)
}

async fn free_pool(host: &Host) -> Result<&'static str> {
    for pool in POOLS {
        let prefix: Ipv4Prefix = pool.parse().context("a pool of ours")?;
        let is_taken = host.address_in_v4(prefix).await?.is_some();
        // A route of its own leads there: somebody uses it.
        let way = host.way(prefix.last().into()).await;
        let default = host.way(SOMEWHERE.into()).await;
        let is_routed = match (way, default) {
            (Ok(way), Ok(default)) => (way.index, way.gateway) != (default.index, default.gateway),
            (Ok(_), Err(_)) => true,
            (Err(_), _) => false,
        };
        if !is_taken && !is_routed {
            return Ok(pool);
        }
    }
    Err(Usage("this host uses all private pools that were tried; give --pool".into()).into())
}

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
        info!("IPv4 packets leave with the address of {interface} (nftables table {name})");
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
            "answers that come in on {name} will be dropped: the IPv4 default route leads somewhere \
             else, and the reverse path filter is strict; sysctl net.ipv4.conf.{name}.rp_filter=2 \
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_ways_read_as_they_are_written() {
        for text in ["route", "proxy-arp:eth0", "masquerade:wan0.7"] {
            assert_eq!(text.parse::<Egress>().unwrap().to_string(), text);
        }
        for wrong in [
            "",
            "masquerade",
            "masquerade:",
            "proxy:eth0",
            "masquerade:a/b",
        ] {
            assert!(wrong.parse::<Egress>().is_err(), "{wrong}");
        }
    }
}
