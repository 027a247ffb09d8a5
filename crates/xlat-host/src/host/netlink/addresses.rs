//! Addresses of interfaces: list, add, remove.

use std::net::IpAddr;

use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, CacheInfo};

use super::{Netlink, collect, family, ok_if_absent, refused};
use crate::host::error::Error;
use crate::host::plan::Address;

/// An address assigned to an interface.
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
    /// Duplicate address detection found another host with this address.
    pub duplicate: bool,
    /// Its preferred lifetime is over: new connections shall not use it.
    pub deprecated: bool,
    /// It is a temporary privacy address (RFC 8981).
    pub temporary: bool,
    /// Remaining valid lifetime in seconds; `u32::MAX` is infinite.
    pub valid: u32,
    /// Remaining preferred lifetime in seconds; `u32::MAX` is infinite.
    pub preferred: u32,
}

impl Netlink {
    pub(in crate::host) async fn addresses(&self) -> Result<Vec<Assigned>, Error> {
        let messages = collect("list addresses", self.handle.address().get().execute()).await?;
        Ok(messages.iter().filter_map(assigned).collect())
    }

    pub(in crate::host) async fn add_address(&self, wanted: &Address) -> Result<(), Error> {
        let index = self.link(&wanted.dev).await?.index;
        let request = self.handle.address().add(index, wanted.address, wanted.len);
        let done = request.execute().await;
        done.map_err(|error| refused(wanted.to_string(), error))
    }

    /// Adds a deprecated IPv6 address without a prefix route, for duplicate address detection only:
    /// no program chooses it as its source.
    pub(in crate::host) async fn add_probe(&self, wanted: &Address) -> Result<(), Error> {
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

    /// Removes an address. An absent one is no error.
    pub(in crate::host) async fn remove_address(&self, wanted: &Address) -> Result<(), Error> {
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
        ok_if_absent(done, || {
            format!("remove {} from {}", wanted.address, wanted.dev)
        })
    }
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
