//! Router advertisements as the command line wants them: flags become a [`Config`] of
//! [`router_advertiser`].

pub(crate) mod flags;

use std::net::Ipv6Addr;

use router_advertiser::Config;

/// Where this host is a router, and what it says there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Advertise {
    /// Names of the interfaces.
    pub(crate) lan: Vec<String>,
    /// Without DNS servers if nobody has named some.
    pub(crate) config: Config,
}

impl Advertise {
    /// What is advertised where this host's DNS64 has these addresses.
    pub(crate) fn with_dns64(&self, addresses: Vec<Ipv6Addr>) -> Config {
        let mut config = self.config.clone();
        if config.dns_servers.is_empty() {
            config.dns_servers = addresses;
        }
        config
    }
}
