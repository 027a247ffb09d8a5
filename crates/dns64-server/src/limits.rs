//! Which clients may send queries, at which rate, and how many at the same time: the server is not
//! an open resolver (RFC 5358).
//!
//! On a link of this host each address is a client, for the whole link is one /64. Elsewhere a client
//! is a /64, since a customer has that many addresses of its own.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use xlat_core::Instant;
use xlat_core::addr::Ipv6Prefix;

/// Maximum number of clients in one generation of rates.
const CLIENTS_MAX: usize = 16_384;
const NANOS: u64 = 1_000_000_000;
/// What the addresses of one /64 may ask together, in rates of one client.
const NETWORK_RATES: u64 = 16;

/// A client, and the /64 that it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Client {
    /// One address, or the /64 itself.
    pub(crate) own: Ipv6Prefix,
    pub(crate) network: Ipv6Prefix,
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.own.len() == 128 {
            return self.own.address().fmt(f);
        }
        self.own.fmt(f)
    }
}

/// The access list, and the rates of clients.
#[derive(Debug)]
pub(crate) struct Limits {
    allowed: Vec<Ipv6Prefix>,
    on_link: Vec<Ipv6Prefix>,
    clients: Rates,
    networks: Rates,
}

impl Limits {
    /// `rate` is that of one client, in queries per second.
    pub(crate) fn new(allowed: Vec<Ipv6Prefix>, on_link: Vec<Ipv6Prefix>, rate: u32) -> Self {
        let rate = u64::from(rate.max(1));
        Self {
            allowed,
            on_link,
            clients: Rates::new(rate),
            networks: Rates::new(rate * NETWORK_RATES),
        }
    }

    /// The client that an address belongs to, if the access list has it.
    pub(crate) fn client(&self, address: IpAddr) -> Option<Client> {
        let IpAddr::V6(address) = address else {
            return None;
        };
        let is_in = |prefixes: &[Ipv6Prefix]| prefixes.iter().any(|one| one.contains(address));
        if !address.is_loopback() && !is_in(&self.allowed) {
            return None;
        }
        let network = Ipv6Prefix::containing(address, 64);
        let own = match is_in(&self.on_link) {
            true => Ipv6Prefix::containing(address, 128),
            false => network,
        };
        Some(Client { own, network })
    }

    /// True if this client and its network are within their rates. Charges them for one query.
    pub(crate) fn take(&mut self, client: Client, now: Instant) -> bool {
        let may = self.clients.take(client.own, now);
        may && (client.own == client.network || self.networks.take(client.network, now))
    }
}

/// Rates of clients. Unused budget is at most that of a second.
#[derive(Debug)]
struct Rates {
    /// Cost of one query, in nanoseconds of a client's time.
    cost: u64,
    /// Time until which each client has used its budget: the clients seen recently.
    lately: HashMap<Ipv6Prefix, Instant>,
    /// The same for the clients seen before those. A client that sends another query moves to
    /// `lately`. When `lately` is full, the rest is dropped, which resets their budgets.
    before: HashMap<Ipv6Prefix, Instant>,
}

impl Rates {
    fn new(rate: u64) -> Self {
        Self {
            cost: NANOS / rate,
            lately: HashMap::new(),
            before: HashMap::new(),
        }
    }

    fn take(&mut self, client: Ipv6Prefix, now: Instant) -> bool {
        let used = match self.lately.get(&client) {
            Some(used) => Some(*used),
            None => self.before.remove(&client),
        };
        let used = used.unwrap_or(now).max(now).as_nanos() + self.cost;
        let may = used <= now.as_nanos() + NANOS;
        let used = if may { used } else { used - self.cost };
        self.lately.insert(client, Instant::from_nanos(used));
        if self.lately.len() >= CLIENTS_MAX / 2 {
            self.before = std::mem::take(&mut self.lately);
        }
        may
    }
}

/// Which clients a log line about their limits is due for: one each minute.
#[derive(Debug, Default)]
pub(crate) struct Notices {
    told: HashMap<Ipv6Prefix, Instant>,
}

impl Notices {
    /// Maximum number of clients with a line in one minute.
    const MAX: usize = 16;
    const PERIOD: Duration = Duration::from_secs(60);

