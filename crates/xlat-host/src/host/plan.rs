//! What a daemon wants of its host, as plain data.
//!
//! A [`Plan`] is built by a binary, printed by `--dry-run` as the commands an administrator would
//! type, and carried out and undone by [`Host`](super::Host). Nothing here touches the kernel.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use serde::{Deserialize, Serialize};

/// Protocol number that marks our routes, so that they can be told from everybody else's.
pub const ROUTE_PROTOCOL: u8 = 64;

/// An ordered list of changes. They are undone in reverse.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    steps: Vec<Step>,
}

/// One change of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
}

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
    /// IPv6 only: the route is for packets from this address.
    #[serde(default)]
    pub from: Option<Ipv6Addr>,
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
            from: None,
        }
    }

    /// True if the kernel takes both for the same route: one replaces the other.
    pub(super) fn has_same_place(&self, other: &Self) -> bool {
        let place = |route: &Self| {
            (
                route.to,
                route.len,
                route.dev.clone(),
                route.metric,
                route.from,
            )
        };
        place(self) == place(other)
    }

    /// With this preference; lower is better.
    pub fn metric(mut self, metric: u32) -> Self {
        self.metric = Some(metric);
        self
    }

    /// With this path MTU in bytes.
    pub fn mtu(mut self, mtu: u32) -> Self {
        self.mtu = Some(mtu);
        self
    }

    /// For packets from this address, to this next hop or, without one, onto the link.
    pub fn from(mut self, from: Ipv6Addr, via: Option<Ipv6Addr>) -> Self {
        (self.from, self.via) = (Some(from), via);
        self
    }

    /// With this source address for packets of this host.
    pub fn src(mut self, src: impl Into<IpAddr>) -> Self {
        self.src = Some(src.into());
        self
    }
}

impl Plan {
    /// A plan that changes nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// The steps, in the order they are carried out.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Adds a step.
    pub fn step(&mut self, step: Step) -> &mut Self {
        self.steps.push(step);
        self
    }

    /// Gives the TUN device its MTU. It makes no IPv6 address of its own, and routers on it are
    /// not believed: there are none.
    pub fn tun(&mut self, name: &str, mtu: u32) -> &mut Self {
        self.step(Step::Tun {
            name: name.into(),
            mtu,
        });
        self.sysctl(device_key("ipv6", name, "addr_gen_mode"), "1");
        self.step(Step::Up { dev: name.into() })
    }

    /// Sets a kernel parameter.
    pub fn sysctl(&mut self, key: impl Into<String>, value: impl Into<String>) -> &mut Self {
        self.step(Step::Sysctl {
            key: key.into(),
            value: value.into(),
        })
    }

    /// Gives `dev` the address `address/len`.
    pub fn address(&mut self, dev: &str, address: impl Into<IpAddr>, len: u8) -> &mut Self {
        let address = address.into();
        self.step(Step::Address(Address {
            dev: dev.into(),
            address,
            len,
        }))
    }

    /// Makes sure that nobody on the link of `dev` has `address`.
    pub fn claim(&mut self, dev: &str, address: Ipv6Addr) -> &mut Self {
        self.step(Step::Claim {
            dev: dev.into(),
            address,
        })
    }

    /// Answers for `address` on the link of `dev`.
    pub fn proxy(&mut self, dev: &str, address: impl Into<IpAddr>) -> &mut Self {
        self.step(Step::Proxy {
            dev: dev.into(),
            address: address.into(),
        })
    }

    /// Adds a route.
    pub fn route(&mut self, route: Route) -> &mut Self {
        self.step(Step::Route(route))
    }
}

/// The key of a parameter of one device: `net.FAMILY.conf.DEV.NAME`.
pub fn device_key(family: &str, dev: &str, name: &str) -> String {
    format!("net.{family}.conf.{}.{name}", dev.replace('.', "/"))
}

impl fmt::Display for Plan {
    /// The equivalent `ip` and `sysctl` commands, one a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.steps.iter().try_for_each(|step| writeln!(f, "{step}"))
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
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { dev, address, len } = self;
        write!(
            f,
            "ip {}address add {address}/{len} dev {dev}",
            family_flag(*address)
        )
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
            from,
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
        write!(f, " dev {dev}")?;
        if let Some(src) = src {
            write!(f, " src {src}")?;
        }
        if let Some(metric) = metric {
            write!(f, " metric {metric}")?;
        }
        if let Some(mtu) = mtu {
            write!(f, " mtu {mtu}")?;
        }
        write!(f, " proto {ROUTE_PROTOCOL}")
    }
}

fn family_flag(address: IpAddr) -> &'static str {
    if address.is_ipv6() { "-6 " } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn a_plan_prints_as_the_commands_an_administrator_would_type() {
        let mut plan = Plan::new();
        let address = "2001:db8:1::c1a7".parse().unwrap();
        plan.tun("clat", 1500)
            .sysctl(device_key("ipv6", "eth0.5", "force_forwarding"), "1")
            .address("clat", Ipv4Addr::new(192, 0, 0, 1), 32)
            .claim("eth0.5", address)
            .route(Route::new(address, 128, "clat"))
            .route(
                Route::new(Ipv4Addr::UNSPECIFIED, 0, "clat")
                    .metric(2048)
                    .mtu(1472)
                    .src(Ipv4Addr::new(192, 0, 0, 1)),
            );
        let expected = "\
ip tuntap add mode tun clat && ip link set clat mtu 1500
sysctl -w net.ipv6.conf.clat.addr_gen_mode=1
ip link set clat up
sysctl -w net.ipv6.conf.eth0/5.force_forwarding=1
ip address add 192.0.0.1/32 dev clat
ip -6 address add 2001:db8:1::c1a7/128 dev eth0.5 && ip -6 address del 2001:db8:1::c1a7/128 dev eth0.5
ip -6 route add 2001:db8:1::c1a7/128 dev clat proto 64
ip route add default dev clat src 192.0.0.1 metric 2048 mtu 1472 proto 64
";
        assert_eq!(plan.to_string(), expected);
    }
}
