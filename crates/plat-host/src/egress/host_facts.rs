//! What a `plat` without pools and maps takes from its host: a private pool that the host does not
//! use, which hides behind the interface of the IPv4 default route.

use std::net::Ipv4Addr;

use nat64::{PoolSpec, PoolSpecError};
use tracing::info;
use xlat_core::addr::{Ipv4Prefix, PrefixError};
use xlat_host::host::{Error, Host, Listening, listening};

use super::mode::Egress;
use super::own_address::Ephemeral;

/// Somewhere on the Internet: what leads there is the egress.
pub(super) const SOMEWHERE: Ipv4Addr = Ipv4Addr::new(198, 41, 0, 4);

/// Private pools for a `plat` without flags, the first that this host does not use.
pub const POOLS: [&str; 3] = ["192.168.64.0/28", "172.31.64.0/28", "10.64.64.0/28"];

/// What settings need to know of the host where nobody has said whom to translate for; nothing
/// where somebody has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostFacts {
    /// A private pool that this host does not use.
    pub free_pool: Option<PoolSpec>,
    /// How it leaves: behind the interface of the IPv4 default route unless --egress says otherwise.
    pub egress: Option<Egress>,
    /// Where clients share an address of this host.
    pub own: Option<OwnFacts>,
}

/// What sharing an address with the host takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnFacts {
    /// A private address that this host does not use.
    pub inner: Ipv4Addr,
    /// Ports of its services.
    pub busy: Vec<Listening>,
    /// Ports that its own connections get.
    pub ephemeral: Ephemeral,
}

impl OwnFacts {
    async fn look_up(host: &Host) -> Result<Self, FactsError> {
        let pool: Ipv4Prefix = free_pool(host).await?.parse()?;
        Ok(Self {
            inner: first_of(pool),
            busy: listening()
                .into_iter()
                .filter(Listening::is_reached_from_outside)
                .collect(),
            ephemeral: Ephemeral::of(host),
        })
    }

    fn example() -> Result<Self, FactsError> {
        Ok(Self {
            inner: first_of(POOLS[0].parse()?),
            busy: Vec::new(),
            ephemeral: Ephemeral::default(),
        })
    }
}

fn first_of(pool: Ipv4Prefix) -> Ipv4Addr {
    Ipv4Addr::from_bits(pool.address().to_bits() + 1)
}

impl HostFacts {
    /// Looks at the host: a pool that it does not use, which leaves by `egress` where one was given.
    ///
    /// # Errors
    /// All pools are in use, or the host cannot be read.
    pub async fn look_up(host: &Host, egress: Option<Egress>) -> Result<Self, FactsError> {
        let egress = egress.unwrap_or(Egress::Masquerade(Vec::new()));
        let pool = free_pool(host).await?;
        let by = match default_interface(host).await? {
            Some(name) => format!(", now {name}"),
            None => String::new(),
        };
        info!(
            "no pool was given: all clients share {pool}, --egress {egress} (the interface of the \
             IPv4 default route{by})"
        );
        Ok(Self {
            free_pool: Some(pool.parse()?),
            egress: Some(egress),
            own: None,
        })
    }

    /// What stands for the host's facts where it is not looked at.
    ///
    /// # Errors
    /// One of [`POOLS`] is no pool.
    pub fn example() -> Result<Self, FactsError> {
        Ok(Self {
            free_pool: Some(POOLS[0].parse()?),
            egress: Some(Egress::Masquerade(Vec::new())),
            own: None,
        })
    }

    /// Looks at the host where clients share an address of it.
    ///
    /// # Errors
    /// All private pools are in use, or the host cannot be read.
    pub async fn look_up_own(host: &Host) -> Result<Self, FactsError> {
        Ok(Self {
            own: Some(OwnFacts::look_up(host).await?),
            ..Self::default()
        })
    }

    /// What stands for these facts where the host is not looked at.
    ///
    /// # Errors
    /// One of [`POOLS`] is no prefix.
    pub fn example_own() -> Result<Self, FactsError> {
        Ok(Self {
            own: Some(OwnFacts::example()?),
            ..Self::default()
        })
    }
}

/// Why nothing could be chosen.
#[derive(Debug, thiserror::Error)]
pub enum FactsError {
    /// Each pool is in use.
    #[error("this host uses all private pools that were tried; give --pool")]
    NoPool,
    /// One of [`POOLS`] is none.
    #[error("a pool of ours")]
    Pool(#[from] PoolSpecError),
    /// One of [`POOLS`] is no prefix.
    #[error("a pool of ours")]
    Prefix(#[from] PrefixError),
    /// The host cannot be read.
    #[error(transparent)]
    Host(#[from] Error),
}

/// The interface of the IPv4 default route, if there is one.
pub(super) async fn default_interface(host: &Host) -> Result<Option<String>, Error> {
    let way = match host.way(SOMEWHERE.into()).await {
        Ok(way) => way,
        Err(Error::NoRoute(_)) => return Ok(None),
        Err(error) => return Err(error),
    };
    let links = host.links().await?;
    let link = links.into_iter().find(|link| link.index == way.index);
    Ok(link.map(|link| link.name))
}

async fn free_pool(host: &Host) -> Result<&'static str, FactsError> {
    for pool in POOLS {
        let prefix: Ipv4Prefix = pool.parse()?;
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
    Err(FactsError::NoPool)
}
