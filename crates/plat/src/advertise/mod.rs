//! Router advertisements as the command line wants them: flags become a [`Config`] of
//! [`router_advertiser`].

pub(crate) mod flags;

use std::net::Ipv6Addr;

use router_advertiser::Config;
use xlat_host::daemon::flags::Switch;

use crate::settings::Settings;

/// What the settings mean, where this host's DNS64 has the addresses `dns64`.
pub(crate) fn config(settings: &Settings, dns64: Vec<Ipv6Addr>) -> Config {
    let flags = &settings.advertise;
    let pref64s = match flags.ra_pref64 {
        Switch::On => settings.pref64s.iter().copied().collect(),
        Switch::Off => Vec::new(),
    };
    Config {
        interval: flags.ra_interval,
        lifetime: flags.lifetime(),
        preference: flags.ra_preference.into(),
        managed: flags.ra_managed,
        other: flags.ra_other,
        hop_limit: flags.ra_hop_limit,
        reachable: flags.ra_reachable,
        retransmit: flags.ra_retransmit,
        mtu: flags.ra_mtu,
        on_link: flags.ra_on_link == Switch::On,
        autonomous: flags.ra_autonomous == Switch::On,
        router_address: flags.ra_router_address,
        prefix_valid: flags.ra_prefix_valid,
        prefix_preferred: flags.ra_prefix_preferred,
        routes: flags.ra_route.clone(),
        dns_servers: match flags.ra_dns.as_slice() {
            [] => dns64,
            given => given.to_vec(),
        },
        search: flags.ra_search.iter().map(|one| one.0.clone()).collect(),
        pref64s,
    }
}
