//! The dynamic pool's rules (DP-01 to DP-09) in virtual time, and the pool against a model that
//! knows nothing of lists and hashes.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use nat64::dynamic::map_file::{Lease, SkipReason};
use nat64::dynamic::{
    Conflict, DynamicPool, LEASE, PUBLISH, PoolConfig, PoolError, PrefixLimit, REMEMBER,
};
use proptest::prelude::*;
use xlat_core::addr::Ipv4Prefix;
use xlat_core::mapper::{Refusal, Unreachable};
use xlat_core::{DropReason, Instant};

const EXHAUSTED: Refusal = Refusal::Answer(DropReason::PoolExhausted, Unreachable::Address);
const LIMIT: Refusal = Refusal::Answer(DropReason::SubscriberLimit, Unreachable::Address);

#[test]
fn dp_01_each_client_gets_an_address_of_its_own_and_keeps_it() {
    let mut pool = pool("192.168.64.0/24");
    let mut seen = BTreeSet::new();
    for client in 1..=20 {
        let address = pool.address_for(host(client), secs(client)).unwrap();
        assert!(seen.insert(address));
        assert_eq!(pool.address_for(host(client), secs(100)), Ok(address));
        assert_eq!(pool.client_of(address, secs(100)), Some(host(client)));
    }
}

#[test]
fn dp_01_lowest_broadcast_own_and_statically_mapped_addresses_are_never_handed_out() {
    let mut config = PoolConfig::new(prefix("192.168.64.0/29"));
    config.reserved = vec![
        prefix("192.168.64.2"),
        prefix("192.168.64.4/31"),
        prefix("10.0.0.0/8"),
    ];
    let mut pool = DynamicPool::new(config, KEY).unwrap();
    assert_eq!(pool.capacity(), 3);
    let got: BTreeSet<_> = (1..=3)
        .map(|client| pool.address_for(host(client), secs(0)).unwrap())
        .collect();
    assert_eq!(got, [1, 3, 6].map(|last| v4([192, 168, 64, last])).into());
    assert_eq!(pool.address_for(host(4), secs(0)), Err(EXHAUSTED));
}

#[test]
fn dp_01_a_slash_31_has_one_address_and_a_slash_32_none() {
    let mut pool = pool("192.168.64.2/31");
    assert_eq!(
        pool.address_for(host(1), secs(0)),
        Ok(v4([192, 168, 64, 3]))
    );
    assert_eq!(pool.address_for(host(2), secs(0)), Err(EXHAUSTED));
    let single = prefix("192.168.64.2/32");
    assert_eq!(
        DynamicPool::new(PoolConfig::new(single), KEY).err(),
        Some(PoolError::NoAddress(single))
    );
    let reserved = PoolConfig {
        reserved: vec![prefix("192.168.0.0/16")],
        ..PoolConfig::new(prefix("192.168.64.0/24"))
    };
    assert!(matches!(
        DynamicPool::new(reserved, KEY),
        Err(PoolError::NoAddress(_))
    ));
}

#[test]
fn dp_02_a_lease_holds_7440_seconds_after_the_last_packet_of_either_direction() {
    let mut pool = pool("192.168.64.0/24");
    let address = pool.address_for(host(1), secs(0)).unwrap();
    assert_eq!(pool.client_of(address, secs(7440)), Some(host(1)));
    assert_eq!(pool.client_of(address, secs(2 * 7440)), Some(host(1)));
    assert_eq!(pool.address_for(host(1), secs(3 * 7440)), Ok(address));
    assert_eq!(pool.peek_client(address, secs(4 * 7440)), Some(host(1)));
    let over = secs(3 * 7440) + LEASE + PUBLISH;
    assert_eq!(pool.peek_client(address, over), None);
    assert_eq!(pool.peek_address(host(1), over), None);
    assert_eq!(pool.client_of(address, over), None);
}

#[test]
fn dp_02_looking_at_a_lease_does_not_prolong_it() {
    let mut pool = pool("192.168.64.0/24");
    let address = pool.address_for(host(1), secs(0)).unwrap();
    assert_eq!(pool.peek_client(address, secs(7000)), Some(host(1)));
    assert_eq!(pool.peek_address(host(1), secs(7000)), Some(address));
    assert_eq!(pool.client_of(address, secs(7450)), None);
}

