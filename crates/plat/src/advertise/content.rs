//! What is in the advertisements of a LAN, and for how long it holds.
//!
//! What was announced and is no longer true is not just left out: hosts would go by it until its
//! lifetime is over. It is announced with a lifetime of zero for as long as that.

use std::net::Ipv6Addr;
use std::time::Duration;

use xlat_core::Instant;
use xlat_core::addr::{Ipv6Prefix, Pref64};
use xlat_host::daemon::flags::Switch;
use xlat_proto::ra::{
    Advertisement, Pref64Option, PrefixInformation, RouteInformation, RouterOption, pref64_units,
};

use super::flags::{AdvertiseFlags, Domain};
use crate::settings::Settings;

/// What one option has at most, so that it fits into the smallest MTU.
const SERVERS_MAX: usize = 32;
const DOMAINS_MAX: usize = 4;
/// How long the addresses of a prefix that went may still be used at most: hosts do not let a
/// router shorten it more (RFC 4862 section 5.5.3), seconds.
const FAREWELL: u64 = 7200;

/// What is the same on all LANs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) flags: AdvertiseFlags,
    pub(super) pref64s: Vec<Pref64>,
    pub(super) dns_servers: Vec<Ipv6Addr>,
}

/// A prefix that the interface has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OnLink {
    pub(super) prefix: Ipv6Prefix,
    /// Our address in it.
    pub(super) router: Ipv6Addr,
    /// When the address ends to be valid and to be preferred, if it does: a prefix that was
    /// delegated is not ours for ever.
    pub(super) valid: Option<Instant>,
    pub(super) preferred: Option<Instant>,
}

/// Everything that one LAN is told.
#[derive(Debug)]
pub(super) struct Announcement {
    pub(super) content: Content,
    pub(super) link_layer: Option<[u8; 6]>,
    prefixes: Vec<OnLink>,
    /// Prefixes that have gone, and when hosts have forgotten them.
    gone: Vec<(Ipv6Prefix, Instant)>,
    withdrawn: Vec<(Withdrawn, Instant)>,
    /// False while IPv4 cannot be reached.
    pub(super) open: bool,
}

/// What was announced until a reload.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Withdrawn {
    Route(Ipv6Prefix),
    Server(Ipv6Addr),
    Domain(Domain),
    Pref64(Pref64),
}

/// Lifetimes in seconds.
#[derive(Clone, Copy, Debug, Default)]
struct Lifetimes {
    router: u16,
    pref64: u16,
    /// Of DNS servers, domains and routes.
    rest: u32,
}

impl OnLink {
    /// True if it ends sooner than `old` did; each look at the clock may be a second apart.
    fn ends_before(&self, old: &Self) -> bool {
        let is_sooner = |new: Option<Instant>, old: Option<Instant>| match (new, old) {
            (Some(new), Some(old)) => old.saturating_since(new) > Duration::from_secs(2),
            (new, old) => new.is_some() && old.is_none(),
        };
        is_sooner(self.valid, old.valid) || is_sooner(self.preferred, old.preferred)
    }
}

impl Content {
    pub(super) fn new(settings: &Settings, dns_servers: Vec<Ipv6Addr>) -> Self {
        let flags = settings.run.advertise.clone();
        let has_pref64 = flags.ra_pref64 == Switch::On;
        let pref64s = settings.pref64s.iter().copied();
        Self {
            dns_servers: if flags.ra_dns.is_empty() {
                dns_servers
            } else {
                flags.ra_dns.clone()
            },
            pref64s: pref64s.filter(|_| has_pref64).collect(),
            flags,
        }
    }

    /// Longest time between two advertisements.
    pub(super) fn interval(&self) -> Duration {
        Duration::from_secs(self.flags.ra_interval.into())
    }

    /// Lifetime of what has none of its own: three intervals, in seconds.
    fn lifetime(&self) -> u32 {
        3 * u32::from(self.flags.ra_interval)
    }

