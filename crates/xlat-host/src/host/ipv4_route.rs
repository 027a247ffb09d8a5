//! Where IPv4 packets can go from this host.

use netlink_packet_route::route::RouteMessage;

use super::netlink::{interfaces, is_default, leads_somewhere};

/// A route that leads somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ipv4Route {
    /// It leads everywhere.
    pub is_default: bool,
    /// Numbers of the interfaces that it leads by: several if it shares the traffic out.
    pub links: Vec<u32>,
}

impl Ipv4Route {
    /// `None` if the route is not in the main table, or leads nowhere.
    pub(super) fn new(route: &RouteMessage) -> Option<Self> {
        leads_somewhere(route).then(|| Self {
            is_default: is_default(route),
            links: interfaces(route),
        })
    }
}
