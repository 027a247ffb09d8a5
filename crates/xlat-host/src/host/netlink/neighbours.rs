//! Proxy neighbour entries: addresses for which the kernel answers ARP and neighbour solicitations.

use std::net::IpAddr;

use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage,
};

use super::{Netlink, family, ok_if_absent, refused};
use crate::host::error::Error;

impl Netlink {
    pub(in crate::host) async fn add_proxy(&self, dev: &str, address: IpAddr) -> Result<(), Error> {
        let index = self.link(dev).await?.index;
        let request = self.handle.neighbours().add(index, address);
        let request = request.flags(NeighbourFlags::Proxy).replace();
        let done = request.execute().await;
        done.map_err(|error| refused(format!("answer for {address} on {dev}"), error))
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
        let destination = match address {
            IpAddr::V4(v4) => NeighbourAddress::Inet(v4),
            IpAddr::V6(v6) => NeighbourAddress::Inet6(v6),
        };
        let attribute = NeighbourAttribute::Destination(destination);
        message.attributes.push(attribute);
        let done = self.handle.neighbours().del(message).execute().await;
        ok_if_absent(done, || format!("answer for {address} on {dev} no longer"))
    }
}
