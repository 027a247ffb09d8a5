//! The IPv6 address that the translator's own ICMPv6 errors come from.

use std::net::{IpAddr, Ipv6Addr};

use xlat_core::addr::{Pref64s, special};
use xlat_host::daemon::waiting::Missing;
use xlat_host::host::{Error, Host};

/// The translator's IPv6 address.
#[derive(Clone, Copy, Debug)]
pub struct Own6 {
    /// The address.
    pub address: Ipv6Addr,
    /// It is the translator's alone, and not this host's: it answers for it.
    pub is_ours: bool,
    /// It needs a route of its own to the TUN.
    pub routed: bool,
}

impl Own6 {
    /// `wanted`, or one of this host; [`Missing`] where it has none.
    ///
    /// # Errors
    /// The host cannot be read.
    pub async fn find(
        host: &Host,
        wanted: Option<Ipv6Addr>,
        pref64s: &Pref64s,
    ) -> Result<Result<Self, Missing>, Error> {
        let addresses = host.addresses().await?;
        if let Some(address) = wanted {
            let is_ours = !addresses
                .iter()
                .any(|have| have.address == IpAddr::V6(address));
            let routed = is_ours && pref64s.lookup(address).is_none();
            return Ok(Ok(Self {
                address,
                is_ours,
                routed,
            }));
        }
        let global = addresses.iter().find_map(|have| match have.address {
            IpAddr::V6(address) if is_global(address) && !have.deprecated && !have.temporary => {
                Some(address)
            }
            _ => None,
        });
        Ok(match global {
            Some(address) => Ok(Self {
                address,
                is_ours: false,
                routed: false,
            }),
            None => {
                let line = "this host has no global IPv6 address for the translator's own ICMPv6 \
                            errors; give one with --ipv6";
                Err(Missing(line.into()))
            }
        })
    }
}

/// True if hosts elsewhere can have this address.
pub fn is_global(address: Ipv6Addr) -> bool {
    special::is_legal_v6_source(address) && !address.is_unicast_link_local()
}
