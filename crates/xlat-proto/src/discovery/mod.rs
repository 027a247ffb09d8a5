//! Discovers the NAT64 prefix of a network: from its router advertisements (RFC 8781), or else from
//! its PCP server (RFC 7225) or its DNS64 (RFC 7050), in the order of RFC 9872.
//!
//! A [`Discovery`] belongs to one link. It takes received messages and the time; it returns the
//! prefix to use, the messages to send, and the time of the next call.

mod announced;
mod choice;
mod dns;
mod pcp;
mod prefix;
mod probe;
mod retry;
pub mod rfc7050;
mod servers;

use std::fmt;
use std::net::Ipv6Addr;
use std::time::Duration;

use xlat_core::Instant;
use xlat_core::addr::{Ipv6Prefix, Pref64};

use crate::ra::{Advertisement, Pref64Option};

use announced::{Announced, AnnouncedPrefix};
use choice::Used;
use dns::Dns;
use pcp::Pcp;
use prefix::is_sane;
use probe::Probes;
use retry::Retry;
use servers::Servers;

/// The discovery on one link.
#[derive(Clone, Debug)]
pub struct Discovery {
    announced: Announced,
    servers: Servers,
    dns: Dns,
    pcp: Pcp,
    solicit: Option<Retry>,
    /// Time of the first advertisement.
    heard: Option<Instant>,
    started: Instant,
    /// The DNS has given an answer, or none.
    dns_replied: bool,
    /// Networks and addresses of this host.
    local: Vec<Ipv6Prefix>,
    used: Option<Used>,
    /// A translation runs with the prefix in use.
    runs: bool,
    /// What the caller has not taken yet.
    notices: Vec<Notice>,
    rules: Rules,
    probes: Probes,
}

/// The configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Use a prefix only if probes through it are answered.
    pub probe: bool,
    /// Use no prefix from the DNS alone, whose answers are not validated (RFC 7050 section 3.1).
    pub require_secure: bool,
}

/// The source of a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The administrator.
    Configured,
    /// This router's advertisement.
    Router(Ipv6Addr),
    /// This PCP server.
    Pcp(Ipv6Addr),
    /// The DNS64.
    Dns,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Configured => f.write_str("given by --prefix"),
            Self::Router(router) => write!(f, "announced by router {router}"),
            Self::Pcp(server) => write!(f, "told by PCP server {server}"),
            Self::Dns => f.write_str("told by the network's DNS64"),
        }
    }
}

/// The prefix to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The prefix.
    pub prefix: Pref64,
    /// The source of the prefix.
    pub source: Source,
}

/// A message to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// A router solicitation to all routers.
    Routers,
    /// The query for [`rfc7050::NAME`], type AAAA, to the first of these servers that answers.
    Dns(Vec<Ipv6Addr>),
    /// A PCP request for the NAT64 prefix to these servers.
    Pcp(Vec<Ipv6Addr>),
    /// A probe through this prefix, which is answered if the NAT64 works.
    Probe(Pref64),
}

/// The result of a DNS query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Addresses, and the least of their lifetimes in seconds.
    Addresses(Vec<Ipv6Addr>, u32),
    /// The name does not exist or has no addresses: the network has no DNS64.
    Absent,
    /// No server answered, or all with an error.
    Failed,
}

/// What PCP servers say of the NAT64 prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PcpAnswer {
    /// This server tells these prefixes.
    Told(Ipv6Addr, Vec<Pref64>),
    /// There is a server, and it knows none.
    Absent,
    /// No server answered.
    Failed,
}

/// What an administrator should know of a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Nothing can be sent to it.
    Unusable(Pref64),
    /// It covers this network or address of the host, which would no longer be reached.
    Covers(Pref64, Ipv6Prefix),
    /// A router announces it, and another one stays in use.
    NotUsed(Found),
}

impl Discovery {
    /// A discovery without results.
    pub fn new(now: Instant, rules: Rules) -> Self {
        Self {
            announced: Announced::default(),
            servers: Servers::default(),
            dns: Dns::new(now + ROUTERS_FIRST),
            pcp: Pcp::new(now + ROUTERS_FIRST),
            solicit: Some(Retry::first(now, SOLICIT_PAUSE)),
            heard: None,
            started: now,
            dns_replied: false,
            local: Vec::new(),
            used: None,
            runs: false,
            notices: Vec::new(),
            rules,
            probes: Probes::default(),
        }
    }

