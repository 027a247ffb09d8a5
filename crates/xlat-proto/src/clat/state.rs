//! The desired state: translating, and as what, or waiting, and for what.

use std::fmt;
use std::net::Ipv6Addr;

use xlat_core::addr::{Ipv4Prefix, Pref64};

use super::view::Lead;

/// The desired state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// No interface leads to IPv6.
    WaitingForIpv6,
    /// The host has IPv4 without us.
    NativeIpv4,
    /// The network tells no NAT64 prefix (yet).
    WaitingForPrefix,
    /// There is no address on the uplink to take a prefix from (yet).
    WaitingForAddress(String),
    /// The uplink has no route to the NAT64 prefix (yet).
    WaitingForRoute(String, Pref64),
    /// No interface is in the network that we are to be the router of (yet).
    WaitingForLan(Ipv4Prefix),
    /// The NAT64 prefix is one that the host itself lives in.
    PrefixIsLocal(Pref64),
    /// Other hosts had all addresses that were tried.
    NoFreeAddress(String),
    /// Translating.
    Running(Clat),
}

/// What a running CLAT is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clat {
    /// The NAT64 prefix.
    pub prefix: Pref64,
    /// Name of the uplink.
    pub uplink: String,
    /// Number of the uplink.
    pub index: u32,
    /// The IPv6 address that it translates to and from.
    pub address: Ipv6Addr,
    /// Where that is from, and how others reach it.
    pub origin: Origin,
    /// MTU towards the IPv6-only network in bytes.
    pub mtu: u16,
    /// How its packets come to leave by the uplink.
    pub lead: Lead,
}

/// Where a CLAT's address is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The administrator.
    Given,
    /// A prefix that is routed to this host: no neighbour has to be told.
    Delegated,
    /// The uplink's own /64: neighbours ask for it, and others may have it.
    Link,
    /// Nobody else sees the address: its packets leave as those of this address of the uplink.
    Shared(Ipv6Addr),
}

impl Clat {
    /// The address that the network sees.
    pub fn outer(&self) -> Ipv6Addr {
        match self.origin {
            Origin::Shared(with) => with,
            Origin::Given | Origin::Delegated | Origin::Link => self.address,
        }
    }

    /// True if this host has the address too.
    pub fn is_shared(&self) -> bool {
        matches!(self.origin, Origin::Shared(_))
    }

    /// True if neighbours on the uplink ask for the CLAT's address, and may have it themselves.
    pub fn is_on_link(&self) -> bool {
        matches!(self.origin, Origin::Given | Origin::Link)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Given => "as given",
            Self::Delegated => "in a delegated prefix",
            Self::Link => "in the uplink's prefix",
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
                "waiting: no interface of this host has an address of --lan {lan}"
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
            ),
        }
    }
}
