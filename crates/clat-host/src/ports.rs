//! What the PCP proxy has to know of a CLAT: its IPv4 hosts, where they ask, and the servers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use xlat_core::addr::Ipv4Prefix;
use xlat_host::host::{Error, Host, Link};
use xlat_proto::clat::Clat;
use xlat_proto::pcp::proxy::Hosts;

use crate::HostConfig;

/// A network whose hosts ask for ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskingNetwork {
    /// Name of the link from which they ask.
    pub link: String,
    /// Its interface number.
    pub index: u32,
    /// Name of the link by which all of them are told something.
    pub announce_by: String,
    /// This host's address there.
    pub address: Ipv4Addr,
    /// Their addresses.
    pub hosts: Ipv4Prefix,
}

/// The IPv4 hosts of a CLAT, as the network knows them.
pub fn pcp_hosts(config: &HostConfig, clat: &Clat) -> Hosts {
    let masquerades = config.masquerades_lan();
    Hosts {
        pref64: clat.prefix,
        own: config.side4.host,
        client: clat.outer(),
        shared_ports: clat.is_shared().then(|| config.shared_ports.clone()),
        mapped: config.lan_maps(),
        masqueraded: if masquerades {
            config.lan.clone()
        } else {
            Vec::new()
        },
    }
}

/// Where the hosts of a CLAT ask: this host at the CLAT's IPv4 address, others at their gateway.
///
/// # Errors
/// If the kernel refuses a request.
pub async fn asking_networks(
    host: &Host,
    config: &HostConfig,
) -> Result<Vec<AskingNetwork>, Error> {
    let links = host.links().await?;
    let network = |is_it: &dyn Fn(&Link) -> bool, address, hosts| {
        let link = links.iter().find(|link| is_it(link))?;
        Some(AskingNetwork {
            link: link.name.clone(),
            index: link.index,
            announce_by: link.name.clone(),
            address,
            hosts,
        })
    };
    let (own, tun) = (config.side4.host, &config.tun.name);
    // To the kernel, packets of this host to itself come by the interface that has the address.
    let mut itself = network(&|link| link.name == *tun, own, Ipv4Prefix::host(own));
    if let (Some(itself), Some(link)) = (&mut itself, links.iter().find(|link| link.loopback)) {
        itself.announce_by.clone_from(&link.name);
    }
    let mut networks: Vec<_> = itself.into_iter().collect();
    for lan in &config.lan {
        let Some(have) = host.address_in_v4(*lan).await? else {
            continue;
        };
        let IpAddr::V4(address) = have.address else {
            continue;
        };
        networks.extend(network(&|link| link.index == have.index, address, *lan));
    }
    Ok(networks)
}

/// The routers that may be PCP servers, the one to ask first in front (RFC 6887 section 8.1): those
/// that announce the prefix, then the other default routers of the uplink.
///
/// # Errors
/// If the kernel refuses a request.
pub async fn pcp_servers(
    host: &Host,
    clat: &Clat,
    announcing: &[Ipv6Addr],
) -> Result<Vec<Ipv6Addr>, Error> {
    let mut routes = host.ipv6_default_routes().await?;
    routes.retain(|route| route.link == clat.index);
    routes.sort_by_key(|route| (route.metric, std::cmp::Reverse(route.preference)));
    let mut servers = announcing.to_vec();
    for router in routes.into_iter().filter_map(|route| route.router) {
        if !servers.contains(&router) {
            servers.push(router);
        }
    }
    Ok(servers)
}
