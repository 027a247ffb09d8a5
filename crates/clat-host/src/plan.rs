//! The plan for the host of a CLAT, in two parts: the default route comes last.
//!
//! The CLAT's IPv6 address belongs to no interface: it is claimed on the uplink's link and then
//! routed to the TUN. Only the two interfaces involved forward; the rest of the host stays a host.

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use xlat_host::host::{
    Host, LinkLocalDefault, Plan, PolicyRule, Renamed, Route, device_key, reserved_ports,
};
use xlat_proto::clat::{Clat, Lead, Origin};
use xlat_proto::pcp::proxy::Forward;

use crate::config::Sysctl;
use crate::tables::{FORCE_FORWARDING, FORWARDING};
use crate::{HostConfig, SetupError, tables};

/// The plan for the host of a CLAT, in two parts.
#[derive(Clone, Debug)]
pub struct Parts {
    /// All but the default route: the TUN and its IPv4 side, the uplink that forwards, the IPv6
    /// address (claimed where others may have it, and routed to the TUN) and the tables.
    pub setup: Plan,
    /// The IPv4 default route. It comes last, when all the rest works, and so goes first.
    pub route: Plan,
    /// The name of the table of `setup` that keeps neighbours from this host's other networks;
    /// `None` if others want the uplink to forward.
    pub(crate) guard: Option<String>,
    /// A default route that leads no further than the link, and would come before ours.
    pub(crate) outranked: Option<LinkLocalDefault>,
}

impl Parts {
    /// Plans `clat` for a host, with the ports that hosts have from a PCP server. `sysctl` returns the values of kernel parameters as they are
    /// without the CLAT.
    ///
    /// # Errors
    /// If the host cannot be read, or no interface has an address in a network of `lan`.
    pub async fn new(
        host: &Host,
        config: &HostConfig,
        clat: &Clat,
        ports: &[Forward],
        sysctl: Sysctl<'_>,
    ) -> Result<Self, SetupError> {
        let tun = &config.tun.name;
        let mut own = Plan::new();
        own.tun(tun, u32::from(clat.mtu));
        let mut uplink = Plan::new();
        let guard = tables::guard(config, clat, sysctl);
        let guard_name = guard.as_ref().map(|table| table.name().to_owned());
        if let Some(guard) = guard {
            let without = format!(
                "neighbours on {} can send packets through this host",
                clat.uplink
            );
            uplink.optional_table(guard, without);
        }
        forward(&mut own, &mut uplink, host, config, &clat.uplink, sysctl).await?;
        own.address(tun, config.side4.host, 32);
        lan(&mut own, host, config).await?;
        let mut setup = own;
        setup.append(uplink).append(address(config, clat, sysctl));
        let tables = [tables::masquerade(config), tables::share(config, clat)];
        for table in tables.into_iter().flatten() {
            setup.table(table);
        }
        for table in tables::forwards(config, clat, ports) {
            setup.table(table);
        }
        let ipv4 = host.ipv4_defaults().await?;
        let outranked = ipv4.link_local.filter(|other| {
            let is_native = ipv4.native || ipv4.over_ipv6.is_some();
            !is_native && other.metric <= config.side4.metric
        });
        Ok(Self {
            setup,
            route: default_route(config, clat, outranked.as_ref()),
            guard: guard_name,
            outranked,
        })
    }

    /// All changes, in order.
    pub fn whole(&self) -> Plan {
        let mut whole = self.setup.clone();
        whole.append(self.route.clone());
        whole
    }

    /// The same parts with the present names of the interfaces.
    pub(crate) fn renamed(&self, all: &[Renamed]) -> Self {
        Self {
            setup: self.setup.renamed(all),
            route: self.route.renamed(all),
            guard: self.guard.clone(),
            outranked: self.outranked.clone(),
        }
    }
}

/// The IPv4 default route, preferred to `outranked`. Where that has the metric 0, the two halves of
/// the default route are: they are more specific.
///
/// A lower metric is better where it is possible: VPNs pass over default routes (`ip rule ...
/// suppress_prefixlength 0`), and would not pass over the halves.
fn default_route(config: &HostConfig, clat: &Clat, outranked: Option<&LinkLocalDefault>) -> Plan {
    const WHOLE: &[(u8, u8)] = &[(0, 0)];
    const HALVES: &[(u8, u8)] = &[(0, 1), (128, 1)];
    let ours = config.side4.metric;
    let (destinations, metric) = match outranked.map(|other| other.metric) {
        None => (WHOLE, ours),
        Some(0) => (HALVES, ours),
        Some(other) => (WHOLE, other - 1),
    };
    let mut plan = Plan::new();
    for (first, len) in destinations {
        plan.route(
            Route::new(Ipv4Addr::new(*first, 0, 0, 0), *len, &*config.tun.name)
                .metric(metric)
                .mtu(u32::from(config.mtu4(clat.mtu)))
                .src(config.side4.host),
        );
    }
    plan
}