    /// What has a lifetime that can be taken away.
    fn withdrawable(&self) -> impl Iterator<Item = Withdrawn> {
        let routes = self.flags.ra_route.iter().copied().map(Withdrawn::Route);
        let servers = self.dns_servers.iter().copied().map(Withdrawn::Server);
        let domains = self.flags.ra_search.iter().cloned().map(Withdrawn::Domain);
        let pref64s = self.pref64s.iter().copied().map(Withdrawn::Pref64);
        routes.chain(servers).chain(domains).chain(pref64s)
    }
}

impl Announcement {
    pub(super) fn new(content: Content, open: bool) -> Self {
        Self {
            content,
            link_layer: None,
            prefixes: Vec::new(),
            gone: Vec::new(),
            withdrawn: Vec::new(),
            open,
        }
    }

    /// The prefixes that the interface has.
    pub(super) fn prefixes(&self) -> &[OnLink] {
        &self.prefixes
    }

    /// The interface has these prefixes from now on. True if hosts should hear of it: others than
    /// before, or for a shorter time.
    pub(super) fn set_prefixes(&mut self, prefixes: Vec<OnLink>, now: Instant) -> bool {
        let has = |list: &[OnLink], prefix| list.iter().any(|one| one.prefix == prefix);
        let farewell = self.content.flags.ra_prefix_valid;
        let farewell = now + Duration::from_secs(FAREWELL.min(farewell.into()));
        for old in &self.prefixes {
            if !has(&prefixes, old.prefix) {
                let end = old.valid.map_or(farewell, |valid| valid.min(farewell));
                self.gone.push((old.prefix, end));
            }
        }
        let is_told = |new: &OnLink| {
            let mut old = self.prefixes.iter();
            old.any(|old| old.prefix == new.prefix && !new.ends_before(old))
        };
        let went = self.prefixes.iter().any(|old| !has(&prefixes, old.prefix));
        let is_news = went || !prefixes.iter().all(is_told);
        self.gone
            .retain(|(prefix, end)| !has(&prefixes, *prefix) && *end > now);
        self.prefixes = prefixes;
        is_news
    }

    /// Other things are announced from now on.
    pub(super) fn set_content(&mut self, content: Content, now: Instant) {
        let end = now + Duration::from_secs(self.content.lifetime().into());
        let new: Vec<Withdrawn> = content.withdrawable().collect();
        let went = self.content.withdrawable();
        let went: Vec<_> = went.filter(|one| !new.contains(one)).collect();
        self.withdrawn
            .retain(|(one, end)| !new.contains(one) && *end > now);
        self.withdrawn
            .extend(went.into_iter().map(|one| (one, end)));
        self.content = content;
    }

    /// The advertisement that is to be sent now.
    pub(super) fn advertisement(&self, now: Instant) -> Advertisement {
        let rest = self.content.lifetime();
        let closed = Lifetimes {
            router: 0,
            pref64: 0,
            rest,
        };
        if !self.open {
            return self.with(closed, now);
        }
        let router = self.content.flags.lifetime();
        let lifetimes = Lifetimes {
            router,
            // As long as the router, or three intervals where that is none (RFC 8781 section 4.1).
            pref64: pref64_units(rest.max(router.into())) * 8,
            ..closed
        };
        self.with(lifetimes, now)
    }

    /// No router, no NAT64, no DNS here any more (RFC 4861 section 6.2.5).
    pub(super) fn farewell(&self, now: Instant) -> Advertisement {
        self.with(Lifetimes::default(), now)
    }

