//! The nftables tables that a CLAT needs on some hosts.

use xlat_host::host::{Host, device_key};
use xlat_host::nft::{Forward, Interface, Table};
use xlat_proto::clat::{Clat, Origin};
use xlat_proto::pcp::proxy::Forward as PortForward;

use crate::HostConfig;
use crate::config::Sysctl;

/// The table by which LANs share this host's IPv4 address; `None` if they do not.
pub(crate) fn masquerade(config: &HostConfig) -> Option<Table> {
    if !config.masquerades_lan() {
        return None;
    }
    let lans = config.lan.iter();
    let sources: Vec<_> = lans.map(|lan| lan.address()..=lan.last()).collect();
    let tun = &config.tun.name;
    Some(Table::masquerade(
        &name(config),
        &sources,
        &[Interface::Only(tun.into())],
    ))
}

/// The table by which the CLAT shares an address of the uplink; `None` if it has its own.
pub(crate) fn share(config: &HostConfig, clat: &Clat) -> Option<Table> {
    let Origin::Shared(with) = clat.origin else {
        return None;
    };
    let (name, ports) = (name(config), &config.shared_ports);
    let (inner, uplink) = (clat.address, &clat.uplink);
    Some(Table::share(&name, inner, uplink, with, ports))
}

/// The tables by which ports that a PCP server has opened lead to hosts that share an address: those
/// of LANs the IPv4 address of this host, and this host itself the uplink's.
pub(crate) fn forwards(config: &HostConfig, clat: &Clat, all: &[PortForward]) -> Vec<Table> {
    let own = config.side4.host;
    let name = format!("{}_ports", name(config));
    let of_lan = all.iter().filter(|one| one.host != own);
    let of_lan: Vec<Forward> = of_lan
        .map(|one| Forward {
            protocol: one.protocol,
            outer: own.into(),
            outer_port: one.outer,
            inner: one.host.into(),
            inner_port: one.port,
        })
        .collect();
    let mut tables = vec![Table::forwards(&name, &config.tun.name, &of_lan)];
    if let Origin::Shared(with) = clat.origin {
        let at_uplink = all.iter().map(|one| Forward {
            protocol: one.protocol,
            outer: with.into(),
            outer_port: one.outer,
            inner: clat.address.into(),
            // Behind it there is the same port of this host, or the LAN's of the table above.
            inner_port: if one.host == own { one.port } else { one.outer },
        });
        let at_uplink: Vec<Forward> = at_uplink.collect();
        tables.push(Table::forwards(&name, &clat.uplink, &at_uplink));
    }
    tables.into_iter().flatten().collect()
}

/// The table that lets the uplink forward to the TUN alone, so that neighbours cannot send packets
/// through this host to its other networks; `None` if the uplink forwards for other reasons too:
/// other programs want the whole host or the uplink to forward. `sysctl` returns the values of
/// kernel parameters as they are without the CLAT.
pub(crate) fn guard(config: &HostConfig, clat: &Clat, sysctl: Sysctl<'_>) -> Option<Table> {
    let of_all = ["forwarding", FORCE_FORWARDING].map(|name| device_key("ipv6", "all", name));
    let of_uplink = device_key("ipv6", &clat.uplink, FORCE_FORWARDING);
    let mut reasons = of_all.into_iter().chain([of_uplink]);
    if reasons.any(|key| sysctl(&key).is_some_and(|value| value != "0")) {
        return None;
    }
    let name = format!("{}_guard", name(config));
    let tun = &config.tun.name;
    Some(Table::guard(&name, &clat.uplink, tun))
}

/// The parameter by which the uplink forwards for the CLAT.
pub(crate) fn forwarding_key(host: &Host, config: &HostConfig, clat: &Clat) -> String {
    match config.forwards_by_interface(host) {
        true => device_key("ipv6", &clat.uplink, FORCE_FORWARDING),
        false => FORWARDING.to_owned(),
    }
}

/// The parameter by which the whole host forwards.
pub(crate) const FORWARDING: &str = "net.ipv6.conf.all.forwarding";

/// The name of the parameter by which a single interface forwards (Linux 6.17).
pub(crate) const FORCE_FORWARDING: &str = "force_forwarding";

fn name(config: &HostConfig) -> String {
    format!("xlat_{}", config.tun.name)
}
