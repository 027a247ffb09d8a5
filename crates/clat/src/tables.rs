//! The tables of nftables that a CLAT needs on some hosts.

use xlat_host::host::Host;
use xlat_host::nft::Table;
use xlat_proto::clat::{Clat, Origin};

use crate::settings::Settings;

/// Hides our LANs behind this host's IPv4 address, where they are to be hidden.
pub(crate) fn hide(settings: &Settings) -> Option<Table> {
    if !settings.lan_is_hidden() {
        return None;
    }
    let lans = settings.run.lan.iter();
    let sources: Vec<_> = lans.map(|lan| lan.address()..=lan.last()).collect();
    let tun = &settings.run.place.tun;
    Some(Table::masquerade(&name(settings), &sources, tun))
}

/// Hides the CLAT behind an address of the uplink, where it has none of its own.
pub(crate) fn share(settings: &Settings, clat: &Clat) -> Option<Table> {
    let Origin::Shared(with) = clat.origin else {
        return None;
    };
    let (name, ports) = (name(settings), &settings.run.shared_ports);
    let (inner, uplink) = (clat.address, &clat.uplink);
    Some(Table::share(&name, inner, uplink, with, ports))
}

/// Where only the uplink and the TUN forward, lets the uplink forward to the TUN alone: neighbours
/// do not get through this host to its other networks.
pub(crate) fn guard(host: &Host, settings: &Settings, clat: &Clat) -> Option<Table> {
    let forwards = host.sysctl("net.ipv6.conf.all.forwarding");
    if !settings.forwards_by_interface(host) || forwards.is_some_and(|value| value != "0") {
        return None;
    }
    let name = format!("{}_guard", name(settings));
    let tun = &settings.run.place.tun;
    Some(Table::guard(&name, &clat.uplink, tun))
}

fn name(settings: &Settings) -> String {
    format!("xlat_{}", settings.run.place.tun)
}