    fn with(&self, lifetimes: Lifetimes, now: Instant) -> Advertisement {
        let flags = &self.content.flags;
        let mut options = Vec::new();
        options.extend(self.link_layer.map(RouterOption::SourceLinkLayer));
        options.extend(flags.ra_mtu.map(RouterOption::Mtu));
        self.add_prefixes(now, &mut options);
        self.add_routes(lifetimes, now, &mut options);
        self.add_dns(lifetimes, now, &mut options);
        let pref64s = self.content.pref64s.iter();
        let pref64s = pref64s.map(|prefix| (*prefix, lifetimes.pref64));
        let withdrawn = self.withdrawn(now).filter_map(|one| match one {
            Withdrawn::Pref64(prefix) => Some((*prefix, 0)),
            _ => None,
        });
        options.extend(
            pref64s
                .chain(withdrawn)
                .map(|(prefix, lifetime)| RouterOption::Pref64(Pref64Option { prefix, lifetime })),
        );
        Advertisement {
            hop_limit: flags.ra_hop_limit,
            managed: flags.ra_managed,
            other: flags.ra_other,
            preference: flags.ra_preference.into(),
            lifetime: lifetimes.router,
            reachable: flags.ra_reachable,
            retransmit: flags.ra_retransmit,
            options,
        }
    }

    fn add_prefixes(&self, now: Instant, options: &mut Vec<RouterOption>) {
        let flags = &self.content.flags;
        let information = |prefix, router, valid, preferred| {
            RouterOption::Prefix(PrefixInformation {
                prefix,
                on_link: flags.ra_on_link == Switch::On,
                autonomous: flags.ra_autonomous == Switch::On,
                router,
                valid,
                preferred,
            })
        };
        options.extend(self.prefixes.iter().map(|one| {
            let router = flags.ra_router_address.then_some(one.router);
            let valid = at_most(flags.ra_prefix_valid, one.valid, now);
            let preferred = at_most(flags.ra_prefix_preferred, one.preferred, now);
            information(one.prefix, router, valid, preferred.min(valid))
        }));
        let gone = self.gone.iter().filter(|(_, end)| *end > now);
        options.extend(gone.map(|(prefix, end)| {
            information(*prefix, None, at_most(u32::MAX, Some(*end), now), 0)
        }));
    }

    fn add_routes(&self, lifetimes: Lifetimes, now: Instant, options: &mut Vec<RouterOption>) {
        let flags = &self.content.flags;
        let routes = flags
            .ra_route
            .iter()
            .map(|prefix| (*prefix, lifetimes.rest));
        let withdrawn = self.withdrawn(now).filter_map(|one| match one {
            Withdrawn::Route(prefix) => Some((*prefix, 0)),
            _ => None,
        });
        options.extend(routes.chain(withdrawn).map(|(prefix, lifetime)| {
            RouterOption::Route(RouteInformation {
                prefix,
                preference: flags.ra_preference.into(),
                lifetime,
            })
        }));
    }

    fn add_dns(&self, lifetimes: Lifetimes, now: Instant, options: &mut Vec<RouterOption>) {
        let Content {
            flags, dns_servers, ..
        } = &self.content;
        let old_servers = self.withdrawn(now).filter_map(|one| match one {
            Withdrawn::Server(server) => Some(*server),
            _ => None,
        });
        let old_domains = self.withdrawn(now).filter_map(|one| match one {
            Withdrawn::Domain(domain) => Some(domain.clone()),
            _ => None,
        });
        let (old_servers, old_domains): (Vec<_>, Vec<_>) =
            (old_servers.collect(), old_domains.collect());
        for (servers, lifetime) in [(dns_servers, lifetimes.rest), (&old_servers, 0)] {
            options.extend(
                servers
                    .chunks(SERVERS_MAX)
                    .map(|servers| RouterOption::DnsServers {
                        lifetime,
                        servers: servers.to_vec(),
                    }),
            );
        }
        for (domains, lifetime) in [(&flags.ra_search, lifetimes.rest), (&old_domains, 0)] {
            options.extend(
                domains
                    .chunks(DOMAINS_MAX)
                    .map(|domains| RouterOption::DnsSearch {
                        lifetime,
                        domains: domains.iter().map(|domain| domain.0.clone()).collect(),
                    }),
            );
        }
    }

