//! What the flags mean: checked against each other, before the host is looked at.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use nat64::PoolSpec;
use nat64::config::{Config, ConfigError};
use nat64::dynamic::PoolConfig;
use xlat_core::Policy;
use xlat_core::addr::{
    Eam, EamTable, Ipv4Prefix, Ipv6Prefix, Pref64, Pref64s, special, translatable,
};
use xlat_core::mappers::Hairpin;
use xlat_core::policy::{DUMMY_V4, PolicyError};
use xlat_host::daemon::exit::Usage;
use xlat_host::daemon::flags::Switch;

use crate::advertise::Advertise;
use crate::cli::Run;
use crate::dns::Dns;
use crate::egress::host_facts::HostFacts;
use crate::egress::mode::Egress;
use crate::own6::Own6;
use crate::stateful::{self, SessionLog, StatefulFlags};

/// Settings that make sense together: what is meant, not what was typed. Two that are equal mean
/// the same.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Settings {
    pub(crate) pref64s: Pref64s,
    /// Static maps, and those of `translatable`.
    pub(crate) eams: EamTable,
    /// Hosts with IPv4-translatable addresses (RFC 6052 section 2).
    pub(crate) translatable: Vec<Eam>,
    pub(crate) own_v4: Ipv4Addr,
    /// `None` if it has to be an address of this host.
    pub(crate) own_v6: Option<Ipv6Addr>,
    pub(crate) hairpin: Hairpin,
    pub(crate) expose_host: bool,
    /// MTU of the TUN and of the IPv6 side, in bytes.
    pub(crate) mtu: u16,
    pub(crate) dynamic_pool: Option<Ipv4Prefix>,
    pub(crate) egress: Egress,
    /// What was chosen from the host at the start: a reload keeps it.
    pub(crate) facts: HostFacts,
    pub(crate) instance: Instance,
    pub(crate) tun: xlat_tun::Options,
    /// Where Prometheus is served.
    pub(crate) metrics: Option<SocketAddr>,
    pub(crate) dry_run: bool,
    pub(crate) no_host_setup: bool,
    /// IPv6 sources that are served; if empty, those of the host's own networks.
    pub(crate) clients: Vec<Ipv6Prefix>,
    /// Of the stateful translator, if there is one; [`Settings::checked_stateful`] checks it.
    pub(crate) stateful: Option<Config>,
    pub(crate) session_log: SessionLog,
    /// Hosts may ask for external ports.
    pub(crate) pcp: bool,
    pub(crate) advertise: Advertise,
    pub(crate) dns: Dns,
    /// But for the translator's IPv6 address, which [`Settings::policy`] adds.
    policy: Policy,
}

/// Whether hosts may ask for external ports (RFC 6887). Behind a masqueraded pool they would get
/// ports that nobody reaches from outside.
fn pcp(
    stateful: &StatefulFlags,
    advertise: &Advertise,
    egress: &Egress,
    has_pool: bool,
) -> Result<bool, Usage> {
    let refuse = |reason: &str| Err(Usage(format!("--pcp on {reason}")));
    let is_masqueraded = matches!(egress, Egress::Masquerade(_));
    match stateful.pcp {
        Some(Switch::Off) => Ok(false),
        None => Ok(has_pool && !is_masqueraded && !advertise.lan.is_empty()),
        Some(Switch::On) if !has_pool => refuse("needs a --pool that clients share"),
        Some(Switch::On) if advertise.lan.is_empty() => refuse("needs --lan"),
        Some(Switch::On) if is_masqueraded => {
            refuse("does not go with masquerading: nobody outside would reach the ports")
        }
        Some(Switch::On) => Ok(true),
    }
}

/// What keeps this instance apart from others on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Instance {
    /// Name of the TUN interface.
    pub(crate) tun: String,
    pub(crate) run_dir: PathBuf,
    pub(crate) state_dir: PathBuf,
}

