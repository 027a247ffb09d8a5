//! The contents of the advertisements of a link, and their lifetimes.
//!
//! An option that is stale is not only omitted, because hosts would use it until it expires. It is
//! announced with a lifetime of zero until then.

use std::time::Duration;

use xlat_core::Instant;

use super::config::Config;
use super::prefixes::{OnLinkPrefix, Prefixes};
use super::reach::Reach;
use super::withdrawn::Withdrawn;
use crate::ra::{
    Advertisement, Pref64Option, PrefixInformation, RouteInformation, RouterOption, pref64_units,
};

/// Maximum number of entries in one option, so that it fits the smallest MTU.
const SERVERS_MAX: usize = 32;
const DOMAINS_MAX: usize = 4;

/// The contents of the advertisements of one link.
#[derive(Debug)]
pub struct Announcement {
    config: Config,
    /// Link-layer address of this router, if the link has such addresses.
    pub link_layer: Option<[u8; 6]>,
    /// What this host reaches: without IPv4 it is no NAT64, and without both no default router.
    pub reach: Reach,
    prefixes: Prefixes,
    withdrawn: Withdrawn,
}

/// Lifetimes in seconds.
#[derive(Clone, Copy, Debug, Default)]
struct Lifetimes {
    router: u16,
    pref64: u16,
    /// Of DNS servers, domains and routes.
    rest: u32,
}

impl Announcement {
    /// Announces a configuration, and what this host reaches.
    pub fn new(config: Config, reach: Reach) -> Self {
        Self {
            config,
            link_layer: None,
            reach,
            prefixes: Prefixes::default(),
            withdrawn: Withdrawn::default(),
        }
    }

    /// The configuration, which is the same on all links.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The prefixes that the interface has.
    pub fn prefixes(&self) -> &[OnLinkPrefix] {
        self.prefixes.current()
    }

    /// Replaces the interface's prefixes. True if an advertisement should be sent soon: the
    /// prefixes differ from those before, or expire sooner.
    pub fn set_prefixes(&mut self, prefixes: Vec<OnLinkPrefix>, now: Instant) -> bool {
        self.prefixes.set(prefixes, self.config.prefix_valid, now)
    }

    /// Replaces the configuration. Options that the new one lacks are withdrawn.
    pub fn set_config(&mut self, config: Config, now: Instant) {
        let end = now + Duration::from_secs(self.config.option_lifetime().into());
        self.withdrawn.replace(&self.config, &config, end, now);
        self.config = config;
    }

    /// The advertisement to send now.
    pub fn advertisement(&self, now: Instant) -> Advertisement {
        let (router, rest) = (self.config.lifetime, self.config.option_lifetime());
        // The router lifetime, or three intervals if that is 0 (RFC 8781 section 4.1).
        let pref64 = pref64_units(rest.max(router.into())) * 8;
        let lifetimes = Lifetimes {
            router: if self.reach.is_router() { router } else { 0 },
            pref64: if self.reach.ipv4 { pref64 } else { 0 },
            rest,
        };
        self.with(lifetimes, now)
    }

    /// The last advertisement, which withdraws router, NAT64 and DNS (RFC 4861 section 6.2.5).
    pub fn farewell(&self, now: Instant) -> Advertisement {
        self.with(Lifetimes::default(), now)
    }

    fn with(&self, lifetimes: Lifetimes, now: Instant) -> Advertisement {
        let config = &self.config;
        let mut options = Vec::new();
        options.extend(self.link_layer.map(RouterOption::SourceLinkLayer));
        options.extend(config.mtu.map(RouterOption::Mtu));
        self.add_prefixes(now, &mut options);
        self.add_routes(lifetimes, now, &mut options);
        self.add_dns(lifetimes, now, &mut options);
        let pref64s = config.pref64s.iter();
        let pref64s = pref64s.map(|prefix| (*prefix, lifetimes.pref64));
        let withdrawn = self.withdrawn.pref64s(now).map(|prefix| (prefix, 0));
        options.extend(
            pref64s
                .chain(withdrawn)
                .map(|(prefix, lifetime)| RouterOption::Pref64(Pref64Option { prefix, lifetime })),
        );
        Advertisement {
            hop_limit: config.hop_limit,
            managed: config.managed,
            other: config.other,
            preference: config.preference,
            lifetime: lifetimes.router,
            reachable: config.reachable,
            retransmit: config.retransmit,
            options,
        }
    }

