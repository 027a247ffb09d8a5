//! Collects the host's state.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use xlat_core::addr::{Ipv4Prefix, Ipv6Prefix, Pref64};
use xlat_host::host::{Error, Host, Link, device_key};
use xlat_proto::clat::address::Candidate;
use xlat_proto::clat::address::free_delegated;
use xlat_proto::clat::{Lack, Lead, MissingUplink, OtherClat, Uplink, View};
use xlat_proto::discovery::rfc7050::WELL_KNOWN;

/// What the configuration fixes, for [`look`].
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Name of the uplink.
    pub uplink: Option<String>,
    /// NAT64 prefix, given or discovered.
    pub prefix: Option<Pref64>,
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
    let link = find_uplink(host, wanted).await?;
    let uplink = match &link {
        Some(link) => Some(describe(host, wanted, link).await?),
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
            (None, Some(name)) => Some(missing(&host.links().await?, name)),
            _ => None,
        },
        missing_lan: missing_lan(host, &wanted.lan).await?,
        delegated: free_delegated(&host.delegated().await?, &networks_in_use(host).await?),
    };
    Ok((view, link))
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

/// The given interface, or else that of the route to the NAT64 prefix or, without a prefix, that of
/// the IPv6 default route. It must have a carrier.
async fn find_uplink(host: &Host, wanted: &Wanted) -> Result<Option<Link>, Error> {
    let links = host.links().await?;
    let usable = |link: &Link| link.running && link.name != wanted.tun;
    if let Some(name) = &wanted.uplink {
        return Ok(links
            .into_iter()
            .find(|link| link.is_called(name) && usable(link)));
    }
    match host.way(far(wanted).into()).await {
        Ok(way) => Ok(links
            .into_iter()
            .find(|link| link.index == way.index && !link.loopback && usable(link))),
        Err(Error::NoRoute(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// An address that only a default route covers, to find the uplink without a prefix.
const WELL_KNOWN_SAMPLE: Ipv6Addr = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0xc000, 0xaa);

/// An address behind the NAT64, to look up the route.
fn far(wanted: &Wanted) -> Ipv6Addr {
    let sample = |prefix: Pref64| prefix.embed(WELL_KNOWN[0]);
    wanted.prefix.map_or(WELL_KNOWN_SAMPLE, sample)
}

/// How packets to the NAT64 leave by `link`, and the MTU of the route if it has one.
async fn lead(host: &Host, wanted: &Wanted, link: &Link) -> Result<(Lead, Option<u32>), Error> {
    let far = far(wanted).into();
    match host.way(far).await {
        Ok(way) if way.index == link.index => return Ok((Lead::Ordinary, way.mtu)),
        Ok(_) | Err(Error::NoRoute(_)) => {}
        Err(error) => return Err(error),
    }
    match host.way_by(far, link.index).await {
        Ok(way) => {
            let router = match way.gateway {
                Some(IpAddr::V6(router)) => Some(router),
                _ => None,
            };
            Ok((Lead::Own(router), way.mtu))
        }
        Err(Error::NoRoute(_)) => Ok((Lead::Nowhere, None)),
        Err(error) => Err(error),
    }
}

async fn describe(host: &Host, wanted: &Wanted, link: &Link) -> Result<Uplink, Error> {
    let (lead, route_mtu) = lead(host, wanted, link).await?;
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
            .unwrap_or_else(|| ipv6_mtu(host, link, route_mtu)),
        addresses: addresses.collect(),
        lead,
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