    pub(crate) fn is_due(&mut self, client: Client, now: Instant) -> bool {
        self.told.retain(|_, at| now < *at + Self::PERIOD);
        let is_due = self.told.len() < Self::MAX && !self.told.contains_key(&client.own);
        if is_due {
            self.told.insert(client.own, now);
        }
        is_due
    }
}

/// Slots that queries hold while they wait: some of all, fewer for one client and for one /64.
#[derive(Debug)]
pub(crate) struct Slots {
    taken: RefCell<Taken>,
    most: usize,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    each: HashMap<Ipv6Prefix, usize>,
}

/// A client's slot, released when dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    slots: Rc<Slots>,
    client: Client,
}

impl Slots {
    pub(crate) fn new(most: usize) -> Rc<Self> {
        Rc::new(Self {
            taken: RefCell::default(),
            most,
        })
    }

    /// A slot for this client; `None` if all are taken or the client or its network has its share.
    pub(crate) fn take(self: &Rc<Self>, client: Client) -> Option<Slot> {
        let mut taken = self.taken.borrow_mut();
        let has = |prefix| taken.each.get(&prefix).copied().unwrap_or(0);
        let is_full = taken.all >= self.most
            || has(client.own) >= client_share(self.most)
            || has(client.network) >= network_share(self.most);
        if is_full {
            return None;
        }
        taken.all += 1;
        for prefix in client.counted() {
            *taken.each.entry(prefix).or_default() += 1;
        }
        drop(taken);
        Some(Slot {
            slots: Rc::clone(self),
            client,
        })
    }
}

impl Client {
    /// What is counted for it: itself, and its network if that is another.
    fn counted(self) -> impl Iterator<Item = Ipv6Prefix> {
        let network = (self.network != self.own).then_some(self.network);
        [self.own].into_iter().chain(network)
    }
}

/// The share of one client: a quarter.
pub(crate) fn client_share(all: usize) -> usize {
    all.div_ceil(4)
}