    fn add_prefixes(&self, now: Instant, options: &mut Vec<RouterOption>) {
        let config = &self.config;
        let information = |prefix, router, valid, preferred| {
            RouterOption::Prefix(PrefixInformation {
                prefix,
                on_link: config.on_link,
                autonomous: config.autonomous,
                router,
                valid,
                preferred,
            })
        };
        options.extend(self.prefixes.current().iter().map(|one| {
            let router = config.router_address.then_some(one.router);
            let valid = at_most(config.prefix_valid, one.valid, now);
            let preferred = at_most(config.prefix_preferred, one.preferred, now);
            information(one.prefix, router, valid, preferred.min(valid))
        }));
        options.extend(
            self.prefixes.gone(now).map(|(prefix, end)| {
                information(prefix, None, at_most(u32::MAX, Some(end), now), 0)
            }),
        );
    }

    fn add_routes(&self, lifetimes: Lifetimes, now: Instant, options: &mut Vec<RouterOption>) {
        let config = &self.config;
        let routes = config.routes.iter().map(|prefix| (*prefix, lifetimes.rest));
        let withdrawn = self.withdrawn.routes(now).map(|prefix| (prefix, 0));
        options.extend(routes.chain(withdrawn).map(|(prefix, lifetime)| {
            RouterOption::Route(RouteInformation {
                prefix,
                preference: config.preference,
                lifetime,
            })
        }));
    }

