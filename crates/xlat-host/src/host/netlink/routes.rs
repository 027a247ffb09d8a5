//! Routes: look up, list, add, remove.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures_util::TryStreamExt;
use netlink_packet_route::route::{
    RouteAttribute, RouteFlags, RouteMessage, RouteMetric, RouteProtocol, RouteScope,
};
use rtnetlink::RouteMessageBuilder;

use super::route_message::ip;
use super::{Netlink, collect, io_error, ok_if_absent, refused};
use crate::host::error::Error;
use crate::host::plan::{ROUTE_PROTOCOL, Route};

/// The result of a route lookup for one destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Way {
    /// Number of the outgoing interface.
    pub index: u32,
    /// Next hop; `None` if the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// Source address that the kernel would choose.
    pub src: Option<IpAddr>,
    /// MTU of the route in bytes, if the route itself has one.
    pub mtu: Option<u32>,
}

impl Netlink {
    /// Looks up the route to `to`, through the interface with number `by` if there is one.
    pub(in crate::host) async fn way(&self, to: IpAddr, by: Option<u32>) -> Result<Way, Error> {
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

    /// The route of this host that packets to `to` match, as it is in its table; `None` if there is
    /// none.
    pub(in crate::host) async fn matching(&self, to: IpAddr) -> Option<RouteMessage> {
        let mut question = host_route(to);
        question.header.flags |= RouteFlags::FibMatch;
        let found = self.handle.route().get(question).execute().try_next().await;
        found.ok().flatten()
    }

    pub(in crate::host) async fn routes(&self, v6: bool) -> Result<Vec<RouteMessage>, Error> {
        let all = if v6 {
            RouteMessageBuilder::<Ipv6Addr>::new().build()
        } else {
            RouteMessageBuilder::<Ipv4Addr>::new().build()
        };
        collect("list routes", self.handle.route().get(all).execute()).await
    }

    pub(in crate::host) async fn add_route(
        &self,
        wanted: &Route,
        replace: bool,
    ) -> Result<(), Error> {
        let index = self.link(&wanted.dev).await?.index;
        let request = self.handle.route().add(route_message(wanted, index));
        let request = if replace { request.replace() } else { request };
        request
            .execute()
            .await
            .map_err(|error| refused(wanted.to_string(), error))
    }

    /// Removes a route. An absent one is no error.
    pub(in crate::host) async fn remove_route(&self, wanted: &Route) -> Result<(), Error> {
        let Some(index) = self.index(&wanted.dev).await? else {
            return Ok(());
        };
        let done = self
            .handle
            .route()
            .del(route_message(wanted, index))
            .execute()
            .await;
        ok_if_absent(done, || format!("remove the route: {wanted}"))
    }
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
    if wanted.on_link {
        message.header.flags |= RouteFlags::Onlink;
    }
    let attributes = &mut message.attributes;
    if let Some(src) = wanted.src {
        attributes.push(RouteAttribute::PrefSource(src.into()));
    }
    if let Some(table) = wanted.table {
        attributes.push(RouteAttribute::Table(table));
    }
    if let Some(metric) = wanted.metric {
        attributes.push(RouteAttribute::Priority(metric));
    }
    if let Some(mtu) = wanted.mtu {
        attributes.push(RouteAttribute::Metrics(vec![RouteMetric::Mtu(mtu)]));
    }
    message
}

/// The errors of a lookup without a usable route: ENETUNREACH, EHOSTUNREACH, EINVAL for a
/// `blackhole` route, EACCES for a `prohibit` route.
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
