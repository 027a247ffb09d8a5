//! Links, addresses and routes of the laboratory, through `rtnetlink`.
//!
//! A link is a pair of virtual Ethernet interfaces whose ends are born in their namespaces, so
//! that no name of ours ever appears outside. Addresses come without duplicate address detection
//! and are usable at once.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ipnet::{IpNet, Ipv6Net};
use nix::net::if_::{if_nameindex, if_nametoindex};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressHeaderFlags, AddressMessage, CacheInfo,
};
use rtnetlink::packet_route::link::{InfoData, InfoVeth, LinkMessage};
use rtnetlink::packet_route::route::{RouteAttribute, RouteMessage, RouteMetric, RouteType};
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};

use crate::namespace::Namespace;
use crate::netlink::{self, index};

/// One end of a link: a namespace and the name of the interface in it.
pub type End<'a> = (&'a Namespace, &'a str);

/// Joins two namespaces by a link whose both ends have this MTU (bytes) and are up.
///
/// # Errors
/// When a name is taken, or the kernel refuses.
pub fn join(near: End<'_>, far: End<'_>, mtu: u32) -> Result<()> {
    let message = pair(near, far, mtu);
    netlink(near.0, async |handle| {
        Ok(handle.link().add(message).execute().await?)
    })
    .with_context(|| format!("link {} of {}", near.1, near.0.name()))?;
    for (namespace, name) in [near, far] {
        for (key, value) in [("accept_dad", "0"), ("accept_ra", "0")] {
            namespace.set_sysctl(&format!("ipv6/conf/{name}/{key}"), value)?;
        }
        set_up(namespace, name)?;
    }
    Ok(())
}

fn pair(near: End<'_>, far: End<'_>, mtu: u32) -> LinkMessage {
    let peer = LinkMessageBuilder::<LinkUnspec>::new()
        .name(far.1)
        .mtu(mtu)
        .setns_by_fd(far.0.as_fd().as_raw_fd())
        .build();
    LinkVeth::new(near.1, far.1)
        .mtu(mtu)
        .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
        .build()
}

/// Sets an interface up.
///
/// # Errors
/// When there is none of that name.
pub fn set_up(namespace: &Namespace, name: &str) -> Result<()> {
    namespace.run(|| netlink::set_up(name))
}

/// Adds an address that lasts so many seconds, and may be used for new connections so many.
///
/// # Errors
/// When the kernel refuses it.
pub fn lend_address(end: End<'_>, address: IpNet, valid: u32, preferred: u32) -> Result<()> {
    netlink(end.0, async |handle| {
        let (index, length) = (index(end.1)?, address.prefix_len());
        let mut request = handle.address().add(index, address.addr(), length);
        let mut lifetimes = CacheInfo::default();
        (lifetimes.ifa_valid, lifetimes.ifa_preferred) = (valid, preferred);
        let attributes = &mut request.message_mut().attributes;
        attributes.push(AddressAttribute::CacheInfo(lifetimes));
        Ok(request.execute().await?)
    })
}

/// Removes a link, both ends of it.
///
/// # Errors
/// When there is no such interface.
pub fn remove(namespace: &Namespace, name: &str) -> Result<()> {
    netlink(namespace, async |handle| {
        Ok(handle.link().del(index(name)?).execute().await?)
    })
}

/// Sets an interface down; its IPv6 addresses and routes go.
///
/// # Errors
/// When there is none of that name.
pub fn set_down(namespace: &Namespace, name: &str) -> Result<()> {
    netlink(namespace, async |handle| {
        let link = LinkUnspec::new_with_index(index(name)?).down().build();
        Ok(handle.link().set(link).execute().await?)
    })
}

/// Changes the MTU (bytes) of one end of a link. What is larger than the receiving end takes is
/// dropped without a word, which makes a black hole.
///
/// # Errors
/// When there is no interface of that name, or the MTU is not possible.
pub fn set_mtu(namespace: &Namespace, name: &str, mtu: u32) -> Result<()> {
    netlink(namespace, async |handle| {
        let link = LinkUnspec::new_with_index(index(name)?).mtu(mtu).build();
        Ok(handle.link().set(link).execute().await?)
    })
}