#[test]
fn dp_03_a_client_gets_its_old_address_back_for_14_days() {
    let mut pool = pool("192.168.64.0/24");
    let address = pool.address_for(host(1), secs(0)).unwrap();
    let day = 24 * 3600;
    assert!(!pool.expire(secs(day), 100));
    assert_eq!((pool.active(), pool.dormant()), (0, 1));
    assert_eq!(pool.address_for(host(1), secs(13 * day)), Ok(address));
    assert_eq!((pool.active(), pool.dormant()), (1, 0));

    let generation = pool.generation();
    pool.expire(secs(27 * day - 1), 100);
    assert_eq!((pool.active(), pool.dormant()), (0, 1));
    assert_eq!(pool.generation(), generation);
    pool.expire(secs(27 * day), 100);
    assert_eq!((pool.active(), pool.dormant()), (0, 0));
    assert_ne!(pool.generation(), generation);
}

#[test]
fn dp_03_the_longest_dormant_lease_is_reassigned_and_an_active_one_never() {
    let mut pool = pool("192.168.64.0/29");
    let addresses: Vec<_> = (0..6)
        .map(|client| pool.address_for(host(client), secs(client)).unwrap())
        .collect();
    pool.address_for(host(0), secs(100)).unwrap();
    assert_eq!(pool.address_for(host(10), secs(7000)), Err(EXHAUSTED));

    let later = secs(5) + LEASE + PUBLISH;
    assert_eq!(pool.address_for(host(10), later), Ok(addresses[1]));
    assert_eq!(pool.address_for(host(11), later), Ok(addresses[2]));
    assert_eq!(pool.client_of(addresses[1], later), Some(host(10)));
    assert_eq!(pool.client_of(addresses[0], later), Some(host(0)));
    for client in 12..15 {
        pool.address_for(host(client), later).unwrap();
    }
    assert_eq!(pool.address_for(host(15), later), Err(EXHAUSTED));
    assert_eq!(pool.address_for(host(1), later), Err(EXHAUSTED));
}

#[test]
fn dp_04_nobody_answers_for_an_unassigned_address() {
    let mut pool = pool("192.168.64.0/24");
    pool.address_for(host(1), secs(0)).unwrap();
    let unassigned = (1..255)
        .map(|last| v4([192, 168, 64, last]))
        .filter(|address| pool.peek_client(*address, secs(0)).is_none());
    assert_eq!(unassigned.count(), 253);
    assert_eq!(pool.client_of(v4([192, 168, 65, 1]), secs(0)), None);
}

#[test]
fn dp_05_a_restarted_pool_gives_everybody_the_same_address() {
    let mut before = pool("192.168.64.0/24");
    let addresses: Vec<_> = (0..100)
        .map(|client| {
            before
                .address_for(host(client), secs(200 * client))
                .unwrap()
        })
        .collect();
    let saved = before.snapshot(secs(20_000), 1_790_000_000);
    assert_eq!(saved[0].last_use, 1_790_000_000 - 20_000);
    assert_eq!(saved[99].last_use, 1_790_000_000 - 200);

    let mut after = DynamicPool::new(PoolConfig::new(prefix("192.168.64.0/24")), [3, 4]).unwrap();
    assert_eq!(after.restore(&saved, secs(0), 1_790_000_010), []);
    for (client, &address) in (0u64..).zip(&addresses) {
        let idle = 20_010 - 200 * client;
        let known = (idle < 7450).then_some(host(client));
        assert_eq!(after.peek_client(address, secs(0)), known);
    }
    assert_eq!(after.snapshot(secs(0), 1_790_000_010), saved);
    for (client, &address) in (0..).zip(&addresses) {
        assert_eq!(after.address_for(host(client), secs(1)), Ok(address));
    }
}

