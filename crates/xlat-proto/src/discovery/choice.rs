//! Chooses the prefix to use among those that routers, PCP servers and the DNS64 tell.
//!
//! Among routers the default routers come first, then the higher preference (RFC 4191), then the
//! prefix in use, then the rules of RFC 7050 section 3. That holds for a moment after the first
//! advertisement, in which all routers of a link answer a solicitation, and until a translation
//! runs. Later on, a prefix in use stays until it is withdrawn, expires or fails its probes, so that
//! one advertisement moves no translation that works.

use std::cmp::Reverse;
use std::time::Duration;

use xlat_core::Instant;

use super::announced::AnnouncedPrefix;
use super::prefix::order;
use super::{Found, Source};

/// The prefix in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Used {
    pub(super) found: Found,
    /// Its router was a default router.
    was_default: bool,
}

/// The prefix to use: `announced` and `told` are those that may be used, `used` the one so far. Who
/// is told by PCP stands before the DNS64 among `told`. `is_open`: others than that may still be
/// preferred.
pub(super) fn choose(
    announced: &[AnnouncedPrefix],
    told: &[Found],
    used: Option<Used>,
    is_open: bool,
) -> Option<Used> {
    let current = |one: &&AnnouncedPrefix| Some(found(one)) == used.map(|used| used.found);
    // Another router may announce the same prefix.
    let same = |one: &&AnnouncedPrefix| Some(one.prefix) == used.map(|used| used.found.prefix);
    let may_stay = |one: &&AnnouncedPrefix| same(one) && (one.is_default || !used_default(used));
    let kept = announced.iter().filter(may_stay).max_by_key(current);
    if let Some(kept) = kept.filter(|_| !is_open) {
        return Some(use_announced(kept));
    }
    let best = announced.iter().max_by_key(|one| {
        let rules = Reverse((order(one.prefix), one.router));
        (one.is_default, one.preference, current(one), rules)
    });
    // RFC 9872: routers before those who have to be asked. One that offers nothing but NAT64 does not
    // end what works.
    let told = choose_told(told, used);
    let stays = told.filter(|found| Some(*found) == used.map(|used| used.found));
    match best {
        Some(best) if best.is_default || stays.is_none() => Some(use_announced(best)),
        _ => told.map(|found| Used {
            found,
            was_default: false,
        }),
    }
}

/// The one in use, or else that of a PCP server (RFC 8781 section 5.1), by the rules of RFC 7050.
fn choose_told(told: &[Found], used: Option<Used>) -> Option<Found> {
    let used = used.map(|used| used.found);
    let all = || told.iter().copied();
    let rank = |found: &Found| (found.source == Source::Dns, order(found.prefix));
    let current = all().find(|one| Some(*one) == used);
    current.or_else(|| all().min_by_key(rank))
}

fn use_announced(one: &AnnouncedPrefix) -> Used {
    Used {
        found: found(one),
        was_default: one.is_default,
    }
}

fn used_default(used: Option<Used>) -> bool {
    used.is_some_and(|used| used.was_default)
}

pub(super) fn found(one: &AnnouncedPrefix) -> Found {
    Found {
        prefix: one.prefix,
        source: Source::Router(one.router),
    }
}

/// When the choice among routers is no longer open, after the first advertisement.
pub(super) fn closes(first: Instant) -> Instant {
    first + OPEN
}