    fn withdrawn(&self, now: Instant) -> impl Iterator<Item = &Withdrawn> {
        let still = self.withdrawn.iter().filter(move |(_, end)| *end > now);
        still.map(|(one, _)| one)
    }
}

/// A lifetime in seconds that ends with `end`, if that is sooner.
fn at_most(seconds: u32, end: Option<Instant>, now: Instant) -> u32 {
    let left = end.map(|end| end.saturating_since(now).as_secs());
    let left = left.map(|left| u32::try_from(left).unwrap_or(u32::MAX));
    left.map_or(seconds, |left| left.min(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        flags: AdvertiseFlags,
    }

    fn content(args: &[&str]) -> Content {
        let flags = Cli::try_parse_from([&["x"], args].concat()).unwrap().flags;
        Content {
            pref64s: Vec::new(),
            dns_servers: flags.ra_dns.clone(),
            flags,
        }
    }

    fn at(seconds: u64) -> Instant {
        Instant::from_secs(100_000 + seconds)
    }

    fn on_link(prefix: &str) -> OnLink {
        let prefix: Ipv6Prefix = prefix.parse().unwrap();
        OnLink {
            prefix,
            router: Ipv6Addr::from_bits(prefix.address().to_bits() | 1),
            valid: None,
            preferred: None,
        }
    }

    /// The message without the fixed part.
    fn options(announcement: &Announcement, seconds: u64) -> Vec<u8> {
        announcement.advertisement(at(seconds)).build()[16..].to_vec()
    }

    /// A prefix option by hand: flags, lifetimes, 2001:db8:N::HOST.
    fn prefix_option(flags: u8, valid: u32, preferred: u32, (group, host): (u8, u8)) -> Vec<u8> {
        let mut bytes = vec![3, 4, 64, flags];
        bytes.extend(valid.to_be_bytes());
        bytes.extend(preferred.to_be_bytes());
        bytes.extend([0, 0, 0, 0, 0x20, 1, 0x0d, 0xb8, 0, group]);
        bytes.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, host]);
        bytes
    }

    #[test]
    fn ra_10_ra_11_what_is_configured_is_what_is_sent() {
        let flags = [
            "--ra-hop-limit=63",
            "--ra-reachable=30000",
            "--ra-retransmit=1000",
            "--ra-on-link=off",
            "--ra-autonomous=off",
            "--ra-router-address",
        ];
        let mut announcement = Announcement::new(content(&flags), true);
        announcement.set_prefixes(vec![on_link("2001:db8:1::/64")], at(0));
        let message = announcement.advertisement(at(0)).build();
        let head = [
            134, 0, 0, 0, 63, 0, 0x07, 0x08, 0, 0, 0x75, 0x30, 0, 0, 3, 0xe8,
        ];
        assert_eq!(message[..16], head);
        let option = prefix_option(0x20, 2_592_000, 604_800, (1, 1));
        assert_eq!(message[16..], option);
        let mut usual = Announcement::new(content(&[]), true);
        usual.set_prefixes(vec![on_link("2001:db8:1::/64")], at(0));
        let message = usual.advertisement(at(0)).build();
        assert_eq!(message[4..16], [64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(
            message[16..],
            prefix_option(0xc0, 2_592_000, 604_800, (1, 0))
        );
    }

    #[test]
    fn ra_20_a_prefix_that_went_counts_down_and_is_forgotten() {
        let mut announcement = Announcement::new(content(&[]), true);
        let (old, new) = (on_link("2001:db8:1::/64"), on_link("2001:db8:2::/64"));
        announcement.set_prefixes(vec![old], at(0));
        assert!(announcement.set_prefixes(vec![new], at(10)));
        let is_told = |seconds: u64, valid: Option<u32>| {
            let mut expected = prefix_option(0xc0, 2_592_000, 604_800, (2, 0));
            expected
                .extend(valid.map_or(Vec::new(), |valid| prefix_option(0xc0, valid, 0, (1, 0))));
            assert_eq!(options(&announcement, seconds), expected, "{seconds}");
        };
        is_told(10, Some(7200));
        is_told(70, Some(7140));
        is_told(7209, Some(1));
        is_told(7210, None);
        // One that comes back is as before.
        assert!(announcement.set_prefixes(vec![old, new], at(100)));
        let both = [(1, 0), (2, 0)].map(|net| prefix_option(0xc0, 2_592_000, 604_800, net));
        assert_eq!(options(&announcement, 100), both.concat());
    }

    #[test]
    fn ra_20_a_delegated_prefix_is_not_promised_for_longer_than_it_is_ours() {
        let delegated = OnLink {
            valid: Some(at(3600)),
            preferred: Some(at(1800)),
            ..on_link("2001:db8:1::/64")
        };
        let mut announcement = Announcement::new(content(&[]), true);
        announcement.set_prefixes(vec![delegated], at(0));
        let first = prefix_option(0xc0, 3600, 1800, (1, 0));
        assert_eq!(options(&announcement, 0), first);
        let later = prefix_option(0xc0, 1600, 0, (1, 0));
        assert_eq!(options(&announcement, 2000), later);
        assert!(!announcement.set_prefixes(vec![delegated], at(2000)));
        let shorter = OnLink {
            valid: Some(at(3000)),
            ..delegated
        };
        assert!(announcement.set_prefixes(vec![shorter], at(2000)));
        announcement.set_prefixes(Vec::new(), at(2000));
        assert_eq!(
            options(&announcement, 2000),
            prefix_option(0xc0, 1000, 0, (1, 0))
        );
    }

    #[test]
    fn ra_20_what_a_reload_takes_away_is_withdrawn() {
        let pref64: Pref64 = "64:ff9b::/96".parse().unwrap();
        let flags = [
            "--ra-dns=2001:db8:1::1",
            "--ra-search=a.example",
            "--ra-route=2001:db8:2::/48",
        ];
        let before = Content {
            pref64s: vec![pref64],
            ..content(&flags)
        };
        let mut announcement = Announcement::new(before.clone(), true);
        announcement.set_content(content(&[]), at(0));
        let mut expected = vec![24, 2, 48, 0, 0, 0, 0, 0, 0x20, 1, 0x0d, 0xb8, 0, 2, 0, 0];
        expected.extend([25, 3, 0, 0, 0, 0, 0, 0]);
        expected.extend([0x20, 1, 0x0d, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        expected.extend(b"\x1f\x03\0\0\0\0\0\0\x01a\x07example\0\0\0\0\0\0");
        expected.extend([38, 2, 0, 0, 0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(options(&announcement, 0), expected);
        assert_eq!(options(&announcement, 1799), expected);
        assert!(options(&announcement, 1800).is_empty());
        // What is announced again is not withdrawn.
        announcement.set_content(before, at(10));
        let again = options(&announcement, 10);
        assert_eq!(again.len(), expected.len());
        assert_eq!(again[16..24], [25, 3, 0, 0, 0, 0, 7, 8]);
    }

    #[test]
    fn ra_08_the_last_word_takes_everything_back_but_the_addresses() {
        let flags = ["--ra-dns=2001:db8:1::1", "--ra-search=a.example"];
        let mut announcement = Announcement::new(content(&flags), true);
        announcement.set_prefixes(vec![on_link("2001:db8:1::/64")], at(0));
        let message = announcement.farewell(at(0)).build();
        assert_eq!(message[6..8], [0, 0]);
        let (prefix, rest) = message[16..].split_at(32);
        assert_eq!(prefix, prefix_option(0xc0, 2_592_000, 604_800, (1, 0)));
        assert_eq!(rest[..8], [25, 3, 0, 0, 0, 0, 0, 0]);
        assert_eq!(rest[24..32], [31, 3, 0, 0, 0, 0, 0, 0]);
    }
}
