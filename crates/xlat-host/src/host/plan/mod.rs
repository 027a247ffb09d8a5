//! The desired state of the host, as plain data.
//!
//! A binary builds a [`Plan`]; `--dry-run` prints it as the commands an administrator would type;
//! [`Host`](super::Host) applies and undoes it. Two plans have a [`Difference`]. Nothing here
//! touches the kernel.

mod difference;
mod renamed;
mod route;
mod step;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::nft::Table;

pub(super) use difference::Addition;
pub use difference::Difference;
pub use renamed::Renamed;
pub use route::{Address, PolicyRule, ROUTE_PROTOCOL, Route};
pub use step::Step;
pub(super) use step::Subject;

/// An ordered list of changes. They are undone in reverse.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    steps: Vec<Step>,
}

impl Plan {
    /// A plan that changes nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// The steps, in the order of application.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Adds a step.
    pub fn step(&mut self, step: Step) -> &mut Self {
        self.steps.push(step);
        self
    }

    /// Sets the MTU of the TUN device and sets it up, with the neighbour entry of all IPv4
    /// destinations behind it. It has IPv6 even where the host gives new
    /// interfaces none. The kernel gives it no link-local address, and without one it solicits no
    /// routers.
    pub fn tun(&mut self, name: &str, mtu: u32) -> &mut Self {
        self.step(Step::Tun {
            name: name.into(),
            mtu,
        });
        self.sysctl(device_key("ipv6", name, "disable_ipv6"), "0");
        self.step(Step::Up { dev: name.into() });
        self.neighbour(name, Ipv4Addr::UNSPECIFIED)
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

    /// Checks that no host on the link of `dev` has `address`, by duplicate address detection.
    pub fn claim(&mut self, dev: &str, address: Ipv6Addr) -> &mut Self {
        self.step(Step::Claim {
            dev: dev.into(),
            address,
        })
    }

    /// Adds a proxy neighbour entry for `address` on `dev`.
    pub fn proxy(&mut self, dev: &str, address: impl Into<IpAddr>) -> &mut Self {
        self.step(Step::Proxy {
            dev: dev.into(),
            address: address.into(),
        })
    }

    /// Keeps the way to `address`, a next hop behind the TUN `dev`, in the kernel's neighbour table.
    pub fn neighbour(&mut self, dev: &str, address: impl Into<IpAddr>) -> &mut Self {
        self.step(Step::Neighbour {
            dev: dev.into(),
            address: address.into(),
        })
    }

    /// Makes an nftables table.
    pub fn table(&mut self, table: Table) -> &mut Self {
        let optional = None;
        self.step(Step::Table { table, optional })
    }

    /// Makes an nftables table. If the kernel refuses it, the plan goes on and logs `without`,
    /// which says what does not work then.
    pub fn optional_table(&mut self, table: Table, without: impl Into<String>) -> &mut Self {
        let optional = Some(without.into());
        self.step(Step::Table { table, optional })
    }

    /// Appends the steps of another plan.
    pub fn append(&mut self, other: Plan) -> &mut Self {
        self.steps.extend(other.steps);
        self
    }

    /// Adds a route.
    pub fn route(&mut self, route: Route) -> &mut Self {
        self.step(Step::Route(route))
    }

    /// Adds a routing policy rule.
    pub fn rule(&mut self, rule: PolicyRule) -> &mut Self {
        self.step(Step::Rule(rule))
    }
}

/// The key of a parameter of one interface: `net.FAMILY.conf.DEV.NAME`.
pub fn device_key(family: &str, dev: &str, name: &str) -> String {
    format!("net.{family}.conf.{}.{name}", dev.replace('.', "/"))
}

impl fmt::Display for Plan {
    /// The equivalent `ip`, `sysctl` and `nft` commands, one a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.steps.iter().try_for_each(|step| writeln!(f, "{step}"))
    }
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
            .table(Table::guard("xlat_guard", "eth0.5", "clat"))
            .route(Route::new(address, 128, "clat"))
            .route(
                Route::new(Ipv4Addr::UNSPECIFIED, 0, "clat")
                    .metric(2048)
                    .mtu(1472)
                    .src(Ipv4Addr::new(192, 0, 0, 1)),
            );
        let expected = "\
ip tuntap add mode tun clat && ip link set clat mtu 1500 group 464 addrgenmode none
sysctl -w net.ipv6.conf.clat.disable_ipv6=0
ip link set clat up
ip neighbour replace 0.0.0.0 dev clat nud permanent
sysctl -w net.ipv6.conf.eth0/5.force_forwarding=1
ip address add 192.0.0.1/32 dev clat
ip -6 address add 2001:db8:1::c1a7/128 dev eth0.5 && ip -6 address del 2001:db8:1::c1a7/128 dev eth0.5
nft add table ip6 xlat_guard
nft 'add chain ip6 xlat_guard forward { type filter hook forward priority filter; }'
nft add rule ip6 xlat_guard forward iifname eth0.5 oifname != clat oifgroup != 464 drop
ip -6 route add 2001:db8:1::c1a7/128 dev clat proto 64
ip route add default dev clat src 192.0.0.1 metric 2048 mtu 1472 proto 64
";
        assert_eq!(plan.to_string(), expected);
    }
}
