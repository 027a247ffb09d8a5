//! Proxy neighbour entries: addresses for which the kernel answers ARP and neighbour solicitations.
//! And those of a TUN, which the kernel is to keep.

use std::net::IpAddr;

use futures_util::StreamExt;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};

use super::{Netlink, collect, family, ok_if_absent, refused};
use crate::host::error::Error;

impl Netlink {
    pub(in crate::host) async fn add_proxy(&self, dev: &str, address: IpAddr) -> Result<(), Error> {
        let index = self.link(dev).await?.index;
        let request = self.handle.neighbours().add(index, address);
        let request = request.flags(NeighbourFlags::Proxy).replace();
        let done = request.execute().await;
        done.map_err(|error| refused(format!("answer for {address} on {dev}"), error))
    }

    /// The proxy neighbour entries of all interfaces: number of the interface, and address.
    pub(in crate::host) async fn proxies(&self) -> Result<Vec<(u32, IpAddr)>, Error> {
        let request = self.handle.neighbours().get().proxies();
        let all = collect("list proxy entries", request.execute()).await?;
        Ok(all.iter().filter_map(entry).collect())
    }

    /// Removes a proxy neighbour entry. An absent one is no error.
    pub(in crate::host) async fn remove_proxy(
        &self,
        dev: &str,
        address: IpAddr,
    ) -> Result<(), Error> {
        let Some(index) = self.index(dev).await? else {
            return Ok(());
        };
        let mut message = NeighbourMessage::default();
        message.header.family = family(address);
        message.header.ifindex = index;
        message.header.flags = NeighbourFlags::Proxy;
        message.attributes.push(destination(address));
        let done = self.handle.neighbours().del(message).execute().await;
        ok_if_absent(done, || format!("answer for {address} on {dev} no longer"))
    }

    /// Makes a permanent neighbour entry.
    pub(in crate::host) async fn keep_neighbour(
        &self,
        dev: &str,
        address: IpAddr,
    ) -> Result<(), Error> {
        let index = self.link(dev).await?.index;
        let request = self.handle.neighbours().add(index, address).replace();
        let done = request.execute().await;
        done.map_err(|error| refused(format!("keep the neighbour {address} of {dev}"), error))
    }

    /// True if there is a permanent neighbour entry. Only this one is asked for: floods make many
    /// others.
    pub(in crate::host) async fn keeps_neighbour(&self, index: u32, address: IpAddr) -> bool {
        let mut message = NeighbourMessage::default();
        message.header.family = family(address);
        message.header.ifindex = index;
        message.attributes.push(destination(address));
        let question = RouteNetlinkMessage::GetNeighbour(message);
        let mut question = NetlinkMessage::from(question);
        question.header.flags = NLM_F_REQUEST;
        let Ok(mut answers) = self.handle.clone().request(question) else {
            return false;
        };
        while let Some(answer) = answers.next().await {
            if let NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNeighbour(found)) =
                answer.payload
            {
                return found.header.state == NeighbourState::Permanent;
            }
        }
        false
    }
}

fn destination(address: IpAddr) -> NeighbourAttribute {
    NeighbourAttribute::Destination(match address {
        IpAddr::V4(v4) => NeighbourAddress::Inet(v4),
        IpAddr::V6(v6) => NeighbourAddress::Inet6(v6),
    })
}

fn entry(message: &NeighbourMessage) -> Option<(u32, IpAddr)> {
    let mut attributes = message.attributes.iter();
    let address = attributes.find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => Some(IpAddr::V4(*v4)),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => Some(IpAddr::V6(*v6)),
        _ => None,
    });
    Some((message.header.ifindex, address?))
}