    /// Sets the DNS servers of the host's configuration for this link, in addition to those that
    /// routers announce. New ones are queried at once: they may belong to another network.
    pub fn set_servers(&mut self, servers: Vec<Ipv6Addr>, now: Instant) {
        if self.servers.set_own(servers) && self.dns.next() > now {
            let earliest = self.started + ROUTERS_FIRST;
            self.dns.ask_at(now.max(earliest));
        }
    }

    /// Sets the PCP servers of this link: its default routers (RFC 6887 section 8.1), or those that the
    /// administrator gave. New ones are asked at once.
    pub fn set_pcp_servers(&mut self, servers: Vec<Ipv6Addr>, now: Instant) {
        if self.pcp.set_servers(servers) && self.pcp.next() > now {
            let earliest = self.started + ROUTERS_FIRST;
            // Where routers have answered already, nothing is to be waited for.
            let at = if self.heard.is_some() {
                now
            } else {
                now.max(earliest)
            };
            self.pcp.ask_at(at);
        }
    }

    /// Sets the networks on this host's links and its addresses. A prefix that covers one of them
    /// is not used. True if the prefix to use may have changed.
    pub fn set_local(&mut self, local: Vec<Ipv6Prefix>, now: Instant) -> bool {
        let before = self.found(now);
        self.local = local;
        for found in self.all(now) {
            self.accepts(found.prefix);
        }
        self.settle(now);
        self.found(now) != before
    }

    /// Records that a translation runs with the prefix in use: from now on it stays.
    pub fn on_running(&mut self) {
        self.runs = true;
    }

    /// Takes what an administrator should know.
    pub fn take_notice(&mut self) -> Option<Notice> {
        self.notices.pop()
    }

    /// Asks routers and DNS again, as at the start. What is known holds until they answer; what they
    /// do not tell again within seconds is forgotten.
    pub fn ask_again(&mut self, now: Instant) {
        let end = now + CONFIRMATION;
        self.announced.expire_at(end);
        self.dns.ask_again(now + ROUTERS_FIRST, end);
        self.pcp.ask_again(now + ROUTERS_FIRST, end);
        self.probes.again(now);
        self.solicit = Some(Retry::first(now, SOLICIT_PAUSE));
        self.heard = None;
    }

    /// False for a prefix to which nothing can be sent, and for one that covers a network of this
    /// host; that is recorded as a notice.
    fn accepts(&mut self, prefix: Pref64) -> bool {
        if !is_sane(prefix) {
            self.notice(Notice::Unusable(prefix));
            return false;
        }
        if let Some(network) = self.covered(prefix) {
            self.notice(Notice::Covers(prefix, network));
        }
        true
    }

    fn notice(&mut self, notice: Notice) {
        if self.notices.len() < NOTICES_MAX && !self.notices.contains(&notice) {
            self.notices.push(notice);
        }
    }

    /// The network or address of this host that lies in the prefix.
    fn covered(&self, prefix: Pref64) -> Option<Ipv6Prefix> {
        let mut local = self.local.iter().copied();
        let prefix = prefix.prefix();
        local.find(|network| network.len() >= prefix.len() && network.overlaps(&prefix))
    }

    /// Handles a router advertisement. True if the prefix to use may have changed.
    pub fn on_advertisement(
        &mut self,
        router: Ipv6Addr,
        advertisement: &Advertisement,
        now: Instant,
    ) -> bool {
        let before = self.settle(now);
        for (server, lifetime) in advertisement.dns_servers() {
            self.servers.note(router, server, lifetime, now);
        }
        let mut options: Vec<Pref64Option> = advertisement.pref64s().copied().collect();
        options.retain(|option| option.lifetime == 0 || self.accepts(option.prefix));
        self.announced
            .note(router, advertisement, &options, before, now);
        if self.heard.is_none() {
            self.heard = Some(now);
            self.solicit = None;
            // The router announces no prefix, so the DNS need not wait any longer.
            if advertisement.pref64s().next().is_none() {
                self.pcp.ask_if_unknown(now);
                self.dns.ask_if_unknown(now);
            }
        }
        let after = self.settle(now);
        self.notice_unused(router, &options, after);
        after != before
    }