impl Settings {
    /// What the flags mean on a host with these facts.
    pub(crate) fn resolve(run: Run, facts: HostFacts) -> Result<Self, Usage> {
        let pools = pools(&run, &facts);
        let prefixes = prefixes(&run, &facts)?;
        check_clients(&run, &pools, &prefixes)?;
        let wkp_strict = run.wkp_strict == Switch::On;
        check_maps(&run.map, &prefixes)?;
        let translatable = translatable_hosts(&run, &prefixes)?;
        let maps = run.map.iter().chain(&translatable).copied();
        let eams = EamTable::new(maps).map_err(|error| Usage(format!("--map: {error}")))?;
        let pref64s = Pref64s::new(prefixes.iter().copied(), wkp_strict);
        check_prefixes(&prefixes)?;
        check_pools(&run, &pools, &eams)?;
        run.advertise.check().map_err(Usage)?;
        let own_v4 = own_v4(&run, &pools)?;
        let own_v6 = run.ipv6.or_else(|| embedded(&pref64s, own_v4, wkp_strict));
        let advertise = run.advertise.settings(&pref64s);
        let dns = run.dns.settings(&pref64s, wkp_strict);
        let tun = run.flags.tun(&run.place.tun);
        let mtu4 = run.mtu4.unwrap_or(run.mtu);
        let egress = Egress::merge(run.egress)?
            .or_else(|| facts.egress.clone())
            .unwrap_or(Egress::Route);
        let settings = Self {
            pref64s,
            eams,
            translatable,
            own_v4,
            own_v6,
            hairpin: run.hairpin.into(),
            expose_host: run.expose_host,
            mtu: run.mtu,
            dynamic_pool: run.dynamic_pool,
            pcp: pcp(&run.stateful, &advertise, &egress, !pools.is_empty())?,
            egress,
            facts,
            session_log: run.stateful.session_log(),
            stateful: (!pools.is_empty()).then(|| run.stateful.config(pools, tun.queues)),
            clients: run.stateful.client,
            tun,
            instance: Instance {
                tun: run.place.tun,
                run_dir: run.place.run_dir,
                state_dir: run.state_dir,
            },
            metrics: run.flags.metrics,
            dry_run: run.flags.dry_run,
            no_host_setup: run.flags.no_host_setup,
            advertise,
            dns,
            policy: run
                .policy
                .policy(own_v4, Ipv6Addr::UNSPECIFIED, mtu4, run.mtu),
        };
        settings.check_own_addresses(run.ipv6)?;
        Ok(settings)
    }

    /// The dynamic pool, if there is one: without what belongs to somebody else.
    pub(crate) fn pool(&self) -> Option<PoolConfig> {
        let prefix = self.dynamic_pool?;
        let maps = self.eams.iter().map(|eam| eam.v4());
        let own_v6 = self.own_v6.map(Ipv6Prefix::host);
        Some(PoolConfig {
            reserved: maps.chain([Ipv4Prefix::host(self.own_v4)]).collect(),
            clients: self.clients.clone(),
            excluded: self
                .pref64s
                .iter()
                .map(Pref64::prefix)
                .chain(own_v6)
                .collect(),
            ..PoolConfig::new(prefix)
        })
    }

    /// The stateful translator's configuration, if there is one and it makes sense.
    pub(crate) fn checked_stateful(&self) -> Result<Option<&Config>, Usage> {
        if let Some(config) = &self.stateful {
            config.validate().map_err(|error| match error {
                ConfigError::Timer { .. } => Usage(format!("{error}; see --allow-short-timeouts")),
                error => Usage(error.to_string()),
            })?;
        }
        Ok(self.stateful.as_ref())
    }

    /// The same where clients are those of these networks of the host, if nobody has named others.
    pub(crate) fn stateful_for(&self, own: &[Ipv6Prefix]) -> Result<Option<Config>, Usage> {
        let mut config = self.checked_stateful()?.cloned();
        if let Some(config) = config.as_mut().filter(|_| self.serves_own_networks()) {
            config.clients = own.to_vec();
        }
        Ok(config)
    }

    /// True if nobody has named the clients: then they are those of the host's own networks.
    pub(crate) fn serves_own_networks(&self) -> bool {
        self.clients.is_empty()
    }

    /// The translator's policy, with this IPv6 address of its own.
    pub(crate) fn policy(&self, own_v6: Own6) -> Result<Policy, PolicyError> {
        // What comes to an address that clients share is theirs, by either of its names.
        let is_shared = self.own_v4_is_shared();
        let is_its_name = self.pref64s.lookup(own_v6.address).is_some();
        let policy = Policy {
            own_v6: own_v6.address,
            answer_v4: !is_shared,
            answer_v6: own_v6.is_ours && !(is_shared && is_its_name),
            ..self.policy.clone()
        };
        policy.validate()?;
        Ok(policy)
    }

    /// What is translated, in a line.
    pub(crate) fn describe(&self) -> String {
        let mut clients = Vec::new();
        if let Some(pool) = self.dynamic_pool {
            clients.push(format!("each IPv6 source gets an address of {pool}"));
        }
        if let Some(config) = &self.stateful {
            clients.push(format!("IPv6 sources share {}", join(&config.pool)));
        }
        let maps = self.eams.iter().count() - self.translatable.len();
        clients.push(format!("{maps} static maps"));
        if !self.translatable.is_empty() {
            let hosts: Vec<Ipv6Prefix> = self.translatable.iter().map(Eam::v6).collect();
            clients.push(format!("IPv4-translatable hosts in {}", join(&hosts)));
        }
        let prefixes: Vec<&Pref64> = self.pref64s.iter().collect();
        match prefixes.as_slice() {
            [] => format!("translating; {}", clients.join("; ")),
            some => format!("translating {}; {}", join(some), clients.join("; ")),
        }
    }

