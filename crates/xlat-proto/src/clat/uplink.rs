//! Chooses the uplink: the link whose network is asked for a NAT64 prefix. A prefix belongs to the
//! link that announced it (RFC 8781 section 5), so that the choice never depends on a discovered
//! prefix.

use std::cmp::Reverse;
use std::net::Ipv6Addr;

use crate::ra::Preference;

/// An IPv6 default route of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DefaultRoute {
    /// Interface index of its link.
    pub link: u32,
    /// Its router; `None` if everything is on the link.
    pub router: Option<Ipv6Addr>,
    /// Lower is preferred.
    pub metric: u32,
    /// Preference of its router (RFC 4191).
    pub preference: Preference,
    /// It is in the main table, and not in one for some packets only.
    pub is_main: bool,
    /// Its link sends packets inside other packets, as a VPN does.
    pub is_tunnel: bool,
}

/// The uplink among the links of `routes`. A tunnel is one only where there is no other: its own
/// packets may need the IPv4 that comes through the uplink. Among equals `current` stays.
pub fn choose_uplink(routes: &[DefaultRoute], current: Option<u32>) -> Option<u32> {
    let best = routes.iter().min_by_key(|route| {
        let stays = Some(route.link) == current;
        (rank(route), Reverse(stays), route.link)
    });
    best.map(|route| route.link)
}

/// The default router of a link.
pub fn default_router(routes: &[DefaultRoute], link: u32) -> Option<Ipv6Addr> {
    let here = routes.iter().filter(|route| route.link == link);
    let here = here.filter(|route| route.router.is_some());
    here.min_by_key(|route| rank(route))?.router
}

fn rank(route: &DefaultRoute) -> impl Ord {
    let others_first = (route.is_tunnel, !route.is_main);
    (others_first, route.metric, Reverse(route.preference))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(link: u32, metric: u32) -> DefaultRoute {
        DefaultRoute {
            link,
            router: Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, link as u16).into(),
            metric,
            preference: Preference::Medium,
            is_main: true,
            is_tunnel: false,
        }
    }

    #[test]
    fn fc_01_the_lower_metric_then_the_preference_then_the_current_one() {
        assert_eq!(choose_uplink(&[], Some(2)), None);
        assert_eq!(
            choose_uplink(&[route(2, 1024), route(3, 600)], Some(2)),
            Some(3)
        );
        let equal = [route(2, 1024), route(3, 1024)];
        assert_eq!(choose_uplink(&equal, None), Some(2));
        assert_eq!(choose_uplink(&equal, Some(3)), Some(3));
        let preferred = DefaultRoute {
            preference: Preference::High,
            ..route(4, 1024)
        };
        assert_eq!(choose_uplink(&[equal[0], preferred], Some(2)), Some(4));
    }

    #[test]
    fn fc_01_a_tunnel_is_the_uplink_only_where_there_is_no_other() {
        let tunnel = DefaultRoute {
            is_tunnel: true,
            router: None,
            ..route(9, 1)
        };
        let elsewhere = DefaultRoute {
            is_main: false,
            ..route(5, 1)
        };
        assert_eq!(choose_uplink(&[tunnel, route(2, 1024)], Some(9)), Some(2));
        assert_eq!(choose_uplink(&[tunnel, elsewhere], Some(9)), Some(5));
        assert_eq!(choose_uplink(&[elsewhere, route(2, 1024)], None), Some(2));
        assert_eq!(choose_uplink(&[tunnel], None), Some(9));
        assert_eq!(default_router(&[tunnel], 9), None);
        let routers = [route(2, 1024), route(2, 600)];
        assert_eq!(default_router(&routers, 2), routers[1].router);
        assert_eq!(default_router(&routers, 3), None);
    }
}
