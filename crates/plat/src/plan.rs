//! What the translator wants of its host: packets for the NAT64 prefix and for the IPv4 addresses
//! it speaks for come to the TUN, and the host forwards.

use std::net::{IpAddr, Ipv6Addr};

use anyhow::{Result, bail};
use tracing::warn;
use xlat_core::addr::Pref64;
use xlat_host::host::{Host, OnLinkPrefix, Plan, Route, device_key};
use xlat_host::nft::Table;

use crate::egress;
use crate::own6::Own6;
use crate::settings::Settings;

/// Any link-local address, which stands for all destinations behind the TUN. Without a next hop the
/// kernel would enter each of them into its neighbour table, a thousand entries for all links, where
/// they push out the hosts of the LAN.
const NEXT_HOP: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// All changes, in order.
pub(crate) async fn plan(host: &Host, settings: &Settings, own_v6: Own6) -> Result<Plan> {
    let mut plan = base(host, settings, own_v6).await?;
    plan.append(client_side(settings)?);
    Ok(plan)
}

/// The part that stays whoever the clients are.
pub(crate) async fn base(host: &Host, settings: &Settings, own_v6: Own6) -> Result<Plan> {
    let tun = &settings.instance.tun;
    let mut plan = Plan::new();
    plan.tun(tun, u32::from(settings.mtu));
    forward(&mut plan, host, settings).await?;
    let lans = &settings.advertise.lan;
    if !lans.is_empty() {
        let table = Table::limit_solicitations(&egress::table_name(settings), lans);
        let without = "a flood of router solicitations can fill the kernel's neighbour table";
        plan.optional_table(table, without);
    }
    for prefix in settings.pref64s.iter().map(Pref64::prefix) {
        plan.route(Route::new(prefix.address(), prefix.len(), tun).via(NEXT_HOP));
    }
    if own_v6.routed {
        plan.route(Route::new(own_v6.address, 128, tun));
    }
    Ok(plan)
}

/// The part that other clients change: what hides their IPv4 addresses, and then what brings
/// packets for these here.
pub(crate) fn client_side(settings: &Settings) -> Result<Plan> {
    let mut plan = Plan::new();
    if let Some(table) = egress::table(settings) {
        plan.table(table);
    }
    for prefix in settings.ipv4_prefixes() {
        let tun = &settings.instance.tun;
        plan.route(Route::new(prefix.address(), prefix.len(), tun));
    }
    egress::plan(settings, &mut plan)?;
    Ok(plan)
}

/// A gateway forwards both families, and goes on to believe routers where it did. IPv4 has a
/// parameter for each interface besides that of the host, and an interface takes the host's default
/// when it is made.
async fn forward(plan: &mut Plan, host: &Host, settings: &Settings) -> Result<()> {
    plan.sysctl("net.ipv4.ip_forward", "1");
    let links = host.links().await?;
    plan.sysctl(
        device_key("ipv4", &settings.instance.tun, "forwarding"),
        "1",
    );
    // One that comes later takes the default.
    let egress = settings.egress.interfaces();
    for link in links.iter().filter(|link| egress.contains(&link.name)) {
        plan.sysctl(device_key("ipv4", &link.name, "forwarding"), "1");
    }
    if host.sysctl("net.ipv6.conf.all.forwarding").as_deref() != Some("1") {
        let default = "net.ipv6.conf.default.accept_ra";
        if host.sysctl(default).as_deref() == Some("1") {
            // For an uplink that comes later.
            plan.sysctl(default, "2");
        }
        for link in links {
            let key = device_key("ipv6", &link.name, "accept_ra");
            if host.sysctl(&key).as_deref() == Some("1") {
                plan.sysctl(key, "2");
            }
        }
    }
    plan.sysctl("net.ipv6.conf.all.forwarding", "1");
    Ok(())
}

/// Refuses prefixes and pools that this host has addresses in: its own traffic would be taken
/// away from it.
pub(crate) async fn check_overlaps(host: &Host, settings: &Settings) -> Result<()> {
    for prefix in settings.ipv4_prefixes() {
        if let Some(have) = host.address_in_v4(prefix).await? {
            bail!(
                "{prefix} overlaps the address {} of this host; choose another pool, or take the \
                 address off the host",
                have.address
            );
        }
    }
    let addresses = host.addresses().await?;
    for prefix in settings.pref64s.iter().map(Pref64::prefix) {
        let have = addresses.iter().find(|have| match have.address {
            IpAddr::V6(v6) => prefix.contains(v6) && !settings.is_translatable(v6),
            IpAddr::V4(_) => false,
        });
        if let Some(have) = have {
            bail!(
                "the NAT64 prefix {prefix} overlaps the address {} of this host; choose another \
                 --prefix",
                have.address
            );
        }
    }
    let prefixes = settings.pref64s.iter().map(Pref64::prefix);
    let on_link = host.on_link_prefixes(prefixes).await?;
    let is_lan = |one: &&OnLinkPrefix| settings.advertise.lan.contains(&one.link);
    match on_link.iter().find(is_lan) {
        Some(one) if settings.advertise.config.on_link => {
            bail!("{one}; choose another --prefix, or say --ra-on-link off")
        }
        _ => Ok(()),
    }
}

/// Says which NAT64 prefixes some hosts take for their neighbours', where that is not refused.
pub(crate) async fn warn_of_on_link_prefixes(host: &Host, settings: &Settings) -> Result<()> {
    let prefixes = settings.pref64s.iter().map(Pref64::prefix);
    for one in host.on_link_prefixes(prefixes).await? {
        warn!("{one}");
    }
    Ok(())
}
