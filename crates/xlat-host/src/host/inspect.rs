//! Queries about the host. None of them changes anything or needs privileges.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_route::route::RouteMessage;
use xlat_core::addr::{Ipv4Prefix, Ipv6Prefix};

use super::error::Error;
use super::ipv4_route::{Ipv4Defaults, Ipv4Route};
use super::ipv6_route::Ipv6DefaultRoute;
use super::netlink::{
    Assigned, Link, Way, delegated, interfaces, is_default, is_ours, leads_somewhere, used,
};
use super::{Host, sysctl};
use crate::conntrack;

impl Host {
    /// All interfaces.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub async fn links(&self) -> Result<Vec<Link>, Error> {
        self.netlink.links().await
    }

    /// The interface `name`.
    ///
    /// # Errors
    /// [`Error::NoLink`] if there is none.
    pub async fn link(&self, name: &str) -> Result<Link, Error> {
        self.netlink.link(name).await
    }

    /// The addresses of all interfaces.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub async fn addresses(&self) -> Result<Vec<Assigned>, Error> {
        self.netlink.addresses().await
    }

    /// The route that the kernel chooses for packets to `to`.
    ///
    /// # Errors
    /// [`Error::NoRoute`] if there is none.
    pub async fn way(&self, to: IpAddr) -> Result<Way, Error> {
        self.netlink.way(to, None).await
    }

    /// The route that the kernel chooses for packets to `to` that leave by the interface with
    /// number `index`.
    ///
    /// # Errors
    /// [`Error::NoRoute`] if no route through this interface leads there.
    pub async fn way_by(&self, to: IpAddr, index: u32) -> Result<Way, Error> {
        self.netlink.way(to, Some(index)).await
    }

    /// What the usable IPv4 default routes lead to that other programs made.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub async fn ipv4_defaults(&self) -> Result<Ipv4Defaults, Error> {
        let routes = self.netlink.routes(false).await?;
        let (ours, others): (Vec<_>, Vec<_>) = routes.iter().partition(|route| is_ours(route));
        let ours: Vec<u32> = ours.iter().flat_map(|route| interfaces(route)).collect();
        let others: Vec<_> = others
            .iter()
            .filter_map(|route| Ipv4Route::new(route))
            .collect();
        let (links, addresses) = (self.links().await?, self.addresses().await?);
        Ok(Ipv4Defaults::new(&others, &links, &addresses, &ours))
    }

    /// The usable IPv4 routes of the main table that other programs made.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub async fn ipv4_routes(&self) -> Result<Vec<Ipv4Route>, Error> {
        let routes = self.netlink.routes(false).await?;
        let others = routes.iter().filter(|route| !is_ours(route));
        Ok(others.filter_map(Ipv4Route::new).collect())
    }

    /// The usable IPv6 default routes of all tables that other programs made.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub async fn ipv6_default_routes(&self) -> Result<Vec<Ipv6DefaultRoute>, Error> {
        let routes = self.netlink.routes(true).await?;
        let others = routes.iter().filter(|route| !is_ours(route));
        Ok(others.flat_map(Ipv6DefaultRoute::all).collect())
    }

    /// Numbers of the interfaces with a usable IPv6 default route that another program made.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub async fn ipv6_default_links(&self) -> Result<Vec<u32>, Error> {
        let routes = self.netlink.routes(true).await?;
        let defaults = routes
            .iter()
            .filter(|route| is_default(route) && !is_ours(route));
        Ok(defaults.flat_map(interfaces).collect())
    }

    /// An address of this host that lies in the IPv4 prefix, if there is one.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub async fn address_in_v4(&self, prefix: Ipv4Prefix) -> Result<Option<Assigned>, Error> {
        let addresses = self.addresses().await?;
        Ok(addresses
            .into_iter()
            .find(|assigned| match assigned.address {
                IpAddr::V4(v4) => prefix.contains(v4),
                IpAddr::V6(_) => false,
            }))
    }

    /// An address of this host that lies in the IPv6 prefix, if there is one.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub async fn address_in_v6(&self, prefix: Ipv6Prefix) -> Result<Option<Assigned>, Error> {
        let addresses = self.addresses().await?;
        Ok(addresses
            .into_iter()
            .find(|assigned| match assigned.address {
                IpAddr::V6(v6) => prefix.contains(v6),
                IpAddr::V4(_) => false,
            }))
    }

    /// IPv6 prefixes of at most 64 bits that have an `unreachable` route on this host: what a
    /// DHCPv6 client leaves of a delegated prefix (RFC 7084 requirement WPD-5).
    ///
    /// # Errors
    /// If the kernel refuses.
    pub async fn delegated(&self) -> Result<Vec<Ipv6Prefix>, Error> {
        let routes = self.netlink.routes(true).await?;
        Ok(routes.iter().filter_map(delegated).collect())
    }

    /// IPv6 networks that this host has addresses in or routes to, except those routed by this
    /// daemon.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub async fn networks_v6(&self) -> Result<Vec<Ipv6Prefix>, Error> {
        let routes = self.netlink.routes(true).await?;
        Ok(routes.iter().filter_map(used).collect())
    }

    /// The IPv6 networks that belong to this host or lie behind it: those that it has addresses in or
    /// routes to, its delegated prefixes, and its own addresses; the default route is no such route.
    /// Where `lans` names interfaces with clients, the networks of the other interfaces that have a
    /// default route lie before this host, not behind it.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub async fn inner_networks(&self, lans: &[String]) -> Result<Vec<Ipv6Prefix>, Error> {
        let (v6, v4) = (
            self.netlink.routes(true).await?,
            self.netlink.routes(false).await?,
        );
        let links = self.links().await?;
        let is_lan = |index| {
            let mut named = links.iter().filter(|link| link.index == index);
            named.any(|link| lans.contains(&link.name))
        };
        let defaults = v6
            .iter()
            .chain(&v4)
            .filter(|route| is_default(route) && !is_ours(route));
        let outer: Vec<u32> = if lans.is_empty() {
            Vec::new()
        } else {
            defaults
                .flat_map(interfaces)
                .filter(|index| !is_lan(*index))
                .collect()
        };
        let is_inner = |route: &&RouteMessage| {
            leads_somewhere(route) && interfaces(route).iter().any(|one| !outer.contains(one))
        };
        let routed = v6.iter().filter(is_inner).filter_map(used);
        let delegated = v6.iter().filter_map(delegated);
        let addresses = self.addresses().await?;
        let own = addresses.iter().filter_map(|have| match have.address {
            IpAddr::V6(address) if outer.contains(&have.index) => Some(Ipv6Prefix::host(address)),
            IpAddr::V6(address) => Some(Ipv6Prefix::containing(address, have.len)),
            IpAddr::V4(_) => None,
        });
        Ok(outermost(routed.chain(delegated).chain(own)))
    }

    /// Makes connection tracking forget the connections of `inner`, an address of the translator, that
    /// are translated to another address than `outer`. Returns how many.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub async fn forget_connections(&self, inner: Ipv4Addr, outer: Ipv4Addr) -> io::Result<usize> {
        let forget = move || conntrack::forget(inner, outer);
        let done = tokio::task::spawn_blocking(forget).await;
        done.unwrap_or_else(|error| Err(io::Error::other(error)))
    }

    /// The value of a kernel parameter; `None` if the kernel does not have it.
    pub fn sysctl(&self, key: &str) -> Option<String> {
        sysctl::read(key).ok()
    }

    /// How many sockets of this host listen for router solicitations on the link of this name: the
    /// members of the group of all routers there but the kernel, which joins it on interfaces that
    /// forward.
    pub fn router_programs(&self, link: &str) -> u32 {
        let groups = std::fs::read_to_string("/proc/thread-self/net/igmp6").unwrap_or_default();
        let key = super::device_key("ipv6", link, "forwarding");
        let kernel = u32::from(self.sysctl(&key).is_some_and(|value| value != "0"));
        members_of_all_routers(&groups, link).saturating_sub(kernel)
    }

    /// True if the kernel drops packets that arrive on `interface` but whose replies would leave by
    /// another one (strict reverse path filter, RFC 3704).
    pub fn has_strict_filter(&self, interface: &str) -> bool {
        let value = |name: &str| {
            let text = self.sysctl(&super::device_key("ipv4", name, "rp_filter"));
            text.and_then(|text| text.parse::<u8>().ok()).unwrap_or(0)
        };
        // The larger of the two holds: 1 is strict, 2 is loose.
        value("all").max(value(interface)) == 1
    }

    /// True if kernel parameters cannot be set, as in most containers.
    pub fn has_read_only_sysctls(&self) -> bool {
        sysctl::is_read_only()
    }

    /// True if this kernel can forward IPv6 on single interfaces (Linux 6.17 and newer), without
    /// the parameter for the whole host.
    pub fn has_force_forwarding(&self) -> bool {
        sysctl::exists("net.ipv6.conf.all.force_forwarding")
            || sysctl::exists("net.ipv6.conf.lo.force_forwarding")
    }
}

