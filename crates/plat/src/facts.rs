//! What the flags leave to the host: whom to translate for, where nobody has said.

use anyhow::Result;
use plat_host::{Egress, HostFacts, Pool};
use tracing::info;
use xlat_host::daemon::exit::Usage;
use xlat_host::host::Host;

use crate::cli::Run;

/// Looks at the host, if these flags leave something to it.
pub(crate) async fn look_up(run: &Run) -> Result<HostFacts> {
    let is_own = is_own(run)?;
    if !is_own && !is_to_choose(run)? {
        return Ok(HostFacts::default());
    }
    let host = Host::connect()?;
    if !run.flags.dry_run {
        // What a killed run left is not in the way.
        host.recover(&run.place.run_dir, &run.place.tun).await?;
    }
    if is_own {
        if run.stateful.pool.is_empty() {
            info!(
                "no pool was given: clients share the address of the interface of the IPv4 default \
                 route with this host; --egress masquerade hides a private pool behind it instead"
            );
        }
        return Ok(HostFacts::look_up_own(&host).await?);
    }
    let egress = Egress::merge(run.egress.clone())?;
    Ok(HostFacts::look_up(&host, egress).await?)
}

/// What stands for the host's facts where it is not looked at.
pub(crate) fn example(run: &Run) -> Result<HostFacts> {
    if is_own(run)? {
        return Ok(HostFacts::example_own()?);
    }
    if !is_to_choose(run)? {
        return Ok(HostFacts::default());
    }
    Ok(HostFacts::example()?)
}

/// True if clients share an address of this host: that of an interface which is the pool, or that of
/// the IPv4 default route's, where nobody has said otherwise.
fn is_own(run: &Run) -> Result<bool, Usage> {
    let mut pools = run.stateful.pool.iter();
    let is_named = pools.any(|pool| matches!(pool, Pool::Interface(_)));
    Ok(is_named || is_to_choose(run)? && run.egress.is_empty())
}

/// True if nobody has said whom to translate for.
fn is_to_choose(run: &Run) -> Result<bool, Usage> {
    let has_hosts = !run.map.is_empty() || !run.translatable.is_empty();
    if has_hosts || run.dynamic_pool.is_some() || !run.stateful.pool.is_empty() {
        return Ok(false);
    }
    let mut binds = run.stateful.bind.iter();
    if !run.egress.is_empty() && !run.stateful.bind.is_empty()
        || binds.any(|bind| bind.interface.is_none())
    {
        return Err(Usage("--bind needs --pool".into()));
    }
    Ok(true)
}
