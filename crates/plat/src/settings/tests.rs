use std::net::Ipv4Addr;

use clap::Parser;
use plat_host::{Egress, HostFacts};
use xlat_core::addr::Ipv4Prefix;
use xlat_host::daemon::exit::Usage;

use super::Settings;
use crate::cli::Cli;

fn settings(flags: &[&str]) -> Result<Settings, Usage> {
    let args = [&["plat"], flags].concat();
    let run = Cli::try_parse_from(args).expect("parses").run;
    Settings::resolve(run, HostFacts::default())
}

#[test]
fn the_translator_takes_the_first_address_of_the_pool_and_its_ipv6_form() {
    let flags = [
        "--prefix=2001:db8:64::/96",
        "--dynamic-pool=192.168.64.0/24",
    ];
    let settings = settings(&flags).unwrap();
    assert_eq!(settings.own_v4, Ipv4Addr::new(192, 168, 64, 1));
    assert_eq!(settings.own_v6, "2001:db8:64::192.168.64.1".parse().ok());
    let pool = settings.pool().unwrap();
    assert!(pool.reserved.contains(&"192.168.64.1/32".parse().unwrap()));
    assert!(pool.excluded.contains(&"2001:db8:64::/96".parse().unwrap()));
}

/// What plain `plat` chooses on a host.
fn facts() -> HostFacts {
    HostFacts {
        own: None,
        free_pool: "172.31.64.0/28".parse().ok(),
        egress: "masquerade:wan0".parse().ok(),
    }
}

fn on_host(flags: &[&str], facts: HostFacts) -> Settings {
    let args = [&["plat"], flags].concat();
    let run = Cli::try_parse_from(args).expect("parses").run;
    Settings::resolve(run, facts).unwrap()
}

#[test]
fn what_the_host_offers_is_taken_where_the_flags_leave_it_open() {
    let plain = on_host(&[], facts());
    let pool = &plain.stateful.as_ref().unwrap().pool;
    assert_eq!(*pool, ["172.31.64.0/28".parse().unwrap()]);
    assert_eq!(plain.egress, Egress::Masquerade(vec!["wan0".into()]));
    let routed = on_host(&["--egress=route"], facts());
    assert_eq!(routed.egress, Egress::Route(None));
}

#[test]
fn a_reload_that_adds_a_map_keeps_the_pool_that_was_chosen() {
    let old = on_host(&[], facts());
    let map = "--map=198.51.100.9=2001:db8:1::9";
    // At a start these flags would choose no pool; the facts of the start say that one was.
    let new = on_host(&[map], old.facts.clone());
    assert_eq!(new.pools(), old.pools());
    assert_eq!(new.egress, old.egress);
    assert!(new.eams.lookup_v4([198, 51, 100, 9].into()).is_some());
    assert_ne!(new, old);
}

#[test]
fn other_words_that_mean_the_same_are_equal_settings() {
    let flags = ["--prefix=2001:db8:64::/96", "--pool=192.0.2.0/28"];
    let old = settings(&flags).unwrap();
    for same in [
        "--mtu4=1500",
        "--udp-timeout=300s",
        "--ra-lifetime=1800",
        "--ipv4=192.0.2.0",
    ] {
        let new = settings(&[&flags[..], &[same]].concat()).unwrap();
        assert_eq!(new, old, "{same}");
    }
    for other in [
        "--mtu4=1400",
        "--udp-timeout=6m",
        "--ra-lifetime=0",
        "--dns64-cache=0",
    ] {
        let new = settings(&[&flags[..], &[other]].concat()).unwrap();
        assert_ne!(new, old, "{other}");
    }
}

