//! Properties of a route of the kernel: its owner, its destination, and whether it can forward
//! packets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteProtocol, RouteType,
};

use xlat_core::addr::Ipv6Prefix;

use crate::host::plan::{ROUTE_PROTOCOL, Route};

const MAIN_TABLE: u32 = 254;

/// True for a route with the protocol number of our routes.
pub(in crate::host) fn is_ours(route: &RouteMessage) -> bool {
    u8::from(route.header.protocol) == ROUTE_PROTOCOL
}

/// True for a usable default route in the main table.
pub(in crate::host) fn is_default(route: &RouteMessage) -> bool {
    route.header.destination_prefix_length == 0 && leads_somewhere(route)
}

/// True for a unicast route in the main table whose link is up.
pub(in crate::host) fn leads_somewhere(route: &RouteMessage) -> bool {
    is_unicast(route) && is_main(route)
}

/// True for a unicast route whose link is up.
pub(in crate::host) fn is_unicast(route: &RouteMessage) -> bool {
    let is_dead = RouteFlags::Dead | RouteFlags::Linkdown;
    route.header.kind == RouteType::Unicast && !route.header.flags.intersects(is_dead)
}

/// True for a route in the main table.
pub(in crate::host) fn is_main(route: &RouteMessage) -> bool {
    table(route) == MAIN_TABLE
}

/// Interface and gateway of each next hop of a multipath route; none for another route.
pub(in crate::host) fn next_hops(route: &RouteMessage) -> Vec<(u32, Option<IpAddr>)> {
    let gateway = |attributes: &[RouteAttribute]| {
        attributes.iter().find_map(|attribute| match attribute {
            RouteAttribute::Gateway(address) => ip(address),
            _ => None,
        })
    };
    let hops = route.attributes.iter().filter_map(|one| match one {
        RouteAttribute::MultiPath(hops) => Some(hops),
        _ => None,
    });
    hops.flatten()
        .map(|hop| (hop.interface_index, gateway(&hop.attributes)))
        .collect()
}

/// Numbers of the outgoing interfaces of a route.
pub(in crate::host) fn interfaces(route: &RouteMessage) -> Vec<u32> {
    let mut all = Vec::new();
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Oif(index) => all.push(*index),
            RouteAttribute::MultiPath(hops) => {
                all.extend(hops.iter().map(|hop| hop.interface_index));
            }
            _ => {}
        }
    }
    all
}

/// The destination of an `unreachable` route of the main table that a DHCPv6 client made. Such a
/// client gives its routes its own protocol number, or leaves them to a program that does
/// (OpenWrt's netifd). A route that an administrator typed has another protocol number, and its
/// destination may be any network.
pub(in crate::host) fn delegated(route: &RouteMessage) -> Option<Ipv6Prefix> {
    let shortest = match route.header.protocol {
        RouteProtocol::Dhcp | RouteProtocol::Ra => 32,
        RouteProtocol::Static => 48,
        _ => return None,
    };
    let len = route.header.destination_prefix_length;
    let fits = (shortest..=64).contains(&len);
    if route.header.kind != RouteType::Unreachable || !fits || table(route) != MAIN_TABLE {
        return None;
    }
    destination_v6(route)
}

/// The destination of a unicast IPv6 route of another program.
pub(in crate::host) fn used(route: &RouteMessage) -> Option<Ipv6Prefix> {
    let is_used = route.header.kind == RouteType::Unicast && !is_ours(route);
    is_used.then(|| destination_v6(route))?
}

/// True if `route` has the table, destination, source and preference of `wanted`.
pub(in crate::host) fn same_destination(route: &RouteMessage, wanted: &Route) -> bool {
    let (mut to, mut from, mut metric) = (None, None, None);
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Destination(address) => to = ip(address),
            RouteAttribute::Source(address) => from = ip(address),
            RouteAttribute::Priority(priority) => metric = Some(*priority),
            _ => {}
        }
    }
    let to = to.unwrap_or(match wanted.to {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    });
    table(route) == wanted.table.unwrap_or(MAIN_TABLE)
        && route.header.destination_prefix_length == wanted.len
        && to == wanted.to
        && from == wanted.from.map(IpAddr::V6)
        && (wanted.metric.is_none() || metric == wanted.metric)
}

pub(in crate::host) fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some((*v4).into()),
        RouteAddress::Inet6(v6) => Some((*v6).into()),
        _ => None,
    }
}

fn destination_v6(route: &RouteMessage) -> Option<Ipv6Prefix> {
    let len = route.header.destination_prefix_length;
    let destination = route
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Destination(address) => ip(address),
            _ => None,
        });
    match destination? {
        IpAddr::V6(address) if !address.is_unicast_link_local() && !address.is_multicast() => {
            Some(Ipv6Prefix::containing(address, len))
        }
        _ => None,
    }
}

fn table(route: &RouteMessage) -> u32 {
    let id = route
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Table(id) => Some(*id),
            _ => None,
        });
    id.unwrap_or_else(|| route.header.table.into())
}
