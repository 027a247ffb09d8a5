//! What the flags leave to the host: whom to translate for, where nobody has said.

use anyhow::Result;
use plat_host::{Egress, HostFacts, Pool};
use xlat_host::daemon::exit::Usage;
use xlat_host::host::Host;

use crate::cli::Run;

/// Looks at the host, if these flags leave something to it.
pub(crate) async fn look_up(run: &Run) -> Result<HostFacts> {
    let has_own = has_interface(run);
    if !has_own && !is_to_choose(run)? {
        return Ok(HostFacts::default());
    }
    let host = Host::connect()?;
    if !run.flags.dry_run {
        // What a killed run left is not in the way.
        host.recover(&run.place.run_dir, &run.place.tun).await?;
    }
    if has_own {
        return Ok(HostFacts::look_up_own(&host).await?);
    }
    let egress = Egress::merge(run.egress.clone())?;
    Ok(HostFacts::look_up(&host, egress).await?)
}

/// What stands for the host's facts where it is not looked at.
pub(crate) fn example(run: &Run) -> Result<HostFacts> {
    if has_interface(run) {
        return Ok(HostFacts::example_own()?);
    }
    if !is_to_choose(run)? {
        return Ok(HostFacts::default());
    }
    Ok(HostFacts::example()?)
}

/// True if clients share the address of an interface.
fn has_interface(run: &Run) -> bool {
    let mut pools = run.stateful.pool.iter();
    pools.any(|pool| matches!(pool, Pool::Interface(_)))
}

/// True if nobody has said whom to translate for.
fn is_to_choose(run: &Run) -> Result<bool, Usage> {
    let has_hosts = !run.map.is_empty() || !run.translatable.is_empty();
    if has_hosts || run.dynamic_pool.is_some() || !run.stateful.pool.is_empty() {
        return Ok(false);
    }
    if !run.stateful.bind.is_empty() {
        return Err(Usage("--bind needs --pool".into()));
    }
    Ok(true)
}
