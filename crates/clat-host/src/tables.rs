//! The nftables tables that a CLAT needs on some hosts.

use xlat_host::host::Host;
use xlat_host::nft::Table;
use xlat_proto::clat::{Clat, Origin};

use crate::HostConfig;

/// The table by which LANs share this host's IPv4 address; `None` if they do not.
pub(crate) fn masquerade(config: &HostConfig) -> Option<Table> {
    if !config.masquerades_lan() {
        return None;
    }
    let lans = config.lan.iter();
    let sources: Vec<_> = lans.map(|lan| lan.address()..=lan.last()).collect();
    let tun = &config.tun.name;
    Some(Table::masquerade(&name(config), &sources, tun))
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

/// The table that lets the uplink forward to the TUN alone, so that neighbours cannot send packets
/// through this host to its other networks; `None` if the whole host forwards.
pub(crate) fn guard(host: &Host, config: &HostConfig, clat: &Clat) -> Option<Table> {
    let forwards = host.sysctl("net.ipv6.conf.all.forwarding");
    if !config.forwards_by_interface(host) || forwards.is_some_and(|value| value != "0") {
        return None;
    }
    let name = format!("{}_guard", name(config));
    let tun = &config.tun.name;
    Some(Table::guard(&name, &clat.uplink, tun))
}

fn name(config: &HostConfig) -> String {
    format!("xlat_{}", config.tun.name)
}
