//! Routes, routing policy rules and addresses, as plans and the journal hold them.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::daemon::terminal::Word;

/// Protocol number of our routes (`ip route ... proto 64`), which tells them from those of other
/// programs.
pub const ROUTE_PROTOCOL: u8 = 64;

/// An address of a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// Name of the device.
    pub dev: String,
    /// The address.
    pub address: IpAddr,
    /// Prefix length.
    pub len: u8,
}

/// A route through a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Destination address.
    pub to: IpAddr,
    /// Length of the destination prefix; 0 is the default route.
    pub len: u8,
    /// Name of the device.
    pub dev: String,
    /// Preference; lower is better. `None` is the kernel's default.
    pub metric: Option<u32>,
    /// Path MTU in bytes.
    pub mtu: Option<u32>,
    /// Source address for packets of this host.
    pub src: Option<IpAddr>,
    /// IPv6 only: the next hop. Without one the destination is on the link.
    #[serde(default)]
    pub via: Option<Ipv6Addr>,
    /// The next hop is taken to be on the link, whatever addresses the device has.
    #[serde(default)]
    pub on_link: bool,
    /// IPv6 only: the route is for packets from this address.
    #[serde(default)]
    pub from: Option<Ipv6Addr>,
    /// Number of its routing table; `None` is the main table.
    #[serde(default)]
    pub table: Option<u32>,
}

/// A routing policy rule: packets to one network, or those from one address, are routed by a table
/// of their own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyRule {
    /// Its place among the host's rules; lower comes first.
    pub priority: u32,
    /// Source address of the packets; `None` for any.
    pub from: Option<IpAddr>,
    /// Destination network of the packets: its address.
    pub to: IpAddr,
    /// Length of the destination prefix.
    pub len: u8,
    /// Number of the routing table.
    pub table: u32,
}

impl Route {
    /// A route to `to/len` through `dev`.
    pub fn new(to: impl Into<IpAddr>, len: u8, dev: impl Into<String>) -> Self {
        Self {
            to: to.into(),
            len,
            dev: dev.into(),
            metric: None,
            mtu: None,
            src: None,
            via: None,
            on_link: false,
            from: None,
            table: None,
        }
    }

    /// True if the kernel considers both the same route, so that adding one replaces the other.
    pub(in crate::host) fn has_same_place(&self, other: &Self) -> bool {
        let place = |route: &Self| {
            (
                route.to,
                route.len,
                route.dev.clone(),
                route.metric,
                route.from,
                route.table,
            )
        };
        place(self) == place(other)
    }

    /// Sets the preference; lower is better.
    pub fn metric(mut self, metric: u32) -> Self {
        self.metric = Some(metric);
        self
    }

    /// Sets the path MTU in bytes.
    pub fn mtu(mut self, mtu: u32) -> Self {
        self.mtu = Some(mtu);
        self
    }

    /// Restricts the route to packets from this address, and sets the next hop; without `via` the
    /// destination is on the link.
    pub fn from(mut self, from: Ipv6Addr, via: Option<Ipv6Addr>) -> Self {
        (self.from, self.via) = (Some(from), via);
        self
    }

    /// Sets the next hop, which is taken to be on the link: a TUN has no address in whose network it
    /// could be, and BIRD learns no route with a next hop that it cannot place.
    pub fn via_on_link(mut self, via: Ipv6Addr) -> Self {
        (self.via, self.on_link) = (Some(via), true);
        self
    }

    /// Sets the routing table.
    pub fn table(mut self, table: u32) -> Self {
        self.table = Some(table);
        self
    }

    /// Sets the source address for packets of this host.
    pub fn src(mut self, src: impl Into<IpAddr>) -> Self {
        self.src = Some(src.into());
        self
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { dev, address, len } = self;
        let (family, dev) = (family_flag(*address), Word(dev));
        write!(f, "ip {family}address add {address}/{len} dev {dev}")
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            to,
            len,
            dev,
            metric,
            mtu,
            src,
            via,
            on_link,
            from,
            table,
        } = self;
        write!(f, "ip {}route add ", family_flag(*to))?;
        match len {
            0 => f.write_str("default")?,
            _ => write!(f, "{to}/{len}")?,
        }
        if let Some(from) = from {
            write!(f, " from {from}")?;
        }
        if let Some(via) = via {
            write!(f, " via {via}")?;
        }
        write!(f, " dev {}", Word(dev))?;
        if *on_link {
            f.write_str(" onlink")?;
        }
        if let Some(src) = src {
            write!(f, " src {src}")?;
        }
        if let Some(metric) = metric {
            write!(f, " metric {metric}")?;
        }
        if let Some(mtu) = mtu {
            write!(f, " mtu {mtu}")?;
        }
        if let Some(table) = table {
            write!(f, " table {table}")?;
        }
        write!(f, " proto {ROUTE_PROTOCOL}")
    }
}

impl fmt::Display for PolicyRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            priority,
            from,
            to,
            len,
            table,
        } = self;
        write!(f, "ip {}rule add priority {priority}", family_flag(*to))?;
        if let Some(from) = from {
            write!(f, " from {from}")?;
        }
        write!(f, " to {to}/{len} table {table} proto {ROUTE_PROTOCOL}")
    }
}

fn family_flag(address: IpAddr) -> &'static str {
    if address.is_ipv6() { "-6 " } else { "" }
}
