//! One change of the host, and the object it changes.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use super::route::{Address, PolicyRule, Route};
use crate::daemon::terminal::Word;
use crate::nft::{TUN_GROUP, Table, TablePlace};

/// One change of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// MTU and group of the TUN device, to which the kernel gives no link-local address. The data
    /// path makes the device when it opens it; it is never persistent, and its addresses and routes
    /// disappear with it.
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
        /// For example `net.ipv4.ip_forward`; a slash stands for a dot inside a device name.
        key: String,
        /// The value to set.
        value: String,
    },
    /// An address of a device.
    Address(Address),
    /// Duplicate address detection by the kernel: fails if another host on the link has the
    /// address. The address does not stay on the interface; the daemon answers neighbour
    /// solicitations for it.
    Claim {
        /// Name of the interface.
        dev: String,
        /// The address.
        address: Ipv6Addr,
    },
    /// A route.
    Route(Route),
    /// A routing policy rule.
    Rule(PolicyRule),
    /// A proxy neighbour entry: the host answers ARP requests or neighbour solicitations for an
    /// address that is routed elsewhere.
    Proxy {
        /// Name of the interface on which it answers.
        dev: String,
        /// The address.
        address: IpAddr,
    },
    /// A neighbour entry of the TUN that the kernel keeps. It finds the destinations of a device
    /// by entries too, and those of a TUN are the first that it gives up when its table is full,
    /// which others can bring about. The entry disappears with the TUN.
    Neighbour {
        /// Name of the TUN.
        dev: String,
        /// The next hop; for IPv4, where the kernel has one entry for all, the unspecified address.
        address: IpAddr,
    },
    /// An nftables table. The kernel deletes it when this process ends, however it ends.
    Table {
        /// The table.
        table: Table,
        /// `None`: if the kernel refuses the table, the plan fails. Otherwise the plan goes on and
        /// logs this text, which says what does not work then.
        optional: Option<String>,
    },
}

/// The object that a change of the host is about. A step and the entry that undoes it have the same
/// subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::host) enum Subject<'a> {
    Sysctl(&'a str),
    Address(&'a Address),
    Route(&'a Route),
    Rule(&'a PolicyRule),
    Proxy(&'a str, IpAddr),
    Table(TablePlace),
}

impl Step {
    /// The object to undo; `None` if nothing stays behind, or nothing without the TUN.
    pub(in crate::host) fn subject(&self) -> Option<Subject<'_>> {
        match self {
            Self::Tun { .. } | Self::Up { .. } | Self::Claim { .. } | Self::Neighbour { .. } => {
                None
            }
            Self::Sysctl { key, .. } => Some(Subject::Sysctl(key)),
            Self::Address(address) => Some(Subject::Address(address)),
            Self::Route(route) => Some(Subject::Route(route)),
            Self::Rule(rule) => Some(Subject::Rule(rule)),
            Self::Proxy { dev, address } => Some(Subject::Proxy(dev, *address)),
            Self::Table { table, .. } => Some(Subject::Table(table.place())),
        }
    }

    /// True if the host can have only one of both, so that the second replaces the first at once.
    pub(super) fn has_same_place(&self, other: &Self) -> bool {
        match self {
            Self::Tun { name, .. } => matches!(other, Self::Tun { name: of, .. } if of == name),
            Self::Up { .. }
            | Self::Address(_)
            | Self::Claim { .. }
            | Self::Rule(_)
            | Self::Neighbour { .. }
            | Self::Proxy { .. } => self == other,
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
                let name = Word(name);
                write!(
                    f,
                    "ip tuntap add mode tun {name} && ip link set {name} mtu {mtu} group {TUN_GROUP} \
                     addrgenmode none"
                )
            }
            Self::Up { dev } => write!(f, "ip link set {} up", Word(dev)),
            Self::Sysctl { key, value } => {
                write!(f, "sysctl -w {}", Word(&format!("{key}={value}")))
            }
            Self::Address(address) => address.fmt(f),
            Self::Claim { dev, address } => {
                let probe = Address {
                    dev: dev.clone(),
                    address: (*address).into(),
                    len: 128,
                };
                let dev = Word(dev);
                write!(f, "{probe} && ip -6 address del {address}/128 dev {dev}")
            }
            Self::Route(route) => route.fmt(f),
            Self::Rule(rule) => rule.fmt(f),
            Self::Proxy { dev, address } => {
                write!(f, "ip neighbour add proxy {address} dev {}", Word(dev))
            }
            Self::Neighbour { dev, address } => {
                let dev = Word(dev);
                write!(f, "ip neighbour replace {address} dev {dev} nud permanent")
            }
            Self::Table { table, .. } => table.fmt(f),
        }
    }
}
