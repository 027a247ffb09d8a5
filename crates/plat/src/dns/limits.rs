//! Who may ask, and how often: this is no open resolver (RFC 5358).

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

use xlat_core::Instant;
use xlat_core::addr::Ipv6Prefix;

/// Clients whose rate is remembered.
const CLIENTS_MAX: usize = 16_384;

/// The access list, and the rates of clients; a client is a /64.
#[derive(Debug)]
pub(crate) struct Limits {
    allowed: Vec<Ipv6Prefix>,
    rate: u32,
    /// What each has left, in thousandths of a query.
    left: HashMap<u64, (u64, Instant)>,
}

impl Limits {
    pub(crate) fn new(allowed: Vec<Ipv6Prefix>, rate: u32) -> Self {
        Self {
            allowed,
            rate,
            left: HashMap::new(),
        }
    }

    /// True if this client may ask at all.
    pub(crate) fn allows(&self, client: IpAddr) -> bool {
        match client {
            IpAddr::V6(client) => {
                client.is_loopback() || self.allowed.iter().any(|prefix| prefix.contains(client))
            }
            IpAddr::V4(_) => false,
        }
    }

    /// True if this client may ask now; takes one query of what it has left.
    pub(crate) fn take(&mut self, client: Ipv6Addr, now: Instant) -> bool {
        if self.left.len() >= CLIENTS_MAX {
            // Who has been silent for a second has all of it back.
            self.left
                .retain(|_, (_, since)| now.saturating_since(*since).as_secs() < 1);
            if self.left.len() >= CLIENTS_MAX {
                return false;
            }
        }
        let full = u64::from(self.rate) * 1000;
        let network = (client.to_bits() >> 64) as u64;
        let (left, since) = self.left.entry(network).or_insert((full, now));
        let millis = now.saturating_since(*since).as_millis() as u64;
        *left = full.min(*left + millis * u64::from(self.rate));
        *since = now;
        if *left < 1000 {
            return false;
        }
        *left -= 1000;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dn_35_only_our_own_clients_may_ask() {
        let limits = Limits::new(vec!["2001:db8:1::/48".parse().unwrap()], 10);
        let allows = |text: &str| limits.allows(text.parse().unwrap());
        assert!(allows("2001:db8:1:7::9") && allows("::1"));
        assert!(!allows("2001:db8:2::9") && !allows("192.0.2.1"));
    }

    #[test]
    fn a_client_has_its_rate_and_others_keep_theirs() {
        let mut limits = Limits::new(Vec::new(), 10);
        let [one, two]: [Ipv6Addr; 2] =
            ["2001:db8::1", "2001:db8:0:1::1"].map(|text| text.parse().unwrap());
        let now = Instant::from_secs(10);
        let taken = (0..100).filter(|_| limits.take(one, now)).count();
        assert_eq!(taken, 10);
        assert!(limits.take(two, now));
        let later = Instant::from_millis(10_200);
        let taken = (0..100).filter(|_| limits.take(one, later)).count();
        assert_eq!(taken, 2);
        let later = Instant::from_secs(100);
        assert_eq!((0..100).filter(|_| limits.take(one, later)).count(), 10);
    }
}
