//! Collects the host's state.

use std::cmp::Reverse;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use xlat_core::addr::{Ipv4Prefix, Ipv6Prefix, Pref64};
use xlat_host::host::{Error, Host, Link, Way, device_key};
use xlat_proto::clat::address::Candidate;
use xlat_proto::clat::address::free_delegated;
use xlat_proto::clat::{
    DefaultRoute, Lack, Lead, MissingUplink, OtherClat, Uplink, View, choose_uplink, default_router,
};
use xlat_proto::discovery::rfc7050::WELL_KNOWN;
use xlat_proto::ra::Preference;

/// What the configuration fixes and the network tells, for [`look`].
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Name of the uplink.
    pub uplink: Option<String>,
    /// NAT64 prefix that was given.
    pub prefix: Option<Pref64>,
    /// NAT64 prefix that was discovered, and the routers that announce it, the one to use first.
    pub discovered: Option<(Pref64, Vec<Ipv6Addr>)>,
    /// Interface index of the uplink so far, which stays among equals.
    pub current: Option<u32>,
    /// MTU towards the IPv6-only network, in bytes.
    pub mtu: Option<u16>,
    /// Name of the TUN, which is never the uplink.
    pub tun: String,
    /// Networks in which an interface of this host must have an address.
    pub lan: Vec<Ipv4Prefix>,
}

/// Collects the host's state. Also returns the link of the uplink.
///
/// # Errors
/// If the kernel refuses a request.
pub async fn look(host: &Host, wanted: &Wanted) -> Result<(View, Option<Link>), Error> {
    let ipv4 = host.ipv4_defaults().await?;
    let links = host.links().await?;
    let routes = default_routes(host, wanted, &links).await?;
    let link = find_uplink(host, wanted, &links, &routes).await?;
    let uplink = match &link {
        Some(link) => {
            let route = find_route(host, wanted, link, &links, &routes).await?;
            Some(describe(host, wanted, link, route).await?)
        }
        None => None,
    };
    let view = View {
        uplink,
        native_ipv4: ipv4.native,
        other_clat: ipv4.over_ipv6.map(|other| OtherClat {
            dev: other.dev,
            address: other.address,
        }),
        missing_uplink: match (&link, &wanted.uplink) {
            (None, Some(name)) => Some(missing(&links, name)),
            _ => None,
        },
        missing_lan: missing_lan(host, &wanted.lan).await?,
        delegated: free_delegated(&host.delegated().await?, &networks_in_use(host).await?),
        local: local(host, wanted, &links).await?,
        routers: routers(&routes, link.as_ref()),
    };
    Ok((view, link))
}

/// The default routers of the uplink, the one that is used first.
fn routers(routes: &[DefaultRoute], link: Option<&Link>) -> Vec<Ipv6Addr> {
    let here = |route: &&DefaultRoute| link.is_some_and(|link| link.index == route.link);
    let mut routes: Vec<_> = routes.iter().filter(here).collect();
    routes.sort_by_key(|route| (route.metric, Reverse(route.preference)));
    let mut routers = Vec::new();
    for router in routes.into_iter().filter_map(|route| route.router) {
        if !routers.contains(&router) {
            routers.push(router);
        }
    }
    routers
}

/// What the interface lacks to be the uplink.
fn missing(links: &[Link], name: &str) -> MissingUplink {
    let lack = match links.iter().find(|link| link.is_called(name)) {
        None => Lack::Interface,
        Some(link) if !link.up => Lack::Up,
        Some(_) => Lack::Carrier,
    };
    let name = name.into();
    MissingUplink { name, lack }
}

/// The networks on this host's links, and its addresses, but for those of the TUN.
async fn local(host: &Host, wanted: &Wanted, links: &[Link]) -> Result<Vec<Ipv6Prefix>, Error> {
    let tun = links.iter().find(|link| link.name == wanted.tun);
    let tun = tun.map(|link| link.index);
    let addresses = host.addresses().await?;
    let others = addresses.iter().filter(|have| Some(have.index) != tun);
    Ok(others
        .filter_map(|have| match have.address {
            IpAddr::V6(address) if !address.is_unicast_link_local() => {
                Some(Ipv6Prefix::containing(address, have.len))
            }
            _ => None,
        })
        .collect())
}

