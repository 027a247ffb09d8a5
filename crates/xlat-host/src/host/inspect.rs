//! Queries about the host. None of them changes anything or needs privileges.

use std::net::IpAddr;

use xlat_core::addr::{Ipv4Prefix, Ipv6Prefix};

use super::error::Error;
use super::ipv4_route::Ipv4Route;
use super::netlink::{Assigned, Link, Way, delegated, interfaces, is_default, is_ours, used};
use super::{Host, sysctl};

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

    /// True if this host has a usable IPv4 default route that another program made. A route through
    /// a tunnel does not count: the tunnel itself needs IPv4, and may get it from this daemon.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub async fn has_native_ipv4(&self) -> Result<bool, Error> {
        let (routes, links) = (self.ipv4_routes().await?, self.links().await?);
        let is_tunnel = |index| links.iter().any(|link| link.index == index && link.tunnel);
        let leaves = |route: &Ipv4Route| route.links.iter().any(|index| !is_tunnel(*index));
        Ok(routes.iter().any(|route| route.is_default && leaves(route)))
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

    /// The value of a kernel parameter; `None` if the kernel does not have it.
    pub fn sysctl(&self, key: &str) -> Option<String> {
        sysctl::read(key).ok()
    }

    /// True if a program on this host listens for router solicitations on `link`: the group of all
    /// routers has a member there besides the kernel, which joins it on interfaces that forward.
    pub fn has_router_program(&self, link: &Link) -> bool {
        let groups = std::fs::read_to_string("/proc/thread-self/net/igmp6").unwrap_or_default();
        let key = super::device_key("ipv6", &link.name, "forwarding");
        let kernel = u32::from(self.sysctl(&key).is_some_and(|value| value != "0"));
        members_of_all_routers(&groups, &link.name) > kernel
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

    /// True if this kernel can forward IPv6 on single interfaces (Linux 6.17 and newer), without
    /// the parameter for the whole host.
    pub fn has_force_forwarding(&self) -> bool {
        sysctl::exists("net.ipv6.conf.all.force_forwarding")
            || sysctl::exists("net.ipv6.conf.lo.force_forwarding")
    }
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
