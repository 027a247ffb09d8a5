//! What the translator wants of its host: packets for the NAT64 prefix and for the IPv4 addresses
//! it speaks for come to the TUN, and the host forwards.

use std::net::Ipv6Addr;

use xlat_core::addr::Pref64;
use xlat_host::daemon::exit::Usage;
use xlat_host::host::{Error, Host, Plan, PolicyRule, Route, device_key};
use xlat_host::nft::Table;

use crate::{HostConfig, Own6, egress};

/// Any link-local address, which stands for all destinations behind the TUN. Without a next hop the
/// kernel would enter each of them into its neighbour table, a thousand entries for all links, where
/// they push out the hosts of the LAN.
const NEXT_HOP: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// The part that stays whoever the clients are.
///
/// # Errors
/// The host cannot be read.
pub async fn base_plan(host: &Host, config: &HostConfig, own_v6: Own6) -> Result<Plan, Error> {
    let tun = &config.tun;
    let mut plan = Plan::new();
    plan.tun(tun, u32::from(config.mtu));
    plan.neighbour(tun, NEXT_HOP);
    forward(&mut plan, host, config).await?;
    let lans = &config.lans;
    if !lans.is_empty() {
        let table = Table::limit_solicitations(&config.table_name(), lans);
        let without = "a flood of router solicitations can fill the kernel's neighbour table";
        plan.optional_table(table, without);
    }
    if own_v6.routed {
        plan.route(Route::new(own_v6.address, 128, tun).via_on_link(NEXT_HOP));
    }
    Ok(plan)
}

/// The part that changes while the gateway runs: what brings packets for the prefixes here, what hides the
/// IPv4 addresses of clients, and then what brings packets for these.
///
/// # Errors
/// There are more addresses than can be answered for one by one.
pub fn client_plan(config: &HostConfig) -> Result<Plan, Usage> {
    let mut plan = Plan::new();
    let (tun, announced) = (&config.tun, config.announced);
    for prefix in config.pref64s.iter().map(Pref64::prefix) {
        let route = Route::new(prefix.address(), prefix.len(), tun).via_on_link(NEXT_HOP);
        lead(&mut plan, route, announced.prefixes);
    }
    if let Some(table) = egress::table(config) {
        plan.table(table);
    }
    for prefix in &config.ipv4 {
        let route = Route::new(prefix.address(), prefix.len(), tun);
        lead(&mut plan, route, announced.pools);
    }
    egress::plan(config, &mut plan)?;
    Ok(plan)
}

/// Leads packets to the TUN: by the main table, from which others may learn the route, or by one of our
/// own. The kernel asks ours first, so a route that others announce meanwhile takes no session away.
fn lead(plan: &mut Plan, route: Route, is_announced: bool) {
    if is_announced {
        plan.route(route);
        return;
    }
    let rule = PolicyRule {
        priority: PRIORITY,
        from: None,
        to: route.to,
        len: route.len,
        table: TABLE,
    };
    plan.route(route.table(TABLE));
    plan.rule(rule);
}

/// The table of routes that nobody is to learn, and the place of its rules: before the main table.
const TABLE: u32 = 6146;
const PRIORITY: u32 = 6146;

/// A gateway forwards both families, and goes on to believe routers where it did. IPv4 has a
/// parameter for each interface besides that of the host, and an interface takes the host's default
/// when it is made.
async fn forward(plan: &mut Plan, host: &Host, config: &HostConfig) -> Result<(), Error> {
    plan.sysctl("net.ipv4.ip_forward", "1");
    let links = host.links().await?;
    plan.sysctl(device_key("ipv4", &config.tun, "forwarding"), "1");
    // One that comes later takes the default.
    let egress = config.egress.interfaces();
    for link in links.iter().filter(|link| egress.contains(&link.name)) {
        plan.sysctl(device_key("ipv4", &link.name, "forwarding"), "1");
    }
    let forwards = host.sysctl("net.ipv6.conf.all.forwarding").as_deref() == Some("1");
    // A container's parameters are given from outside.
    if !forwards && !host.has_read_only_sysctls() {
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
