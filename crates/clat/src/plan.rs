//! What the CLAT wants of its host.
//!
//! The CLAT's IPv6 address belongs to no interface: it is claimed on the uplink's link and then
//! routed to the TUN. Only the two interfaces involved forward; the rest of the host stays a host.

use std::net::{Ipv4Addr, Ipv6Addr};

use anyhow::Result;
use xlat_linux::host::{Host, Link, Plan, Route, device_key};

use crate::settings::{GROWTH, Settings};

/// The way to the NAT64 prefix.
#[derive(Clone, Debug)]
pub(crate) struct Uplink {
    pub(crate) name: String,
    /// MTU towards the IPv6-only network, in bytes.
    pub(crate) mtu: u16,
}

impl Uplink {
    /// The interface that was asked for, or the one that leads to the prefix.
    pub(crate) async fn find(host: &Host, settings: &Settings) -> Result<Self> {
        let link = match &settings.run.uplink {
            Some(name) => host.link(name).await?,
            None => link_to_prefix(host, settings).await?,
        };
        let mtu = settings.run.mtu.unwrap_or_else(|| ipv6_mtu(host, &link));
        Ok(Self {
            name: link.name,
            mtu,
        })
    }

    /// MTU of the IPv4 side, in bytes.
    pub(crate) fn mtu4(&self, settings: &Settings) -> u16 {
        settings
            .run
            .mtu4
            .unwrap_or(self.mtu - GROWTH)
            .min(self.mtu - 20)
    }
}

async fn link_to_prefix(host: &Host, settings: &Settings) -> Result<Link> {
    let somebody = settings.pref64.embed(Ipv4Addr::new(192, 0, 0, 170));
    let way = host.way(somebody.into()).await?;
    let links = host.links().await?;
    let found = links.into_iter().find(|link| link.index == way.index);
    found.ok_or_else(|| anyhow::anyhow!("the interface that leads to {somebody} has gone"))
}

/// The MTU for IPv6, which a router may have set below the link's.
fn ipv6_mtu(host: &Host, link: &Link) -> u16 {
    let advertised = host.sysctl(&device_key("ipv6", &link.name, "mtu"));
    let advertised = advertised
        .and_then(|text| text.parse::<u32>().ok())
        .unwrap_or(link.mtu);
    advertised.min(link.mtu).clamp(1280, 65535) as u16
}

/// All changes, in order. The IPv4 default route comes last, when all the rest works, and so goes
/// first.
pub(crate) async fn plan(
    host: &Host,
    settings: &Settings,
    uplink: &Uplink,
    address: Ipv6Addr,
) -> Result<Plan> {
    let tun = &settings.run.place.tun;
    let mut plan = Plan::new();
    plan.tun(tun, u32::from(uplink.mtu));
    forward(&mut plan, host, &uplink.name, tun).await?;
    plan.address(tun, settings.ipv4, 32)
        .claim(&uplink.name, address)
        .route(Route::new(address, 128, tun))
        .route(
            Route::new(Ipv4Addr::UNSPECIFIED, 0, tun)
                .metric(settings.run.metric)
                .mtu(u32::from(uplink.mtu4(settings)))
                .src(settings.ipv4),
        );
    Ok(plan)
}

/// Lets packets pass between uplink and TUN. Older kernels can only forward everywhere; routers
/// are then believed only where that is said twice (`accept_ra` 2).
async fn forward(plan: &mut Plan, host: &Host, uplink: &str, tun: &str) -> Result<()> {
    if host.has_force_forwarding() {
        for dev in [uplink, tun] {
            plan.sysctl(device_key("ipv6", dev, "force_forwarding"), "1");
        }
        return Ok(());
    }
    for link in host.links().await? {
        let key = device_key("ipv6", &link.name, "accept_ra");
        if host.sysctl(&key).as_deref() == Some("1") {
            plan.sysctl(key, "2");
        }
    }
    plan.sysctl("net.ipv6.conf.all.forwarding", "1");
    Ok(())
}
