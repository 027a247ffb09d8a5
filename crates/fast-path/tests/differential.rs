//! The program in the kernel against the translator: the same packets through both
//! (`BPF_PROG_TEST_RUN`). Each is passed up as it came, or is byte for byte what the translator makes
//! of it.
//!
//! `FAST_PATH_OBJECT` names another object than the one in the repository. Without the privilege to
//! load a program the tests say so and pass.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]
#![allow(clippy::print_stdout, reason = "a test that cannot run says so")]

#[path = "../../xlat-core/tests/support/mod.rs"]
mod support;

use std::net::{Ipv4Addr, Ipv6Addr};

use fast_path::{
    Flow, FlowTable, InstallError, KeyV4, KeyV6, Options, Outcome, PASSED_UP, Rules, StaticMapping,
    ToV4, ToV6, Trial, Unavailable,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use support::*;
use xlat_core::addr::special::NON_GLOBAL_V4;
use xlat_core::addr::{Eam, EamTable, PREF64_LENGTHS, Pref64, Pref64s};
use xlat_core::identification::Identifications;
use xlat_core::mapper::{PacketHolder, Ports, Prefetch};
use xlat_core::mappers::{Clat, Guarded, Hairpin, Siit};
use xlat_core::policy::{MssClamp, TrafficClass, UdpZeroChecksum};
use xlat_core::{Mapper, Offload, Policy, Translator};

/// The program, or none where it cannot be loaded.
fn program() -> Option<Trial> {
    load(&Options::new(
        [0x1234_5678_9abc_def0, 0x0fed_cba9_8765_4321],
        1,
    ))
}

fn load(options: &Options) -> Option<Trial> {
    let object = std::env::var_os("FAST_PATH_OBJECT").map(|path| std::fs::read(path).unwrap());
    match Trial::load(object.as_deref(), options) {
        Ok(trial) => Some(trial),
        Err(error @ (Unavailable::Permission | Unavailable::NoSystemCall)) => {
            println!("ignored: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// Both ways for one mapping.
struct Both<M> {
    trial: Trial,
    translator: Translator<M>,
    carried: u64,
    passed_up: u64,
    not_offered: u64,
}

impl<M: Mapper + PacketHolder + Prefetch> Both<M> {
    fn new(mut trial: Trial, mapper: M, mapping: Option<&StaticMapping>, policy: Policy) -> Self {
        let rules = Rules::from(&policy);
        trial.program.configure(&rules, mapping).unwrap();
        let ids = Identifications::new([7, 13], 0, 2);
        Self {
            trial,
            translator: Translator::new(mapper, policy, ids).unwrap(),
            carried: 0,
            passed_up: 0,
            not_offered: 0,
        }
    }

    /// Runs the program on a packet; `None` if it was passed up.
    fn run_program(&mut self, packet: &[u8]) -> Option<Vec<u8>> {
        match self.trial.run(packet) {
            Outcome::Carried(carried) => Some(carried),
            Outcome::PassedUp => None,
            Outcome::NotOffered => {
                self.not_offered += 1;
                None
            }
            Outcome::Broken(how) => panic!("{how}: {packet:02x?}"),
        }
    }

    /// Compares; true if the program carried the packet.
    fn compare(&mut self, packet: &[u8]) -> bool {
        let Some(carried) = self.run_program(packet) else {
            self.passed_up += 1;
            return false;
        };
        self.carried += 1;
        let Out::Forward(translated, _) = run_with(&mut self.translator, packet, Offload::NONE)
        else {
            panic!("carried, but the translator does not forward it: {packet:02x?}");
        };
        assert_eq!(
            without_id(&carried),
            without_id(&translated),
            "of {packet:02x?}"
        );
        true
    }

    /// The counters agree with what was seen.
    fn assert_counted(&self) {
        let counters = self.trial.program.counters().unwrap();
        let carried = counters.v6_to_v4.packets + counters.v4_to_v6.packets;
        let up: u64 = PASSED_UP
            .iter()
            .map(|reason| counters.passed_up(*reason).packets)
            .sum();
        assert_eq!((carried, counters.lost.packets), (self.carried, 0));
        assert_eq!(up + self.not_offered, self.passed_up);
        println!("{} carried, {} passed up", self.carried, self.passed_up);
    }
}

/// A packet without the identification that may be cut behind us: its numbers come from another lane.
/// The header's checksum is verified and left out with it.
fn without_id(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    if packet[0] >> 4 == 4 {
        assert_eq!(naive_checksum(&[&packet[..20]]), 0, "header checksum");
        let may_be_cut = packet[6] & 0x40 == 0;
        if may_be_cut {
            packet[4..6].fill(0);
        }
        packet[10..12].fill(0);
    }
    packet
}

fn node_eam() -> Eam {
    "192.0.2.0/24=2001:db8:1::/120".parse().unwrap()
}

fn gateway(program: Trial, policy: Policy) -> Both<Guarded<Siit>> {
    let hidden = vec!["198.51.100.128/25".parse().unwrap()];
    let pref64s = Pref64s::single(pref64());
    let mapping = StaticMapping::gateway([node_eam()], &pref64s, true, hidden.clone());
    let mapper = Guarded::new(siit(Hairpin::Intrinsic), pref64s, hidden);
    Both::new(program, mapper, Some(&mapping), policy)
}

/// The CLAT of NODE4, whose packets go the other way round than a gateway's.
fn clat(program: Trial, rows: &[Eam], pref64: Pref64, policy: Policy) -> Both<Clat> {
    let mapping = StaticMapping::clat(rows.iter().copied(), pref64);
    let mapper = Clat::with_local(rows[0], pref64).and_lan(rows[1..].iter().copied());
    let policy = Policy {
        answer_v6: false,
        ..policy
    };
    Both::new(program, mapper, Some(&mapping), policy)
}

/// The policies that packets of an established flow meet.
fn policies() -> Vec<Policy> {
    let small = Policy {
        mtu4: 576,
        mtu6: 1280,
        mss_clamp: MssClamp::Auto,
        ..policy()
    };
    let fixed = Policy {
        traffic_class: TrafficClass::Fixed(0xb8),
        tos: TrafficClass::Fixed(0x10),
        udp_zero_checksum: UdpZeroChecksum::Forward,
        ..policy()
    };
    vec![policy(), small, fixed]
}

fn transport(v4: bool) -> impl Strategy<Value = (u8, Vec<u8>)> {
    let body = prop_oneof![
        vec(any::<u8>(), 0..64),
        vec(any::<u8>(), 0..1460),
        vec(any::<u8>(), 1180..1240)
    ];
    (0..4u8, body, any::<u8>(), any::<bool>()).prop_map(move |(kind, body, flags, reply)| {
        match (kind, v4) {
            (0, true) => (17, udp(from_host4(17), &body)),
            (0, false) => (17, udp(from_node6(17), &body)),
            (1, true) => (6, tcp(from_host4(6), flags & !2, &[1, 1, 1, 0], &body)),
            (1, false) => (6, tcp(from_node6(6), flags & !2, &[1, 1, 1, 0], &body)),
            (2, true) => (6, tcp(from_host4(6), flags, &[2, 4, 5, 0xb4], &body)),
            (2, false) => (6, tcp(from_node6(6), flags, &[2, 4, 5, 0xb4], &body)),
            (_, true) => (1, icmp4(if reply { 0 } else { 8 }, 0, [1, 2, 3, 4], &body)),
            (_, false) => {
                let echo = if reply { 129 } else { 128 };
                (58, icmp6(node6(), host6(), echo, 0, [1, 2, 3, 4], &body))
            }
        }
    })
}

fn packet4() -> impl Strategy<Value = Vec<u8>> {
    (transport(true), any::<u8>(), 2..=255u8, any::<bool>()).prop_map(
        |((protocol, body), tos, ttl, df)| {
            let flags = if df { DF } else { 0 };
            V4 {
                tos,
                ttl,
                flags,
                ..V4::new(protocol)
            }
            .packet(&body)
        },
    )
}

fn packet6() -> impl Strategy<Value = Vec<u8>> {
    (transport(false), any::<u8>(), 2..=255u8).prop_map(
        |((protocol, body), traffic_class, hop_limit)| {
            V6 {
                traffic_class,
                hop_limit,
                ..V6::new(protocol)
            }
            .packet(&body)
        },
    )
}

/// The same with a few bytes changed, cut or appended: what an attacker sends.
fn hostile(packet: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let changes = vec((any::<prop::sample::Index>(), any::<u8>(), 0..6u8), 1..4);
    (packet, changes).prop_map(|(mut packet, changes)| {
        for (at, value, kind) in changes {
            // Headers are where it matters.
            let at = at.index(packet.len().min(64));
            match kind {
                0..3 => packet[at] = value,
                3 => packet[at] ^= 1 << (value & 7),
                4 => packet.truncate(packet.len().saturating_sub(usize::from(value)).max(1)),
                _ => packet.extend_from_slice(&[value; 9]),
            }
        }
        packet
    })
}

/// The other direction of a packet: its addresses change places, and nothing else, so that its
/// checksums stay right.
fn turned(mut packet: Vec<u8>) -> Vec<u8> {
    let (at, len) = if packet[0] >> 4 == 4 {
        (12, 4)
    } else {
        (8, 16)
    };
    let (src, dst) = packet[at..at + 2 * len].split_at_mut(len);
    src.swap_with_slice(dst);
    packet
}

fn check<M: Mapper + PacketHolder + Prefetch>(
    both: &mut Both<M>,
    cases: u32,
    packets: impl Strategy<Value = Vec<u8>>,
) {
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    let both = std::cell::RefCell::new(both);
    TestRunner::new(config)
        .run(&packets, |packet| {
            both.borrow_mut().compare(&packet);
            Ok(())
        })
        .unwrap();
}

#[test]
fn kp_01_a_gateway_s_packets_are_those_of_the_translator() {
    for policy in policies() {
        let Some(program) = program() else { return };
        let mut both = gateway(program, policy);
        check(&mut both, 200, packet4());
        check(&mut both, 200, packet6());
        assert!(both.carried > 100, "{}", both.carried);
        check(&mut both, 400, hostile(packet4()));
        check(&mut both, 400, hostile(packet6()));
        both.assert_counted();
    }
}

#[test]
fn kp_01_a_clat_s_packets_are_those_of_the_translator() {
    let eam: Eam = Eam::host(NODE4, node6()).unwrap();
    for policy in policies() {
        let Some(program) = program() else { return };
        let mut both = clat(program, &[eam], pref64(), policy);
        check(&mut both, 200, packet4().prop_map(turned));
        check(&mut both, 200, packet6().prop_map(turned));
        assert!(both.carried > 100, "{}", both.carried);
        check(&mut both, 400, hostile(packet4().prop_map(turned)));
        check(&mut both, 400, hostile(packet6().prop_map(turned)));
        both.assert_counted();
    }
}

/// One packet of each kind, as random ones seldom are: cut at every byte, as it came and with an IP header
/// that fits; with every length that a header can claim; and as a super-packet of odd sizes.
#[test]
fn kp_20_truncated_packets_lying_lengths_and_odd_segments_are_passed_up_or_translated_as_ever() {
    let Some(program) = program() else { return };
    let mut both = gateway(program, policy());
    let body = [0x5a; 37];
    let four = [
        (17, udp(from_host4(17), &body)),
        (6, tcp(from_host4(6), 0x10, &[1, 1, 1, 0], &body)),
        (1, icmp4(8, 0, [1, 2, 3, 4], &body)),
    ];
    let six = [
        (17, udp(from_node6(17), &body)),
        (6, tcp(from_node6(6), 0x10, &[1, 1, 1, 0], &body)),
        (58, icmp6(node6(), host6(), 128, 0, [1, 2, 3, 4], &body)),
    ];
    let four = four.map(|(protocol, body)| V4::new(protocol).packet(&body));
    let six = six.map(|(protocol, body)| V6::new(protocol).packet(&body));
    for packet in four.iter().chain(&six) {
        assert!(both.compare(packet), "{packet:02x?}");
        let is_v4 = packet[0] >> 4 == 4;
        let (header, field) = if is_v4 { (20, 2) } else { (40, 4) };
        let claim = |packet: &[u8], length: u16| {
            let mut packet = packet.to_vec();
            packet[field..field + 2].copy_from_slice(&length.to_be_bytes());
            if is_v4 {
                fix_v4(&mut packet);
            }
            packet
        };
        for cut in 1..packet.len() {
            assert!(!both.compare(&packet[..cut]), "{cut} of {packet:02x?}");
            if cut >= header {
                let payload = if is_v4 { cut } else { cut - header };
                both.compare(&claim(&packet[..cut], payload as u16));
            }
        }
        let lengths = (0..200).chain([0x7fff, 0x8000, 0xfff0, 0xffff]);
        for length in lengths {
            both.compare(&claim(packet, length));
        }
        // The header length, the data offset of TCP and the length of UDP, whose checksums then are wrong.
        for at in [0, header + 4, header + 5, header + 12] {
            for value in 0..=255 {
                let mut lying = packet.clone();
                lying[at] = value;
                if is_v4 && at > 0 {
                    fix_v4(&mut lying);
                }
                both.compare(&lying);
            }
        }
        for segment in [
            1,
            2,
            7,
            20,
            36,
            37,
            38,
            536,
            1460,
            0xfffe,
            0xffff,
            0x10000,
            u32::MAX,
        ] {
            match both.trial.run_super(packet, segment) {
                Outcome::PassedUp => both.passed_up += 1,
                Outcome::Carried(carried) => {
                    both.carried += 1;
                    assert_checksums(&carried);
                }
                other => panic!("{segment}: {other:?} {packet:02x?}"),
            }
        }
    }
    both.assert_counted();
}

/// What a kernel with another verifier would say: an instruction that there is not.
#[test]
fn kp_20_a_program_that_the_kernel_refuses_is_one_line() {
    if program().is_none() {
        return;
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/bpf/fast_path.o");
    let mut object = std::fs::read(path).unwrap();
    const EXIT: [u8; 8] = [0x95, 0, 0, 0, 0, 0, 0, 0];
    let ends: Vec<_> = (0..object.len() - 8)
        .step_by(8)
        .filter(|at| object[*at..*at + 8] == EXIT)
        .collect();
    assert!(!ends.is_empty());
    for at in ends {
        object[at] = 0x8f;
    }
    let error = Trial::load(Some(&object), &Options::new([1, 2], 1)).err();
    let Some(Unavailable::Refused(why)) = error else {
        panic!("{error:?}");
    };
    assert!(
        !why.is_empty() && why.lines().count() == 1 && why.len() < 400,
        "{why}"
    );
}

/// A datagram from `src` to `dst`.
fn datagram4(src: Ipv4Addr, dst: Ipv4Addr) -> Vec<u8> {
    let body = udp(|len| pseudo_v4(src, dst, 17, len), b"body");
    let mut packet = V4 {
        flags: DF,
        ..V4::new(17)
    }
    .packet(&body);
    packet[12..16].copy_from_slice(&src.octets());
    packet[16..20].copy_from_slice(&dst.octets());
    fix_v4(&mut packet);
    packet
}

/// Twin of [`datagram4`].
fn datagram6(src: Ipv6Addr, dst: Ipv6Addr) -> Vec<u8> {
    let body = udp(|len| pseudo_v6(src, dst, 17, len), b"body");
    let mut packet = V6::new(17).packet(&body);
    packet[8..24].copy_from_slice(&src.octets());
    packet[24..40].copy_from_slice(&dst.octets());
    packet
}

#[test]
fn kp_02_each_prefix_length_and_each_edge_of_a_special_range_is_as_in_the_translator() {
    let Some(mut program) = program() else { return };
    let row = Eam::host(NODE4, node6()).unwrap();
    for length in PREF64_LENGTHS {
        let prefix = format!("2001:db8:64:6464:64:6464:6464:6464/{length}");
        let (address, _) = prefix.split_once('/').unwrap();
        let address = address.parse().unwrap();
        let prefix = xlat_core::addr::Ipv6Prefix::containing(address, length);
        let bits = prefix.address().to_bits() & !(0xff << 56);
        let prefix = xlat_core::addr::Ipv6Prefix::containing(Ipv6Addr::from_bits(bits), length);
        let pref64 = Pref64::new(prefix).unwrap();
        let mut both = clat(program, &[row], pref64, policy());
        for remote in edges() {
            both.compare(&datagram4(NODE4, remote));
            both.compare(&datagram6(pref64.embed(remote), node6()));
            // A suffix, and a set u octet, are read over.
            let rest =
                Ipv6Addr::from_bits(pref64.embed(remote).to_bits() | 0x00ff_0000_0000_0001 << 8);
            both.compare(&datagram6(rest, node6()));
        }
        assert!(both.carried > 60, "/{length}: {}", both.carried);
        program = both.trial;
    }
}

/// The addresses around the ends of each special range.
fn edges() -> impl Iterator<Item = Ipv4Addr> {
    let single = [
        [192, 0, 0, 9],
        [192, 0, 0, 10],
        [192, 0, 0, 170],
        [192, 0, 0, 171],
        [8, 8, 8, 8],
    ];
    let ends = NON_GLOBAL_V4.iter().flat_map(|range| {
        let (first, last) = (range.address().to_bits(), range.last().to_bits());
        [
            first.wrapping_sub(1),
            first,
            first + 1,
            last - 1,
            last,
            last.wrapping_add(1),
        ]
    });
    ends.chain(single.map(u32::from_be_bytes))
        .map(Ipv4Addr::from_bits)
}

#[test]
fn kp_02_the_well_known_prefix_carries_global_addresses_alone() {
    let Some(program) = program() else { return };
    let pref64s = Pref64s::single(Pref64::WELL_KNOWN);
    let eams = EamTable::new([node_eam()]).unwrap();
    let mapper = Guarded::new(
        Siit::new(eams, pref64s.clone(), Hairpin::Intrinsic),
        pref64s.clone(),
        vec![],
    );
    let mapping = StaticMapping::gateway([node_eam()], &pref64s, true, []);
    let mut both = Both::new(program, mapper, Some(&mapping), policy());
    for remote in edges() {
        both.compare(&datagram4(remote, NODE4));
        both.compare(&datagram6(node6(), Pref64::WELL_KNOWN.embed(remote)));
    }
    assert!(both.carried > 20, "{}", both.carried);
    both.assert_counted();
}

#[test]
fn kp_03_explicit_mappings_go_by_longest_match_on_each_side() {
    let Some(program) = program() else { return };
    let rows: Vec<Eam> = [
        "192.0.2.1=2001:db8:aaaa::",
        "192.0.2.2/32=2001:db8:bbbb::b/128",
        "192.0.2.16/28=2001:db8:cccc::/124",
        "192.0.2.128/26=2001:db8:dddd::/64",
        "192.0.2.192/29=2001:db8:eeee:8::/62",
        "192.0.2.224/31=64:ff9b:1::/127",
        "192.0.3.0/24=2001:db8:1::/120",
        "192.0.3.7=2001:db8:2::7",
        "10.0.0.0/8=2001:db8:f000::/36",
    ]
    .iter()
    .map(|text| text.parse().unwrap())
    .collect();
    let pref64s = Pref64s::single(pref64());
    let table = EamTable::new(rows.iter().copied()).unwrap();
    let mapper = Siit::new(table.clone(), pref64s.clone(), Hairpin::Intrinsic);
    let mapper = Guarded::new(mapper, pref64s.clone(), vec![]);
    let mapping = StaticMapping::gateway(rows, &pref64s, true, []);
    let mut both = Both::new(program, mapper, Some(&mapping), policy());
    let hosts = [
        1u8, 2, 3, 15, 16, 24, 31, 32, 127, 128, 152, 191, 192, 195, 200, 224, 225, 226,
    ];
    for host in hosts {
        for node in [[192, 0, 2, host], [192, 0, 3, host], [10, host, 3, 4]].map(Ipv4Addr::from) {
            both.compare(&datagram4(HOST4, node));
            let Some(node6) = table.lookup_v4(node) else {
                continue;
            };
            both.compare(&datagram6(node6, host6()));
            // A longer suffix than the IPv4 side has.
            let more = Ipv6Addr::from_bits(node6.to_bits() | 0xdead);
            both.compare(&datagram6(more, host6()));
            // To a host with a row: a hairpin.
            assert!(!both.compare(&datagram6(
                node6,
                pref64().embed(Ipv4Addr::new(192, 0, 3, 9))
            )));
        }
    }
    assert!(both.carried > 80, "{}", both.carried);
    both.assert_counted();
}

/// The ports that the packets of `support` have.
fn ports_of(packet: &[u8], at: usize) -> Ports {
    Ports {
        src: word_at(packet, at),
        dst: word_at(packet, at + 2),
    }
}

#[test]
fn kp_04_a_flow_is_carried_with_its_ports_until_it_is_removed_or_its_epoch_ends() {
    let Some(program) = program() else { return };
    let flows = program.program.flows();
    let mut both = Both::new(program, siit(Hairpin::Off), None, policy());
    let packet = datagram6(node6(), host6());
    let back = datagram4(HOST4, NODE4);
    assert!(both.run_program(&packet).is_none() && both.run_program(&back).is_none());

    let there = ports_of(&packet, 40);
    let new = Ports {
        src: 40001,
        dst: 53,
    };
    let here = ports_of(&back, 20);
    let turned = Ports {
        src: 9,
        dst: 0x1234,
    };
    let flow = [
        Flow::V6(
            KeyV6::new(node6(), host6(), there, 17),
            ToV4::new(OWN4, HOST4, new),
        ),
        Flow::V4(
            KeyV4::new(HOST4, NODE4, here, 17),
            ToV6::new(host6(), node6(), turned),
        ),
    ];
    let out = flow[0].key();
    install(&flows, &flow);
    for _ in 0..3 {
        let carried = both.run_program(&packet).unwrap();
        assert_eq!((v4_at(&carried, 12), v4_at(&carried, 16)), (OWN4, HOST4));
        assert_eq!(ports_of(&carried, 20), new);
        assert_checksums(&carried);
        let carried = both.run_program(&back).unwrap();
        assert_eq!(
            (v6_at(&carried, 8), v6_at(&carried, 24)),
            (host6(), node6())
        );
        assert_eq!(ports_of(&carried, 40), turned);
        assert_checksums(&carried);
    }
    let usage = flows.usage(&out).unwrap();
    assert_eq!((usage.packets, usage.bytes), (3, 3 * packet.len() as u64));
    let idle = fast_path::monotonic() - usage.last_used.unwrap();
    assert!(idle.as_secs() < 5, "{idle:?}");

    let before = flows.epoch();
    flows.invalidate().unwrap();
    assert!(both.run_program(&packet).is_none());
    assert!(flows.install(&flow, before).1.is_ok());
    assert!(
        both.run_program(&packet).is_none(),
        "decided in a past epoch"
    );
    install(&flows, &flow);
    assert!(both.run_program(&packet).is_some());
    assert_eq!(flows.remove(&out).unwrap().packets, 1);
    assert!(both.run_program(&packet).is_none());
    assert_eq!(flows.remove(&out), None);
}

#[track_caller]
fn install(flows: &FlowTable, all: &[Flow]) {
    let (installed, outcome) = flows.install(all, flows.epoch());
    assert!(outcome.is_ok() && installed == all.len(), "{outcome:?}");
}

#[test]
fn kp_04_an_echo_is_carried_with_its_identifier() {
    let Some(program) = program() else { return };
    let flows = program.program.flows();
    let mut both = Both::new(program, siit(Hairpin::Off), None, policy());
    let [inside, outside] = [0x1234, 0xfffe];
    let (from, to) = (
        Ports {
            src: inside,
            dst: 0,
        },
        Ports {
            src: 0,
            dst: outside,
        },
    );
    let turned = |src, dst| Ports { src, dst };
    let all = [
        Flow::V6(
            KeyV6::new(node6(), host6(), from, 58),
            ToV4::new(NODE4, HOST4, turned(outside, 0)),
        ),
        Flow::V4(
            KeyV4::new(HOST4, NODE4, to, 1),
            ToV6::new(host6(), node6(), turned(0, inside)),
        ),
    ];
    install(&flows, &all);
    // Requests and replies go both ways; the body must not matter.
    for body in [vec![], vec![0; 56], vec![0xff; 57], (0..=255).collect()] {
        for (type6, type4) in [(128, 8), (129, 0)] {
            let [own, theirs] = [inside, outside].map(u16::to_be_bytes);
            let [rest6, rest4] = [[own[0], own[1], 0, 7], [theirs[0], theirs[1], 0, 7]];
            let there = icmp6(node6(), host6(), type6, 0, rest6, &body);
            let carried = both.run_program(&V6::new(58).packet(&there)).unwrap();
            assert_eq!(carried[20..], icmp4(type4, 0, rest4, &body));
            assert_checksums(&carried);
            let back = V4::new(1).packet(&icmp4(type4, 0, rest4, &body));
            let carried = both.run_program(&back).unwrap();
            let expected = icmp6(host6(), node6(), type6, 0, rest6, &body);
            assert_eq!(carried[40..], expected);
        }
    }
    // Another identifier, and a message that is no echo.
    let other = icmp6(node6(), host6(), 128, 0, [9, 9, 0, 1], b"");
    let error = icmp6(node6(), host6(), 1, 4, [0x12, 0x34, 0, 0], &[0x60; 48]);
    for message in [other, error] {
        assert!(both.run_program(&V6::new(58).packet(&message)).is_none());
    }
}

#[test]
fn kp_04_flows_are_installed_together_as_far_as_there_is_room() {
    let options = Options {
        flows: 4,
        ..Options::new([1, 2], 1)
    };
    let Some(program) = load(&options) else {
        return;
    };
    let flows = program.program.flows();
    let flow = |port| {
        let ports = Ports { src: port, dst: 53 };
        match port % 2 {
            0 => Flow::V4(
                KeyV4::new(HOST4, OWN4, ports, 17),
                ToV6::new(host6(), node6(), ports),
            ),
            _ => Flow::V6(
                KeyV6::new(node6(), host6(), ports, 17),
                ToV4::new(OWN4, HOST4, ports),
            ),
        }
    };
    let all: Vec<_> = [1, 3, 2, 4, 5, 7, 9, 11].map(flow).into();
    let (installed, outcome) = flows.install(&all, flows.epoch());
    assert!(matches!(outcome, Err(InstallError::Full)), "{outcome:?}");
    for (number, flow) in all.iter().enumerate() {
        let found = flows.usage(&flow.key()).is_some();
        assert_eq!(found, number < installed, "{number} of {installed}");
    }
    assert!((4..8).contains(&installed), "{installed}");
    assert!(matches!(flows.install(&[], flows.epoch()), (0, Ok(()))));
}

#[test]
fn kp_19_the_program_finds_every_entry_of_a_table_that_is_full() {
    const FLOWS: u16 = 3000;
    let options = Options {
        flows: FLOWS.into(),
        ..Options::new([0x0123_4567_89ab_cdef, 0x1357_9bdf_0246_8ace], 1)
    };
    let Some(program) = load(&options) else {
        return;
    };
    let flows = program.program.flows();
    let mut both = Both::new(program, siit(Hairpin::Off), None, policy());
    let datagrams = |port: u16| {
        let [mut there, mut back] = [datagram6(node6(), host6()), datagram4(HOST4, NODE4)];
        there[40..42].copy_from_slice(&port.to_be_bytes());
        back[22..24].copy_from_slice(&port.to_be_bytes());
        [there, back]
    };
    let keys = |port: u16| {
        let [there, back] = datagrams(port);
        let new = Ports {
            src: port ^ 0x5555,
            dst: port,
        };
        [
            Flow::V6(
                KeyV6::new(node6(), host6(), ports_of(&there, 40), 17),
                ToV4::new(OWN4, HOST4, new),
            ),
            Flow::V4(
                KeyV4::new(HOST4, NODE4, ports_of(&back, 20), 17),
                ToV6::new(host6(), node6(), new),
            ),
        ]
    };
    let ports = || 1..=FLOWS;
    for port in ports() {
        install(&flows, &keys(port));
    }
    let is_missing = |flow: &Flow| flows.usage(&flow.key()).is_none();
    let is_refused = |port: &u16| keys(*port).iter().any(is_missing);
    let refused: Vec<u16> = ports().filter(is_refused).collect();
    assert!(refused.len() < 3, "{refused:?}");
    assert!(flows.refused() >= refused.len() as u64);
    for port in ports().filter(|port| !refused.contains(port)) {
        for (packet, at) in datagrams(port).iter().zip([20, 40]) {
            let carried = both.run_program(packet).unwrap();
            let new = Ports {
                src: port ^ 0x5555,
                dst: port,
            };
            assert_eq!(ports_of(&carried, at), new);
        }
    }
    for port in ports().filter(|port| port % 2 == 0) {
        for flow in keys(port) {
            flows.remove(&flow.key());
        }
    }
    for port in ports().filter(|port| !refused.contains(port)) {
        for packet in datagrams(port) {
            let is_there = both.run_program(&packet).is_some();
            assert_eq!(is_there, port % 2 == 1, "{port}");
        }
    }
}

#[test]
fn kp_04_the_end_of_a_connection_is_the_worker_s() {
    let Some(program) = program() else { return };
    let flows = program.program.flows();
    let mut both = Both::new(program, siit(Hairpin::Off), None, policy());
    let segment = |flags| V6::new(6).packet(&tcp(from_node6(6), flags, &[], b"body"));
    let ports = ports_of(&segment(0x10), 40);
    let key = KeyV6::new(node6(), host6(), ports, 6);
    let flow = Flow::V6(key, ToV4::new(NODE4, HOST4, Ports { src: 1, ..ports }));
    install(&flows, &[flow]);
    for flags in 0..=255u8 {
        let ends = flags & 0b111 != 0 || flags & 0b11_1000 == 0;
        let carried = both.run_program(&segment(flags));
        assert_eq!(carried.is_none(), ends, "{flags:#x}");
        if let Some(carried) = carried {
            assert_checksums(&carried);
        }
    }
}

#[test]
fn kp_05_identifications_of_packets_that_may_be_cut_lie_in_the_program_s_lane_and_do_not_repeat() {
    let Some(program) = program() else { return };
    let mut both = gateway(program, policy());
    let packet = datagram6(node6(), host6());
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..1000 {
        let carried = both.run_program(&packet).unwrap();
        let id = word_at(&carried, 4);
        // The second of two lanes: the first is the only worker's.
        assert!(id >= 0x8000 && seen.insert(id), "{id:#x}");
    }
}

#[test]
fn kp_06_what_is_paused_or_not_configured_passes_everything_up() {
    let Some(mut program) = program() else { return };
    program.program.set_mapping(None).unwrap();
    let mut both = gateway(program, policy());
    let packet = datagram6(node6(), host6());
    assert!(both.compare(&packet));
    both.trial.program.pause(true).unwrap();
    assert!(!both.compare(&packet));
    both.trial.program.pause(false).unwrap();
    assert!(both.compare(&packet));
    both.trial.program.set_mapping(None).unwrap();
    assert!(!both.compare(&packet));
}
