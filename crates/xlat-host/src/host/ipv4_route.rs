//! Usable IPv4 routes of this host.

use netlink_packet_route::route::RouteMessage;

use super::netlink::{interfaces, is_default, leads_somewhere};

/// A unicast route whose link is up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ipv4Route {
    /// True for the default route.
    pub is_default: bool,
    /// Numbers of the outgoing interfaces: several for a multipath route.
    pub links: Vec<u32>,
}

impl Ipv4Route {
    /// `None` if the route is not in the main table or cannot forward packets.
    pub(super) fn new(route: &RouteMessage) -> Option<Self> {
        leads_somewhere(route).then(|| Self {
            is_default: is_default(route),
            links: interfaces(route),
        })
    }
}