/// The CLAT's IPv6 address.
fn address(config: &HostConfig, clat: &Clat, sysctl: Sysctl<'_>) -> Plan {
    let tun = &config.tun.name;
    let mut address = Plan::new();
    if clat.is_on_link() {
        address.claim(&clat.uplink, clat.address);
    }
    if let Origin::Shared(_) = clat.origin {
        reserve(&mut address, sysctl, &config.shared_ports);
    }
    address.neighbour(tun, clat.address);
    address.route(Route::new(clat.address, 128, tun));
    lead(&mut address, clat);
    address
}

/// Routes the CLAT's packets to the router that the prefix belongs to, where the host's own routes
/// lead elsewhere. The rule comes before those of VPNs and of hosts with several uplinks.
fn lead(address: &mut Plan, clat: &Clat) {
    let Lead::Own(router) = clat.lead else { return };
    let far = clat.prefix.prefix();
    let route = Route::new(far.address(), far.len(), &*clat.uplink);
    address.route(route.from(clat.address, router).table(TABLE));
    address.rule(PolicyRule {
        priority: PRIORITY,
        from: Some(clat.address.into()),
        to: far.address().into(),
        len: far.len(),
        table: TABLE,
    });
    // The way back.
    address.rule(PolicyRule {
        priority: PRIORITY,
        from: None,
        to: clat.address.into(),
        len: 128,
        table: MAIN_TABLE,
    });
}

/// Number of the routing table for the packets of CLATs, and the priority of its rules.
const TABLE: u32 = 464;
const PRIORITY: u32 = 64;
const MAIN_TABLE: u32 = 254;

/// Keeps the kernel from giving the CLAT's ports of a shared address to this host's own sockets.
fn reserve(address: &mut Plan, sysctl: Sysctl<'_>, ours: &RangeInclusive<u16>) {
    const RESERVED: &str = "net.ipv4.ip_local_reserved_ports";
    let handed_out = sysctl("net.ipv4.ip_local_port_range");
    if !handed_out.is_some_and(|range| reserved_ports::overlaps(&range, ours)) {
        return;
    }
    if let Some(others) = sysctl(RESERVED) {
        address.sysctl(RESERVED, reserved_ports::with(&others, ours));
    }
}

/// Makes this host the IPv4 router of its LANs: only they and the TUN forward.
async fn lan(own: &mut Plan, host: &Host, config: &HostConfig) -> Result<(), SetupError> {
    let tun = &config.tun.name;
    if let Some(prefix) = config.lan_prefix6 {
        own.route(Route::new(prefix.address(), prefix.len(), tun));
    }
    for prefix in &config.lan {
        let Some(have) = host.address_in_v4(*prefix).await? else {
            return Err(SetupError::NoLanAddress(*prefix));
        };
        let links = host.links().await?;
        let link = links.into_iter().find(|link| link.index == have.index);
        let link = link.ok_or(SetupError::NoLanLink)?;
        for name in [&link.name, tun] {
            own.sysctl(device_key("ipv4", name, "forwarding"), "1");
        }
    }
    Ok(())
}

/// Lets packets pass between uplink and TUN. Older kernels can only forward on all interfaces, and
/// such a host accepts router advertisements only where `accept_ra` is 2. One that forwards already
/// keeps what it has, and so does a container, whose parameters are given from outside.
async fn forward(
    own: &mut Plan,
    of_uplink: &mut Plan,
    host: &Host,
    config: &HostConfig,
    uplink: &str,
    sysctl: Sysctl<'_>,
) -> Result<(), SetupError> {
    if config.forwards_by_interface(host) {
        let tun = &config.tun.name;
        own.sysctl(device_key("ipv6", tun, FORCE_FORWARDING), "1");
        of_uplink.sysctl(device_key("ipv6", uplink, FORCE_FORWARDING), "1");
        return Ok(());
    }
    let forwards = sysctl(FORWARDING).is_some_and(|value| value != "0");
    if forwards || host.has_read_only_sysctls() {
        own.sysctl(FORWARDING, "1");
        return Ok(());
    }
    // "default" is for the interfaces to come.
    let links = host.links().await?;
    let names = links.iter().map(|link| &*link.name);
    for name in names.chain(["default"]) {
        let key = device_key("ipv6", name, "accept_ra");
        if sysctl(&key).as_deref() == Some("1") {
            let plan = if name == uplink {
                &mut *of_uplink
            } else {
                &mut *own
            };
            plan.sysctl(key, "2");
        }
    }
    own.sysctl(FORWARDING, "1");
    Ok(())
}
