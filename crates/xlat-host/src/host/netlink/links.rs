//! Network interfaces: list, set the MTU, set up.

use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoKind, LinkAttribute, LinkFlags, LinkInfo,
    LinkMessage, Prop,
};
use rtnetlink::LinkUnspec;

use super::{Netlink, collect, refused};
use crate::host::error::Error;
use crate::nft::TUN_GROUP;

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its interface number.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// It is administratively up.
    pub up: bool,
    /// It is up and has a carrier.
    pub running: bool,
    /// It is the loopback interface.
    pub loopback: bool,
    /// Its link-layer address, if it has one of six bytes and resolves its neighbours with it (ARP,
    /// neighbour discovery).
    pub mac: Option<[u8; 6]>,
    /// How often its carrier has changed. After a change it may be attached to another network.
    pub carrier_changes: u32,
    /// It is a tunnel: it sends packets inside other packets, as a VPN does.
    pub tunnel: bool,
    /// The kernel gives it a link-local address when it is set up.
    pub link_local: bool,
    /// Number of its group, by which rules can name several interfaces at once.
    pub group: u32,
    /// Further names that it goes by (`ip link property add dev eth0 altname NAME`).
    pub other_names: Vec<String>,
}

impl Link {
    /// True if this is one of its names.
    pub fn is_called(&self, name: &str) -> bool {
        self.name == name || self.other_names.iter().any(|one| one == name)
    }
}

impl Netlink {
    pub(in crate::host) async fn links(&self) -> Result<Vec<Link>, Error> {
        let messages = collect("list links", self.handle.link().get().execute()).await?;
        Ok(messages.iter().map(link).collect())
    }

    pub(in crate::host) async fn link(&self, name: &str) -> Result<Link, Error> {
        let links = self.links().await?;
        let found = links.into_iter().find(|link| link.is_called(name));
        found.ok_or_else(|| Error::NoLink(name.into()))
    }

    pub(super) async fn index(&self, name: &str) -> Result<Option<u32>, Error> {
        match self.link(name).await {
            Ok(link) => Ok(Some(link.index)),
            Err(Error::NoLink(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Gives a TUN its MTU and group, and the kernel no leave to give it a link-local address. The parameter
    /// `addr_gen_mode` would say the latter too, but not where `/proc/sys` is read-only.
    pub(in crate::host) async fn set_up_tun(&self, name: &str, mtu: u32) -> Result<(), Error> {
        let index = self.link(name).await?.index;
        let no_address = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
        let change = LinkUnspec::new_with_index(index)
            .mtu(mtu)
            .append_extra_attribute(LinkAttribute::Group(TUN_GROUP))
            .append_extra_attribute(LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(
                vec![no_address],
            )]))
            .build();
        let done = self.handle.link().set(change).execute().await;
        let what = || format!("ip link set {name} mtu {mtu} group {TUN_GROUP} addrgenmode none");
        done.map_err(|error| refused(what(), error))
    }

    pub(in crate::host) async fn set_up(&self, name: &str) -> Result<(), Error> {
        let index = self.link(name).await?.index;
        let change = LinkUnspec::new_with_index(index).up().build();
        let done = self.handle.link().set(change).execute().await;
        done.map_err(|error| refused(format!("set {name} up"), error))
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
        link_local: true,
        group: 0,
        other_names: Vec::new(),
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::CarrierChanges(count) => link.carrier_changes = *count,
            LinkAttribute::LinkInfo(infos) => link.tunnel = infos.iter().any(is_tunnel),
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::PropList(all) => link.other_names.extend(all.iter().filter_map(altname)),
            LinkAttribute::Group(group) => link.group = *group,
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::AfSpecUnspec(all) => {
                link.link_local = !all.iter().any(has_no_link_local)
            }
            LinkAttribute::Address(bytes) if !flags.contains(LinkFlags::Noarp) => {
                link.mac = bytes.as_slice().try_into().ok();
            }
            _ => {}
        }
    }
    link
}

fn has_no_link_local(family: &AfSpecUnspec) -> bool {
    let no_address = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
    matches!(family, AfSpecUnspec::Inet6(all) if all.contains(&no_address))
}

fn altname(property: &Prop) -> Option<String> {
    match property {
        Prop::AltIfName(name) => Some(name.clone()),
        _ => None,
    }
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
