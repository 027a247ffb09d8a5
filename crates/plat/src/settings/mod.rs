//! What the flags mean: checked against each other, before the host is looked at.

mod checks;
mod pools;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use fast_path::StaticMapping;
use nat64::config::{Config, ConfigError};
use nat64::dynamic::PoolConfig;
use plat_host::{Announced, Dns, Egress, HostConfig, HostFacts, OnNoEgress, Own6, PoolStatus};
use xlat_core::Policy;
use xlat_core::addr::{Eam, EamTable, Ipv4Prefix, Ipv6Prefix, Pref64, Pref64s, special};
use xlat_core::mappers::Hairpin;
use xlat_core::policy::{DUMMY_V4, PolicyError};
use xlat_host::daemon::exit::Usage;
use xlat_host::daemon::flags::{StatusGroup, Switch};

use crate::advertise::Advertise;
use crate::cli::Run;
use crate::stateful::{Offers, SessionLog};
use checks::{
    check_clients, check_maps, check_pools, check_prefixes, embedded, merged_egress, own_v4, pcp,
    prefixes, translatable_hosts,
};
use pools::Pools;

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
    pub(crate) on_no_egress: OnNoEgress,
    /// What was chosen from the host at the start: a reload keeps it.
    pub(crate) facts: HostFacts,
    pub(crate) instance: Instance,
    pub(crate) tun: xlat_tun::Options,
    /// Where Prometheus is served.
    pub(crate) metrics: Option<SocketAddr>,
    pub(crate) dry_run: bool,
    /// Print the dry run as JSON.
    pub(crate) json: bool,
    pub(crate) no_host_setup: bool,
    /// IPv6 sources that are served; if empty, those of the host's own networks.
    pub(crate) clients: Vec<Ipv6Prefix>,
    /// Of the stateful translator, if there is one; [`Settings::checked_stateful`] checks it.
    pub(crate) stateful: Option<Config>,
    pub(crate) session_log: SessionLog,
    /// Sessions that the kernel is offered, where it has a fast path.
    pub(crate) offers: Offers,
    /// Hosts may ask for external ports.
    pub(crate) pcp: bool,
    /// Those that may ask for other hosts.
    pub(crate) pcp_third_party: Vec<Ipv6Prefix>,
    pub(crate) advertise: Advertise,
    pub(crate) dns: Dns,
    /// But for the translator's IPv6 address, which [`Settings::policy`] adds.
    policy: Policy,
}

/// What keeps this instance apart from others on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Instance {
    /// Name of the TUN interface.
    pub(crate) tun: String,
    pub(crate) run_dir: PathBuf,
    pub(crate) state_dir: PathBuf,
    /// The group that may ask for the status.
    pub(crate) status_group: Option<StatusGroup>,
}

impl Settings {
    /// What the flags mean on a host with these facts.
    pub(crate) fn resolve(run: Run, facts: HostFacts) -> Result<Self, Usage> {
        let shared = Pools::resolve(&run, &facts)?;
        let egress = merged_egress(&run, &shared, &facts)?;
        let Pools {
            shared: pools,
            bindings,
            ..
        } = shared;
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
            pcp_third_party: run.stateful.pcp_third_party.clone(),
            egress,
            on_no_egress: run.on_no_egress.into(),
            facts,
            session_log: run.stateful.session_log(),
            offers: run.stateful.offers(),
            stateful: (!pools.is_empty()).then(|| run.stateful.config(pools, bindings, tun.queues)),
            clients: run.stateful.client,
            tun,
            instance: Instance {
                tun: run.place.tun,
                run_dir: run.place.run_dir,
                state_dir: run.state_dir,
                status_group: run.flags.status_group,
            },
            metrics: run.flags.metrics,
            dry_run: run.flags.dry_run,
            json: run.flags.json,
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
            let pool = match &self.egress {
                Egress::Own(own) => own.to_string(),
                _ => join(&config.pool),
            };
            clients.push(format!("IPv6 sources share {pool}"));
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

    /// The pools.
    pub(crate) fn pools(&self) -> Vec<PoolStatus> {
        if let Egress::Own(own) = &self.egress {
            return vec![PoolStatus::own(own)];
        }
        let shared = self.stateful.iter().flat_map(|config| &config.pool);
        let shared = shared.map(PoolStatus::from);
        let dynamic = self.dynamic_pool.map(PoolStatus::dynamic);
        shared.chain(dynamic).collect()
    }

    /// The addresses that clients get or share: packets to them never leave.
    fn client_addresses(&self) -> impl Iterator<Item = Ipv4Prefix> {
        let shared = self.stateful.iter().flat_map(Config::ipv4_prefixes);
        shared.chain(self.dynamic_pool)
    }

    /// The static maps, as the fast path knows them; what clients must not reach is `hidden`.
    pub(crate) fn static_mapping(&self, hidden: Vec<Ipv4Prefix>) -> Option<StaticMapping> {
        let (eams, pools) = (&self.eams, self.client_addresses());
        plat_host::static_mapping(eams, &self.pref64s, pools, hidden)
    }

    /// True if clients share a pool behind the kernel's NAT, which then decides who gets in and by
    /// which port they are seen.
    pub(crate) fn has_kernels_ports(&self) -> bool {
        self.stateful.is_some() && matches!(self.egress, Egress::Masquerade(_))
    }

    /// True if clients share the translator's IPv4 address.
    pub(crate) fn own_v4_is_shared(&self) -> bool {
        let mut shared = self.stateful.iter();
        shared.any(|config| config.shares(self.own_v4))
    }

    /// What the translator is to its host.
    pub(crate) fn host_config(&self) -> HostConfig {
        HostConfig {
            tun: self.instance.tun.clone(),
            mtu: self.mtu,
            egress: self.egress.clone(),
            pref64s: self.pref64s.clone(),
            translatable: self.translatable.clone(),
            ipv4: self.ipv4_prefixes(),
            announced: Announced::ALL,
            outer: None,
            lans: self.advertise.lan.clone(),
            announces_on_link: self.advertise.config.on_link,
        }
    }

    /// IPv4 prefixes that belong to the translator: packets to them must come to the TUN.
    fn ipv4_prefixes(&self) -> Vec<Ipv4Prefix> {
        let pool = self.dynamic_pool;
        let maps = self.eams.iter().map(|eam| eam.v4());
        let own = (self.own_v4 != DUMMY_V4).then(|| Ipv4Prefix::host(self.own_v4));
        let shared = self.stateful.iter().flat_map(Config::ipv4_prefixes);
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

#[cfg(test)]
mod tests;
