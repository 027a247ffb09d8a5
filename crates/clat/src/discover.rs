//! The NAT64 prefix for the commands that look once: the given one, or the first that is found.

use std::net::Ipv6Addr;
use std::time::Duration;

use anyhow::Result;
use pref64_discovery::{LinkDiscovery, Trust};
use tokio::time::{Instant, timeout_at};
use xlat_core::addr::Pref64;
use xlat_host::host::Link;
use xlat_proto::clat::View;
use xlat_proto::discovery::{Found, Source};

/// The prefix that the administrator gave, if one was given.
pub(crate) fn configured(prefix: Option<Pref64>) -> Option<Found> {
    prefix.map(|prefix| Found {
        prefix,
        source: Source::Configured,
    })
}

/// The prefix that was discovered, and the routers that announce it, the one to use first.
pub(crate) fn discovered(network: &LinkDiscovery) -> Option<(Pref64, Vec<Ipv6Addr>)> {
    let found = network.found()?;
    Some((found.prefix, network.routers()))
}

/// Asks routers, PCP and DNS servers on `link` until a prefix is found or `patience` is over.
pub(crate) async fn on_link(
    link: &Link,
    view: &View,
    trust: Trust,
    patience: Duration,
) -> Result<LinkDiscovery> {
    let mut network = LinkDiscovery::join(link, None, trust)?;
    network.set_local(&view.local);
    network.set_pcp_servers(&view.routers);
    let end = Instant::now() + patience;
    while network.found().is_none() && Instant::now() < end {
        network.send().await;
        let _ = timeout_at(end, network.next()).await;
    }
    Ok(network)
}