async fn missing_lan(host: &Host, lans: &[Ipv4Prefix]) -> Result<Option<Ipv4Prefix>, Error> {
    for lan in lans {
        if host.address_in_v4(*lan).await?.is_none() {
            return Ok(Some(*lan));
        }
    }
    Ok(None)
}

async fn networks_in_use(host: &Host) -> Result<Vec<Ipv6Prefix>, Error> {
    let mut used = host.networks_v6().await?;
    let addresses = host.addresses().await?;
    used.extend(addresses.iter().filter_map(|have| match have.address {
        IpAddr::V6(address) => Some(Ipv6Prefix::containing(address, 128)),
        IpAddr::V4(_) => None,
    }));
    Ok(used)
}

/// The IPv6 default routes through links that may be the uplink.
async fn default_routes(
    host: &Host,
    wanted: &Wanted,
    links: &[Link],
) -> Result<Vec<DefaultRoute>, Error> {
    let routes = host.ipv6_default_routes().await?;
    let usable = routes.into_iter().filter_map(|route| {
        let link = links.iter().find(|link| link.index == route.link)?;
        is_usable(wanted, link).then_some(DefaultRoute {
            link: route.link,
            router: route.router,
            metric: route.metric,
            preference: match route.preference {
                1.. => Preference::High,
                0 => Preference::Medium,
                ..0 => Preference::Low,
            },
            is_main: route.is_main,
            is_tunnel: link.tunnel,
        })
    });
    Ok(usable.collect())
}

/// True for a link with a carrier that is neither the TUN nor, unless it was given, the loopback.
fn is_usable(wanted: &Wanted, link: &Link) -> bool {
    let may_be = !link.loopback || wanted.uplink.is_some();
    link.running && may_be && link.name != wanted.tun
}

/// The given interface, or else that of the IPv6 default route; that of the route to the NAT64
/// prefix where the prefix was given or there is no default route. It must have a carrier.
async fn find_uplink(
    host: &Host,
    wanted: &Wanted,
    links: &[Link],
    routes: &[DefaultRoute],
) -> Result<Option<Link>, Error> {
    let mut usable = links.iter().filter(|link| is_usable(wanted, link));
    if let Some(name) = &wanted.uplink {
        return Ok(usable.find(|link| link.is_called(name)).cloned());
    }
    let by_default = choose_uplink(routes, wanted.current);
    let far = wanted.prefix.map_or(WELL_KNOWN_SAMPLE, sample);
    let specific = way(host.way(far.into()).await)?;
    let specific = specific.and_then(|way| usable.find(|link| link.index == way.index));
    let is_told = wanted.prefix.is_some() && specific.is_some_and(|link| !link.tunnel);
    if let Some(by_default) = by_default.filter(|_| !is_told) {
        return Ok(links.iter().find(|link| link.index == by_default).cloned());
    }
    Ok(specific.cloned())
}

/// An address that a route to the well-known NAT64 prefix or a default route covers.
const WELL_KNOWN_SAMPLE: Ipv6Addr = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0xc000, 0xaa);

/// An address behind the NAT64, to look up the route.
fn sample(prefix: Pref64) -> Ipv6Addr {
    prefix.embed(WELL_KNOWN[0])
}

