//! Prefixes that a PCP server tells (RFC 7225), and the schedule of the requests. The rules are those
//! of an answer of the DNS, whose lifetime is ours to choose.

use std::net::Ipv6Addr;

use xlat_core::Instant;
use xlat_core::addr::Pref64;

use super::dns::Dns;
use super::{Found, Source};

/// How long an answer holds, in seconds; PCP does not say.
const LIFETIME: u32 = 600;

/// What a server has told, and the next request.
#[derive(Clone, Debug)]
pub(super) struct Pcp {
    servers: Vec<Ipv6Addr>,
    /// The server of the answer.
    server: Ipv6Addr,
    answer: Dns,
    /// These servers have answered, or have been silent for long enough.
    has_replied: bool,
}

impl Pcp {
    /// No answer yet; the first request is due at `at`.
    pub(super) fn new(at: Instant) -> Self {
        Self {
            servers: Vec::new(),
            server: Ipv6Addr::UNSPECIFIED,
            answer: Dns::new(at),
            has_replied: false,
        }
    }

    /// Replaces the servers. True if there are new ones among them.
    pub(super) fn set_servers(&mut self, servers: Vec<Ipv6Addr>) -> bool {
        let has_more = servers.iter().any(|one| !self.servers.contains(one));
        self.has_replied &= !has_more;
        self.servers = servers;
        has_more
    }

    /// True while servers have neither answered nor been silent for long enough.
    pub(super) fn is_new(&self) -> bool {
        !self.servers.is_empty() && !self.has_replied
    }

    /// The servers to ask now.
    pub(super) fn poll(&mut self, now: Instant) -> Option<Vec<Ipv6Addr>> {
        if self.answer.asked || self.servers.is_empty() || self.answer.next() > now {
            return None;
        }
        self.answer.asked = true;
        Some(self.servers.clone())
    }

    /// When the next request is due.
    pub(super) fn next(&self) -> Instant {
        self.answer.next()
    }

    /// Time of the next event: a request (`asks`), or else the end of the answer.
    pub(super) fn next_timeout(&self, asks: bool) -> Option<Instant> {
        if !asks {
            return self.answer.end();
        }
        let may_ask = !self.answer.asked && !self.servers.is_empty();
        may_ask.then(|| self.answer.next())
    }

    /// Makes the next request due at `at`, and resets the pauses.
    pub(super) fn ask_at(&mut self, at: Instant) {
        self.answer.ask_at(at);
    }

    /// Makes the next request due now, unless there is an unexpired answer.
    pub(super) fn ask_if_unknown(&mut self, now: Instant) {
        self.answer.ask_if_unknown(now);
    }

    /// Ends the answer at `at`, and makes the next request due now.
    pub(super) fn ask_again(&mut self, now: Instant, at: Instant) {
        self.answer.ask_again(now, at);
    }

    /// A server has told these prefixes.
    pub(super) fn told(&mut self, server: Ipv6Addr, prefixes: Vec<Pref64>, now: Instant) {
        self.replied();
        self.server = server;
        self.answer.set(prefixes, LIFETIME, now);
    }

    /// The server knows no prefix.
    pub(super) fn clear(&mut self, now: Instant) {
        self.replied();
        self.answer.clear(now);
    }

    /// There was no answer: what is known stays.
    pub(super) fn fail(&mut self, now: Instant) {
        self.replied();
        self.answer.fail(now);
    }

    fn replied(&mut self) {
        self.answer.asked = false;
        self.has_replied = true;
    }

    /// The prefixes that hold, also beyond their time while servers are being asked (`held`).
    pub(super) fn prefixes(&self, now: Instant, held: bool) -> impl Iterator<Item = Found> {
        let source = Source::Pcp(self.server);
        let prefixes = self.answer.prefixes(now, held);
        prefixes.map(move |prefix| Found { prefix, source })
    }

