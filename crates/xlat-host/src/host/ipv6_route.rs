//! Usable IPv6 default routes of this host.

use std::net::{IpAddr, Ipv6Addr};

use netlink_packet_route::route::{RouteAttribute, RouteMessage, RoutePreference};

use super::netlink::{interfaces, is_main, is_unicast, next_hops};

/// An IPv6 default route whose link is up. It may be for some source addresses only, as OpenWrt's
/// are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv6DefaultRoute {
    /// Interface index of its link.
    pub link: u32,
    /// Its router; `None` if everything is on the link.
    pub router: Option<Ipv6Addr>,
    /// Lower is preferred.
    pub metric: u32,
    /// Preference of its router (RFC 4191): above 0 is high, below is low.
    pub preference: i8,
    /// It is in the main table.
    pub is_main: bool,
}

impl Ipv6DefaultRoute {
    /// The default routes that a route stands for: several if it has several next hops.
    pub(super) fn all(route: &RouteMessage) -> Vec<Self> {
        if route.header.destination_prefix_length != 0 || !is_unicast(route) {
            return Vec::new();
        }
        let (mut metric, mut preference, mut gateway) = (0, 0, None);
        for attribute in &route.attributes {
            match attribute {
                RouteAttribute::Priority(priority) => metric = *priority,
                RouteAttribute::Preference(RoutePreference::High) => preference = 1,
                RouteAttribute::Preference(RoutePreference::Low) => preference = -1,
                RouteAttribute::Gateway(address) => gateway = super::netlink::ip(address),
                _ => {}
            }
        }
        let hops = next_hops(route);
        let hops = match hops.is_empty() {
            true => interfaces(route)
                .into_iter()
                .map(|link| (link, gateway))
                .collect(),
            false => hops,
        };
        let is_main = is_main(route);
        hops.into_iter()
            .map(|(link, gateway)| Self {
                link,
                router: match gateway {
                    Some(IpAddr::V6(router)) => Some(router),
                    _ => None,
                },
                metric,
                preference,
                is_main,
            })
            .collect()
    }
}
