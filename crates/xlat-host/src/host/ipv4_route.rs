//! Usable IPv4 routes of this host, and what its default routes lead to.

use std::net::{IpAddr, Ipv4Addr};

use netlink_packet_route::route::{RouteAttribute, RouteMessage};
use xlat_core::addr::Ipv4Prefix;

use super::netlink::{Assigned, Link, interfaces, ip, is_default, leads_somewhere};

/// The addresses of translators and tunnels on a host (RFC 7335, RFC 6333).
const SERVICE_CONTINUITY: Ipv4Prefix = Ipv4Prefix::containing(Ipv4Addr::new(192, 0, 0, 0), 29);

/// A unicast route whose link is up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ipv4Route {
    /// Where it leads.
    pub to: Ipv4Prefix,
    /// True for the default route.
    pub is_default: bool,
    /// Numbers of the outgoing interfaces: several for a multipath route.
    pub links: Vec<u32>,
    /// Preference; lower is better.
    pub metric: u32,
    /// It leads to a router.
    pub has_gateway: bool,
    /// Source address for packets of this host.
    pub src: Option<Ipv4Addr>,
}

impl Ipv4Route {
    /// `None` if the route is not in the main table or cannot forward packets.
    pub(super) fn new(route: &RouteMessage) -> Option<Self> {
        let len = route.header.destination_prefix_length;
        let mut new = Self {
            to: Ipv4Prefix::containing(Ipv4Addr::UNSPECIFIED, len),
            is_default: is_default(route),
            links: interfaces(route),
            metric: 0,
            has_gateway: has_gateway(&route.attributes),
            src: None,
        };
        for attribute in &route.attributes {
            match attribute {
                RouteAttribute::Priority(metric) => new.metric = *metric,
                RouteAttribute::Destination(address) => {
                    if let Some(IpAddr::V4(v4)) = ip(address) {
                        new.to = Ipv4Prefix::containing(v4, len);
                    }
                }
                RouteAttribute::PrefSource(address) => {
                    new.src = match ip(address) {
                        Some(IpAddr::V4(v4)) => Some(v4),
                        _ => None,
                    };
                }
                _ => {}
            }
        }
        leads_somewhere(route).then_some(new)
    }

    /// True if it leads to all addresses of `prefix`.
    pub fn covers(&self, prefix: &Ipv4Prefix) -> bool {
        self.to.len() <= prefix.len() && self.to.contains(prefix.address())
    }

    /// True if it is a default route that leads further than the link. One without a router and
    /// with a source address that no router forwards does not (RFC 3927 section 2.7).
    pub fn leads_on(&self) -> bool {
        let is_local = self.src.is_some_and(|src| src.is_link_local());
        self.is_default && (self.has_gateway || !is_local)
    }
}

fn has_gateway(attributes: &[RouteAttribute]) -> bool {
    attributes.iter().any(|attribute| match attribute {
        RouteAttribute::Gateway(_) | RouteAttribute::Via(_) => true,
        RouteAttribute::MultiPath(hops) => hops.iter().any(|hop| has_gateway(&hop.attributes)),
        _ => false,
    })
}

/// What the IPv4 default routes of other programs lead to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ipv4Defaults {
    /// The Internet, as far as routes tell.
    pub native: bool,
    /// Another CLAT or a tunnel over IPv6: it has one of the addresses for these.
    pub over_ipv6: Option<Ipv4OverIpv6>,
    /// The link and no further: IPv4 link-local addressing (RFC 3927). The preferred one.
    pub link_local: Option<LinkLocalDefault>,
}

/// Another program that brings IPv4 over IPv6.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ipv4OverIpv6 {
    /// Name of the interface of its default route.
    pub dev: String,
    /// This host's address there.
    pub address: Ipv4Addr,
}

/// A default route without a router, from an address that no router forwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkLocalDefault {
    /// Name of its interface.
    pub dev: String,
    /// Its preference; lower is better.
    pub metric: u32,
}

impl Ipv4Defaults {
    /// Judges the default routes of other programs. `ours` are the interfaces that daemons of this
    /// suite route IPv4 to: what leads there is no other way. A tunnel does not count either: it
    /// needs IPv4 itself, and may get it from this daemon.
    pub(super) fn new(
        routes: &[Ipv4Route],
        links: &[Link],
        addresses: &[Assigned],
        ours: &[u32],
    ) -> Self {
        let mut all = Self::default();
        for route in routes.iter().filter(|route| route.is_default) {
            let others = |link: &&Link| route.links.contains(&link.index);
            let links: Vec<&Link> = links.iter().filter(others).collect();
            let links: Vec<&&Link> = links
                .iter()
                .filter(|one| !ours.contains(&one.index))
                .collect();
            let Some(first) = links.first() else { continue };
            let sources = sources(route, addresses, ours);
            if let Some(address) = sources
                .iter()
                .find(|one| SERVICE_CONTINUITY.contains(**one))
            {
                all.over_ipv6.get_or_insert(Ipv4OverIpv6 {
                    dev: first.name.clone(),
                    address: *address,
                });
                continue;
            }
            if links.iter().all(|link| link.tunnel) {
                continue;
            }
            if route.has_gateway || sources.iter().any(|one| !one.is_link_local()) {
                all.native = true;
            } else {
                let other = LinkLocalDefault {
                    dev: first.name.clone(),
                    metric: route.metric,
                };
                let preferred = all.link_local.take();
                all.link_local = preferred
                    .into_iter()
                    .chain([other])
                    .min_by_key(|one| one.metric);
            }
        }
        all
    }
}

