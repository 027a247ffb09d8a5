//! The one place that speaks rtnetlink: questions and changes in our own terms, errors by errno.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures_util::{Stream, TryStreamExt};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, CacheInfo};
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteMetric, RouteProtocol, RouteScope,
    RouteType,
};
use rtnetlink::{Handle, LinkUnspec, RouteMessageBuilder};

use xlat_core::addr::Ipv6Prefix;

use super::error::Error;
use super::plan::{Address, ROUTE_PROTOCOL, Route};

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its number.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// It is set up.
    pub up: bool,
    /// It is up and has a carrier.
    pub running: bool,
    /// It is the loopback interface.
    pub loopback: bool,
    /// Its link-layer address, if it has one of the usual six bytes: its neighbours must be told
    /// who is there.
    pub mac: Option<[u8; 6]>,
    /// How often its carrier has come or gone: another number, and it may be another network.
    pub carrier_changes: u32,
    /// It carries packets inside other packets: a VPN or another tunnel.
    pub tunnel: bool,
}

/// An address that an interface has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assigned {
    /// Number of the interface.
    pub index: u32,
    /// The address.
    pub address: IpAddr,
    /// Prefix length.
    pub len: u8,
    /// Duplicate address detection has not finished.
    pub tentative: bool,
    /// Duplicate address detection found another host.
    pub duplicate: bool,
    /// New connections shall not use it.
    pub deprecated: bool,
    /// It is a privacy address that changes (RFC 8981).
    pub temporary: bool,
    /// How long it is valid from now on, in seconds; `u32::MAX` is for ever.
    pub valid: u32,
    /// How long new connections may use it, in the same way.
    pub preferred: u32,
}

/// What the routing table says about one destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Way {
    /// Number of the interface that leads there.
    pub index: u32,
    /// Next hop; `None` if the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// Source address that the kernel would choose.
    pub src: Option<IpAddr>,
    /// MTU of the route, where it has one of its own.
    pub mtu: Option<u32>,
}

/// A connection to the kernel's routing socket.
#[derive(Clone, Debug)]
pub(super) struct Netlink {
    pub(super) handle: Handle,
}