/// Routers answer a solicitation within half a second (RFC 4861 section 6.2.6).
const OPEN: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use xlat_core::addr::Pref64;

    use super::super::{Answer, Ask, Discovery, Notice, Rules, rfc7050};
    use super::*;
    use crate::ra::{Advertisement, Pref64Option, Preference, RouterOption};

    /// In milliseconds.
    fn at(millis: u64) -> Instant {
        Instant::from_secs(1000) + Duration::from_millis(millis)
    }

    fn router(number: u16) -> Ipv6Addr {
        Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, number)
    }

    fn says(lifetime: u16, preference: Preference, prefixes: &[(&str, u16)]) -> Advertisement {
        let options = prefixes.iter().map(|(prefix, lifetime)| {
            RouterOption::Pref64(Pref64Option {
                prefix: prefix.parse().unwrap(),
                lifetime: *lifetime,
            })
        });
        Advertisement {
            lifetime,
            preference,
            options: options.collect(),
            ..Advertisement::default()
        }
    }

    fn usual(prefix: &str) -> Advertisement {
        says(1800, Preference::Medium, &[(prefix, 600)])
    }

    #[track_caller]
    fn uses(discovery: &Discovery, millis: u64, number: u16, prefix: &str) {
        let expected = Found {
            prefix: prefix.parse().unwrap(),
            source: Source::Router(router(number)),
        };
        assert_eq!(discovery.found(at(millis)), Some(expected), "{millis} ms");
    }

    const A: &str = "2001:db8:a::/96";
    const B: &str = "2001:db8:b::/96";

    #[test]
    fn cl_14_one_more_advertisement_does_not_move_what_works() {
        let mut discovery = Discovery::new(at(0), Rules::default());
        discovery.on_advertisement(router(2), &usual(B), at(0));
        uses(&discovery, 0, 2, B);
        let rogues = [
            usual(A),
            usual("2001:db8::/32"),
            says(65535, Preference::High, &[(A, 65528)]),
            says(9000, Preference::High, &[(A, 65528), (B, 65528)]),
            says(0, Preference::Medium, &[(A, 8)]),
        ];
        for (number, rogue) in (10..).zip(&rogues) {
            discovery.on_advertisement(router(number), rogue, at(1000));
            uses(&discovery, 1000, 2, B);
            discovery.on_advertisement(router(1), rogue, at(1000));
            uses(&discovery, 1001, 2, B);
        }
        // It is said that there is another one.
        let notice = discovery.take_notice();
        assert!(matches!(notice, Some(Notice::NotUsed(_))), "{notice:?}");
        // All that announce it, the one in use first.
        let prefix = B.parse().unwrap();
        assert_eq!(discovery.routers(prefix, at(1001))[0], router(2));
        assert!(discovery.routers(prefix, at(1001)).len() > 1);
        // It ends with its lifetime, and the best of the others follows.
        uses(&discovery, 599_999, 2, B);
        discovery.poll(at(600_000));
        let next = discovery.found(at(600_000)).unwrap();
        assert_ne!(next.source, Source::Router(router(2)));
    }

    #[test]
    fn cl_14_default_routers_then_preference_then_stability_then_the_rules() {
        let first = |advertisements: &[(u16, Advertisement)]| {
            let mut discovery = Discovery::new(at(0), Rules::default());
            for (millis, (number, advertisement)) in (0..).zip(advertisements) {
                discovery.on_advertisement(router(*number), advertisement, at(millis));
            }
            discovery.found(at(400)).unwrap()
        };
        let of = |found: Found| match found.source {
            Source::Router(router) => router.segments()[7],
            other => panic!("{other:?}"),
        };
        let not_default = says(0, Preference::High, &[(A, 600)]);
        assert_eq!(of(first(&[(1, not_default.clone()), (2, usual(B))])), 2);
        assert_eq!(of(first(&[(2, usual(B)), (1, not_default)])), 2);
        let preferred = says(1800, Preference::High, &[(B, 600)]);
        assert_eq!(of(first(&[(1, usual(A)), (2, preferred)])), 2);
        let low = says(1800, Preference::Low, &[(A, 600)]);
        assert_eq!(of(first(&[(1, low), (2, usual(B))])), 2);
        assert_eq!(of(first(&[(2, usual(B)), (1, usual(A))])), 2);
        let both = says(1800, Preference::Medium, &[(B, 600), (A, 600)]);
        assert_eq!(first(&[(1, both)]).prefix, A.parse().unwrap());
    }

    #[test]
    fn cl_14_a_translation_that_runs_already_is_not_moved_either() {
        let mut discovery = Discovery::new(at(0), Rules::default());
        discovery.on_advertisement(router(1), &usual(A), at(0));
        discovery.on_running();
        let rogue = says(1800, Preference::High, &[(B, 600)]);
        assert!(!discovery.on_advertisement(router(2), &rogue, at(100)));
        uses(&discovery, 100, 1, A);
    }

    #[test]
    fn cl_14_a_router_that_ceases_to_be_a_default_router_gives_way() {
        let mut discovery = Discovery::new(at(0), Rules::default());
        discovery.on_advertisement(router(1), &usual(A), at(0));
        discovery.on_advertisement(router(2), &usual(B), at(5000));
        uses(&discovery, 5000, 1, A);
        let leaving = says(0, Preference::Medium, &[]);
        assert!(discovery.on_advertisement(router(1), &leaving, at(6000)));
        uses(&discovery, 6000, 2, B);
        // Alone, one that never was a default router stays in use.
        let mut discovery = Discovery::new(at(0), Rules::default());
        let only_nat64 = says(0, Preference::Medium, &[(A, 600)]);
        discovery.on_advertisement(router(1), &only_nat64, at(0));
        uses(&discovery, 1, 1, A);
        discovery.on_advertisement(router(2), &usual(B), at(5000));
        uses(&discovery, 5000, 1, A);
    }

    #[test]
    fn pd_15_a_router_that_contradicts_itself_stops_nothing_and_one_that_withdraws_does() {
        let mut discovery = Discovery::new(at(0), Rules::default());
        let withdrawn = says(1800, Preference::Medium, &[(A, 0)]);
        for millis in 0..5000 {
            discovery.on_advertisement(router(1), &usual(A), at(millis));
            assert!(!discovery.on_advertisement(router(1), &withdrawn, at(millis)));
            uses(&discovery, millis, 1, A);
        }
        uses(&discovery, 5998, 1, A);
        assert_eq!(discovery.next_timeout(at(5998)), Some(at(5999)));
        assert_eq!(discovery.found(at(5999)), None);
        // A prefix that was announced for a while goes at once.
        discovery.on_advertisement(router(1), &usual(A), at(10_000));
        assert!(discovery.on_advertisement(router(1), &withdrawn, at(11_000)));
        assert_eq!(discovery.found(at(11_000)), None);
    }

    #[test]
    fn pd_19_a_default_router_replaces_the_dns64_and_one_for_nat64_only_does_not() {
        let answer = Answer::Addresses(
            rfc7050::WELL_KNOWN
                .map(|v4| B.parse::<Pref64>().unwrap().embed(v4))
                .to_vec(),
            600,
        );
        let mut discovery = Discovery::new(at(0), Rules::default());
        discovery.set_servers(vec!["2001:db8::53".parse().unwrap()], at(0));
        discovery.poll(at(1000));
        assert!(matches!(discovery.poll(at(1000)), Some(Ask::Dns(_))));
        assert!(discovery.is_asking(at(1000)));
        discovery.on_answer(&answer, at(1001));
        assert!(!discovery.is_asking(at(1001)));
        let told = Found {
            prefix: B.parse().unwrap(),
            source: Source::Dns,
        };
        assert_eq!(discovery.found(at(1001)), Some(told));
        let only_nat64 = says(0, Preference::High, &[(A, 600)]);
        discovery.on_advertisement(router(1), &only_nat64, at(5000));
        assert_eq!(discovery.found(at(5000)), Some(told));
        // It is in use, so its answer is refreshed.
        let mut asked = std::iter::from_fn(|| discovery.poll(at(591_001)));
        assert!(asked.any(|ask| matches!(ask, Ask::Dns(_))));
        discovery.on_answer(&answer, at(591_002));
        discovery.on_advertisement(router(2), &usual(A), at(591_003));
        uses(&discovery, 591_003, 2, A);
    }

    #[test]
    fn a_new_start_asks_all_again_and_keeps_what_is_told_again() {
        let mut discovery = Discovery::new(at(0), Rules::default());
        discovery.poll(at(0));
        discovery.on_advertisement(router(1), &usual(A), at(100));
        discovery.on_advertisement(router(2), &usual(B), at(9000));
        discovery.ask_again(at(10_000));
        uses(&discovery, 10_000, 1, A);
        assert_eq!(discovery.poll(at(10_000)), Some(Ask::Routers));
        assert_eq!(discovery.poll(at(10_000)), None);
        discovery.on_advertisement(router(2), &usual(B), at(10_100));
        uses(&discovery, 19_999, 1, A);
        // Router 1 was silent.
        uses(&discovery, 20_000, 2, B);
    }

    #[test]
    fn a_flood_drops_the_oldest_but_not_what_is_used() {
        let mut discovery = Discovery::new(at(0), Rules::default());
        discovery.on_advertisement(router(1), &usual(A), at(0));
        for number in 2..2000 {
            let rogue = says(65535, Preference::High, &[(B, 65528)]);
            discovery.on_advertisement(router(number), &rogue, at(1000 + u64::from(number)));
        }
        uses(&discovery, 3000, 1, A);
        assert_eq!(discovery.all(at(3000)).len(), 64);
        // A router that comes last has its place as well.
        discovery.on_advertisement(router(1), &usual("2001:db8:c::/96"), at(3001));
        let all = discovery.all(at(3001));
        assert!(
            all.iter()
                .any(|one| one.prefix == "2001:db8:c::/96".parse().unwrap())
        );
    }
}