/// The route; `None` if there is none.
fn way(found: Result<Way, Error>) -> Result<Option<Way>, Error> {
    match found {
        Ok(way) => Ok(Some(way)),
        Err(Error::NoRoute(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The route to the NAT64 prefix.
#[derive(Default)]
struct FoundRoute {
    lead: Lead,
    elsewhere: Option<String>,
    /// Its MTU in bytes, if it has one.
    mtu: Option<u32>,
}

/// How packets to the NAT64 leave by `link`.
async fn find_route(
    host: &Host,
    wanted: &Wanted,
    link: &Link,
    links: &[Link],
    routes: &[DefaultRoute],
) -> Result<FoundRoute, Error> {
    let discovered = wanted.discovered.as_ref();
    let Some(prefix) = wanted.prefix.or(discovered.map(|(prefix, _)| *prefix)) else {
        return Ok(FoundRoute::default());
    };
    let routers = discovered.map_or(&[][..], |(_, routers)| routers);
    let far = sample(prefix).into();
    let hosts = way(host.way(far).await)?;
    let is_of = |way: &Way| match way.gateway {
        // Any router will do where no router is known to announce the prefix.
        _ if routers.is_empty() => true,
        Some(IpAddr::V6(router)) => routers.contains(&router),
        _ => false,
    };
    if let Some(way) = hosts.filter(|way| way.index == link.index && is_of(way)) {
        return Ok(FoundRoute {
            mtu: way.mtu,
            ..FoundRoute::default()
        });
    }
    let here = way(host.way_by(far, link.index).await)?;
    let router = match (routers.first(), here) {
        (Some(router), _) => Some(*router),
        (None, Some(way)) => match way.gateway {
            Some(IpAddr::V6(router)) => Some(router),
            _ => None,
        },
        (None, None) => default_router(routes, link.index),
    };
    let name = |way: Way| links.iter().find(|one| one.index == way.index);
    let elsewhere = hosts.and_then(name).filter(|one| one.index != link.index);
    Ok(FoundRoute {
        lead: match (router, here) {
            (None, None) => Lead::Nowhere,
            (router, _) => Lead::Own(router),
        },
        elsewhere: elsewhere.map(|link| link.name.clone()),
        mtu: here.and_then(|way| way.mtu),
    })
}

async fn describe(
    host: &Host,
    wanted: &Wanted,
    link: &Link,
    route: FoundRoute,
) -> Result<Uplink, Error> {
    let addresses = host.addresses().await?;
    let addresses = addresses
        .iter()
        .filter(|have| have.index == link.index && !have.duplicate);
    let addresses = addresses.filter_map(|have| match have.address {
        IpAddr::V6(address) => Some(Candidate {
            address,
            len: have.len,
            deprecated: have.deprecated,
            temporary: have.temporary,
            tentative: have.tentative,
        }),
        IpAddr::V4(_) => None,
    });
    Ok(Uplink {
        index: link.index,
        name: link.name.clone(),
        mtu: wanted
            .mtu
            .unwrap_or_else(|| ipv6_mtu(host, link, route.mtu)),
        addresses: addresses.collect(),
        lead: route.lead,
        elsewhere: route.elsewhere,
    })
}

/// The IPv6 MTU in bytes: the least of those of the link, the router and the route.
fn ipv6_mtu(host: &Host, link: &Link, of_route: Option<u32>) -> u16 {
    let advertised = host.sysctl(&device_key("ipv6", &link.name, "mtu"));
    let advertised = advertised.and_then(|text| text.parse::<u32>().ok());
    let mtus = [advertised, of_route, Some(link.mtu)];
    let least = mtus.into_iter().flatten().filter(|mtu| *mtu > 0).min();
    least.unwrap_or(0).clamp(1280, 65535) as u16
}

/// The IPv4 addresses of this host, except those on `tun`.
///
/// # Errors
/// If the kernel refuses a request.
pub async fn ipv4_addresses(host: &Host, tun: &str) -> Result<Vec<Ipv4Addr>, Error> {
    let own = host
        .links()
        .await?
        .into_iter()
        .find(|link| link.name == tun);
    let own = own.map(|link| link.index);
    let addresses = host.addresses().await?;
    let others = addresses.iter().filter(|have| Some(have.index) != own);
    Ok(others
        .filter_map(|have| match have.address {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        })
        .collect())
}