    fn notice_unused(&mut self, router: Ipv6Addr, options: &[Pref64Option], used: Option<Found>) {
        let Some(used) = used else { return };
        for option in options.iter().filter(|option| option.lifetime > 0) {
            let (prefix, source) = (option.prefix, Source::Router(router));
            if prefix != used.prefix && self.may_use(prefix) {
                self.notice(Notice::NotUsed(Found { prefix, source }));
            }
        }
    }

    /// Handles the result of a query. True if the prefix to use may have changed.
    pub fn on_answer(&mut self, answer: &Answer, now: Instant) -> bool {
        let before = self.found(now);
        self.dns.asked = false;
        self.dns_replied = true;
        match answer {
            Answer::Addresses(addresses, lifetime) => {
                let mut prefixes = rfc7050::prefixes(addresses.iter().copied());
                prefixes.retain(|prefix| self.accepts(*prefix));
                self.dns.set(prefixes, *lifetime, now);
            }
            Answer::Absent => self.dns.clear(now),
            Answer::Failed => self.dns.fail(now),
        }
        self.settle(now);
        self.found(now) != before
    }

    /// Handles what PCP servers say. True if the prefix to use may have changed.
    pub fn on_pcp(&mut self, answer: &PcpAnswer, now: Instant) -> bool {
        let before = self.found(now);
        match answer {
            PcpAnswer::Told(server, prefixes) => {
                let mut prefixes = prefixes.clone();
                prefixes.retain(|prefix| self.accepts(*prefix));
                self.pcp.told(*server, prefixes, now);
            }
            PcpAnswer::Absent => self.pcp.clear(now),
            PcpAnswer::Failed => self.pcp.fail(now),
        }
        self.settle(now);
        self.found(now) != before
    }

    /// Handles the result of a probe. True if the prefix to use may have changed.
    pub fn on_probe(&mut self, prefix: Pref64, answered: bool, now: Instant) -> bool {
        let before = self.found(now);
        self.probes.on_probe(prefix, answered, now);
        self.settle(now);
        self.found(now) != before
    }

    /// The prefix to use: the announced ones come before those of PCP server and DNS64, default routers
    /// first.
    pub fn found(&self, now: Instant) -> Option<Found> {
        self.choose(now).map(|used| used.found)
    }

    fn choose(&self, now: Instant) -> Option<Used> {
        let announced = self.announced.all(now);
        let announced: Vec<_> = announced.filter(|one| self.may_use(one.prefix)).collect();
        let told = self.told(now).filter(|found| self.may_use(found.prefix));
        let told: Vec<_> = told.collect();
        let is_early = self.heard.is_none_or(|first| now < choice::closes(first));
        let is_open = is_early && !self.runs;
        choice::choose(&announced, &told, self.used, is_open)
    }

    /// What those tell who have to be asked: PCP servers, then the DNS64.
    fn told(&self, now: Instant) -> impl Iterator<Item = Found> {
        let of_dns = self.dns.prefixes(now, self.asks_dns(now));
        let of_dns = of_dns.map(|prefix| Found {
            prefix,
            source: Source::Dns,
        });
        self.pcp.prefixes(now, self.asks_pcp(now)).chain(of_dns)
    }

    /// The routers that announce a prefix, the one in use first.
    pub fn routers(&self, prefix: Pref64, now: Instant) -> Vec<Ipv6Addr> {
        let announced = self.announced.all(now).filter(|one| one.prefix == prefix);
        let mut routers: Vec<AnnouncedPrefix> = announced.collect();
        let used = self.found(now);
        routers.sort_by_key(|one| Some(choice::found(one)) != used);
        routers.iter().map(|one| one.router).collect()
    }

    /// True while the network has not had the time to tell a prefix.
    pub fn is_asking(&self, now: Instant) -> bool {
        let routers = now < self.started + ROUTERS_FIRST;
        let asks = self.asks_dns(now) && !self.servers(now).is_empty();
        let asks_pcp = self.asks_pcp(now) && self.pcp.is_new();
        let probing = self.all(now).iter().any(|found| {
            let prefix = found.prefix;
            self.rules.probe && !self.probes.leads(prefix) && !self.probes.failed(prefix)
        });
        self.found(now).is_none() && (routers || probing || asks_pcp || (asks && !self.dns_replied))
    }

    /// All unexpired prefixes, from all sources.
    pub fn all(&self, now: Instant) -> Vec<Found> {
        let announced = self.announced.all(now);
        let announced = announced.map(|one| choice::found(&one));
        announced.chain(self.told(now)).collect()
    }