/// The share of one /64: three quarters.
pub(crate) fn network_share(all: usize) -> usize {
    (all * 3).div_ceil(4)
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.slots.taken.borrow_mut();
        taken.all -= 1;
        for prefix in self.client.counted() {
            if let Some(own) = taken.each.get_mut(&prefix) {
                *own -= 1;
                if *own == 0 {
                    taken.each.remove(&prefix);
                }
            }
        }
    }
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
    use std::net::Ipv6Addr;

    use super::*;

    fn limits(rate: u32) -> Limits {
        let allowed = ["2001:db8:1::/48", "2001:db8:2::/48"];
        let allowed = allowed.map(|text| text.parse().unwrap()).to_vec();
        Limits::new(allowed, vec!["2001:db8:1:1::/64".parse().unwrap()], rate)
    }

    fn client(limits: &Limits, text: &str) -> Client {
        limits.client(text.parse().unwrap()).unwrap()
    }

    #[test]
    fn dn_35_only_our_own_clients_may_ask() {
        let limits = limits(10);
        let allows = |text: &str| limits.client(text.parse().unwrap()).is_some();
        assert!(allows("2001:db8:1:7::9") && allows("::1"));
        assert!(!allows("2001:db8:3::9") && !allows("192.0.2.1"));
    }

    #[test]
    fn dn_35_a_client_has_its_rate_and_others_keep_theirs() {
        let mut limits = limits(10);
        let [one, same, two] =
            ["2001:db8:2::1", "2001:db8:2::2", "2001:db8:2:1::1"].map(|text| client(&limits, text));
        let now = Instant::from_secs(10);
        let taken = (0..100).filter(|_| limits.take(one, now)).count();
        assert_eq!(taken, 10);
        assert!(!limits.take(same, now) && limits.take(two, now));
        let later = Instant::from_millis(10_200);
        let taken = (0..100).filter(|_| limits.take(one, later)).count();
        assert_eq!(taken, 2);
        let later = Instant::from_secs(100);
        assert_eq!((0..100).filter(|_| limits.take(one, later)).count(), 10);
    }

    #[test]
    fn fp_05_an_address_on_a_link_has_a_rate_of_its_own_and_the_link_a_larger_one() {
        let mut limits = limits(10);
        let [busy, calm] = ["2001:db8:1:1::1", "2001:db8:1:1::2"].map(|text| client(&limits, text));
        let now = Instant::from_secs(10);
        assert_eq!((0..1000).filter(|_| limits.take(busy, now)).count(), 10);
        assert!(limits.take(calm, now));
        // One host with as many addresses as it likes.
        let own = |number| client(&limits, &format!("2001:db8:1:1::1:{number:x}"));
        let many: Vec<Client> = (0..1000).map(own).collect();
        let taken = many.iter().filter(|one| limits.take(**one, now)).count();
        assert_eq!(taken, 160 - 11);
        assert_eq!(busy.to_string(), "2001:db8:1:1::1");
        let other = client(&limits, "2001:db8:2::1");
        assert!(limits.take(other, now));
        assert_eq!(other.to_string(), "2001:db8:2::/64");
    }

    #[test]
    fn fp_05_one_line_for_each_client_and_minute() {
        let limits = limits(10);
        let mut notices = Notices::default();
        let one = client(&limits, "2001:db8:1:1::1");
        let now = Instant::from_secs(10);
        assert!(notices.is_due(one, now));
        assert!(!notices.is_due(one, Instant::from_secs(69)));
        assert!(notices.is_due(one, Instant::from_secs(70)));
        let others = (0..1000).map(|number| client(&limits, &format!("2001:db8:2:{number:x}::")));
        let later = Instant::from_secs(75);
        assert_eq!(
            others.filter(|other| notices.is_due(*other, later)).count(),
            15
        );
    }

    /// Ten thousand queries in a second, one every 0.1 ms: the rate is had all the same.
    #[test]
    fn dn_35_who_asks_more_often_than_once_in_a_millisecond_has_its_rate() {
        let mut limits = limits(500);
        let client = client(&limits, "2001:db8:2::1");
        let at = |tick: u64| Instant::from_nanos(NANOS + tick * 100_000);
        let first = (0..10_000).filter(|tick| limits.take(client, at(*tick)));
        assert_eq!(first.count(), 500 + 499);
        let second = (10_000..20_000).filter(|tick| limits.take(client, at(*tick)));
        assert_eq!(second.count(), 500);
    }

    #[test]
    fn dn_35_a_flood_of_strange_clients_takes_nothing_from_those_known() {
        let mut rates = Rates::new(500);
        let prefix = |bits| Ipv6Prefix::containing(Ipv6Addr::from_bits(bits), 64);
        let known = prefix(0x2001_0db8 << 96);
        for number in 0..200_000_u64 {
            let now = Instant::from_nanos(NANOS + number * 10_000);
            assert!(rates.take(prefix(u128::from(number) << 64), now));
            if number % 1000 == 0 {
                assert!(rates.take(known, now), "after {number}");
            }
            assert!(rates.lately.len() + rates.before.len() <= CLIENTS_MAX);
        }
    }

    #[test]
    fn dn_33_places_come_back_and_nobody_has_more_than_its_share() {
        let limits = limits(10);
        let slots = Slots::new(8);
        let [one, two, three, far] = [
            "2001:db8:1:1::1",
            "2001:db8:1:1::2",
            "2001:db8:1:1::3",
            "2001:db8:2::1",
        ]
        .map(|text| client(&limits, text));
        let mut held: Vec<Slot> = [one, one]
            .into_iter()
            .filter_map(|one| slots.take(one))
            .collect();
        assert!(held.len() == 2 && slots.take(one).is_none());
        held.extend(
            [two, two, three, three]
                .into_iter()
                .filter_map(|one| slots.take(one)),
        );
        // The link has three quarters, and the rest is for others.
        let last = client(&limits, "2001:db8:1:1::4");
        assert!(held.len() == 6 && slots.take(last).is_none());
        let other = slots.take(far);
        assert!(other.is_some());
        drop(held);
        assert!(slots.take(one).is_some());
        drop(other);
        assert!(slots.taken.borrow().each.is_empty());
    }
}
