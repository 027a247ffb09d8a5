//! How often one host may ask: more than any program does, and no flood.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use xlat_core::Instant;

const REQUESTS: u32 = 100;
const INTERVAL: Duration = Duration::from_secs(1);
/// Hosts that are remembered at a time.
const HOSTS: usize = 4096;

/// Requests of each host in the present interval.
#[derive(Debug, Default)]
pub(super) struct Rates(BTreeMap<Ipv4Addr, (Instant, u32)>);

impl Rates {
    /// Counts a request; false if there were too many.
    pub(super) fn allow(&mut self, host: Ipv4Addr, now: Instant) -> bool {
        if self.0.len() >= HOSTS {
            self.0.retain(|_, (begin, _)| now < *begin + INTERVAL);
        }
        let (begin, count) = self.0.entry(host).or_insert((now, 0));
        if now >= *begin + INTERVAL {
            (*begin, *count) = (now, 0);
        }
        *count += 1;
        *count <= REQUESTS
    }
}