/// Gives an interface an address with its prefix, without duplicate address detection.
///
/// # Errors
/// When the address is there already, or the interface is not.
pub fn add_address(end: End<'_>, address: IpNet) -> Result<()> {
    netlink(end.0, async |handle| {
        let index = index(end.1)?;
        let mut request = handle
            .address()
            .add(index, address.addr(), address.prefix_len());
        if address.addr().is_ipv6() {
            request.message_mut().header.flags = AddressHeaderFlags::Nodad;
        }
        Ok(request.execute().await?)
    })
    .with_context(|| format!("address {address} on {} of {}", end.1, end.0.name()))
}

/// Takes an address off an interface.
///
/// # Errors
/// When it is not there.
pub fn remove_address(end: End<'_>, address: IpNet) -> Result<()> {
    netlink(end.0, async |handle| {
        let mut message = AddressMessage::default();
        message.header.index = index(end.1)?;
        message.header.prefix_len = address.prefix_len();
        message.header.family = match address {
            IpNet::V4(_) => AddressFamily::Inet,
            IpNet::V6(_) => AddressFamily::Inet6,
        };
        let local = AddressAttribute::Local(address.addr());
        message.attributes.push(local);
        Ok(handle.address().del(message).execute().await?)
    })
    .with_context(|| {
        format!(
            "{address} cannot be taken off {} of {}",
            end.1,
            end.0.name()
        )
    })
}

/// Removes a route through a gateway.
///
/// # Errors
/// When it is not there.
pub fn remove_route(namespace: &Namespace, destination: IpNet, gateway: IpAddr) -> Result<()> {
    let message = route(destination, gateway)
        .with_context(|| format!("{destination} via {gateway}: two address families"))?;
    netlink(namespace, async |handle| {
        Ok(handle.route().del(message).execute().await?)
    })
    .with_context(|| {
        format!(
            "no route {destination} via {gateway} in {}",
            namespace.name()
        )
    })
}

/// Adds a route through a gateway, with an MTU (bytes) of its own if one is given.
///
/// # Errors
/// When the route is there already, or the gateway cannot be reached.
pub fn add_route(
    namespace: &Namespace,
    destination: IpNet,
    gateway: IpAddr,
    mtu: Option<u32>,
) -> Result<()> {
    let mut message = route(destination, gateway)
        .with_context(|| format!("{destination} via {gateway}: two address families"))?;
    if let Some(mtu) = mtu {
        let metrics = vec![RouteMetric::Mtu(mtu)];
        message.attributes.push(RouteAttribute::Metrics(metrics));
    }
    netlink(namespace, async |handle| {
        Ok(handle.route().add(message).execute().await?)
    })
    .with_context(|| format!("route {destination} via {gateway} in {}", namespace.name()))
}

fn route(destination: IpNet, gateway: IpAddr) -> Option<RouteMessage> {
    match (destination, gateway) {
        (IpNet::V4(net), IpAddr::V4(gateway)) => Some(
            RouteMessageBuilder::<Ipv4Addr>::new()
                .destination_prefix(net.network(), net.prefix_len())
                .gateway(gateway)
                .build(),
        ),
        (IpNet::V6(net), IpAddr::V6(gateway)) => Some(
            RouteMessageBuilder::<Ipv6Addr>::new()
                .destination_prefix(net.network(), net.prefix_len())
                .gateway(gateway)
                .build(),
        ),
        _ => None,
    }
}

/// Says that an IPv6 prefix leads nowhere, as a DHCPv6 client does with one that was delegated.
///
/// # Errors
/// When the route is there already.
pub fn add_unreachable(namespace: &Namespace, destination: Ipv6Net) -> Result<()> {
    let message = RouteMessageBuilder::<Ipv6Addr>::new()
        .destination_prefix(destination.network(), destination.prefix_len())
        .kind(RouteType::Unreachable)
        .build();
    netlink(namespace, async |handle| {
        Ok(handle.route().add(message).execute().await?)
    })
    .with_context(|| format!("unreachable {destination} in {}", namespace.name()))
}

