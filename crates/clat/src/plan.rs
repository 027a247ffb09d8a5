//! What the CLAT wants of its host, in parts that change at different times.
//!
//! The CLAT's IPv6 address belongs to no interface: it is claimed on the uplink's link and then
//! routed to the TUN. Only the two interfaces involved forward; the rest of the host stays a host.

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use anyhow::{Context, Result};
use xlat_core::addr::Ipv4Prefix;
use xlat_linux::host::{Host, Plan, Route, device_key};
use xlat_proto::clat::life::{Clat, Origin};

use crate::ports;
use crate::settings::{Settings, Side4};

/// The network that we are to be the router of is not there (yet).
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("no interface of this host has an address of --lan {0}")]
pub(crate) struct NoLan(Ipv4Prefix);

/// The changes that a running CLAT has made.
#[derive(Clone, Debug)]
pub(crate) struct Parts {
    /// The TUN and its IPv4 side: there as long as the CLAT runs.
    pub(crate) tun: Plan,
    /// The uplink forwards.
    pub(crate) uplink: Plan,
    /// The IPv6 address: claimed where others may have it, and routed to the TUN.
    pub(crate) address: Plan,
    /// The IPv4 default route. It comes last, when all the rest works, and so goes first.
    pub(crate) route: Plan,
}

impl Parts {
    /// What `clat` needs.
    pub(crate) async fn new(
        host: &Host,
        settings: &Settings,
        side4: Side4,
        clat: &Clat,
    ) -> Result<Self> {
        let tun = &settings.run.place.tun;
        let mut own = Plan::new();
        own.tun(tun, u32::from(clat.mtu));
        // There is no router behind it: asking for one would only wake us.
        own.sysctl(device_key("ipv6", tun, "router_solicitations"), "0");
        let mut uplink = Plan::new();
        forward(&mut own, &mut uplink, host, &clat.uplink, tun).await?;
        own.address(tun, side4.host, 32);
        lan(&mut own, host, settings).await?;
        let mut address = Plan::new();
        if clat.is_on_link() {
            address.claim(&clat.uplink, clat.address);
        }
        if let Origin::Shared(_) = clat.origin {
            reserve(&mut address, host, &settings.run.shared_ports);
        }
        address.route(Route::new(clat.address, 128, tun));
        let mut route = Plan::new();
        route.route(
            Route::new(Ipv4Addr::UNSPECIFIED, 0, tun)
                .metric(side4.metric)
                .mtu(u32::from(settings.mtu4(clat.mtu)))
                .src(side4.host),
        );
        Ok(Self {
            tun: own,
            uplink,
            address,
            route,
        })
    }

    /// All changes, in order.
    pub(crate) fn whole(&self) -> Plan {
        let mut whole = Plan::new();
        for part in [&self.tun, &self.uplink, &self.address, &self.route] {
            for step in part.steps() {
                whole.step(step.clone());
            }
        }
        whole
    }
}

/// Keeps the kernel from giving the CLAT's ports of a shared address to this host's own sockets.
fn reserve(address: &mut Plan, host: &Host, ours: &RangeInclusive<u16>) {
    const RESERVED: &str = "net.ipv4.ip_local_reserved_ports";
    let handed_out = host.sysctl("net.ipv4.ip_local_port_range");
    if !handed_out.is_some_and(|range| ports::overlaps(&range, ours)) {
        return;
    }
    if let Some(others) = host.sysctl(RESERVED) {
        address.sysctl(RESERVED, ports::with(&others, ours));
    }
}

/// Makes this host the IPv4 router of its LANs: only they and the TUN forward.
async fn lan(own: &mut Plan, host: &Host, settings: &Settings) -> Result<()> {
    let tun = &settings.run.place.tun;
    if let Some(prefix) = settings.run.lan_prefix6 {
        own.route(Route::new(prefix.address(), prefix.len(), tun));
    }
    for prefix in &settings.run.lan {
        let Some(have) = host.address_in_v4(*prefix).await? else {
            return Err(NoLan(*prefix).into());
        };
        let links = host.links().await?;
        let link = links.into_iter().find(|link| link.index == have.index);
        let link = link.context("the interface of --lan has gone")?;
        for name in [&link.name, tun] {
            own.sysctl(device_key("ipv4", name, "forwarding"), "1");
        }
    }
    Ok(())
}

/// Lets packets pass between uplink and TUN. Older kernels can only forward everywhere; routers
/// are then believed only where that is said twice (`accept_ra` 2).
async fn forward(
    own: &mut Plan,
    of_uplink: &mut Plan,
    host: &Host,
    uplink: &str,
    tun: &str,
) -> Result<()> {
    if host.has_force_forwarding() {
        own.sysctl(device_key("ipv6", tun, "force_forwarding"), "1");
        of_uplink.sysctl(device_key("ipv6", uplink, "force_forwarding"), "1");
        return Ok(());
    }
    for link in host.links().await? {
        let key = device_key("ipv6", &link.name, "accept_ra");
        if host.sysctl(&key).as_deref() == Some("1") {
            own.sysctl(key, "2");
        }
    }
    own.sysctl("net.ipv6.conf.all.forwarding", "1");
    Ok(())
}
