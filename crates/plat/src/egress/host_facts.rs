//! What a `plat` without pools and maps takes from its host: a private pool that the host does not
//! use, which hides behind the interface of the IPv4 default route.

use std::net::Ipv4Addr;

use anyhow::{Context, Result, bail};
use nat64::PoolSpec;
use tracing::info;
use xlat_core::addr::Ipv4Prefix;
use xlat_host::daemon::exit::Usage;
use xlat_host::host::{Error, Host};

use super::mode::Egress;
use crate::cli::Run;

/// Somewhere on the Internet: what leads there is the egress.
const SOMEWHERE: Ipv4Addr = Ipv4Addr::new(198, 41, 0, 4);

/// Private pools for a `plat` without flags, the first that this host does not use.
pub(crate) const POOLS: [&str; 3] = ["192.168.64.0/28", "172.31.64.0/28", "10.64.64.0/28"];

/// What settings need to know of the host where nobody has said whom to translate for; nothing
/// where somebody has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HostFacts {
    /// A private pool that this host does not use.
    pub(crate) free_pool: Option<PoolSpec>,
    /// How it leaves: behind the interface of the IPv4 default route unless --egress says otherwise.
    pub(crate) egress: Option<Egress>,
}

impl HostFacts {
    /// Looks at the host, if these flags leave something to it.
    pub(crate) async fn look_up(run: &Run) -> Result<Self> {
        if !is_to_choose(run)? {
            return Ok(Self::default());
        }
        let host = Host::connect()?;
        if !run.flags.dry_run {
            // What a killed run left is not in the way.
            host.recover(&run.place.run_dir, &run.place.tun).await?;
        }
        let egress = Egress::merge(run.egress.clone())?;
        let egress = egress.unwrap_or(Egress::Masquerade(Vec::new()));
        let pool = free_pool(&host).await?;
        let by = match default_interface(&host).await? {
            Some(name) => format!(", now {name}"),
            None => String::new(),
        };
        info!(
            "no pool was given: all clients share {pool}, --egress {egress} (the interface of the \
             IPv4 default route{by})"
        );
        Ok(Self {
            free_pool: Some(pool.parse().context("a pool of ours")?),
            egress: Some(egress),
        })
    }

    /// What stands for the host's facts where it is not looked at.
    pub(crate) fn example(run: &Run) -> Result<Self> {
        if !is_to_choose(run)? {
            return Ok(Self::default());
        }
        Ok(Self {
            free_pool: Some(POOLS[0].parse().context("a pool of ours")?),
            egress: Some(Egress::Masquerade(Vec::new())),
        })
    }
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

/// The interface of the IPv4 default route, if there is one.
pub(super) async fn default_interface(host: &Host) -> Result<Option<String>> {
    let way = match host.way(SOMEWHERE.into()).await {
        Ok(way) => way,
        Err(Error::NoRoute(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let links = host.links().await?;
    let link = links.into_iter().find(|link| link.index == way.index);
    Ok(link.map(|link| link.name))
}

async fn free_pool(host: &Host) -> Result<&'static str> {
    for pool in POOLS {
        let prefix: Ipv4Prefix = pool.parse().context("a pool of ours")?;
        let is_taken = host.address_in_v4(prefix).await?.is_some();
        // A route of its own leads there: somebody uses it.
        let way = host.way(prefix.last().into()).await;
        let default = host.way(SOMEWHERE.into()).await;
        let is_routed = match (way, default) {
            (Ok(way), Ok(default)) => (way.index, way.gateway) != (default.index, default.gateway),
            (Ok(_), Err(_)) => true,
            (Err(_), _) => false,
        };
        if !is_taken && !is_routed {
            return Ok(pool);
        }
    }
    bail!("this host uses all private pools that were tried; give --pool")
}
