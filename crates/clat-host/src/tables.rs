//! The nftables tables that a CLAT needs on some hosts.

use xlat_host::host::{Host, device_key};
use xlat_host::nft::{Interface, Table};
use xlat_proto::clat::{Clat, Origin};

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