    /// Ends an answer whose time is over, unless servers are being asked again (`held`).
    pub(super) fn expire(&mut self, now: Instant, held: bool) {
        self.answer.expire(now, held);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{Answer, Ask, Discovery, PcpAnswer, Rules, rfc7050};
    use super::*;
    use crate::ra::{Advertisement, Pref64Option, RouterOption};

    const PREFIX: &str = "2001:db8:a::/96";
    const OTHER: &str = "2001:db8:b::/96";

    fn at(seconds: u64) -> Instant {
        Instant::from_secs(1000 + seconds)
    }

    fn server() -> Ipv6Addr {
        "fe80::1".parse().unwrap()
    }

    fn told(prefix: &str) -> PcpAnswer {
        PcpAnswer::Told(server(), vec![prefix.parse().unwrap()])
    }

    fn by_dns(prefix: &str) -> Answer {
        let prefix: Pref64 = prefix.parse().unwrap();
        Answer::Addresses(rfc7050::WELL_KNOWN.map(|v4| prefix.embed(v4)).to_vec(), 600)
    }

    fn asks(discovery: &mut Discovery, seconds: u64) -> Vec<Ask> {
        let all = std::iter::from_fn(|| discovery.poll(at(seconds)));
        all.filter(|ask| *ask != Ask::Routers).collect()
    }

    /// A link with a default router, and a DNS server, that announces no prefix.
    fn without_pref64(rules: Rules) -> Discovery {
        let mut discovery = Discovery::new(at(0), rules);
        discovery.set_servers(vec!["2001:db8::53".parse().unwrap()], at(0));
        let silent = Advertisement {
            lifetime: 1800,
            ..Advertisement::default()
        };
        discovery.on_advertisement(server(), &silent, at(0));
        discovery.set_pcp_servers(vec![server()], at(0));
        discovery
    }

    fn found(prefix: &str, source: Source) -> Option<Found> {
        let prefix = prefix.parse().unwrap();
        Some(Found { prefix, source })
    }

    #[test]
    fn pd_22_the_default_router_is_asked_where_it_announces_no_prefix() {
        let mut discovery = without_pref64(Rules::default());
        let asked = asks(&mut discovery, 0);
        assert_eq!(asked[0], Ask::Pcp(vec![server()]));
        assert!(matches!(asked[1], Ask::Dns(_)), "{asked:?}");
        assert!(discovery.is_asking(at(0)));
        assert!(discovery.on_pcp(&told(PREFIX), at(1)));
        let by_pcp = found(PREFIX, Source::Pcp(server()));
        assert_eq!(discovery.found(at(1)), by_pcp);
        // RFC 8781 section 5.1: before the DNS64, which is not asked any more.
        discovery.on_answer(&by_dns(OTHER), at(2));
        assert_eq!(discovery.found(at(2)), by_pcp);
        assert_eq!(asks(&mut discovery, 580), []);
        // It is asked again before its time is over, and stays while it is silent.
        assert_eq!(asks(&mut discovery, 592), [Ask::Pcp(vec![server()])]);
        discovery.on_pcp(&PcpAnswer::Failed, at(595));
        assert_eq!(discovery.found(at(700)), by_pcp);
        assert!(!asks(&mut discovery, 700).is_empty());
        // Another answer replaces it at once, and one without prefixes ends it.
        discovery.on_pcp(&told(OTHER), at(701));
        let other = found(OTHER, Source::Pcp(server()));
        assert_eq!(discovery.found(at(701)), other);
        discovery.on_pcp(&PcpAnswer::Absent, at(702));
        assert_ne!(discovery.found(at(702)), other);
    }

    #[test]
    fn pd_22_routers_come_first_and_what_works_stays() {
        let announces = |lifetime| Advertisement {
            lifetime,
            options: vec![RouterOption::Pref64(Pref64Option {
                prefix: PREFIX.parse().unwrap(),
                lifetime: 600,
            })],
            ..Advertisement::default()
        };
        // Who hears a prefix asks nobody.
        let mut discovery = Discovery::new(at(0), Rules::default());
        discovery.set_pcp_servers(vec![server()], at(0));
        discovery.on_advertisement(server(), &announces(1800), at(0));
        assert_eq!(asks(&mut discovery, 5), []);
        // A router for NAT64 only does not end what a PCP server told, a default router does.
        let mut discovery = without_pref64(Rules::default());
        asks(&mut discovery, 0);
        discovery.on_pcp(&told(OTHER), at(1));
        let by_pcp = found(OTHER, Source::Pcp(server()));
        let second: Ipv6Addr = "fe80::2".parse().unwrap();
        discovery.on_advertisement(second, &announces(0), at(10));
        assert_eq!(discovery.found(at(10)), by_pcp);
        discovery.on_advertisement(second, &announces(1800), at(11));
        let by_router = found(PREFIX, Source::Router(second));
        assert_eq!(discovery.found(at(11)), by_router);
        // The DNS64 was first: its prefix stays, and no PCP server is asked.
        let mut discovery = without_pref64(Rules::default());
        asks(&mut discovery, 0);
        discovery.on_answer(&by_dns(OTHER), at(1));
        discovery.on_pcp(&told(PREFIX), at(2));
        assert_eq!(discovery.found(at(2)), found(OTHER, Source::Dns));
    }

    #[test]
    fn pd_22_silence_costs_few_requests_and_no_wait() {
        let mut discovery = without_pref64(Rules::default());
        discovery.set_servers(Vec::new(), at(0));
        let mut asked = 0;
        for seconds in 0..3600 {
            for ask in asks(&mut discovery, seconds) {
                assert!(matches!(ask, Ask::Pcp(_)));
                asked += 1;
                discovery.on_pcp(&PcpAnswer::Failed, at(seconds));
            }
            // Routers have the first second.
            assert!(
                seconds == 0 || !discovery.is_asking(at(seconds)),
                "{seconds}"
            );
        }
        assert!((5..25).contains(&asked), "{asked}");
        // A new router is asked at once.
        let next: Ipv6Addr = "fe80::9".parse().unwrap();
        discovery.set_pcp_servers(vec![next], at(3600));
        assert_eq!(asks(&mut discovery, 3600), [Ask::Pcp(vec![next])]);
        // Nobody is asked who cannot be believed.
        let secure = Rules {
            require_secure: true,
            ..Rules::default()
        };
        let mut discovery = without_pref64(secure);
        let later = at(0) + Duration::from_secs(5);
        assert_eq!(
            discovery.next_timeout(later).filter(|due| *due <= later),
            None
        );
        assert_eq!(asks(&mut discovery, 0), []);
    }
}