    fn may_use(&self, prefix: Pref64) -> bool {
        let works = !self.rules.probe || self.probes.leads(prefix);
        works && self.covered(prefix).is_none()
    }

    /// True if the DNS is asked: neither router nor PCP server tells a prefix that may serve (RFC
    /// 9872), or the prefix in use is the DNS64's.
    fn asks_dns(&self, now: Instant) -> bool {
        let is_told = || {
            let mut told = self.pcp.prefixes(now, false);
            told.any(|found| self.may_serve(found.prefix))
        };
        !self.rules.require_secure
            && match self.used.map(|used| used.found.source) {
                Some(Source::Dns) => true,
                _ => !self.is_announced(now) && !is_told(),
            }
    }

    /// True if PCP servers are asked: there is no other prefix, or the prefix in use is theirs.
    fn asks_pcp(&self, now: Instant) -> bool {
        !self.rules.require_secure
            && match self.used.map(|used| used.found.source) {
                Some(Source::Pcp(_)) => true,
                Some(_) => false,
                None => !self.is_announced(now),
            }
    }

    /// True if a router announces a prefix that may serve.
    fn is_announced(&self, now: Instant) -> bool {
        let mut announced = self.announced.all(now);
        announced.any(|one: AnnouncedPrefix| self.may_serve(one.prefix))
    }

    fn may_serve(&self, prefix: Pref64) -> bool {
        self.covered(prefix).is_none() && !self.probes.failed(prefix)
    }

    /// The DNS servers of this link: announced ones first.
    pub fn servers(&self, now: Instant) -> Vec<Ipv6Addr> {
        self.servers.all(now)
    }

    /// The next message to send now. Call until it returns `None`.
    pub fn poll(&mut self, now: Instant) -> Option<Ask> {
        self.settle(now);
        if let Some(retry) = &mut self.solicit
            && retry.at <= now
        {
            retry.again(now, SOLICIT_PAUSE_MAX);
            return Some(Ask::Routers);
        }
        if let Some(prefix) = self.poll_probe(now) {
            return Some(Ask::Probe(prefix));
        }
        if self.asks_pcp(now)
            && let Some(servers) = self.pcp.poll(now)
        {
            return Some(Ask::Pcp(servers));
        }
        if self.dns.asked || !self.asks_dns(now) {
            return None;
        }
        let is_due = self.dns.next() <= now;
        let servers = self.servers(now);
        if !is_due || servers.is_empty() {
            return None;
        }
        self.dns.asked = true;
        Some(Ask::Dns(servers))
    }

    fn poll_probe(&mut self, now: Instant) -> Option<Pref64> {
        if !self.rules.probe {
            return None;
        }
        let all: Vec<Pref64> = self.all(now).iter().map(|found| found.prefix).collect();
        self.probes.keep_to(&all, now);
        self.probes.poll(now)
    }

    /// Time of the next call at the latest: a message is due, or a prefix expires.
    pub fn next_timeout(&self, now: Instant) -> Option<Instant> {
        let asks_dns = self.asks_dns(now);
        let may_ask = asks_dns && !self.dns.asked && !self.servers(now).is_empty();
        let first = self.started + ROUTERS_FIRST;
        let times = [
            self.announced.next_end(now),
            self.dns.end().filter(|_| !asks_dns),
            self.pcp.next_timeout(self.asks_pcp(now)),
            self.solicit.map(|retry| retry.at),
            may_ask.then(|| self.dns.next()),
            self.probes.next_timeout(),
            (now < first).then_some(first),
        ];
        times.into_iter().flatten().min()
    }

    /// Time since the start of the discovery.
    pub fn age(&self, now: Instant) -> Duration {
        now.saturating_since(self.started)
    }

    /// Forgets what has expired, and takes up the prefix to use, which it returns.
    fn settle(&mut self, now: Instant) -> Option<Found> {
        let had_announced = !self.announced.is_empty();
        self.announced.expire(now);
        self.servers.expire(now);
        self.used = self.choose(now);
        self.runs &= self.used.is_some();
        self.dns.expire(now, self.asks_dns(now));
        self.pcp.expire(now, self.asks_pcp(now));
        if had_announced && self.announced.is_empty() {
            self.pcp.ask_if_unknown(now);
            self.dns.ask_if_unknown(now);
        }
        self.used.map(|used| used.found)
    }
}

