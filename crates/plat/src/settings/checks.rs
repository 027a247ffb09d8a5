//! Single flags against each other.

use std::net::{Ipv4Addr, Ipv6Addr};

use nat64::PoolSpec;
use plat_host::{Egress, HostFacts};
use xlat_core::addr::{Eam, EamTable, Pref64, Pref64s, special, translatable};
use xlat_core::policy::DUMMY_V4;
use xlat_host::daemon::exit::Usage;
use xlat_host::daemon::flags::Switch;

use crate::advertise::Advertise;
use crate::cli::Run;
use crate::settings::pools::Pools;
use crate::stateful::StatefulFlags;

/// The well-known prefix (RFC 6052 section 2.1).
const WELL_KNOWN: &str = "64:ff9b::/96";

/// Whether hosts may ask for external ports (RFC 6887). Behind a masqueraded pool they would get
/// ports that nobody reaches from outside.
pub(super) fn pcp(
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

/// The prefixes that were given; a pool that was chosen makes do with the well-known one.
pub(super) fn prefixes(run: &Run, facts: &HostFacts) -> Result<Vec<Pref64>, Usage> {
    if !run.prefix.is_empty() || !is_chosen(run, facts) {
        return Ok(run.prefix.clone());
    }
    let prefix = WELL_KNOWN.parse::<Pref64>();
    Ok(vec![prefix.map_err(|error| Usage(error.to_string()))?])
}

/// True if nobody has said what clients share.
pub(super) fn is_chosen(run: &Run, facts: &HostFacts) -> bool {
    facts.free_pool.is_some() || facts.own.is_some() && run.stateful.pool.is_empty()
}

/// How packets leave: what was given, what follows from the pool, or what the host has it.
pub(super) fn merged_egress(run: &Run, pools: &Pools, facts: &HostFacts) -> Result<Egress, Usage> {
    let given = Egress::merge(run.egress.clone())?;
    let Some(own) = &pools.own else {
        let chosen = given.or_else(|| facts.egress.clone());
        return Ok(chosen.unwrap_or(Egress::Route(None)));
    };
    match given {
        Some(egress) => Err(Usage(format!(
            "--egress {egress} does not go with a pool that is the address of an interface, which \
             packets leave by"
        ))),
        None => Ok(Egress::Own(own.clone())),
    }
}

pub(super) fn check_clients(
    run: &Run,
    pools: &[PoolSpec],
    prefixes: &[Pref64],
) -> Result<(), Usage> {
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

pub(super) fn check_prefixes(prefixes: &[Pref64]) -> Result<(), Usage> {
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
pub(super) fn translatable_hosts(run: &Run, prefixes: &[Pref64]) -> Result<Vec<Eam>, Usage> {
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

pub(super) fn check_maps(maps: &[Eam], prefixes: &[Pref64]) -> Result<(), Usage> {
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
pub(super) fn check_pools(run: &Run, pools: &[PoolSpec], eams: &EamTable) -> Result<(), Usage> {
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
pub(super) fn own_v4(run: &Run, pools: &[PoolSpec]) -> Result<Ipv4Addr, Usage> {
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
pub(super) fn embedded(pref64s: &Pref64s, own_v4: Ipv4Addr, wkp_strict: bool) -> Option<Ipv6Addr> {
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