#[test]
fn dp_05_unusable_leases_are_skipped_with_their_reason() {
    let mut config = PoolConfig::new(prefix("192.168.64.0/24"));
    config.reserved = vec![prefix("192.168.64.9")];
    config.clients = vec!["2001:db8::/32".parse().unwrap()];
    let mut pool = DynamicPool::new(config, KEY).unwrap();
    let now = 1_790_000_000;
    let leases = [
        lease("192.168.64.5", "2001:db8::5", now - 50),
        lease("192.168.64.5", "2001:db8::6", now - 60),
        lease("192.168.64.6", "2001:db8::5", now - 70),
        lease("192.168.65.5", "2001:db8::7", now),
        lease("192.168.64.0", "2001:db8::7", now),
        lease("192.168.64.9", "2001:db8::7", now),
        lease("192.168.64.7", "2001:db9::7", now),
        lease("192.168.64.8", "2001:db8::8", now - 14 * 24 * 3600),
    ];
    let skipped: BTreeMap<_, _> = pool
        .restore(&leases, secs(0), now)
        .into_iter()
        .map(|(lease, reason)| (leases.iter().position(|one| *one == lease).unwrap(), reason))
        .collect();
    let expected = BTreeMap::from([
        (1, SkipReason::Duplicate),
        (2, SkipReason::Duplicate),
        (3, SkipReason::NotInPool),
        (4, SkipReason::NotInPool),
        (5, SkipReason::NotInPool),
        (6, SkipReason::NotAClient),
        (7, SkipReason::Forgotten),
    ]);
    assert_eq!(skipped, expected);
    assert_eq!(pool.snapshot(secs(0), now), leases[..1]);
}

#[test]
fn dp_05_a_lease_from_the_future_counts_as_just_over() {
    let mut pool = pool("192.168.64.0/24");
    let future = lease("192.168.64.5", "2001:db8::5", 2_000_000_000);
    assert_eq!(pool.restore(&[future], secs(0), 1_790_000_000), []);
    assert_eq!((pool.active(), pool.dormant()), (0, 1));
    assert_eq!(pool.peek_client(future.v4, secs(0)), None);
    assert_eq!(pool.address_for(future.v6, secs(0)), Ok(future.v4));
}

#[test]
fn dp_07_what_cannot_or_may_not_be_a_client_leaves_the_pool_untouched() {
    let mut config = PoolConfig::new(prefix("192.168.64.0/24"));
    config.clients = vec![
        "2001:db8:1::/48".parse().unwrap(),
        "fd00::/8".parse().unwrap(),
    ];
    config.excluded = vec!["2001:db8:1:64::/96".parse().unwrap()];
    let mut pool = DynamicPool::new(config, KEY).unwrap();
    let illegal = [
        "fe80::1",
        "ff02::1",
        "::",
        "::1",
        "::ffff:192.0.2.1",
        "2001:db8:1:64::c000:201",
    ];
    for source in illegal {
        assert_eq!(
            pool.address_for(source.parse().unwrap(), secs(0)),
            Err(Refusal::Silent(DropReason::IllegalSource)),
            "{source}"
        );
    }
    assert_eq!(
        pool.address_for("2001:db8:2::1".parse().unwrap(), secs(0)),
        Err(Refusal::Answer(DropReason::Denied, Unreachable::Prohibited))
    );
    assert_eq!((pool.active(), pool.generation()), (0, 0));
    assert!(
        pool.address_for("fd00::1".parse().unwrap(), secs(0))
            .is_ok()
    );
    assert!(
        pool.address_for("2001:db8:1:64:1::1".parse().unwrap(), secs(0))
            .is_ok()
    );
}

#[test]
fn dp_08_a_prefix_that_rotates_its_addresses_stops_at_its_limit() {
    let mut config = PoolConfig::new(prefix("192.168.64.0/24"));
    config.limit = Some(PrefixLimit {
        prefix_len: 64,
        leases: 4,
    });
    let mut pool = DynamicPool::new(config, KEY).unwrap();
    for client in 0..4 {
        pool.address_for(host(client), secs(client)).unwrap();
    }
    assert_eq!(pool.address_for(host(4), secs(10)), Err(LIMIT));
    assert!(
        pool.address_for("2001:db8:0:1::1".parse().unwrap(), secs(10))
            .is_ok()
    );
    assert!(pool.address_for(host(2), secs(10)).is_ok());
    let one_is_over = secs(0) + LEASE + PUBLISH;
    assert!(pool.address_for(host(4), one_is_over).is_ok());
    assert_eq!(pool.address_for(host(0), one_is_over), Err(LIMIT));
}

