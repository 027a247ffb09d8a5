//! A pool as `plat status` shows it: for people, and in fields for programs.

use std::fmt;
use std::net::Ipv4Addr;

use nat64::PoolSpec;
use serde::Serialize;
use xlat_core::addr::Ipv4Prefix;

use crate::OwnAddress;
use crate::egress::Outer;

/// What clients get or share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum PoolStatus {
    /// Addresses that clients share.
    Shared {
        /// The first one.
        first: Ipv4Addr,
        /// The last one.
        last: Ipv4Addr,
        /// Their ports.
        ports: Ports,
    },
    /// An address of this host that clients share with it.
    Interface {
        /// The interface and its address, while there is one.
        #[serde(skip_serializing_if = "Option::is_none")]
        interface: Option<String>,
        /// That address.
        #[serde(skip_serializing_if = "Option::is_none")]
        address: Option<Ipv4Addr>,
        /// The ports of clients.
        ports: Vec<Ports>,
        /// The same for people.
        #[serde(skip)]
        text: String,
    },
    /// Each client gets an address.
    Dynamic {
        /// Of this prefix.
        prefix: String,
    },
}

/// A range of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Ports {
    /// The first one.
    first: u16,
    /// The last one.
    last: u16,
}

impl PoolStatus {
    /// An address of this host.
    pub fn own(own: &OwnAddress) -> Self {
        let ports = own.ranges.iter().map(|range| Ports {
            first: *range.start(),
            last: *range.end(),
        });
        Self::Interface {
            interface: None,
            address: None,
            ports: ports.collect(),
            text: own.describe(),
        }
    }

    /// Each client gets an address of this prefix.
    pub fn dynamic(prefix: Ipv4Prefix) -> Self {
        Self::Dynamic {
            prefix: prefix.to_string(),
        }
    }

    /// The same where clients are seen there now.
    #[must_use]
    pub fn seen(self, outer: Option<&Outer>) -> Self {
        match (self, outer) {
            (Self::Interface { ports, text, .. }, Some(outer)) => Self::Interface {
                interface: Some(outer.interface.clone()),
                address: Some(outer.address),
                ports,
                text,
            },
            (other, _) => other,
        }
    }
}

impl From<&PoolSpec> for PoolStatus {
    fn from(spec: &PoolSpec) -> Self {
        Self::Shared {
            first: *spec.addresses.start(),
            last: *spec.addresses.end(),
            ports: Ports {
                first: *spec.ports.start(),
                last: *spec.ports.end(),
            },
        }
    }
}

impl fmt::Display for PoolStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shared { first, last, ports } => {
                write!(f, "{first}")?;
                if first != last {
                    write!(f, "-{last}")?;
                }
                match (ports.first, ports.last) {
                    (0, u16::MAX) => Ok(()),
                    (first, last) => write!(f, ":{first}-{last}"),
                }
            }
            Self::Interface {
                interface: Some(interface),
                address: Some(address),
                text,
                ..
            } => write!(f, "{address} of {interface}, {text}"),
            Self::Interface { text, .. } => f.write_str(text),
            Self::Dynamic { prefix } => write!(f, "{prefix}, an address each"),
        }
    }
}
