//! Anything at all, in any order: nothing panics, no table grows beyond its limit, and when all is
//! over everything is back where it was (SE-01, SE-15).
#![allow(clippy::unwrap_used)]

mod world;

use std::net::{Ipv4Addr, Ipv6Addr};

use nat64::Counts;
use nat64::config::{Filtering, PortBlocks};
use nat64::feed::Subscribe;
use pnet_packet::ip::IpNextHeaderProtocol;
use proptest::prelude::*;
use world::{World, config};
use xlat_core::Mapper;
use xlat_core::mapper::{ErrorFlow, Flow, Fragment, PacketHolder, Pass, Ports, Refusal};

const SESSIONS: u32 = 24;

#[derive(Clone, Debug)]
enum Step {
    V6(Flow<Ipv6Addr>),
    V4(Pass, Flow<Ipv4Addr>),
    V6Error(ErrorFlow<Ipv6Addr>),
    V4Error(ErrorFlow<Ipv4Addr>),
    Wait(u64),
    Expire(usize),
    Poll,
}

/// Addresses that mean something to the translator, and some that do not.
fn v6() -> impl Strategy<Value = Ipv6Addr> {
    prop_oneof![
        6 => (0..12u128).prop_map(|low| Ipv6Addr::from_bits((0x2001_0db8 << 96) | (low << 62))),
        6 => v4().prop_map(|v4| format!("2001:db8:64::{v4}").parse().unwrap()),
        1 => any::<u128>().prop_map(Ipv6Addr::from_bits),
    ]
}

fn v4() -> impl Strategy<Value = Ipv4Addr> {
    prop_oneof![
        4 => (0..4u8).prop_map(|low| Ipv4Addr::new(192, 0, 2, low)),
        4 => (0..4u8).prop_map(|low| Ipv4Addr::new(198, 51, 100, low)),
        1 => any::<u32>().prop_map(Ipv4Addr::from_bits),
    ]
}

fn flow<A: Clone + std::fmt::Debug>(
    address: impl Strategy<Value = A> + Clone,
) -> impl Strategy<Value = Flow<A>> {
    let protocol = prop_oneof![
        9 => prop::sample::select(vec![1, 6, 17, 58]),
        1 => any::<u8>(),
    ];
    let port = prop_oneof![0..6u16, 1024..1030u16, any::<u16>()];
    let ports = prop::option::weighted(0.9, (port.clone(), port));
    let fragment = (
        0..4u32,
        prop::sample::select(vec![0, 0, 1, 2, 185]),
        any::<bool>(),
    );
    let fragment = prop::option::weighted(0.2, fragment);
    let flags = prop_oneof![prop::sample::select(vec![2, 16, 18, 17, 4]), any::<u8>()];
    (address.clone(), address, protocol, ports, fragment, flags).prop_map(
        |(src, dst, protocol, ports, fragment, tcp_flags)| {
            let fragment = fragment.map(|(id, offset, more)| Fragment {
                id,
                offset,
                more,
                len: 16,
            });
            let later = fragment.is_some_and(|fragment: Fragment| !fragment.is_first());
            let ports = ports.filter(|_| !later);
            Flow {
                src,
                dst,
                protocol: IpNextHeaderProtocol(protocol),
                ports: ports.map(|(src, dst)| Ports { src, dst }),
                tcp_flags,
                fragment,
            }
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let v6 = v6().boxed();
    let v4 = v4().boxed();
    let error6 = (v6.clone(), v6.clone(), flow(v6.clone()))
        .prop_map(|(src, dst, quoted)| Step::V6Error(ErrorFlow { src, dst, quoted }));
    let error4 = (v4.clone(), v4.clone(), flow(v4.clone()))
        .prop_map(|(src, dst, quoted)| Step::V4Error(ErrorFlow { src, dst, quoted }));
    prop_oneof![
        8 => flow(v6).prop_map(Step::V6),
        5 => flow(v4.clone()).prop_map(|flow| Step::V4(Pass::First, flow)),
        2 => flow(v4).prop_map(|flow| Step::V4(Pass::Hairpin, flow)),
        1 => error6,
        1 => error4,
        2 => prop_oneof![0..5u64, 55..65u64, 200..400u64, 7000..9000u64].prop_map(Step::Wait),
        1 => (0..20usize).prop_map(Step::Expire),
        1 => Just(Step::Poll),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn whatever_comes_the_tables_hold_and_empty_again(
        steps in prop::collection::vec(step(), 1..200),
        (filter, blocks, refreshes, stray_tcp) in any::<(bool, bool, bool, bool)>(),
        shards in 1..5u32,
    ) {
        let mut config = config("192.0.2.0/31:1-1400");
        config.shards = shards;
        config.limits.sessions = SESSIONS;
        config.limits.subscriber_prefix = 64;
        config.limits.subscriber_sessions = 6;
        config.limits.subscriber_ports = 3;
        config.limits.subscriber_rate = Some(2);
        config.inbound.refreshes = refreshes;
        config.inbound.stray_tcp = stray_tcp;
        if filter {
            config.filtering = Filtering::AddressDependent;
        }
        if blocks {
            config.ports.blocks = Some(PortBlocks { size: 64, per_subscriber: 2 });
        }
        let mut world = World::new(config);
        world.subscribe(Subscribe {
            updates: true,
            blocks: true,
            ..world::SESSIONS
        });
        let empty = world.counts();
        for step in steps {
            take(&mut world, step);
            let counts = world.counts();
            check(&counts, shards)?;
        }
        for _ in 0..3 {
            world.wait(8000);
            world.expire();
        }
        prop_assert_eq!(world.counts(), empty);
    }
}

fn take(world: &mut World, step: Step) {
    let now = world.now;
    match step {
        Step::V6(flow) => {
            let refusal = world.worker.map_v6(&flow, now).err();
            if refusal == Some(Refusal::Hold) {
                let _ = world.worker.hold_v6(&flow, &[0x60; 48], now);
            }
        }
        Step::V4(pass, flow) => {
            let refusal = world.worker.map_v4(&flow, pass, now).err();
            if refusal == Some(Refusal::Hold) {
                let _ = world.worker.hold_v4(&flow, &[0x45; 40], now);
            }
        }
        Step::V6Error(error) => drop(world.worker.map_v6_error(&error, now)),
        Step::V4Error(error) => drop(world.worker.map_v4_error(&error, Pass::First, now)),
        Step::Wait(secs) => world.wait(secs),
        Step::Expire(steps) => drop(world.nat.expire(now, steps)),
        Step::Poll => while world.worker.poll_packet(now).is_some() {},
    }
}

fn check(counts: &Counts, shards: u32) -> Result<(), TestCaseError> {
    let sessions: u32 = counts.sessions.iter().sum();
    let limit = SESSIONS.div_ceil(shards) * shards;
    prop_assert!(sessions <= limit, "{:?}", counts);
    prop_assert!(counts.bindings <= sessions, "{:?}", counts);
    prop_assert_eq!(counts.tcp.iter().sum::<u32>(), counts.sessions[1]);
    Ok(())
}
