//! The host's network configuration as sorted text, to compare before and after.
//!
//! What changes by itself (lifetimes, interface numbers, learned neighbours) is left out.

use std::collections::{BTreeSet, HashMap};

use futures_util::TryStreamExt;
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourState};
use netlink_packet_route::route::{RouteAttribute, RouteMessage};
use rtnetlink::IpVersion;

use super::Host;
use super::error::Error;

impl Host {
    /// Links, addresses, routes, rules, permanent neighbours and forwarding parameters, a line
    /// each.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub async fn snapshot(&self) -> Result<String, Error> {
        let links = self.links().await?;
        let names: HashMap<u32, String> = links
            .iter()
            .map(|link| (link.index, link.name.clone()))
            .collect();
        let mut lines = BTreeSet::new();
        for link in &links {
            lines.insert(format!(
                "link {} mtu {} up {}",
                link.name, link.mtu, link.up
            ));
            lines.extend(parameters(&link.name));
        }
        lines.extend(parameters("all"));
        lines.extend(parameters("default"));
        for assigned in self.addresses().await? {
            let dev = names.get(&assigned.index).map_or("?", String::as_str);
            lines.insert(format!(
                "address {}/{} dev {dev}",
                assigned.address, assigned.len
            ));
        }
        for v6 in [false, true] {
            let routes = self.netlink.routes(v6).await?;
            lines.extend(
                routes
                    .iter()
                    .filter(|route| !is_cached(route))
                    .map(|route| format!("route {}", route_line(route, &names))),
            );
        }
        lines.extend(self.rules().await?);
        lines.extend(self.neighbours(&names).await?);
        Ok(lines.into_iter().collect::<Vec<_>>().join("\n"))
    }

    async fn rules(&self) -> Result<Vec<String>, Error> {
        let mut lines = Vec::new();
        for version in [IpVersion::V4, IpVersion::V6] {
            let rules = self.netlink.handle.rule().get(version).execute();
            let rules: Vec<_> = rules
                .try_collect()
                .await
                .map_err(|error| Error::Netlink(error.to_string()))?;
            lines.extend(rules.iter().map(|rule| format!("rule {rule:?}")));
        }
        Ok(lines)
    }

    async fn neighbours(&self, names: &HashMap<u32, String>) -> Result<Vec<String>, Error> {
        let mut lines = Vec::new();
        for proxies in [false, true] {
            let request = self.netlink.handle.neighbours().get();
            let request = if proxies { request.proxies() } else { request };
            let all: Vec<_> = request
                .execute()
                .try_collect()
                .await
                .map_err(|error| Error::Netlink(error.to_string()))?;
            for neighbour in all {
                if !proxies && neighbour.header.state != NeighbourState::Permanent {
                    continue;
                }
                let dev = names
                    .get(&neighbour.header.ifindex)
                    .map_or("?", String::as_str);
                let to = neighbour
                    .attributes
                    .iter()
                    .find_map(|attribute| match attribute {
                        NeighbourAttribute::Destination(address) => Some(format!("{address:?}")),
                        _ => None,
                    });
                let to = to.unwrap_or_default();
                lines.push(format!("neighbour {to} dev {dev} proxy {proxies}"));
            }
        }
        Ok(lines)
    }
}

/// Parameters that a plan may change.
fn parameters(dev: &str) -> Vec<String> {
    const WATCHED: [(&str, &str); 6] = [
        ("ipv4", "forwarding"),
        ("ipv4", "rp_filter"),
        ("ipv6", "forwarding"),
        ("ipv6", "force_forwarding"),
        ("ipv6", "accept_ra"),
        ("ipv6", "proxy_ndp"),
    ];
    let keys = WATCHED.map(|(family, name)| super::device_key(family, dev, name));
    let read = keys.into_iter().filter_map(|key| {
        let value = super::sysctl::read(&key).ok()?;
        Some(format!("sysctl {key} = {value}"))
    });
    read.collect()
}

/// Exceptions that the kernel learned (path MTU, redirects) are not configuration.
fn is_cached(route: &RouteMessage) -> bool {
    route
        .header
        .flags
        .contains(netlink_packet_route::route::RouteFlags::Cloned)
}

fn route_line(route: &RouteMessage, names: &HashMap<u32, String>) -> String {
    let mut line = format!(
        "{:?} {:?} proto {:?} len {}",
        route.header.address_family,
        route.header.kind,
        route.header.protocol,
        route.header.destination_prefix_length
    );
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Oif(index) => {
                line += &format!(" dev {}", names.get(index).map_or("?", String::as_str));
            }
            RouteAttribute::CacheInfo(_) | RouteAttribute::Expires(_) => {}
            other => line += &format!(" {other:?}"),
        }
    }
    line
}
