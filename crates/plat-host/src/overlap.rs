//! Prefixes and pools that lie where this host is.

use std::net::IpAddr;

use tracing::warn;
use xlat_core::addr::{Ipv4Prefix, Ipv6Prefix, Pref64};
use xlat_host::host::{self, Host, OnLinkPrefix};

use crate::HostConfig;

/// What the translator must not take.
#[derive(Debug, thiserror::Error)]
pub enum OverlapError {
    /// An address of this host is one of the translator's.
    #[error(
        "{prefix} overlaps the address {address} of this host; choose another pool, or take the \
         address off the host"
    )]
    Ipv4 {
        /// The translator's prefix.
        prefix: Ipv4Prefix,
        /// The host's address.
        address: IpAddr,
    },
    /// An address of this host lies in a NAT64 prefix.
    #[error(
        "the NAT64 prefix {prefix} overlaps the address {address} of this host; choose another \
         --prefix"
    )]
    Ipv6 {
        /// The NAT64 prefix.
        prefix: Ipv6Prefix,
        /// The host's address.
        address: IpAddr,
    },
    /// Hosts of a LAN would take what is behind the NAT64 prefix for their neighbours.
    #[error("{0}; choose another --prefix, or say --ra-on-link off")]
    OnLink(OnLinkPrefix),
    /// The host cannot be read.
    #[error(transparent)]
    Host(#[from] host::Error),
}

/// Refuses prefixes and pools that this host has addresses in: its own traffic would be taken
/// away from it.
///
/// # Errors
/// They overlap, or the host cannot be read.
pub async fn check_overlaps(host: &Host, config: &HostConfig) -> Result<(), OverlapError> {
    for &prefix in &config.ipv4 {
        if let Some(have) = host.address_in_v4(prefix).await? {
            let address = have.address;
            return Err(OverlapError::Ipv4 { prefix, address });
        }
    }
    let addresses = host.addresses().await?;
    for prefix in config.pref64s.iter().map(Pref64::prefix) {
        let have = addresses.iter().find(|have| match have.address {
            IpAddr::V6(v6) => prefix.contains(v6) && !config.is_translatable(v6),
            IpAddr::V4(_) => false,
        });
        if let Some(have) = have {
            let address = have.address;
            return Err(OverlapError::Ipv6 { prefix, address });
        }
    }
    let prefixes = config.pref64s.iter().map(Pref64::prefix);
    let on_link = host.on_link_prefixes(prefixes).await?;
    let is_lan = |one: &OnLinkPrefix| config.lans.contains(&one.link);
    match on_link.into_iter().find(is_lan) {
        Some(one) if config.announces_on_link => Err(OverlapError::OnLink(one)),
        _ => Ok(()),
    }
}

/// Says which NAT64 prefixes some hosts take for their neighbours', where that is not refused.
///
/// # Errors
/// The host cannot be read.
pub async fn warn_of_on_link_prefixes(host: &Host, config: &HostConfig) -> Result<(), host::Error> {
    let prefixes = config.pref64s.iter().map(Pref64::prefix);
    for one in host.on_link_prefixes(prefixes).await? {
        warn!("{one}");
    }
    Ok(())
}