    fn add_dns(&self, lifetimes: Lifetimes, now: Instant, options: &mut Vec<RouterOption>) {
        let config = &self.config;
        let (old_servers, old_domains) = (self.withdrawn.servers(now), self.withdrawn.domains(now));
        for (servers, lifetime) in [(&config.dns_servers, lifetimes.rest), (&old_servers, 0)] {
            options.extend(
                servers
                    .chunks(SERVERS_MAX)
                    .map(|servers| RouterOption::DnsServers {
                        lifetime,
                        servers: servers.to_vec(),
                    }),
            );
        }
        for (domains, lifetime) in [(&config.search, lifetimes.rest), (&old_domains, 0)] {
            options.extend(
                domains
                    .chunks(DOMAINS_MAX)
                    .map(|domains| RouterOption::DnsSearch {
                        lifetime,
                        domains: domains.to_vec(),
                    }),
            );
        }
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
    use std::net::Ipv6Addr;

    use xlat_core::addr::{Ipv6Prefix, Pref64};

    const REACHED: Reach = Reach {
        ipv4: true,
        ipv6: false,
    };

    fn at(seconds: u64) -> Instant {
        Instant::from_secs(100_000 + seconds)
    }

    fn on_link(prefix: &str) -> OnLinkPrefix {
        let prefix: Ipv6Prefix = prefix.parse().unwrap();
        OnLinkPrefix {
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
        let config = Config {
            hop_limit: 63,
            reachable: 30_000,
            retransmit: 1000,
            on_link: false,
            autonomous: false,
            router_address: true,
            ..Config::default()
        };
        let mut announcement = Announcement::new(config, REACHED);
        announcement.set_prefixes(vec![on_link("2001:db8:1::/64")], at(0));
        let message = announcement.advertisement(at(0)).build();
        let head = [
            134, 0, 0, 0, 63, 0, 0x07, 0x08, 0, 0, 0x75, 0x30, 0, 0, 3, 0xe8,
        ];
        assert_eq!(message[..16], head);
        let option = prefix_option(0x20, 2_592_000, 604_800, (1, 1));
        assert_eq!(message[16..], option);
        let mut usual = Announcement::new(Config::default(), REACHED);
        usual.set_prefixes(vec![on_link("2001:db8:1::/64")], at(0));
        let message = usual.advertisement(at(0)).build();
        assert_eq!(message[4..16], [64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(
            message[16..],
            prefix_option(0xc0, 2_592_000, 604_800, (1, 0))
        );
    }

    #[test]
    fn fp_02_without_ipv4_the_nat64_is_withdrawn_and_the_router_stays_while_ipv6_leads_somewhere() {
        let config = Config {
            pref64s: vec!["64:ff9b::/96".parse().unwrap()],
            ..Config::default()
        };
        let mut announcement = Announcement::new(config, REACHED);
        let mut lifetimes = |ipv4, ipv6| {
            announcement.reach = Reach { ipv4, ipv6 };
            let message = announcement.advertisement(at(0)).build();
            assert_eq!(message[16..18], [38, 2]);
            [6, 18].map(|place| u16::from_be_bytes([message[place], message[place + 1]]))
        };
        assert_eq!(lifetimes(true, true), [1800, 1800]);
        assert_eq!(lifetimes(true, false), [1800, 1800]);
        assert_eq!(lifetimes(false, true), [1800, 0]);
        assert_eq!(lifetimes(false, false), [0, 0]);
    }

    #[test]
    fn ra_20_a_prefix_that_went_counts_down_and_is_forgotten() {
        let mut announcement = Announcement::new(Config::default(), REACHED);
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
        let delegated = OnLinkPrefix {
            valid: Some(at(3600)),
            preferred: Some(at(1800)),
            ..on_link("2001:db8:1::/64")
        };
        let mut announcement = Announcement::new(Config::default(), REACHED);
        announcement.set_prefixes(vec![delegated], at(0));
        let first = prefix_option(0xc0, 3600, 1800, (1, 0));
        assert_eq!(options(&announcement, 0), first);
        let later = prefix_option(0xc0, 1600, 0, (1, 0));
        assert_eq!(options(&announcement, 2000), later);
        assert!(!announcement.set_prefixes(vec![delegated], at(2000)));
        let shorter = OnLinkPrefix {
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
        let before = Config {
            dns_servers: vec!["2001:db8:1::1".parse().unwrap()],
            search: vec!["a.example".into()],
            routes: vec!["2001:db8:2::/48".parse().unwrap()],
            pref64s: vec![pref64],
            ..Config::default()
        };
        let mut announcement = Announcement::new(before.clone(), REACHED);
        announcement.set_config(Config::default(), at(0));
        let mut expected = vec![24, 2, 48, 0, 0, 0, 0, 0, 0x20, 1, 0x0d, 0xb8, 0, 2, 0, 0];
        expected.extend([25, 3, 0, 0, 0, 0, 0, 0]);
        expected.extend([0x20, 1, 0x0d, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        expected.extend(b"\x1f\x03\0\0\0\0\0\0\x01a\x07example\0\0\0\0\0\0");
        expected.extend([38, 2, 0, 0, 0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(options(&announcement, 0), expected);
        assert_eq!(options(&announcement, 1799), expected);
        assert!(options(&announcement, 1800).is_empty());
        // What is announced again is not withdrawn.
        announcement.set_config(before, at(10));
        let again = options(&announcement, 10);
        assert_eq!(again.len(), expected.len());
        assert_eq!(again[16..24], [25, 3, 0, 0, 0, 0, 7, 8]);
    }

    #[test]
    fn ra_08_the_last_word_takes_everything_back_but_the_addresses() {
        let config = Config {
            dns_servers: vec!["2001:db8:1::1".parse().unwrap()],
            search: vec!["a.example".into()],
            ..Config::default()
        };
        let mut announcement = Announcement::new(config, REACHED);
        announcement.set_prefixes(vec![on_link("2001:db8:1::/64")], at(0));
        let message = announcement.farewell(at(0)).build();
        assert_eq!(message[6..8], [0, 0]);
        let (prefix, rest) = message[16..].split_at(32);
        assert_eq!(prefix, prefix_option(0xc0, 2_592_000, 604_800, (1, 0)));
        assert_eq!(rest[..8], [25, 3, 0, 0, 0, 0, 0, 0]);
        assert_eq!(rest[24..32], [31, 3, 0, 0, 0, 0, 0, 0]);
    }
}
