//! The resolvers of `/etc/resolv.conf`, which DHCP clients, NetworkManager and others write again and
//! again.

use std::fs;
use std::future::pending;
use std::net::Ipv6Addr;
use std::time::Duration;

use dns64_server::{Upstream, resolv_conf_servers};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::Dns;

/// How often the file is read. It may be a link into a directory that comes and goes, so that there
/// is nothing to watch.
const PERIOD: Duration = Duration::from_secs(3);

/// The resolvers in the file, without the DNS64's own addresses; none if there is no file.
pub(super) fn read(own: &[Ipv6Addr]) -> Vec<Upstream> {
    let text = fs::read("/etc/resolv.conf").unwrap_or_default();
    resolv_conf_servers(&String::from_utf8_lossy(&text), own)
}

/// The file as it was seen last.
pub(crate) struct ResolvConf {
    seen: Vec<Upstream>,
    ticks: Interval,
}

impl ResolvConf {
    pub(crate) fn new(dns: &Dns) -> Self {
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            seen: read(&dns.addresses),
            ticks,
        }
    }

    /// Waits until the file has other resolvers. Never ends if it is not used.
    pub(crate) async fn changed(&mut self, dns: &Dns) {
        if dns.addresses.is_empty() || !dns.upstreams.is_empty() {
            pending::<()>().await;
        }
        loop {
            self.ticks.tick().await;
            let servers = read(&dns.addresses);
            if servers != self.seen {
                self.seen = servers;
                return;
            }
        }
    }
}
