//! One change of the host, and what it is about.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use super::route::{Address, Route};
use crate::nft::{Table, TablePlace};

/// One change of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The TUN device. It is made when the data path opens it, is never persistent, and takes its
    /// addresses and routes with it when it goes; here it gets its MTU.
    Tun {
        /// Name of the device.
        name: String,
        /// MTU in bytes.
        mtu: u32,
    },
    /// A link is set up.
    Up {
        /// Name of the device.
        dev: String,
    },
    /// A kernel parameter, by its dotted name.
    Sysctl {
        /// `net.ipv4.ip_forward`, say; a slash stands for a dot inside a device name.
        key: String,
        /// The value wanted.
        value: String,
    },
    /// An address of a device.
    Address(Address),
    /// The link is asked whether somebody has the address, by duplicate address detection of the
    /// kernel. The address does not stay: whoever claims it answers neighbours for it.
    Claim {
        /// The device whose link is asked.
        dev: String,
        /// The address.
        address: Ipv6Addr,
    },
    /// A route in the main table.
    Route(Route),
    /// The host answers for an address that is routed elsewhere, when it is asked for on the link
    /// (proxy ARP).
    Proxy {
        /// The device on whose link it is asked for.
        dev: String,
        /// The address.
        address: IpAddr,
    },
    /// A table of nftables that goes with this process, whatever ends it.
    Table {
        /// The table.
        table: Table,
        /// `None`: without the table the plan fails. Otherwise the plan goes on where the kernel
        /// refuses the table, and this is what the log says is then wrong.
        optional: Option<String>,
    },
}

/// What a change of the host is about. A step and what takes it back have the same subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::host) enum Subject<'a> {
    Sysctl(&'a str),
    Address(&'a Address),
    Route(&'a Route),
    Proxy(&'a str, IpAddr),
    Table(TablePlace),
}

impl Step {
    /// What is to be taken back of it; `None` if nothing stays behind, or nothing without the TUN.
    pub(in crate::host) fn subject(&self) -> Option<Subject<'_>> {
        match self {
            Self::Tun { .. } | Self::Up { .. } | Self::Claim { .. } => None,
            Self::Sysctl { key, .. } => Some(Subject::Sysctl(key)),
            Self::Address(address) => Some(Subject::Address(address)),
            Self::Route(route) => Some(Subject::Route(route)),
            Self::Proxy { dev, address } => Some(Subject::Proxy(dev, *address)),
            Self::Table { table, .. } => Some(Subject::Table(table.place())),
        }
    }

    /// True if the host can have only one of both: the second takes the place of the first without
    /// a moment in which there is neither.
    pub(super) fn has_same_place(&self, other: &Self) -> bool {
        match self {
            Self::Tun { name, .. } => matches!(other, Self::Tun { name: of, .. } if of == name),
            Self::Up { .. } | Self::Address(_) | Self::Claim { .. } | Self::Proxy { .. } => {
                self == other
            }
            Self::Sysctl { key, .. } => matches!(other, Self::Sysctl { key: of, .. } if of == key),
            Self::Route(route) => matches!(other, Self::Route(of) if of.has_same_place(route)),
            Self::Table { table, .. } => {
                matches!(other, Self::Table { table: of, .. } if of.place() == table.place())
            }
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tun { name, mtu } => {
                write!(
                    f,
                    "ip tuntap add mode tun {name} && ip link set {name} mtu {mtu}"
                )
            }
            Self::Up { dev } => write!(f, "ip link set {dev} up"),
            Self::Sysctl { key, value } => write!(f, "sysctl -w {key}={value}"),
            Self::Address(address) => address.fmt(f),
            Self::Claim { dev, address } => {
                let probe = Address {
                    dev: dev.clone(),
                    address: (*address).into(),
                    len: 128,
                };
                write!(f, "{probe} && ip -6 address del {address}/128 dev {dev}")
            }
            Self::Route(route) => route.fmt(f),
            Self::Proxy { dev, address } => {
                write!(f, "ip neighbour add proxy {address} dev {dev}")
            }
            Self::Table { table, .. } => table.fmt(f),
        }
    }
}