impl Netlink {
    /// Connects; the connection runs as a task of the current tokio runtime.
    pub(super) fn connect() -> Result<Self, Error> {
        let (connection, handle, _) =
            rtnetlink::new_connection().map_err(|error| Error::Netlink(error.to_string()))?;
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    pub(super) async fn links(&self) -> Result<Vec<Link>, Error> {
        let messages = collect("list links", self.handle.link().get().execute()).await?;
        Ok(messages.iter().map(link).collect())
    }

    pub(super) async fn link(&self, name: &str) -> Result<Link, Error> {
        let links = self.links().await?;
        let found = links.into_iter().find(|link| link.name == name);
        found.ok_or_else(|| Error::NoLink(name.into()))
    }

    pub(super) async fn addresses(&self) -> Result<Vec<Assigned>, Error> {
        let messages = collect("list addresses", self.handle.address().get().execute()).await?;
        Ok(messages.iter().filter_map(assigned).collect())
    }

    /// By any interface, or by this one.
    pub(super) async fn way(&self, to: IpAddr, by: Option<u32>) -> Result<Way, Error> {
        let mut question = host_route(to);
        let by = by.map(RouteAttribute::Oif);
        question.attributes.extend(by);
        let request = self.handle.route().get(question);
        let found: Result<Vec<RouteMessage>, rtnetlink::Error> =
            request.execute().try_collect().await;
        match found {
            Ok(found) => found.first().map(way).ok_or(Error::NoRoute(to)),
            Err(error) if leads_nowhere(&io_error(&error)) => Err(Error::NoRoute(to)),
            Err(error) => Err(refused("look up a route".into(), error)),
        }
    }

    pub(super) async fn routes(&self, v6: bool) -> Result<Vec<RouteMessage>, Error> {
        let all = if v6 {
            RouteMessageBuilder::<Ipv6Addr>::new().build()
        } else {
            RouteMessageBuilder::<Ipv4Addr>::new().build()
        };
        collect("list routes", self.handle.route().get(all).execute()).await
    }

    pub(super) async fn set_mtu(&self, name: &str, mtu: u32) -> Result<(), Error> {
        let index = self.link(name).await?.index;
        let change = LinkUnspec::new_with_index(index).mtu(mtu).build();
        let done = self.handle.link().set(change).execute().await;
        done.map_err(|error| refused(format!("set the MTU of {name} to {mtu}"), error))
    }

    pub(super) async fn set_up(&self, name: &str) -> Result<(), Error> {
        let index = self.link(name).await?.index;
        let change = LinkUnspec::new_with_index(index).up().build();
        let done = self.handle.link().set(change).execute().await;
        done.map_err(|error| refused(format!("set {name} up"), error))
    }

    pub(super) async fn add_address(&self, wanted: &Address) -> Result<(), Error> {
        let index = self.link(&wanted.dev).await?.index;
        let request = self.handle.address().add(index, wanted.address, wanted.len);
        let done = request.execute().await;
        done.map_err(|error| refused(wanted.to_string(), error))
    }

    /// Adds an IPv6 address that no program chooses and that has no route of its own, so that the
    /// kernel looks for duplicates of it.
    pub(super) async fn add_probe(&self, wanted: &Address) -> Result<(), Error> {
        let index = self.link(&wanted.dev).await?.index;
        let mut request = self.handle.address().add(index, wanted.address, wanted.len);
        let mut lifetimes = CacheInfo::default();
        lifetimes.ifa_preferred = 0;
        lifetimes.ifa_valid = u32::MAX;
        let attributes = &mut request.message_mut().attributes;
        attributes.push(AddressAttribute::Flags(AddressFlags::Noprefixroute));
        attributes.push(AddressAttribute::CacheInfo(lifetimes));
        let done = request.execute().await;
        done.map_err(|error| refused(wanted.to_string(), error))
    }

    /// Removes an address; one that is not there is as good as removed.
    pub(super) async fn remove_address(&self, wanted: &Address) -> Result<(), Error> {
        let Some(index) = self.index(&wanted.dev).await? else {
            return Ok(());
        };
        let mut message = AddressMessage::default();
        message.header.family = family(wanted.address);
        message.header.prefix_len = wanted.len;
        message.header.index = index;
        message
            .attributes
            .push(AddressAttribute::Local(wanted.address));
        let done = self.handle.address().del(message).execute().await;
        gone_is_fine(done, || {
            format!("remove {} from {}", wanted.address, wanted.dev)
        })
    }

    pub(super) async fn add_route(&self, wanted: &Route, replace: bool) -> Result<(), Error> {
        let index = self.link(&wanted.dev).await?.index;
        let request = self.handle.route().add(route_message(wanted, index));
        let request = if replace { request.replace() } else { request };
        request
            .execute()
            .await
            .map_err(|error| refused(wanted.to_string(), error))
    }

    /// Removes a route; one that is not there is as good as removed.
    pub(super) async fn remove_route(&self, wanted: &Route) -> Result<(), Error> {
        let Some(index) = self.index(&wanted.dev).await? else {
            return Ok(());
        };
        let done = self
            .handle
            .route()
            .del(route_message(wanted, index))
            .execute()
            .await;
        gone_is_fine(done, || format!("remove the route: {wanted}"))
    }

    pub(super) async fn add_proxy(&self, dev: &str, address: IpAddr) -> Result<(), Error> {
        let index = self.link(dev).await?.index;
        let request = self.handle.neighbours().add(index, address);
        let request = request.flags(NeighbourFlags::Proxy).replace();
        let done = request.execute().await;
        done.map_err(|error| refused(format!("answer for {address} on {dev}"), error))
    }

    /// Answers no longer for an address; one that is not answered for is as good.
    pub(super) async fn remove_proxy(&self, dev: &str, address: IpAddr) -> Result<(), Error> {
        let Some(index) = self.index(dev).await? else {
            return Ok(());
        };
        let mut message = NeighbourMessage::default();
        message.header.family = family(address);
        message.header.ifindex = index;
        message.header.flags = NeighbourFlags::Proxy;
        let destination = match address {
            IpAddr::V4(v4) => NeighbourAddress::Inet(v4),
            IpAddr::V6(v6) => NeighbourAddress::Inet6(v6),
        };
        let attribute = NeighbourAttribute::Destination(destination);
        message.attributes.push(attribute);
        let done = self.handle.neighbours().del(message).execute().await;
        gone_is_fine(done, || format!("answer for {address} on {dev} no longer"))
    }

    async fn index(&self, name: &str) -> Result<Option<u32>, Error> {
        match self.link(name).await {
            Ok(link) => Ok(Some(link.index)),
            Err(Error::NoLink(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// True if the error says that something is there already.
pub(super) fn is_exist(error: &Error) -> bool {
    matches!(error, Error::Kernel { source, .. } if source.kind() == ErrorKind::AlreadyExists)
}

/// True for a route with our mark.
pub(super) fn is_ours(route: &RouteMessage) -> bool {
    u8::from(route.header.protocol) == ROUTE_PROTOCOL
}

/// True for a default route in the main table that leads somewhere.
pub(super) fn is_default(route: &RouteMessage) -> bool {
    route.header.destination_prefix_length == 0 && leads_somewhere(route)
}

/// True for a route in the main table that leads somewhere.
pub(super) fn leads_somewhere(route: &RouteMessage) -> bool {
    let is_dead = RouteFlags::Dead | RouteFlags::Linkdown;
    route.header.kind == RouteType::Unicast
        && !route.header.flags.intersects(is_dead)
        && table(route) == MAIN_TABLE
}

/// Numbers of the interfaces that a route leaves by.
pub(super) fn interfaces(route: &RouteMessage) -> Vec<u32> {
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

/// The destination of an `unreachable` route of the main table that a DHCPv6 client made: it marks
/// its routes, or those of the programs it hands its prefixes to do (OpenWrt's netifd). What an
/// administrator types has another mark, and may be anybody's network.
pub(super) fn delegated(route: &RouteMessage) -> Option<Ipv6Prefix> {
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

/// Where an ordinary IPv6 route leads to.
pub(super) fn used(route: &RouteMessage) -> Option<Ipv6Prefix> {
    let is_used = route.header.kind == RouteType::Unicast && !is_ours(route);
    is_used.then(|| destination_v6(route))?
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

/// True if `route` goes where `wanted` goes, with the same preference.
pub(super) fn same_destination(route: &RouteMessage, wanted: &Route) -> bool {
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
    table(route) == MAIN_TABLE
        && route.header.destination_prefix_length == wanted.len
        && to == wanted.to
        && from == wanted.from.map(IpAddr::V6)
        && (wanted.metric.is_none() || metric == wanted.metric)
}

const MAIN_TABLE: u32 = 254;

async fn collect<T>(
    what: &str,
    stream: impl Stream<Item = Result<T, rtnetlink::Error>>,
) -> Result<Vec<T>, Error> {
    stream
        .try_collect()
        .await
        .map_err(|error| refused(what.into(), error))
}

fn refused(what: String, error: rtnetlink::Error) -> Error {
    let source = io_error(&error);
    if source.kind() == ErrorKind::PermissionDenied {
        return Error::Permission { what };
    }
    Error::Kernel { what, source }
}

fn io_error(error: &rtnetlink::Error) -> std::io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => std::io::Error::other(other.to_string()),
    }
}

fn gone_is_fine(
    done: Result<(), rtnetlink::Error>,
    what: impl FnOnce() -> String,
) -> Result<(), Error> {
    match done {
        Err(error) if !is_gone(&io_error(&error)) => Err(refused(what(), error)),
        _ => Ok(()),
    }
}

/// ENETUNREACH, EHOSTUNREACH, and what the kernel says of routes that lead nowhere on purpose:
/// EINVAL for `blackhole`, EACCES for `prohibit`.
fn leads_nowhere(error: &std::io::Error) -> bool {
    use rustix::io::Errno;
    let nowhere = [
        Errno::NETUNREACH,
        Errno::HOSTUNREACH,
        Errno::INVAL,
        Errno::ACCESS,
    ];
    error
        .raw_os_error()
        .is_some_and(|code| nowhere.iter().any(|errno| errno.raw_os_error() == code))
}

/// ESRCH, ENODEV, ENOENT, EADDRNOTAVAIL: what was to be removed is not there.
fn is_gone(error: &std::io::Error) -> bool {
    use rustix::io::Errno;
    let gone = [Errno::SRCH, Errno::NODEV, Errno::NOENT, Errno::ADDRNOTAVAIL];
    error
        .raw_os_error()
        .is_some_and(|code| gone.iter().any(|errno| errno.raw_os_error() == code))
}

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv6() {
        AddressFamily::Inet6
    } else {
        AddressFamily::Inet
    }
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some((*v4).into()),
        RouteAddress::Inet6(v6) => Some((*v6).into()),
        _ => None,
    }
}

fn link(message: &LinkMessage) -> Link {
    let flags = message.header.flags;
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        mtu: 0,
        up: flags.contains(LinkFlags::Up),
        running: flags.contains(LinkFlags::Up) && flags.contains(LinkFlags::Running),
        loopback: flags.contains(LinkFlags::Loopback),
        mac: None,
        carrier_changes: 0,
        tunnel: false,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::CarrierChanges(count) => link.carrier_changes = *count,
            LinkAttribute::LinkInfo(infos) => link.tunnel = infos.iter().any(is_tunnel),
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Address(bytes) if !flags.contains(LinkFlags::Noarp) => {
                link.mac = bytes.as_slice().try_into().ok();
            }
            _ => {}
        }
    }
    link
}

fn is_tunnel(info: &LinkInfo) -> bool {
    use InfoKind as Is;
    let LinkInfo::Kind(kind) = info else {
        return false;
    };
    let tunnels = [
        Is::Tun,
        Is::Wireguard,
        Is::Xfrm,
        Is::Vti,
        Is::Vti6,
        Is::IpIp,
        Is::Ip6Tnl,
        Is::SitTun,
        Is::GreTun,
        Is::GreTun6,
    ];
    tunnels.contains(kind)
}

fn assigned(message: &AddressMessage) -> Option<Assigned> {
    let (mut address, mut local) = (None, None);
    let (mut valid, mut preferred) = (u32::MAX, u32::MAX);
    let mut flags = AddressFlags::from_bits_retain(u32::from(message.header.flags.bits()));
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Address(ip) => address = Some(*ip),
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Flags(all) => flags = *all,
            AddressAttribute::CacheInfo(info) => {
                (valid, preferred) = (info.ifa_valid, info.ifa_preferred);
            }
            _ => {}
        }
    }
    let address = local.or(address)?;
    Some(Assigned {
        index: message.header.index,
        address,
        len: message.header.prefix_len,
        tentative: flags.contains(AddressFlags::Tentative),
        duplicate: flags.contains(AddressFlags::Dadfailed),
        deprecated: flags.contains(AddressFlags::Deprecated),
        // The same bit means "secondary" for IPv4 and "temporary" for IPv6.
        temporary: address.is_ipv6() && flags.contains(AddressFlags::Secondary),
        valid,
        preferred,
    })
}

fn way(message: &RouteMessage) -> Way {
    let mut way = Way::default();
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => way.index = *index,
            RouteAttribute::Gateway(address) => way.gateway = ip(address),
            RouteAttribute::PrefSource(address) => way.src = ip(address),
            RouteAttribute::Metrics(metrics) => {
                way.mtu = metrics.iter().find_map(|metric| match metric {
                    RouteMetric::Mtu(mtu) => Some(*mtu),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    way
}

fn host_route(to: IpAddr) -> RouteMessage {
    match to {
        IpAddr::V4(v4) => RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(v4, 32)
            .build(),
        IpAddr::V6(v6) => RouteMessageBuilder::<Ipv6Addr>::new()
            .destination_prefix(v6, 128)
            .build(),
    }
}

fn route_message(wanted: &Route, index: u32) -> RouteMessage {
    let protocol = RouteProtocol::from(ROUTE_PROTOCOL);
    let mut message = match wanted.to {
        IpAddr::V4(v4) => RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(v4, wanted.len)
            .output_interface(index)
            .scope(RouteScope::Link)
            .protocol(protocol)
            .build(),
        IpAddr::V6(v6) => {
            let route = RouteMessageBuilder::<Ipv6Addr>::new()
                .destination_prefix(v6, wanted.len)
                .output_interface(index)
                .protocol(protocol);
            let route = match wanted.from {
                Some(from) => route.source_prefix(from, 128),
                None => route,
            };
            match wanted.via {
                Some(via) => route.gateway(via).build(),
                None => route.build(),
            }
        }
    };
    let attributes = &mut message.attributes;
    if let Some(src) = wanted.src {
        attributes.push(RouteAttribute::PrefSource(src.into()));
    }
    if let Some(metric) = wanted.metric {
        attributes.push(RouteAttribute::Priority(metric));
    }
    if let Some(mtu) = wanted.mtu {
        attributes.push(RouteAttribute::Metrics(vec![RouteMetric::Mtu(mtu)]));
    }
    message
}
