//! What clients share: pools of addresses, or an address of this host.

use nat64::config::StaticBinding;
use nat64::{PoolSpec, Protocol};
use plat_host::egress::{InterfacePool, without};
use plat_host::{HostFacts, OwnAddress, OwnFacts, Pool};
use xlat_host::daemon::exit::Usage;
use xlat_host::host::Listening;

use super::join;
use crate::cli::Run;

/// What clients share, and the port forwards from it.
#[derive(Clone, Debug, Default)]
pub(super) struct Pools {
    pub(super) shared: Vec<PoolSpec>,
    pub(super) bindings: Vec<StaticBinding>,
    /// Where clients share an address of this host.
    pub(super) own: Option<OwnAddress>,
}

impl Pools {
    /// The pools that were given, or the one that the host leaves free.
    pub(super) fn resolve(run: &Run, facts: &HostFacts) -> Result<Self, Usage> {
        let (mut shared, mut interfaces) = (Vec::new(), Vec::new());
        for pool in &run.stateful.pool {
            match pool {
                Pool::Addresses(spec) => shared.push(spec.clone()),
                Pool::Interface(pool) => interfaces.push(pool.clone()),
            }
        }
        if let (Some(pool), Some(spec)) = (interfaces.first(), shared.first()) {
            return Err(Usage(format!(
                "--pool {} and --pool {spec} do not go together: clients share either addresses of \
                 their own or one with this host",
                pool.interface
            )));
        }
        let own = match &facts.own {
            Some(facts) if shared.is_empty() => Some(own_address(run, &interfaces, facts)?),
            None if !interfaces.is_empty() => {
                return Err(Usage("a changed pool needs a restart".into()));
            }
            _ => None,
        };
        if shared.is_empty() {
            shared.extend(facts.free_pool.clone());
        }
        let mut pools = Self {
            bindings: bindings(run, own.as_ref())?,
            shared,
            own,
        };
        pools.share_own();
        Ok(pools)
    }

    fn share_own(&mut self) {
        let Some(own) = &mut self.own else {
            return;
        };
        let addresses = own.inner..=own.inner;
        let ranges = own.ranges.iter().cloned();
        self.shared = ranges
            .map(|ports| PoolSpec {
                addresses: addresses.clone(),
                ports,
            })
            .collect();
        let forwards = self.bindings.iter();
        let forwards = forwards.filter(|one| one.external == own.inner);
        own.forwards = forwards
            .map(|one| (one.protocol, one.external_port))
            .collect();
    }
}

fn own_address(run: &Run, pools: &[InterfacePool], facts: &OwnFacts) -> Result<OwnAddress, Usage> {
    for (at, pool) in pools.iter().enumerate() {
        let others = &pools[..at];
        if others.iter().any(|other| other.interface == pool.interface) {
            let name = &pool.interface;
            return Err(Usage(format!("--pool {name} is given twice")));
        }
        if let Some(other) = others.iter().find(|other| other.ports != pool.ports) {
            return Err(Usage(format!(
                "--pool {other} and --pool {pool} must have the same ports: clients keep theirs when \
                 the IPv4 default route moves"
            )));
        }
    }
    let ports = pools.first().map(|pool| pool.ports.clone());
    let ports = ports.unwrap_or(plat_host::egress::OWN_PORTS);
    let busy = facts.busy.iter().filter(|one| ports.contains(&one.port));
    let busy: Vec<&Listening> = busy.collect();
    let ranges = without(&ports, &facts.busy);
    if ranges.is_empty() {
        let (low, high) = (ports.start(), ports.end());
        return Err(Usage(format!(
            "services of this host have all of the ports {low}-{high}; choose others"
        )));
    }
    if run.stateful.deterministic && ranges.len() > 1 {
        return Err(Usage(format!(
            "--deterministic needs a range of ports without services of this host, and {} is in use; \
             choose another range",
            busy.first().map_or_else(String::new, ToString::to_string)
        )));
    }
    let own = OwnAddress {
        interfaces: pools.iter().map(|pool| pool.interface.clone()).collect(),
        inner: facts.inner,
        ranges,
        forwards: Vec::new(),
        left_out: busy.into_iter().copied().collect(),
        ephemeral: facts.ephemeral.clone(),
    };
    own.check()?;
    Ok(own)
}

/// The port forwards, of which those from an interface are from the address in its place.
fn bindings(run: &Run, own: Option<&OwnAddress>) -> Result<Vec<StaticBinding>, Usage> {
    let forwards = run.stateful.bind.iter().map(|forward| {
        let Some(interface) = &forward.interface else {
            return Ok(forward.binding);
        };
        let protocol: Protocol = forward.binding.protocol;
        let (protocol, port) = (protocol.name(), forward.binding.external_port);
        let Some(own) = own else {
            return Err(Usage(format!(
                "--bind {protocol}:{interface}:{port} needs --pool {interface}"
            )));
        };
        if !own.interfaces.is_empty() && !own.interfaces.contains(interface) {
            return Err(Usage(format!(
                "--bind {protocol}:{interface}:{port} names no interface of --pool, which has {}",
                join(&own.interfaces)
            )));
        }
        Ok(StaticBinding {
            external: own.inner,
            ..forward.binding
        })
    });
    forwards.collect()
}