/// Time that routers have to answer before the DNS is queried.
const ROUTERS_FIRST: Duration = Duration::from_secs(1);
/// Time that routers and DNS have to tell again what they told before.
const CONFIRMATION: Duration = Duration::from_secs(10);
/// Pauses between solicitations (RFC 7559).
const SOLICIT_PAUSE: Duration = Duration::from_secs(4);
const SOLICIT_PAUSE_MAX: Duration = Duration::from_secs(3600);
/// Maximum number of notices that wait for the caller.
const NOTICES_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ra::{Pref64Option, RouterOption};

    fn at(seconds: u64) -> Instant {
        Instant::from_secs(1000 + seconds)
    }

    fn router(number: u16) -> Ipv6Addr {
        Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, number)
    }

    fn pref64(prefix: &str, lifetime: u16) -> RouterOption {
        RouterOption::Pref64(Pref64Option {
            prefix: prefix.parse().unwrap(),
            lifetime,
        })
    }

    fn servers(lifetime: u32) -> RouterOption {
        RouterOption::DnsServers {
            lifetime,
            servers: vec!["2001:db8::53".parse().unwrap()],
        }
    }

    fn advertisement(options: &[RouterOption]) -> Advertisement {
        Advertisement {
            lifetime: 1800,
            options: options.to_vec(),
            ..Advertisement::default()
        }
    }

    fn dns_answer(prefix: &str, lifetime: u32) -> Answer {
        let prefix: Pref64 = prefix.parse().unwrap();
        let addresses = rfc7050::WELL_KNOWN.map(|v4| prefix.embed(v4));
        Answer::Addresses(addresses.to_vec(), lifetime)
    }

    #[track_caller]
    fn holds(discovery: &Discovery, seconds: u64, expected: Option<&str>) {
        let found = discovery.found(at(seconds));
        let found = found.map(|found| found.prefix.to_string());
        assert_eq!(found.as_deref(), expected, "after {seconds} s");
    }

    /// A link whose router announces a DNS server and no prefix.
    fn with_dns() -> Discovery {
        let mut discovery = Discovery::new(at(0), Rules::default());
        assert_eq!(discovery.poll(at(0)), Some(Ask::Routers));
        discovery.on_advertisement(router(1), &advertisement(&[servers(600)]), at(0));
        let expected = Ask::Dns(vec!["2001:db8::53".parse().unwrap()]);
        assert_eq!(discovery.poll(at(0)), Some(expected));
        assert_eq!(discovery.poll(at(0)), None);
        discovery
    }

    #[test]
    fn pd_15_a_prefix_lives_as_long_as_announced_and_zero_withdraws_it() {
        let mut discovery = Discovery::new(at(0), Rules::default());
        let announced = advertisement(&[pref64("64:ff9b::/96", 600)]);
        assert!(discovery.on_advertisement(router(1), &announced, at(0)));
        holds(&discovery, 599, Some("64:ff9b::/96"));
        holds(&discovery, 600, None);
        assert!(!discovery.on_advertisement(router(1), &announced, at(300)));
        holds(&discovery, 899, Some("64:ff9b::/96"));
        let withdrawn = advertisement(&[pref64("64:ff9b::/96", 0)]);
        assert!(discovery.on_advertisement(router(1), &withdrawn, at(301)));
        holds(&discovery, 301, None);
    }

    #[test]
    fn pd_18_a_prefix_of_two_routers_lives_until_the_last_lets_it_go() {
        let mut discovery = Discovery::new(at(0), Rules::default());
        let long = advertisement(&[pref64("64:ff9b::/96", 800)]);
        let short = advertisement(&[pref64("64:ff9b::/96", 400)]);
        discovery.on_advertisement(router(1), &long, at(0));
        discovery.on_advertisement(router(2), &short, at(0));
        let withdrawn = advertisement(&[pref64("64:ff9b::/96", 0)]);
        discovery.on_advertisement(router(1), &withdrawn, at(10));
        holds(&discovery, 399, Some("64:ff9b::/96"));
        holds(&discovery, 400, None);
    }

    #[test]
    fn pd_07_the_networks_own_96_then_the_well_known_then_the_longest() {
        let all = [
            "2001:db8::/32",
            "2001:db8:1::/64",
            "64:ff9b::/96",
            "2001:db8:2::/96",
        ];
        for count in 1..=all.len() {
            let mut discovery = Discovery::new(at(0), Rules::default());
            let options: Vec<_> = all[..count].iter().map(|one| pref64(one, 600)).collect();
            discovery.on_advertisement(router(1), &advertisement(&options), at(0));
            holds(&discovery, 1, Some(all[count - 1]));
        }
        let mut discovery = Discovery::new(at(0), Rules::default());
        let both = ["2001:db8:2::/96", "2001:db8:1:1::/96"].map(|one| pref64(one, 600));
        discovery.on_advertisement(router(2), &advertisement(&both), at(0));
        holds(&discovery, 1, Some("2001:db8:1:1::/96"));
    }

    #[test]
    fn pd_20_the_dns_is_asked_when_no_router_announces_a_prefix() {
        let mut discovery = with_dns();
        assert!(discovery.on_answer(&dns_answer("2001:db8:64::/96", 600), at(0)));
        holds(&discovery, 1, Some("2001:db8:64::/96"));
        assert_eq!(
            discovery.found(at(1)).map(|found| found.source),
            Some(Source::Dns)
        );
        // PD-19: what routers say comes before.
        let announced = advertisement(&[pref64("64:ff9b::/96", 120)]);
        discovery.on_advertisement(router(1), &announced, at(10));
        let found = discovery.found(at(11)).unwrap();
        assert_eq!(found.source, Source::Router(router(1)));
        // And when they say it no more, the answer still holds.
        holds(&discovery, 131, Some("2001:db8:64::/96"));
    }

    #[test]
    fn pd_20_without_any_router_the_known_servers_are_asked_after_a_second() {
        let mut discovery = Discovery::new(at(0), Rules::default());
        discovery.set_servers(vec!["2001:db8::35".parse().unwrap()], at(0));
        assert_eq!(discovery.poll(at(0)), Some(Ask::Routers));
        assert_eq!(discovery.poll(at(0)), None);
        assert_eq!(discovery.next_timeout(at(0)), Some(at(1)));
        let expected = Ask::Dns(vec!["2001:db8::35".parse().unwrap()]);
        assert_eq!(discovery.poll(at(1)), Some(expected));
        // RFC 7559: solicitations go on, less and less often.
        assert_eq!(discovery.poll(at(4)), Some(Ask::Routers));
        assert_eq!(discovery.poll(at(11)), None);
        assert_eq!(discovery.poll(at(12)), Some(Ask::Routers));
    }

    #[test]
    fn pd_08_an_answer_is_refreshed_ten_seconds_before_its_end() {
        let mut discovery = with_dns();
        discovery.on_answer(&dns_answer("64:ff9b::/96", 60), at(0));
        assert_eq!(discovery.poll(at(49)), None);
        assert!(matches!(discovery.poll(at(50)), Some(Ask::Dns(_))));
        // PD-10: no answer keeps the prefix, and is tried again.
        assert!(!discovery.on_answer(&Answer::Failed, at(51)));
        holds(&discovery, 59, Some("64:ff9b::/96"));
        assert_eq!(discovery.next_timeout(at(51)), Some(at(52)));
        // Another answer replaces it at once.
        assert!(matches!(discovery.poll(at(52)), Some(Ask::Dns(_))));
        assert!(discovery.on_answer(&dns_answer("2001:db8:64::/96", 60), at(52)));
        holds(&discovery, 53, Some("2001:db8:64::/96"));
    }

    #[test]
    fn pd_10_silence_at_the_end_of_the_lifetime_keeps_the_prefix_and_retries_are_short() {
        let mut discovery = with_dns();
        discovery.on_answer(&dns_answer("64:ff9b::/96", 60), at(0));
        let mut now = 50;
        let mut pauses = Vec::new();
        while now < 300 {
            assert!(
                matches!(discovery.poll(at(now)), Some(Ask::Dns(_))),
                "{now}"
            );
            // While a query waits there is nothing to do: no loop without a pause.
            assert_eq!(discovery.poll(at(now)), None);
            assert!(
                discovery
                    .next_timeout(at(now))
                    .is_none_or(|next| next > at(now))
            );
            discovery.on_answer(&Answer::Failed, at(now));
            discovery.on_advertisement(router(1), &advertisement(&[servers(600)]), at(now));
            holds(&discovery, now, Some("64:ff9b::/96"));
            let next = discovery.next_timeout(at(now)).unwrap();
            pauses.push(next.saturating_since(at(now)).as_secs());
            now += pauses[pauses.len() - 1];
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30, 30, 30, 30, 30, 30, 30]);
        // An answer without the prefix ends it.
        discovery.on_answer(&Answer::Absent, at(now));
        holds(&discovery, now, None);
    }

    #[test]
    fn pd_10_an_answer_that_routers_have_replaced_does_not_outlive_its_lifetime() {
        let mut discovery = with_dns();
        discovery.on_answer(&dns_answer("64:ff9b::/96", 60), at(0));
        let announced = advertisement(&[pref64("2001:db8:64::/96", 600)]);
        discovery.on_advertisement(router(1), &announced, at(10));
        assert_eq!(discovery.poll(at(100)), None);
        let withdrawn = advertisement(&[pref64("2001:db8:64::/96", 0)]);
        discovery.on_advertisement(router(1), &withdrawn, at(101));
        holds(&discovery, 101, None);
    }

    #[test]
    fn pd_09_without_dns64_the_pauses_double_up_to_five_minutes() {
        let mut discovery = with_dns();
        let mut now = 0;
        let mut pauses = Vec::new();
        for _ in 0..11 {
            discovery.on_answer(&Answer::Absent, at(now));
            // The server's own lifetime is renewed meanwhile.
            discovery.on_advertisement(router(1), &advertisement(&[servers(600)]), at(now));
            let next = discovery.next_timeout(at(now)).unwrap();
            pauses.push(next.saturating_since(at(now)).as_secs());
            now += pauses[pauses.len() - 1];
            assert!(matches!(discovery.poll(at(now)), Some(Ask::Dns(_))));
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
    }

    #[test]
    fn pd_05_a_captive_portals_answer_is_no_prefix_and_ends_an_old_one() {
        let mut discovery = with_dns();
        discovery.on_answer(&dns_answer("64:ff9b::/96", 60), at(0));
        assert!(matches!(discovery.poll(at(50)), Some(Ask::Dns(_))));
        let portal = Answer::Addresses(vec!["2001:db8::1".parse().unwrap()], 3600);
        assert!(discovery.on_answer(&portal, at(50)));
        holds(&discovery, 50, None);
        assert_eq!(discovery.next_timeout(at(50)), Some(at(51)));
    }

    #[test]
    fn pd_15_after_a_withdrawal_the_dns_is_asked_at_once() {
        let mut discovery = Discovery::new(at(0), Rules::default());
        let announced = advertisement(&[pref64("64:ff9b::/96", 600), servers(600)]);
        discovery.on_advertisement(router(1), &announced, at(0));
        assert_eq!(discovery.poll(at(100)), None);
        let withdrawn = advertisement(&[pref64("64:ff9b::/96", 0)]);
        discovery.on_advertisement(router(1), &withdrawn, at(100));
        assert!(matches!(discovery.poll(at(100)), Some(Ask::Dns(_))));
    }

    #[test]
    fn pd_21_prefixes_that_nothing_can_be_sent_to_are_refused() {
        let mut discovery = Discovery::new(at(0), Rules::default());
        for absurd in ["ff00::/64", "fe80::/64", "::/96"] {
            let announced = advertisement(&[pref64(absurd, 600)]);
            discovery.on_advertisement(router(1), &announced, at(0));
            holds(&discovery, 1, None);
            let notice = Notice::Unusable(absurd.parse().unwrap());
            assert_eq!(discovery.take_notice(), Some(notice));
        }
    }

    #[test]
    fn pd_21_a_prefix_that_covers_the_hosts_network_or_address_is_named_and_another_one_used() {
        let [covering, good] = ["2001:db8:1::/48", "64:ff9b::/96"];
        for local in [
            "2001:db8:1:7::/64",
            "2001:db8:1:7::5/128",
            "2001:db8:1::/48",
        ] {
            let mut discovery = Discovery::new(at(0), Rules::default());
            let local: Ipv6Prefix = local.parse().unwrap();
            discovery.set_local(vec![local], at(0));
            let announced = advertisement(&[pref64(covering, 600), servers(600)]);
            discovery.on_advertisement(router(1), &announced, at(0));
            holds(&discovery, 1, None);
            let notice = Notice::Covers(covering.parse().unwrap(), local);
            assert_eq!(discovery.take_notice(), Some(notice));
            // It is of no use, so the DNS is asked.
            assert!(matches!(discovery.poll(at(2)), Some(Ask::Dns(_))));
            let both = advertisement(&[pref64(covering, 600), pref64(good, 600)]);
            discovery.on_advertisement(router(1), &both, at(2));
            holds(&discovery, 3, Some(good));
        }
        // An address that comes later ends the use of a prefix that covers it.
        let mut discovery = Discovery::new(at(0), Rules::default());
        let announced = advertisement(&[pref64(covering, 600)]);
        discovery.on_advertisement(router(1), &announced, at(0));
        holds(&discovery, 1, Some(covering));
        let address = "2001:db8:1:7::5/128".parse().unwrap();
        assert!(discovery.set_local(vec![address], at(1)));
        holds(&discovery, 1, None);
        // The prefix may lie in the link's own: the router answers for it.
        let mut discovery = Discovery::new(at(0), Rules::default());
        discovery.set_local(vec!["2001:db8:1:7::/64".parse().unwrap()], at(0));
        let announced = advertisement(&[pref64("2001:db8:1:7:64::/96", 600)]);
        discovery.on_advertisement(router(1), &announced, at(0));
        holds(&discovery, 1, Some("2001:db8:1:7:64::/96"));
    }

    #[test]
    fn a_flood_of_routers_takes_bounded_memory() {
        let mut discovery = Discovery::new(at(0), Rules::default());
        for number in 0..1000 {
            let announced = advertisement(&[pref64("64:ff9b::/96", 600), servers(600)]);
            discovery.on_advertisement(router(number), &announced, at(0));
        }
        assert_eq!(discovery.announced.len(), announced::ANNOUNCED_MAX);
        assert_eq!(discovery.servers.len(), servers::ANNOUNCED_MAX);
    }

    #[test]
    fn pd_12_a_prefix_that_leads_nowhere_is_not_used() {
        let rules = Rules {
            probe: true,
            ..Rules::default()
        };
        let mut discovery = Discovery::new(at(0), rules);
        let [own, known] = ["2001:db8:64::/96", "64:ff9b::/96"];
        let both = advertisement(&[pref64(own, 6000), pref64(known, 6000)]);
        discovery.on_advertisement(router(1), &both, at(0));
        holds(&discovery, 0, None);
        let mut asked = Vec::new();
        while let Some(Ask::Probe(prefix)) = discovery.poll(at(0)) {
            asked.push(prefix.to_string());
        }
        asked.sort();
        assert_eq!(asked, [own, known]);
        // The better one is silent; the other one will do.
        assert!(!discovery.on_probe(own.parse().unwrap(), false, at(2)));
        assert!(discovery.on_probe(known.parse().unwrap(), true, at(2)));
        holds(&discovery, 2, Some(known));
        // It is tried again, and what works stays.
        assert_eq!(discovery.poll(at(6)), None);
        let again = Ask::Probe(own.parse().unwrap());
        assert_eq!(discovery.poll(at(7)), Some(again));
        assert!(!discovery.on_probe(own.parse().unwrap(), true, at(8)));
        holds(&discovery, 8, Some(known));
        // A lost packet is not the end, three are.
        let known_again = Ask::Probe(known.parse().unwrap());
        for (seconds, used) in [(302, known), (307, known), (317, own)] {
            assert_eq!(
                discovery.poll(at(seconds)),
                Some(known_again.clone()),
                "{seconds}"
            );
            discovery.on_probe(known.parse().unwrap(), false, at(seconds));
            discovery.on_probe(own.parse().unwrap(), true, at(seconds));
            holds(&discovery, seconds, Some(used));
        }
    }

    #[test]
    fn pd_11_what_only_the_dns_tells_can_be_refused() {
        let rules = Rules {
            require_secure: true,
            ..Rules::default()
        };
        let mut discovery = Discovery::new(at(0), rules);
        assert_eq!(discovery.poll(at(0)), Some(Ask::Routers));
        discovery.on_advertisement(router(1), &advertisement(&[servers(600)]), at(0));
        assert_eq!(discovery.poll(at(5)), None);
        assert_eq!(discovery.next_timeout(at(5)), None);
        let announced = advertisement(&[pref64("64:ff9b::/96", 600)]);
        discovery.on_advertisement(router(1), &announced, at(6));
        holds(&discovery, 7, Some("64:ff9b::/96"));
    }
}
