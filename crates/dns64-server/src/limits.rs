//! Which clients may send queries, at which rate, and how many at the same time: the server is not
//! an open resolver (RFC 5358).

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::rc::Rc;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use xlat_core::Instant;
use xlat_core::addr::Ipv6Prefix;

/// Maximum number of clients in one generation of rates.
const CLIENTS_MAX: usize = 16_384;
const NANOS: u64 = 1_000_000_000;

/// The access list, and the rates of clients; a client is a /64.
#[derive(Debug)]
pub(crate) struct Limits {
    allowed: Vec<Ipv6Prefix>,
    /// Cost of one query, in nanoseconds of a client's time.
    cost: u64,
    /// Time until which each client has used its budget: the clients seen recently.
    lately: HashMap<u64, Instant>,
    /// The same for the clients seen before those. A client that sends another query moves to
    /// `lately`. When `lately` is full, the rest is dropped, which resets their budgets.
    before: HashMap<u64, Instant>,
}

impl Limits {
    pub(crate) fn new(allowed: Vec<Ipv6Prefix>, rate: u32) -> Self {
        Self {
            allowed,
            cost: NANOS / u64::from(rate.max(1)),
            lately: HashMap::new(),
            before: HashMap::new(),
        }
    }

    /// True if the access list has this client.
    pub(crate) fn allows(&self, client: IpAddr) -> bool {
        match client {
            IpAddr::V6(client) => {
                client.is_loopback() || self.allowed.iter().any(|prefix| prefix.contains(client))
            }
            IpAddr::V4(_) => false,
        }
    }

    /// True if this client is within its rate. Charges it for one query; unused budget is at most
    /// that of a second.
    pub(crate) fn take(&mut self, client: Ipv6Addr, now: Instant) -> bool {
        let network = network(client);
        let used = match self.lately.get(&network) {
            Some(used) => Some(*used),
            None => self.before.remove(&network),
        };
        let used = used.unwrap_or(now).max(now).as_nanos() + self.cost;
        let may = used <= now.as_nanos() + NANOS;
        let used = if may { used } else { used - self.cost };
        self.lately.insert(network, Instant::from_nanos(used));
        if self.lately.len() >= CLIENTS_MAX / 2 {
            self.before = std::mem::take(&mut self.lately);
        }
        may
    }
}

/// Slots that clients hold temporarily, at most `share` per client.
#[derive(Debug)]
pub(crate) struct Slots {
    taken: RefCell<Taken>,
    most: usize,
    most_each: usize,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    each: HashMap<u64, usize>,
}

/// A client's slot, released when dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    slots: Rc<Slots>,
    network: u64,
}

impl Slots {
    pub(crate) fn new(most: usize, most_each: usize) -> Rc<Self> {
        Rc::new(Self {
            taken: RefCell::default(),
            most,
            most_each,
        })
    }

    /// A slot for this client; `None` if all are taken or the client has its share.
    pub(crate) fn take(self: &Rc<Self>, client: Ipv6Addr) -> Option<Slot> {
        let network = network(client);
        let mut taken = self.taken.borrow_mut();
        let own = taken.each.get(&network).copied().unwrap_or(0);
        if taken.all >= self.most || own >= self.most_each {
            return None;
        }
        taken.all += 1;
        taken.each.insert(network, own + 1);
        Some(Slot {
            slots: Rc::clone(self),
            network,
        })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.slots.taken.borrow_mut();
        taken.all -= 1;
        if let Some(own) = taken.each.get_mut(&self.network) {
            *own -= 1;
            if *own == 0 {
                taken.each.remove(&self.network);
            }
        }
    }
}

fn network(client: Ipv6Addr) -> u64 {
    (client.to_bits() >> 64) as u64
}

/// Raises the descriptor limit of this process to `wanted` if the system allows it. Returns the
/// limit in force.
pub(crate) fn descriptors(wanted: u64) -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let (current, hard) = (limit.current, limit.maximum.unwrap_or(u64::MAX));
    let wanted = wanted.min(hard);
    match current {
        Some(current) if current < wanted => {
            let more = Rlimit {
                current: Some(wanted),
                maximum: limit.maximum,
            };
            setrlimit(Resource::Nofile, more).map_or(current, |()| wanted)
        }
        Some(current) => current,
        None => wanted,
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
    fn dn_35_a_client_has_its_rate_and_others_keep_theirs() {
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

    /// Ten thousand queries in a second, one every 0.1 ms: the rate is had all the same.
    #[test]
    fn dn_35_who_asks_more_often_than_once_in_a_millisecond_has_its_rate() {
        let mut limits = Limits::new(Vec::new(), 500);
        let client = "2001:db8::1".parse().unwrap();
        let at = |tick: u64| Instant::from_nanos(NANOS + tick * 100_000);
        let first = (0..10_000).filter(|tick| limits.take(client, at(*tick)));
        assert_eq!(first.count(), 500 + 499);
        let second = (10_000..20_000).filter(|tick| limits.take(client, at(*tick)));
        assert_eq!(second.count(), 500);
    }

    #[test]
    fn dn_35_a_flood_of_strange_clients_takes_nothing_from_those_known() {
        let mut limits = Limits::new(Vec::new(), 500);
        let known = "2001:db8::1".parse().unwrap();
        for number in 0..200_000_u64 {
            let now = Instant::from_nanos(NANOS + number * 10_000);
            let strange = Ipv6Addr::from_bits(u128::from(number) << 64);
            assert!(limits.take(strange, now));
            if number % 1000 == 0 {
                assert!(limits.take(known, now), "after {number}");
            }
            assert!(limits.lately.len() + limits.before.len() <= CLIENTS_MAX);
        }
    }

    #[test]
    fn dn_33_places_come_back_and_nobody_has_more_than_its_share() {
        let slots = Slots::new(3, 2);
        let [one, two]: [Ipv6Addr; 2] =
            ["2001:db8::1", "2001:db8:0:1::1"].map(|text| text.parse().unwrap());
        let held = [slots.take(one), slots.take(one)];
        assert!(held.iter().all(Option::is_some) && slots.take(one).is_none());
        let other = slots.take(two);
        assert!(other.is_some() && slots.take(two).is_none());
        drop(held);
        assert!(slots.take(one).is_some());
        drop(other);
        assert!(slots.taken.borrow().each.is_empty());
    }
}
