//! The DNS64 as the command line wants it: flags become a [`Config`] of [`dns64_server`].

pub(crate) mod flags;
mod resolv_conf;

use std::net::{IpAddr, SocketAddr};

use anyhow::Result;
use dns64::Rules;
use dns64_server::{Config, PORT, Server, Trust, Upstream};
use xlat_core::addr::Ipv6Prefix;
use xlat_host::daemon::exit::Usage;
use xlat_host::daemon::waiting::Missing;
use xlat_host::host::Host;

pub(crate) use resolv_conf::ResolvConf;

use crate::settings::Settings;

/// Starts the DNS64; `None` if none is wanted.
pub(crate) async fn start(host: &Host, settings: &Settings) -> Result<Option<Server>> {
    let addresses = settings.dns.dns64.clone();
    if addresses.is_empty() {
        return Ok(None);
    }
    let config = config(host, settings).await?;
    Ok(Some(Server::start(addresses, config)?))
}

/// What the settings mean on this host.
pub(crate) async fn config(host: &Host, settings: &Settings) -> Result<Config> {
    let flags = &settings.dns;
    let mut rules = Rules {
        wkp_strict: settings.wkp_strict,
        unmapped: flags.dns64_unmapped.clone(),
        prefix_lifetime: flags.dns64_prefix_ttl,
        ..Rules::new(settings.pref64s.iter().copied().collect())
    };
    rules.excluded.extend(&flags.dns64_exclude);
    let upstreams = upstreams(settings)?;
    let trust = if upstreams.iter().any(|server| server.tls.is_some()) {
        Some(Trust::load(flags.dns64_ca.as_deref())?)
    } else {
        None
    };
    Ok(Config {
        rules,
        upstreams,
        trust,
        allowed: allowed(host, settings).await?,
        on_link: on_link(host).await?,
        rate: flags.dns64_rate,
        cache: flags.dns64_cache,
    })
}

/// The resolvers that are given or, without any, those of `/etc/resolv.conf`: there may be none now.
fn upstreams(settings: &Settings) -> Result<Vec<Upstream>> {
    let flags = &settings.dns;
    let servers = flags.dns64_upstream.clone();
    if servers.is_empty() {
        return Ok(resolv_conf::read(&flags.dns64));
    }
    let is_own = |server: &SocketAddr| {
        let mut own = flags.dns64.iter();
        server.port() == PORT && own.any(|own| server.ip() == IpAddr::V6(*own))
    };
    let mut addresses = servers.iter().map(|server| server.address);
    if let Some(own) = addresses.find(is_own) {
        return Err(Usage(format!("--dns64-upstream {own} is this DNS64 itself")).into());
    }
    Ok(servers)
}

/// Checks that a DNS64, if one is wanted, has somebody to ask.
pub(crate) fn check_upstreams(settings: &Settings) -> Result<()> {
    if settings.dns.dns64.is_empty() {
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
    if settings.dns.dns64_upstream.is_empty() {
        return Ok(());
    }
    check_upstreams(settings)
}

/// The clients that may ask.
async fn allowed(host: &Host, settings: &Settings) -> Result<Vec<Ipv6Prefix>> {
    let given = &settings.dns.dns64_allow;
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