#[test]
fn dp_09_new_static_maps_spare_active_leases_and_take_dormant_ones() {
    let mut pool = pool("192.168.64.0/28");
    let dormant = pool.address_for(host(1), secs(0)).unwrap();
    let active = pool.address_for(host(2), secs(7449)).unwrap();
    let reserved = [
        Ipv4Prefix::host(dormant),
        Ipv4Prefix::host(active),
        prefix("192.0.2.0/24"),
    ];
    let conflicts = pool.set_reserved(&reserved, secs(7450));
    let conflict = Conflict {
        prefix: Ipv4Prefix::host(active),
        v4: active,
        v6: host(2),
    };
    assert_eq!(conflicts, [conflict]);
    assert_eq!(pool.capacity(), 13);
    assert_eq!(pool.peek_client(active, secs(7450)), Some(host(2)));
    assert_ne!(pool.address_for(host(1), secs(7450)), Ok(dormant));

    assert_eq!(pool.set_reserved(&[], secs(7451)), []);
    assert_eq!(pool.capacity(), 14);
    for client in 3..15 {
        pool.address_for(host(client), secs(7451)).unwrap();
    }
    assert_eq!(pool.address_for(host(15), secs(7451)), Err(EXHAUSTED));
}

#[test]
fn an_expiry_does_no_more_steps_than_it_may() {
    let mut pool = pool("10.0.0.0/16");
    for client in 0..1000 {
        pool.address_for(host(client), secs(0)).unwrap();
    }
    assert!(pool.expire(secs(8000), 300));
    assert_eq!((pool.active(), pool.dormant()), (700, 300));
    while pool.expire(secs(8000), 300) {}
    assert_eq!((pool.active(), pool.dormant()), (0, 1000));
}

#[test]
fn the_last_free_address_of_a_large_pool_is_found() {
    let mut pool = pool("10.0.0.0/16");
    let mut seen = BTreeSet::new();
    for client in 0..65_534 {
        assert!(seen.insert(pool.address_for(host(client), secs(0)).unwrap()));
    }
    assert_eq!(pool.address_for(host(70_000), secs(1)), Err(EXHAUSTED));
}

#[test]
fn impossible_configurations_are_refused() {
    let mut config = PoolConfig::new(prefix("0.0.0.0/7"));
    assert!(matches!(
        DynamicPool::new(config.clone(), KEY),
        Err(PoolError::TooLarge(_))
    ));
    config.prefix = prefix("10.0.0.0/24");
    config.remember = Duration::from_secs(60);
    assert!(matches!(
        DynamicPool::new(config.clone(), KEY),
        Err(PoolError::Times { .. })
    ));
    config.remember = REMEMBER;
    config.limit = Some(PrefixLimit {
        prefix_len: 129,
        leases: 1,
    });
    assert!(matches!(
        DynamicPool::new(config, KEY),
        Err(PoolError::LimitLength(129))
    ));
}

/// The rules in their plainest form: a table, searched from end to end.
#[derive(Default)]
struct Model {
    leases: BTreeMap<Ipv4Addr, (Ipv6Addr, Instant)>,
}

impl Model {
    fn hold() -> Duration {
        LEASE + PUBLISH
    }

    fn forget(&mut self, now: Instant) {
        self.leases
            .retain(|_, (_, used)| now.saturating_since(*used) < REMEMBER);
    }

    fn active_in_prefix_of(&self, client: Ipv6Addr, now: Instant) -> usize {
        self.leases
            .values()
            .filter(|(other, used)| {
                other.segments()[..4] == client.segments()[..4]
                    && now.saturating_since(*used) < Self::hold()
            })
            .count()
    }

