//! What the CLAT wants of its host, in two parts: the default route comes last.
//!
//! The CLAT's IPv6 address belongs to no interface: it is claimed on the uplink's link and then
//! routed to the TUN. Only the two interfaces involved forward; the rest of the host stays a host.

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use anyhow::{Context, Result, bail};
use xlat_host::host::{Host, Plan, Route, device_key, reserved_ports};
use xlat_proto::clat::{Clat, Lead, Origin};

use crate::settings::{Settings, Side4};
use crate::tables;

/// What a running CLAT wants of its host, in two parts.
#[derive(Clone, Debug)]
pub(crate) struct Parts {
    /// All but the default route: the TUN and its IPv4 side, the uplink that forwards, the IPv6
    /// address (claimed where others may have it, and routed to the TUN) and the tables.
    pub(crate) setup: Plan,
    /// The IPv4 default route. It comes last, when all the rest works, and so goes first.
    pub(crate) route: Plan,
}

/// A kernel parameter as it would be without us.
type Sysctl<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Parts {
    /// What `clat` needs of a host whose kernel parameters are, without us, those that `sysctl`
    /// says.
    pub(crate) async fn new(
        host: &Host,
        settings: &Settings,
        side4: Side4,
        clat: &Clat,
        sysctl: Sysctl<'_>,
    ) -> Result<Self> {
        let tun = &settings.run.place.tun;
        let mut own = Plan::new();
        own.tun(tun, u32::from(clat.mtu));
        // There is no router behind it: asking for one would only wake us.
        own.sysctl(device_key("ipv6", tun, "router_solicitations"), "0");
        let mut uplink = Plan::new();
        if let Some(guard) = tables::guard(host, settings, clat) {
            let without = format!(
                "neighbours on {} can send packets through this host",
                clat.uplink
            );
            uplink.optional_table(guard, without);
        }
        forward(&mut own, &mut uplink, host, settings, &clat.uplink, sysctl).await?;
        own.address(tun, side4.host, 32);
        lan(&mut own, host, settings).await?;
        let mut setup = own;
        setup.append(uplink).append(address(settings, clat, sysctl));
        let tables = [tables::hide(settings), tables::share(settings, clat)];
        for table in tables.into_iter().flatten() {
            setup.table(table);
        }
        let mut route = Plan::new();
        route.route(
            Route::new(Ipv4Addr::UNSPECIFIED, 0, tun)
                .metric(side4.metric)
                .mtu(u32::from(settings.mtu4(clat.mtu)))
                .src(side4.host),
        );
        Ok(Self { setup, route })
    }

    /// All changes, in order.
    pub(crate) fn whole(&self) -> Plan {
        let mut whole = self.setup.clone();
        whole.append(self.route.clone());
        whole
    }
}

/// The CLAT's IPv6 address.
fn address(settings: &Settings, clat: &Clat, sysctl: Sysctl<'_>) -> Plan {
    let tun = &settings.run.place.tun;
    let mut address = Plan::new();
    if clat.is_on_link() {
        address.claim(&clat.uplink, clat.address);
    }
    if let Origin::Shared(_) = clat.origin {
        reserve(&mut address, sysctl, &settings.run.shared_ports);
    }
    address.route(Route::new(clat.address, 128, tun));
    if let Lead::Own(router) = clat.lead {
        let far = clat.prefix.prefix();
        let route = Route::new(far.address(), far.len(), &*clat.uplink);
        address.route(route.from(clat.address, router));
    }
    address
}

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
async fn lan(own: &mut Plan, host: &Host, settings: &Settings) -> Result<()> {
    let tun = &settings.run.place.tun;
    if let Some(prefix) = settings.run.lan_prefix6 {
        own.route(Route::new(prefix.address(), prefix.len(), tun));
    }
    for prefix in &settings.run.lan {
        let Some(have) = host.address_in_v4(*prefix).await? else {
            bail!("no interface of this host has an address of --lan {prefix} any more; add one");
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
    settings: &Settings,
    uplink: &str,
    sysctl: Sysctl<'_>,
) -> Result<()> {
    if settings.forwards_by_interface(host) {
        let tun = &settings.run.place.tun;
        own.sysctl(device_key("ipv6", tun, "force_forwarding"), "1");
        of_uplink.sysctl(device_key("ipv6", uplink, "force_forwarding"), "1");
        return Ok(());
    }
    // Those that come later, and those that are there.
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
    own.sysctl("net.ipv6.conf.all.forwarding", "1");
    Ok(())
}
