//! The desired state: which CLAT runs, or the reason for waiting.

use std::fmt;
use std::net::Ipv6Addr;

use xlat_core::addr::{Ipv4Prefix, Pref64};

use super::view::{Lead, MissingUplink, OtherClat};

/// The desired state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// No interface leads to IPv6.
    WaitingForIpv6,
    /// The uplink that was asked for cannot be used (yet).
    WaitingForUplink(MissingUplink),
    /// The host has native IPv4.
    NativeIpv4,
    /// Another program brings IPv4 over IPv6.
    OtherClat(OtherClat),
    /// The routers and DNS servers of this uplink are being asked for the NAT64 prefix.
    AskingForPrefix(String),
    /// No NAT64 prefix is known (yet).
    WaitingForPrefix,
    /// The uplink has no usable IPv6 address (yet).
    WaitingForAddress(String),
    /// The uplink has no route to the NAT64 prefix (yet).
    WaitingForRoute(String, Pref64),
    /// No interface has an address in this network of `--lan-network` (yet).
    WaitingForLan(Ipv4Prefix),
    /// The NAT64 prefix contains the host's own addresses.
    PrefixIsLocal(Pref64),
    /// All addresses that were tried are duplicates.
    NoFreeAddress(String),
    /// Translating.
    Running(Clat),
}

/// The parameters of a running CLAT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clat {
    /// The NAT64 prefix.
    pub prefix: Pref64,
    /// Name of the uplink.
    pub uplink: String,
    /// Interface index of the uplink.
    pub index: u32,
    /// IPv6 address for the IPv4 address of this host.
    pub address: Ipv6Addr,
    /// Origin of the address.
    pub origin: Origin,
    /// MTU towards the IPv6-only network in bytes.
    pub mtu: u16,
    /// How its packets are routed to the uplink.
    pub lead: Lead,
    /// Name of the interface to which the host's own routes lead, if that is another one.
    pub elsewhere: Option<String>,
}

/// The origin of a CLAT's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Given by the administrator.
    Given,
    /// In a prefix that is routed to this host: neighbours do not resolve it.
    Delegated,
    /// In the uplink's /64: neighbours resolve it, and another host may have it.
    Link,
    /// Used only within this host: its packets leave with this address of the uplink.
    Shared(Ipv6Addr),
}

impl Clat {
    /// The source address of its packets on the network.
    pub fn outer(&self) -> Ipv6Addr {
        match self.origin {
            Origin::Shared(with) => with,
            Origin::Given | Origin::Delegated | Origin::Link => self.address,
        }
    }

    /// The router that its packets are led to, where the host's own routes do not.
    pub fn router(&self) -> Option<Ipv6Addr> {
        match self.lead {
            Lead::Own(router) => router,
            _ => None,
        }
    }

    /// The route of its own, if it has one.
    fn fmt_route(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(router) = self.router() {
            write!(f, ", by router {router}")?;
        }
        match &self.elsewhere {
            Some(elsewhere) => write!(f, ", while this host's IPv6 routes lead to {elsewhere}"),
            None => Ok(()),
        }
    }

    /// True if the CLAT shares the address of the uplink.
    pub fn is_shared(&self) -> bool {
        matches!(self.origin, Origin::Shared(_))
    }

    /// True if neighbours on the uplink resolve the CLAT's address, and may have it themselves.
    pub fn is_on_link(&self) -> bool {
        matches!(self.origin, Origin::Given | Origin::Link)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Given => "as given",
            Self::Delegated => "stable address in a delegated prefix",
            Self::Link => "stable address in the uplink's /64",
            Self::Shared(_) => "shared with this host, by ports",
        })
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WaitingForIpv6 => f.write_str("waiting: no interface leads to IPv6"),
            Self::NativeIpv4 => {
                f.write_str("waiting: this host has native IPv4 (--always runs beside it)")
            }
            Self::WaitingForUplink(missing) => write!(f, "waiting: {missing}"),
            Self::OtherClat(OtherClat { dev, address }) => write!(
                f,
                "waiting: another CLAT or a tunnel over IPv6 gives this host IPv4: {address} on \
                 {dev} has the default route (--always runs beside it)"
            ),
            Self::AskingForPrefix(uplink) => write!(
                f,
                "waiting: the routers and DNS servers of {uplink} are asked for the NAT64 prefix"
            ),
            Self::WaitingForPrefix => {
                f.write_str("waiting: neither routers nor DNS tell a NAT64 prefix")
            }
            Self::WaitingForAddress(uplink) => write!(
                f,
                "waiting: {uplink} has no global IPv6 address; or give one that is routed to this \
                 host with --ipv6"
            ),
            Self::WaitingForRoute(uplink, prefix) => {
                write!(
                    f,
                    "waiting: {uplink} has no route to the NAT64 prefix {prefix}"
                )
            }
            Self::WaitingForLan(lan) => write!(
                f,
                "waiting: no interface of this host has an address of --lan-network {lan}"
            ),
            Self::PrefixIsLocal(prefix) => write!(
                f,
                "waiting: this host has an address in the NAT64 prefix {prefix}"
            ),
            Self::NoFreeAddress(uplink) => write!(
                f,
                "waiting: other hosts on {uplink} have the addresses that were tried; give one \
                 with --ipv6"
            ),
            Self::Running(clat) => write!(
                f,
                "reaching IPv4 through {} as {} on {} ({})",
                clat.prefix,
                clat.outer(),
                clat.uplink,
                clat.origin
            )
            .and_then(|()| clat.fmt_route(f)),
        }
    }
}