    /// The pools, for people.
    pub(crate) fn pools(&self) -> Vec<String> {
        let shared = self.stateful.iter().flat_map(|config| &config.pool);
        let shared = shared.map(ToString::to_string);
        let dynamic = self.dynamic_pool.iter();
        let dynamic = dynamic.map(|pool| format!("{pool}, an address each"));
        shared.chain(dynamic).collect()
    }

    /// True if clients share the translator's IPv4 address.
    pub(crate) fn own_v4_is_shared(&self) -> bool {
        let mut shared = self.stateful.iter();
        shared.any(|config| stateful::shares(config, self.own_v4))
    }

    /// True for the address of a host that is IPv4-translatable.
    pub(crate) fn is_translatable(&self, address: Ipv6Addr) -> bool {
        let mut hosts = self.translatable.iter();
        hosts.any(|hosts| hosts.v6().contains(address))
    }

    /// IPv4 prefixes that belong to the translator: packets to them must come to the TUN.
    pub(crate) fn ipv4_prefixes(&self) -> Vec<Ipv4Prefix> {
        let pool = self.dynamic_pool;
        let maps = self.eams.iter().map(|eam| eam.v4());
        let own = (self.own_v4 != DUMMY_V4).then(|| Ipv4Prefix::host(self.own_v4));
        let shared = self.stateful.iter().flat_map(stateful::ipv4_prefixes);
        let all = pool.into_iter().chain(maps).chain(own).chain(shared);
        let mut all: Vec<Ipv4Prefix> = all.collect();
        all.sort_by_key(|prefix| (prefix.len(), prefix.address()));
        let mut outer: Vec<Ipv4Prefix> = Vec::new();
        for prefix in all {
            if !outer.iter().any(|have| have.overlaps(&prefix)) {
                outer.push(prefix);
            }
        }
        outer
    }

    fn check_own_addresses(&self, ipv6: Option<Ipv6Addr>) -> Result<(), Usage> {
        let own = self.own_v4;
        if self.eams.lookup_v4(own).is_some() {
            return Err(Usage(format!(
                "--ipv4 {own} is also in --map; the translator needs an address of its own"
            )));
        }
        if let Some(ipv6) = ipv6
            && (!special::is_legal_v6_source(ipv6) || ipv6.is_unicast_link_local())
        {
            return Err(Usage(format!(
                "--ipv6 {ipv6} is no address that others can answer to"
            )));
        }
        Ok(())
    }
}

pub(crate) fn join(parts: &[impl ToString]) -> String {
    let parts: Vec<String> = parts.iter().map(ToString::to_string).collect();
    parts.join(", ")
}

/// The well-known prefix (RFC 6052 section 2.1).
const WELL_KNOWN: &str = "64:ff9b::/96";

/// The pools that were given, or the one that the host leaves free.
fn pools(run: &Run, facts: &HostFacts) -> Vec<PoolSpec> {
    if run.stateful.pool.is_empty() {
        return facts.free_pool.iter().cloned().collect();
    }
    run.stateful.pool.clone()
}

/// The prefixes that were given; a pool that was chosen makes do with the well-known one.
fn prefixes(run: &Run, facts: &HostFacts) -> Result<Vec<Pref64>, Usage> {
    if !run.prefix.is_empty() || facts.free_pool.is_none() {
        return Ok(run.prefix.clone());
    }
    let prefix = WELL_KNOWN.parse::<Pref64>();
    Ok(vec![prefix.map_err(|error| Usage(error.to_string()))?])
}

fn check_clients(run: &Run, pools: &[PoolSpec], prefixes: &[Pref64]) -> Result<(), Usage> {
    let has_pool = run.dynamic_pool.is_some() || !pools.is_empty();
    if run.map.is_empty() && run.translatable.is_empty() && !has_pool {
        let line = "no clients to translate for: give --pool SPEC (IPv4 addresses that all IPv6 \
                    sources share), --dynamic-pool CIDR (one for each) or --map V4=V6";
        return Err(Usage(line.into()));
    }
    if prefixes.is_empty() && has_pool {
        let line = "a pool needs --prefix, the IPv6 prefix that stands for IPv4; for example \
                    --prefix 64:ff9b::/96";
        return Err(Usage(line.into()));
    }
    if pools.is_empty() && !run.stateful.bind.is_empty() {
        return Err(Usage("--bind needs --pool".into()));
    }
    Ok(())
}

