//! A plan after interfaces were renamed: it is in force under their new names.

use super::{Plan, Step};
use crate::host::sysctl;

/// An interface has got another name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Renamed {
    /// Its former name.
    pub old: String,
    /// Its present name.
    pub new: String,
}

impl Plan {
    /// The same plan with the present names of the interfaces. A table keeps the former ones: its
    /// rules match packets by name.
    pub fn renamed(&self, all: &[Renamed]) -> Self {
        let mut plan = self.clone();
        for step in &mut plan.steps {
            step.follow(all);
        }
        plan
    }
}

impl Step {
    fn follow(&mut self, all: &[Renamed]) {
        let new = |old: &str| all.iter().find(|one| one.old == old).map(|one| &*one.new);
        match self {
            Self::Tun { name: dev, .. }
            | Self::Up { dev }
            | Self::Claim { dev, .. }
            | Self::Neighbour { dev, .. }
            | Self::Proxy { dev, .. } => {
                if let Some(new) = new(dev) {
                    new.clone_into(dev);
                }
            }
            Self::Address(address) => {
                if let Some(new) = new(&address.dev) {
                    new.clone_into(&mut address.dev);
                }
            }
            Self::Route(route) => {
                if let Some(new) = new(&route.dev) {
                    new.clone_into(&mut route.dev);
                }
            }
            Self::Sysctl { key, .. } => {
                if let Some(new) = sysctl::device(key).as_deref().and_then(new) {
                    *key = sysctl::on_device(key, new);
                }
            }
            Self::Rule(_) | Self::Table { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use super::*;
    use crate::host::{Route, device_key};

    fn plan(uplink: &str, lan: &str) -> Plan {
        let mut plan = Plan::new();
        let address: Ipv6Addr = "2001:db8::1".parse().unwrap();
        plan.tun("clat", 1500)
            .sysctl(device_key("ipv6", uplink, "force_forwarding"), "1")
            .sysctl("net.ipv4.ip_forward", "1")
            .claim(uplink, address)
            .address(lan, Ipv4Addr::new(192, 0, 2, 1), 24)
            .proxy(lan, IpAddr::from([192, 0, 2, 7]))
            .route(Route::new(address, 96, uplink));
        plan
    }

    #[test]
    fn fc_08_all_steps_follow_even_where_two_interfaces_swap_their_names() {
        let renamed = |old: &str, new: &str| Renamed {
            old: old.into(),
            new: new.into(),
        };
        let moved = plan("eth0.5", "eth1").renamed(&[renamed("eth0.5", "wan")]);
        assert_eq!(moved, plan("wan", "eth1"));
        let both = [renamed("eth0", "eth1"), renamed("eth1", "eth0")];
        assert_eq!(plan("eth0", "eth1").renamed(&both), plan("eth1", "eth0"));
    }
}