/// Drops what goes to an IPv6 prefix, as an administrator does with one that is banned.
///
/// # Errors
/// When the route is there already.
pub fn add_blackhole(namespace: &Namespace, destination: Ipv6Net) -> Result<()> {
    netlink(namespace, async |handle| {
        Ok(handle.route().add(blackhole(destination)).execute().await?)
    })
    .with_context(|| format!("blackhole {destination} in {}", namespace.name()))
}

/// Drops it no longer.
///
/// # Errors
/// When the route is not there.
pub fn remove_blackhole(namespace: &Namespace, destination: Ipv6Net) -> Result<()> {
    netlink(namespace, async |handle| {
        Ok(handle.route().del(blackhole(destination)).execute().await?)
    })
    .with_context(|| format!("no blackhole {destination} in {}", namespace.name()))
}

fn blackhole(destination: Ipv6Net) -> RouteMessage {
    RouteMessageBuilder::<Ipv6Addr>::new()
        .destination_prefix(destination.network(), destination.prefix_len())
        .kind(RouteType::BlackHole)
        .build()
}

/// Lets a namespace forward IPv4 and IPv6, and answer traceroutes without limits of rate.
///
/// # Errors
/// When a sysctl cannot be written.
pub fn make_router(namespace: &Namespace) -> Result<()> {
    for (key, value) in [
        ("ipv4/ip_forward", "1"),
        ("ipv4/icmp_ratelimit", "0"),
        ("ipv6/conf/all/forwarding", "1"),
        ("ipv6/icmp/ratelimit", "0"),
    ] {
        namespace.set_sysctl(key, value)?;
    }
    Ok(())
}

/// The link-local address of an interface.
///
/// # Errors
/// When it has none, or one that is tentative.
pub fn link_local(namespace: &Namespace, name: &str) -> Result<Ipv6Addr> {
    const TENTATIVE: &str = "c0";
    let all = namespace.run(|| Ok(std::fs::read_to_string("/proc/thread-self/net/if_inet6")?))?;
    let lines = all.lines().map(|line| line.split_whitespace().collect());
    let found = lines.filter_map(|words: Vec<&str>| match words[..] {
        [digits, _, _, "20", flags, interface] if interface == name => Some((digits, flags)),
        _ => None,
    });
    let usable = found.into_iter().find(|(_, flags)| *flags != TENTATIVE);
    let (digits, _) = usable.with_context(|| format!("no link-local address on {name}"))?;
    Ok(Ipv6Addr::from_bits(u128::from_str_radix(digits, 16)?))
}

/// Waits until each interface of the namespace, other than `lo`, has its link-local address.
///
/// # Errors
/// When one has none after `patience`.
pub fn wait_for_link_local(namespace: &Namespace, patience: Duration) -> Result<()> {
    let deadline = Instant::now() + patience;
    namespace.run(|| {
        loop {
            let addresses = std::fs::read_to_string("/proc/thread-self/net/if_inet6")?;
            let link_local = addresses.lines().filter(|line| line.starts_with("fe80"));
            let named = link_local.filter_map(|line| line.split_whitespace().last());
            let named = named.collect::<BTreeSet<_>>();
            let all = if_nameindex()?;
            let mut names = all
                .iter()
                .map(|interface| interface.name().to_string_lossy());
            let Some(missing) = names.find(|name| name != "lo" && !named.contains(&**name)) else {
                return Ok(());
            };
            ensure!(
                Instant::now() < deadline,
                "{missing} has no link-local address"
            );
            thread::sleep(Duration::from_millis(2));
        }
    })
}

/// Whether the namespace has an interface of that name.
///
/// # Errors
/// When the namespace cannot be entered.
pub fn exists(namespace: &Namespace, name: &str) -> Result<bool> {
    namespace.run(|| Ok(if_nametoindex(name).is_ok()))
}

fn netlink(
    namespace: &Namespace,
    work: impl AsyncFnOnce(Handle) -> Result<()> + Send,
) -> Result<()> {
    namespace.run(|| netlink::netlink(work))
}