fn check_prefixes(prefixes: &[Pref64]) -> Result<(), Usage> {
    for (at, prefix) in prefixes.iter().enumerate() {
        let prefix = prefix.prefix();
        if prefixes[..at].iter().any(|other| other.prefix() == prefix) {
            return Err(Usage(format!("--prefix {prefix} is given twice")));
        }
        let first = prefix.address();
        if !special::is_legal_v6_source(first) || first.is_unicast_link_local() {
            return Err(Usage(format!(
                "--prefix {prefix} is no prefix that can be routed"
            )));
        }
    }
    Ok(())
}

/// The hosts of each `--translatable`, in the NAT64 prefix that it is a part of.
fn translatable_hosts(run: &Run, prefixes: &[Pref64]) -> Result<Vec<Eam>, Usage> {
    let hosts = run.translatable.iter().map(|hosts| {
        let pref64 = prefixes
            .iter()
            .filter(|pref64| pref64.contains(hosts.address()))
            .max_by_key(|pref64| pref64.prefix().len());
        let Some(pref64) = pref64 else {
            return Err(Usage(format!("--translatable {hosts} lies in no --prefix")));
        };
        translatable(pref64, *hosts).map_err(|error| Usage(format!("--translatable: {error}")))
    });
    hosts.collect()
}

fn check_maps(maps: &[Eam], prefixes: &[Pref64]) -> Result<(), Usage> {
    for eam in maps {
        if let Some(prefix) = prefixes
            .iter()
            .find(|prefix| prefix.prefix().overlaps(&eam.v6()))
        {
            return Err(Usage(format!(
                "--map {eam} overlaps --prefix {prefix}, whose addresses stand for IPv4 and not \
                 for IPv6 nodes"
            )));
        }
    }
    Ok(())
}

/// Each IPv4 address must have one meaning.
fn check_pools(run: &Run, pools: &[PoolSpec], eams: &EamTable) -> Result<(), Usage> {
    for spec in pools {
        for address in [spec.addresses.start(), spec.addresses.end()] {
            if special::is_never_v4(*address) {
                return Err(Usage(format!(
                    "--pool {spec} has addresses that others cannot answer to"
                )));
            }
        }
        if let Some(pool) = run.dynamic_pool.filter(|pool| spec.overlaps(pool)) {
            return Err(Usage(format!(
                "--pool {spec} and --dynamic-pool {pool} share addresses"
            )));
        }
        if let Some(map) = eams.iter().find(|map| spec.overlaps(&map.v4())) {
            return Err(Usage(format!(
                "--pool {spec} and --map {map} share addresses"
            )));
        }
    }
    Ok(())
}

/// The address that was asked for, or the one behind the lowest address of the pool.
fn own_v4(run: &Run, pools: &[PoolSpec]) -> Result<Ipv4Addr, Usage> {
    if let Some(own) = run.ipv4 {
        if special::is_never_v4(own) && own != DUMMY_V4 {
            return Err(Usage(format!(
                "--ipv4 {own} is no address that others can answer to"
            )));
        }
        return Ok(own);
    }
    let Some(pool) = run.dynamic_pool else {
        let shared = pools.first();
        return Ok(shared.map_or(DUMMY_V4, |spec| *spec.addresses.start()));
    };
    if special::is_never_v4(pool.address()) {
        return Err(Usage(format!(
            "--dynamic-pool {pool} has no addresses for hosts; private ones like \
             192.168.64.0/24 do"
        )));
    }
    if pool.len() > 29 {
        return Err(Usage(format!(
            "--dynamic-pool {pool} is too small: the translator takes an address of it, and the \
             lowest and highest are not handed out; a /29 is the least, or give --ipv4"
        )));
    }
    Ok(Ipv4Addr::from_bits(pool.address().to_bits() + 1))
}

/// The translator's IPv4 address in the NAT64 prefix, where that is allowed (RFC 6052 section
/// 3.1).
fn embedded(pref64s: &Pref64s, own_v4: Ipv4Addr, wkp_strict: bool) -> Option<Ipv6Addr> {
    let allowed =
        |pref64: &&Pref64| !pref64.is_well_known() || special::is_global_v4(own_v4) || !wkp_strict;
    if own_v4 == DUMMY_V4 {
        return None;
    }
    pref64s
        .iter()
        .find(allowed)
        .map(|pref64| pref64.embed(own_v4))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::Parser;

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
        assert_eq!(routed.egress, Egress::Route);
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
        assert_eq!(settings.ipv4_prefixes(), ["192.0.2.0/24".parse().unwrap()]);
        assert!(settings.is_translatable("2001:db8:64::192.0.2.9".parse().unwrap()));
        assert!(!settings.is_translatable("2001:db8:64::192.0.3.9".parse().unwrap()));
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
}
