//! The IPv4 hosts behind a CLAT, as the network's PCP server knows them.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use xlat_core::addr::{Eam, Ipv4Prefix, Pref64};

/// Ports that a host without an IPv6 address of its own may get at the CLAT's.
const PORTS: RangeInclusive<u16> = 1024..=65535;

/// The IPv4 hosts that may ask, and the way their packets take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hosts {
    /// The network's NAT64 prefix.
    pub pref64: Pref64,
    /// IPv4 address of the CLAT's own host.
    pub own: Ipv4Addr,
    /// IPv6 address that its packets have in the network.
    pub client: Ipv6Addr,
    /// Its ports there, if that address is also another's.
    pub shared_ports: Option<RangeInclusive<u16>>,
    /// Networks whose hosts have IPv6 addresses of their own.
    pub mapped: Vec<Eam>,
    /// Networks whose hosts share the address `own`.
    pub masqueraded: Vec<Ipv4Prefix>,
}

/// How one host is known to the PCP server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Its IPv6 address.
    pub client: Ipv6Addr,
    /// The ports it may have there; `None` if all are its own, so that no port is changed.
    pub ports: Option<RangeInclusive<u16>>,
}

impl Hosts {
    /// `None` for an address that is none of the CLAT's hosts.
    pub(super) fn place(&self, host: Ipv4Addr) -> Option<Place> {
        if host == self.own {
            return Some(Place {
                client: self.client,
                ports: self.shared_ports.clone(),
            });
        }
        let mapped = self.mapped.iter().find_map(|eam| eam.lookup_v4(host));
        if let Some(client) = mapped {
            return Some(Place {
                client,
                ports: None,
            });
        }
        let mut masqueraded = self.masqueraded.iter();
        masqueraded.find(|lan| lan.contains(host)).map(|_| Place {
            client: self.client,
            ports: Some(self.shared_ports.clone().unwrap_or(PORTS)),
        })
    }
}