/// These networks without those that lie in another one and without the default route; never empty.
fn outermost(networks: impl Iterator<Item = Ipv6Prefix>) -> Vec<Ipv6Prefix> {
    let is_some = |network: &Ipv6Prefix| network.len() > 0;
    let loopback = Ipv6Prefix::host(Ipv6Addr::LOCALHOST);
    let mut all: Vec<Ipv6Prefix> = networks.filter(is_some).chain([loopback]).collect();
    // What lies in a network comes right behind it: there may be a hundred thousand of them.
    all.sort_by_key(|network| (network.address(), network.len()));
    let mut outer: Vec<Ipv6Prefix> = Vec::new();
    for network in all {
        if outer.last().is_none_or(|have| !have.overlaps(&network)) {
            outer.push(network);
        }
    }
    outer.sort_by_key(|network| (network.len(), network.address()));
    outer
}

/// Number of members of ff02::2 on an interface, from the text of `/proc/net/igmp6`: number, name,
/// group, members, and more.
fn members_of_all_routers(groups: &str, interface: &str) -> u32 {
    let count = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, name, group, members, ..] = words[..] else {
            return None;
        };
        let is_it = name == interface && group == "ff020000000000000000000000000002";
        is_it.then(|| members.parse().ok())?
    };
    groups.lines().find_map(count).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fp_12_networks_in_other_networks_and_the_default_route_are_left_out() {
        let networks = |texts: &[&str]| -> Vec<Ipv6Prefix> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        let all = networks(&[
            "::/0",
            "2001:db8:1:7::/64",
            "2001:db8:1::/48",
            "2001:db8:1:7::1/128",
            "fe80::/64",
            "fe80::1/128",
            "2001:db8:9::1/128",
        ]);
        let outer = networks(&[
            "2001:db8:1::/48",
            "fe80::/64",
            "::1/128",
            "2001:db8:9::1/128",
        ]);
        assert_eq!(outermost(all.into_iter()), outer);
        assert_eq!(outermost([].into_iter()), networks(&["::1/128"]));
    }

    #[test]
    fn members_of_a_group_are_counted_by_interface() {
        let groups = "\
1    lo              ff020000000000000000000000000001     1 0000000C 0
4    eth0            ff020000000000000000000000000002     2 00000004 0
5    eth1            ff020000000000000000000000000001     7 00000004 0
";
        assert_eq!(members_of_all_routers(groups, "eth0"), 2);
        assert_eq!(members_of_all_routers(groups, "eth1"), 0);
        assert_eq!(members_of_all_routers("", "eth0"), 0);
    }
}
