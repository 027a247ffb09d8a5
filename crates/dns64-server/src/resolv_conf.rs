//! The resolvers of `/etc/resolv.conf`, which DHCP clients, NetworkManager and others write again and
//! again.

use std::fs;
use std::net::Ipv6Addr;
use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::address::resolv_conf_servers;
use crate::config::Upstream;

/// How often the file is read. It may be a link into a directory that comes and goes, so that there
/// is nothing to watch.
const PERIOD: Duration = Duration::from_secs(3);

/// The file as it was seen last.
#[derive(Debug)]
pub struct ResolvConf {
    seen: Vec<Upstream>,
    ticks: Interval,
}

impl ResolvConf {
    /// The resolvers in the file, without the DNS64's `own` addresses; none if there is no file.
    pub fn read(own: &[Ipv6Addr]) -> Vec<Upstream> {
        let text = fs::read("/etc/resolv.conf").unwrap_or_default();
        resolv_conf_servers(&String::from_utf8_lossy(&text), own)
    }

    /// Begins to watch the file, for a DNS64 with these addresses.
    pub fn watch(own: &[Ipv6Addr]) -> Self {
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            seen: Self::read(own),
            ticks,
        }
    }

    /// Waits until the file has other resolvers.
    pub async fn changed(&mut self, own: &[Ipv6Addr]) {
        loop {
            self.ticks.tick().await;
            let servers = Self::read(own);
            if servers != self.seen {
                self.seen = servers;
                return;
            }
        }
    }
}