#[test]
fn a_shared_pool_lends_the_translator_an_address() {
    let flags = ["--prefix=2001:db8:64::/96", "--pool=192.0.2.1-192.0.2.6"];
    let shared = settings(&flags).unwrap();
    assert_eq!(shared.own_v4, Ipv4Addr::new(192, 0, 2, 1));
    assert!(shared.own_v4_is_shared());
    assert!(shared.checked_stateful().unwrap().is_some());
    let own = settings(&[&flags[..], &["--ipv4=198.51.100.1"]].concat()).unwrap();
    assert!(!own.own_v4_is_shared());
    let short = settings(&[&flags[..], &["--udp-timeout=5s"]].concat()).unwrap();
    assert!(short.checked_stateful().is_err());
    let lax = [&flags[..], &["--udp-timeout=5s", "--allow-short-timeouts"]].concat();
    assert!(settings(&lax).unwrap().checked_stateful().is_ok());
}

#[test]
fn ad_09_a_private_address_is_not_put_into_the_well_known_prefix() {
    let flags = ["--prefix=64:ff9b::/96", "--dynamic-pool=192.168.64.0/24"];
    assert_eq!(settings(&flags).unwrap().own_v6, None);
    let lax = [&flags[..], &["--wkp-strict=off"]].concat();
    assert!(settings(&lax).unwrap().own_v6.is_some());
}

#[test]
fn dp_01_static_maps_are_kept_out_of_the_pool_and_share_its_route() {
    let flags = [
        "--prefix=2001:db8:64::/96",
        "--dynamic-pool=192.168.64.0/24",
        "--map=192.168.64.9=2001:db8:1::9",
        "--map=192.0.2.0/29=2001:db8:2::/64",
    ];
    let settings = settings(&flags).unwrap();
    let reserved = settings.pool().unwrap().reserved;
    assert!(reserved.contains(&"192.168.64.9/32".parse().unwrap()));
    let routed: Vec<String> = settings
        .ipv4_prefixes()
        .iter()
        .map(Ipv4Prefix::to_string)
        .collect();
    assert_eq!(routed, ["192.168.64.0/24", "192.0.2.0/29"]);
}

#[test]
fn ad_07_translatable_hosts_have_their_ipv4_network_routed_here() {
    let flags = [
        "--prefix=2001:db8:64::/96",
        "--translatable=2001:db8:64::192.0.2.0/120",
    ];
    let settings = settings(&flags).unwrap();
    let host = settings.host_config();
    assert_eq!(host.ipv4, ["192.0.2.0/24".parse().unwrap()]);
    assert!(host.is_translatable("2001:db8:64::192.0.2.9".parse().unwrap()));
    assert!(!host.is_translatable("2001:db8:64::192.0.3.9".parse().unwrap()));
}

#[test]
fn flags_that_contradict_each_other_are_refused() {
    let prefix = "--prefix=2001:db8:64::/96";
    for flags in [
        &[][..],
        &[prefix],
        &["--dynamic-pool=192.168.64.0/24"],
        &[prefix, prefix, "--map=192.0.2.1=2001:db8:1::1"],
        &[prefix, "--map=192.0.2.1=2001:db8:64::1"],
        &[prefix, "--map=192.0.2.1=2001:db8:1::1", "--ipv4=192.0.2.1"],
        &[prefix, "--dynamic-pool=192.168.64.0/30"],
        &[prefix, "--translatable=2001:db8:65::192.0.2.0/120"],
        &["--translatable=2001:db8:64::192.0.2.0/120"],
        &[
            prefix,
            "--translatable=2001:db8:64::192.0.2.0/120",
            "--pool=192.0.2.0/28",
        ],
        &[prefix, "--dynamic-pool=127.0.0.0/24"],
        &["--prefix=fe80::/64", "--dynamic-pool=192.168.64.0/24"],
        &["--pool=192.0.2.0/28"],
        &[prefix, "--pool=127.0.0.0/28"],
        &[prefix, "--pool=192.0.2.0/28", "--dynamic-pool=192.0.2.0/24"],
        &[
            prefix,
            "--pool=192.0.2.0/28",
            "--map=192.0.2.1=2001:db8:1::1",
        ],
        &[
            prefix,
            "--dynamic-pool=192.0.2.0/24",
            "--bind=tcp:192.0.2.1:80=[2001:db8::1]:80",
        ],
    ] {
        assert!(settings(flags).is_err(), "{flags:?}");
    }
}