    /// What the pool may answer to a packet from `client`; the pool's choice of a free address is
    /// its own.
    fn check(
        &mut self,
        client: Ipv6Addr,
        got: Result<Ipv4Addr, Refusal>,
        capacity: usize,
        limit: usize,
        now: Instant,
    ) {
        self.forget(now);
        let known = self.leases.iter().find(|(_, (v6, _))| *v6 == client);
        let known = known.map(|(&v4, &(_, used))| (v4, used));
        if let Some((v4, used)) = known
            && now.saturating_since(used) < Self::hold()
        {
            assert_eq!(got, Ok(v4));
            self.leases.insert(v4, (client, now));
            return;
        }
        if self.active_in_prefix_of(client, now) >= limit {
            assert_eq!(got, Err(LIMIT));
            return;
        }
        if let Some((v4, _)) = known {
            assert_eq!(got, Ok(v4));
            self.leases.insert(v4, (client, now));
            return;
        }
        if self.leases.len() < capacity {
            let v4 = got.unwrap();
            assert!(!self.leases.contains_key(&v4));
            self.leases.insert(v4, (client, now));
            return;
        }
        let oldest = self.leases.values().map(|(_, used)| *used).min().unwrap();
        if now.saturating_since(oldest) < Self::hold() {
            assert_eq!(got, Err(EXHAUSTED));
            return;
        }
        let v4 = got.unwrap();
        assert_eq!(self.leases[&v4].1, oldest);
        self.leases.insert(v4, (client, now));
    }
}

#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    Out(u64),
    In(u8),
    Expire(usize),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => prop_oneof![1..100u64, 3_000..9_000u64, 100_000..1_000_000u64].prop_map(Step::Wait),
        6 => (0..24u64).prop_map(Step::Out),
        3 => (0..16u8).prop_map(Step::In),
        1 => (0..8usize).prop_map(Step::Expire),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    #[test]
    fn the_pool_does_what_a_searched_table_does(steps in prop::collection::vec(step(), 1..200)) {
        let mut config = PoolConfig::new(prefix("192.168.64.0/28"));
        config.reserved = vec![prefix("192.168.64.8/30")];
        config.limit = Some(PrefixLimit { prefix_len: 64, leases: 5 });
        let mut pool = DynamicPool::new(config.clone(), KEY).unwrap();
        let mut model = Model::default();
        let mut now = 0;
        for step in steps {
            match step {
                Step::Wait(by) => now += by,
                Step::Out(client) => {
                    let client = Ipv6Addr::from_bits(
                        0x2001_0db8_u128 << 96 | u128::from(client % 3) << 64 | u128::from(client),
                    );
                    let got = pool.address_for(client, secs(now));
                    model.check(client, got, 10, 5, secs(now));
                }
                Step::In(last) => {
                    let v4 = v4([192, 168, 64, last]);
                    let got = pool.client_of(v4, secs(now));
                    let lease = model.leases.get_mut(&v4).filter(|(_, used)| {
                        secs(now).saturating_since(*used) < Model::hold()
                    });
                    prop_assert_eq!(got, lease.as_ref().map(|(v6, _)| *v6));
                    if let Some((_, used)) = lease {
                        *used = secs(now);
                    }
                }
                Step::Expire(steps) => {
                    pool.expire(secs(now), steps);
                }
                Step::Restart => {
                    let saved = pool.snapshot(secs(now), 1_000_000_000 + now);
                    pool = DynamicPool::new(config.clone(), KEY).unwrap();
                    for (lease, why) in pool.restore(&saved, secs(now), 1_000_000_000 + now) {
                        prop_assert_eq!(why, SkipReason::Forgotten, "{}", lease);
                    }
                }
            }
            prop_assert!(pool.active() + pool.dormant() <= pool.capacity());
        }
    }
}

fn pool(prefix_text: &str) -> DynamicPool {
    DynamicPool::new(PoolConfig::new(prefix(prefix_text)), KEY).unwrap()
}

fn prefix(text: &str) -> Ipv4Prefix {
    text.parse().unwrap()
}

fn lease(v4: &str, v6: &str, last_use: u64) -> Lease {
    Lease {
        v4: v4.parse().unwrap(),
        v6: v6.parse().unwrap(),
        last_use,
    }
}

fn host(number: u64) -> Ipv6Addr {
    Ipv6Addr::from_bits(0x2001_0db8_u128 << 96 | u128::from(number))
}

fn v4(octets: [u8; 4]) -> Ipv4Addr {
    Ipv4Addr::from(octets)
}

fn secs(secs: u64) -> Instant {
    Instant::from_secs(secs)
}

const KEY: [u64; 2] = [1, 2];