/// The addresses that packets of this host may have that take `route`: the route's, else those of
/// its interfaces, else those of other interfaces.
fn sources(route: &Ipv4Route, addresses: &[Assigned], ours: &[u32]) -> Vec<Ipv4Addr> {
    let usable = |have: &&Assigned| !ours.contains(&have.index);
    let v4 = |have: &Assigned| match have.address {
        IpAddr::V4(v4) if !v4.is_loopback() => Some((have.index, v4)),
        _ => None,
    };
    let all: Vec<(u32, Ipv4Addr)> = addresses.iter().filter(usable).filter_map(v4).collect();
    let there = all.iter().filter(|(index, _)| route.links.contains(index));
    let there: Vec<Ipv4Addr> = there.map(|(_, v4)| *v4).collect();
    match (route.src, there.is_empty()) {
        (Some(src), _) => vec![src],
        (None, false) => there,
        (None, true) => all.iter().map(|(_, v4)| *v4).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ETH: u32 = 2;
    const TUN: u32 = 3;
    const OURS: u32 = 9;

    fn link(index: u32, name: &str, tunnel: bool) -> Link {
        Link {
            index,
            name: name.into(),
            mtu: 1500,
            up: true,
            running: true,
            loopback: false,
            mac: None,
            carrier_changes: 0,
            tunnel,
            link_local: true,
            group: 0,
            other_names: Vec::new(),
        }
    }

    fn route(link: u32, gateway: bool, metric: u32) -> Ipv4Route {
        Ipv4Route {
            to: Ipv4Prefix::containing(Ipv4Addr::UNSPECIFIED, 0),
            is_default: true,
            links: vec![link],
            metric,
            has_gateway: gateway,
            src: None,
        }
    }

    fn have(index: u32, address: &str) -> Assigned {
        Assigned {
            index,
            address: address.parse().unwrap(),
            len: 16,
            tentative: false,
            duplicate: false,
            deprecated: false,
            temporary: false,
            valid: u32::MAX,
            preferred: u32::MAX,
        }
    }

    fn judge(routes: &[Ipv4Route], addresses: &[Assigned]) -> Ipv4Defaults {
        let links = [
            link(ETH, "eth0", false),
            link(TUN, "clat4", true),
            link(OURS, "clat", true),
        ];
        Ipv4Defaults::new(routes, &links, addresses, &[OURS])
    }

    #[test]
    fn sc_03_a_route_has_to_cover_the_prefix_that_is_named() {
        let to = |prefix: &str| Ipv4Route {
            to: prefix.parse().unwrap(),
            ..route(ETH, true, 0)
        };
        let covers = |to_this: &str, that: &str| to(to_this).covers(&that.parse().unwrap());
        assert!(covers("0.0.0.0/0", "0.0.0.0/0") && covers("0.0.0.0/0", "198.41.0.0/24"));
        assert!(covers("198.41.0.0/16", "198.41.0.0/24"));
        assert!(!covers("203.0.113.0/30", "0.0.0.0/0"));
        assert!(!covers("198.41.0.0/25", "198.41.0.0/24"));
        assert!(!covers("198.40.0.0/16", "198.41.0.0/24"));
    }

    #[test]
    fn fc_07_connectivity_takes_a_router_or_an_address_beyond_the_link() {
        let local = have(ETH, "169.254.7.7");
        for (gateway, addresses, native) in [
            (true, vec![have(ETH, "192.0.2.7")], true),
            // A cloud's router has a link-local address; so may the host, as far as routes tell.
            (true, vec![local], true),
            (false, vec![have(ETH, "10.64.0.7")], true),
            (false, vec![local, have(ETH, "10.64.0.7")], true),
            // A point-to-point link may have no address of its own.
            (false, vec![have(1, "203.0.113.1")], true),
            (false, vec![local, have(1, "203.0.113.1")], false),
            (false, vec![local, have(OURS, "192.0.0.1")], false),
            (false, vec![have(1, "127.0.0.1")], false),
        ] {
            let judged = judge(&[route(ETH, gateway, 1002)], &addresses);
            assert_eq!(judged.native, native, "{gateway} {addresses:?}");
            assert_eq!(judged.link_local.is_some(), !native, "{judged:?}");
        }
    }

    #[test]
    fn fc_07_the_preferred_link_local_default_counts() {
        let addresses = [have(ETH, "169.254.7.7")];
        let routes = [3000, 1002, 2000].map(|metric| route(ETH, false, metric));
        let preferred = judge(&routes, &addresses).link_local.unwrap();
        assert_eq!((&*preferred.dev, preferred.metric), ("eth0", 1002));
    }

    #[test]
    fn fc_13_an_address_for_translators_tells_another_clat_from_native_ipv4() {
        // NetworkManager's is on the uplink itself, others have a TUN.
        for (index, gateway, address) in [
            (ETH, true, "192.0.0.5"),
            (ETH, false, "192.0.0.6"),
            (TUN, false, "192.0.0.1"),
        ] {
            let judged = judge(&[route(index, gateway, 100)], &[have(index, address)]);
            let other = judged.over_ipv6.clone().unwrap();
            assert_eq!(other.address.to_string(), address);
            assert!(!judged.native && judged.link_local.is_none(), "{judged:?}");
        }
        let plain = judge(&[route(ETH, true, 100)], &[have(ETH, "192.0.0.9")]);
        assert!(plain.native && plain.over_ipv6.is_none());
        // A VPN needs IPv4 itself, and what an administrator routes to our TUN is ours.
        let vpn = judge(&[route(TUN, false, 100)], &[have(TUN, "10.8.0.2")]);
        assert_eq!(vpn, Ipv4Defaults::default());
        let ours = judge(&[route(OURS, false, 0)], &[have(OURS, "192.0.0.1")]);
        assert_eq!(ours, Ipv4Defaults::default());
    }
}
