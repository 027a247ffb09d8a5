//! The DNS64 as the command line wants it: flags become a [`Config`] of [`dns64_server`].

pub(crate) mod flags;

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::Result;
use dns64::Rules;
use dns64_server::{Config, PORT, ResolvConf, Server, Trust, Upstream};
use xlat_core::addr::Ipv6Prefix;
use xlat_host::daemon::exit::Usage;
use xlat_host::daemon::waiting::Missing;
use xlat_host::host::Host;

use crate::settings::Settings;

/// The DNS64, as far as the flags say; nothing of the host is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dns {
    /// Addresses to listen on; without any there is no DNS64.
    pub(crate) addresses: Vec<Ipv6Addr>,
    /// Those of `/etc/resolv.conf` if empty.
    upstreams: Vec<Upstream>,
    /// Certificates that upstreams prove their names with; the system's without.
    ca: Option<PathBuf>,
    /// Clients; if empty, those of the host's own networks and those who are served.
    allowed: Vec<Ipv6Prefix>,
    /// Most queries of one client a second.
    rate: u32,
    /// Answers that are kept.
    cache: usize,
    rules: Rules,
}

impl Dns {
    /// True if the resolvers are those of `/etc/resolv.conf`.
    pub(crate) fn follows_resolv_conf(&self) -> bool {
        !self.addresses.is_empty() && self.upstreams.is_empty()
    }
}

/// Starts the DNS64; `None` if none is wanted.
pub(crate) async fn start(host: &Host, settings: &Settings) -> Result<Option<Server>> {
    let addresses = settings.dns.addresses.clone();
    if addresses.is_empty() {
        return Ok(None);
    }
    let config = config(host, settings).await?;
    Ok(Some(Server::start(addresses, config)?))
}

/// What the settings mean on this host.
pub(crate) async fn config(host: &Host, settings: &Settings) -> Result<Config> {
    let upstreams = upstreams(settings)?;
    let trust = if upstreams.iter().any(|server| server.tls.is_some()) {
        Some(Trust::load(settings.dns.ca.as_deref())?)
    } else {
        None
    };
    Ok(Config {
        rules: settings.dns.rules.clone(),
        upstreams,
        trust,
        allowed: allowed(host, settings).await?,
        on_link: on_link(host).await?,
        rate: settings.dns.rate,
        cache: settings.dns.cache,
    })
}

/// The resolvers that are given or, without any, those of `/etc/resolv.conf`: there may be none now.
fn upstreams(settings: &Settings) -> Result<Vec<Upstream>> {
    let Dns {
        addresses,
        upstreams,
        ..
    } = &settings.dns;
    let servers = upstreams.clone();
    if servers.is_empty() {
        return Ok(ResolvConf::read(addresses));
    }
    let is_own = |server: &SocketAddr| {
        let mut own = addresses.iter();
        server.port() == PORT && own.any(|own| server.ip() == IpAddr::V6(*own))
    };
    let mut asked = servers.iter().map(|server| server.address);
    if let Some(own) = asked.find(is_own) {
        return Err(Usage(format!("--dns64-upstream {own} is this DNS64 itself")).into());
    }
    Ok(servers)
}

/// Checks that a DNS64, if one is wanted, has somebody to ask.
pub(crate) fn check_upstreams(settings: &Settings) -> Result<()> {
    if settings.dns.addresses.is_empty() {
        return Ok(());
    }
    if upstreams(settings)?.is_empty() {
        let line = "--dns64 has nobody to ask: /etc/resolv.conf names no resolver; give \
                    --dns64-upstream";
        return Err(Missing(line.into()).into());
    }
    Ok(())
}

/// Refuses what makes no sense on any host.
pub(crate) fn check(settings: &Settings) -> Result<()> {
    if settings.dns.upstreams.is_empty() {
        return Ok(());
    }
    check_upstreams(settings)
}

/// The clients that may ask.
async fn allowed(host: &Host, settings: &Settings) -> Result<Vec<Ipv6Prefix>> {
    let given = &settings.dns.allowed;
    if !given.is_empty() {
        return Ok(given.clone());
    }
    let mut allowed = host.inner_networks(&settings.advertise.lan).await?;
    allowed.extend(&settings.clients);
    Ok(allowed)
}

/// The IPv6 networks on links of this host.
async fn on_link(host: &Host) -> Result<Vec<Ipv6Prefix>> {
    let addresses = host.addresses().await?;
    let networks = addresses.iter().filter_map(|have| match have.address {
        IpAddr::V6(address) => Some(Ipv6Prefix::containing(address, have.len)),
        IpAddr::V4(_) => None,
    });
    Ok(networks.collect())
}
