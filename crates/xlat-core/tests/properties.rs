//! What holds for every packet, tried with random ones. What is right is computed a second time,
//! the slow way.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod support;

use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::collection::vec;
use proptest::prelude::*;
use support::super_packet::{segments, super_packet};
use support::*;
use xlat_core::addr::{Eam, Ipv4Prefix, Ipv6Prefix, PREF64_LENGTHS, Pref64};
use xlat_core::checksum;
use xlat_core::policy::Policy;

/// A whole transport of one of the kinds that are looked into, with its checksum for IPv4.
fn transport4() -> impl Strategy<Value = (u8, Vec<u8>)> {
    (0..3u8, vec(any::<u8>(), 0..1200), any::<u8>()).prop_map(|(kind, body, flags)| match kind {
        0 => (17, udp(from_host4(17), &body)),
        1 => (6, tcp(from_host4(6), flags, &[1, 1, 1, 0], &body)),
        _ => (1, icmp4(8, 0, [1, 2, 3, 4], &body)),
    })
}

fn transport6() -> impl Strategy<Value = (u8, Vec<u8>)> {
    (0..3u8, vec(any::<u8>(), 0..1400), any::<u8>()).prop_map(|(kind, body, flags)| match kind {
        0 => (17, udp(from_node6(17), &body)),
        1 => (6, tcp(from_node6(6), flags, &[1, 1, 1, 0], &body)),
        _ => (58, icmp6(node6(), host6(), 128, 0, [1, 2, 3, 4], &body)),
    })
}

/// Extension headers that are skipped, in an order that is allowed.
fn chain(last: u8) -> impl Strategy<Value = (u8, Vec<u8>)> {
    (any::<bool>(), vec((any::<bool>(), 0..4u8), 0..4)).prop_map(move |(hop_by_hop, rest)| {
        let mut headers = Vec::new();
        let kinds = rest
            .iter()
            .map(|(route, len)| (if *route { 43 } else { 60 }, *len));
        let all: Vec<(u8, u8)> = hop_by_hop
            .then_some((0, 1))
            .into_iter()
            .chain(kinds)
            .collect();
        for (at, (_, len)) in all.iter().enumerate() {
            let next = all.get(at + 1).map_or(last, |(kind, _)| *kind);
            let mut header = vec![0; (usize::from(*len) + 1) * 8];
            // Type 1 with the rest of the header as padding; a Routing header without segments.
            header[..4].copy_from_slice(&[next, *len, 1, 0]);
            headers.extend(header);
        }
        (all.first().map_or(last, |(kind, _)| *kind), headers)
    })
}

/// DF and identification of an IPv4 packet, which translation of a super-packet sets for all
/// segments at once.
fn without_df_and_id(mut packet: Vec<u8>) -> Vec<u8> {
    if packet[0] >> 4 == 4 {
        packet[4..8].fill(0);
        fix_v4(&mut packet);
    }
    packet
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn l4_01_checksums_are_those_of_a_full_sum(
        (protocol, body) in transport4(), tos: u8, ttl in 2..=255u8,
    ) {
        let ip = V4 { tos, ttl, flags: DF, ..V4::new(protocol) };
        let out = run(&ip.packet(&body)).forwarded();
        assert_checksums(&out);
        prop_assert_eq!(out[7], ttl - 1);
    }

    #[test]
    fn x6_02_checksums_hold_behind_any_chain_of_extension_headers(
        ((protocol, body), (first, headers)) in transport6()
            .prop_flat_map(|transport| {
                let chain = chain(transport.0);
                (Just(transport), chain)
            }),
    ) {
        let out = run(&V6::new(first).packet(&[headers, body.clone()].concat())).forwarded();
        assert_checksums(&out);
        prop_assert_eq!(out.len(), 20 + body.len());
        prop_assert_eq!(out[9], if protocol == 58 { 1 } else { protocol });
    }

    #[test]
    fn packets_come_back_from_4_to_6_to_4_as_they_were(
        (protocol, body) in transport4(), tos: u8, ttl in 3..=255u8,
    ) {
        let packet = V4 { tos, ttl, flags: DF, ..V4::new(protocol) }.packet(&body);
        let there = run(&packet).forwarded();
        // The same two addresses, the other way round.
        let mut back = there;
        let (src, dst) = (v6_at(&back, 8), v6_at(&back, 24));
        back[8..24].copy_from_slice(&dst.octets());
        back[24..40].copy_from_slice(&src.octets());
        let again = run(&back).forwarded();
        prop_assert_eq!(&again[20..], &packet[20..]);
        prop_assert_eq!((again[1], again[8], again[9]), (tos, ttl - 2, protocol));
        prop_assert_eq!((v4_at(&again, 12), v4_at(&again, 16)), (NODE4, HOST4));
        prop_assert_eq!(word_at(&again, 2), word_at(&packet, 2));
    }

    #[test]
    fn packets_come_back_from_6_to_4_to_6_as_they_were(
        (protocol, body) in transport6(), traffic_class: u8, hop_limit in 3..=255u8,
    ) {
        let packet = V6 { traffic_class, hop_limit, ..V6::new(protocol) }.packet(&body);
        let mut back = run(&packet).forwarded();
        let (src, dst) = (v4_at(&back, 12), v4_at(&back, 16));
        back[12..16].copy_from_slice(&dst.octets());
        back[16..20].copy_from_slice(&src.octets());
        let out = run(&back).forwarded();
        prop_assert_eq!(&out[40..], &packet[40..]);
        prop_assert_eq!(&out[..4], &packet[..4]);
        prop_assert_eq!((out[6], out[7]), (protocol, hop_limit - 2));
    }

    #[test]
    fn l4_03_a_wrong_checksum_is_wrong_by_as_much_afterwards(
        (protocol, body) in transport4(), error in 1..0xffffu16,
    ) {
        let at = match protocol { 17 => 6, 6 => 16, _ => 2 };
        prop_assume!(word_at(&body, at) != 0);
        let mut wrong = body.clone();
        let sum = (u32::from(word_at(&body, at)) + u32::from(error)) % 0xffff;
        prop_assume!(sum != 0);
        wrong[at..at + 2].copy_from_slice(&(sum as u16).to_be_bytes());
        let out = run(&V4 { flags: DF, ..V4::new(protocol) }.packet(&wrong)).forwarded();
        let pseudo = pseudo_v6(v6_at(&out, 8), v6_at(&out, 24), out[6], out.len() - 40);
        let off = u32::from(!naive_checksum(&[&pseudo, &out[40..]])) % 0xffff;
        prop_assert_eq!(off, u32::from(error) % 0xffff);
    }

    #[test]
    fn l4_01_incremental_and_full_sums_agree_in_every_corner(
        covered in vec(prop_oneof![Just(0u16), Just(0xffff), any::<u16>()], 1..12),
        at: prop::sample::Index, new: u16,
    ) {
        let bytes = |words: &[u16]| words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<u8>>();
        let mut words = covered;
        // All zero is the one sequence whose sum is not in its normal form.
        prop_assume!(words.iter().any(|word| *word != 0));
        let old_sum = naive_checksum(&[&bytes(&words)]);
        let at = at.index(words.len());
        let delta = checksum::Sum::word(new) - checksum::Sum::word(words[at]);
        words[at] = new;
        prop_assume!(words.iter().any(|word| *word != 0));
        prop_assert_eq!(checksum::update(old_sum, delta), naive_checksum(&[&bytes(&words)]));
    }

    #[test]
    fn x4_16_pieces_of_an_ipv4_packet_make_it_whole(
        body in vec(any::<u8>(), 1260..9000), lowest in 1280..1500u16,
    ) {
        let policy = Policy { lowest_ipv6_mtu: lowest, ..policy() };
        let pieces = run_policy(policy, &V4::new(17).packet(&udp(from_host4(17), &body)));
        let mut whole = Vec::new();
        let packets = match pieces {
            Out::Split(pieces) => pieces,
            Out::Forward(packet, _) => {
                prop_assert_eq!(&packet[48..], &body[..]);
                return Ok(());
            }
            other => panic!("{other:?}"),
        };
        for (number, piece) in packets.iter().enumerate() {
            prop_assert!(piece.len() <= usize::from(lowest));
            prop_assert_eq!(usize::from(word_at(piece, 42) >> 3) * 8, whole.len());
            prop_assert_eq!(piece[43] & 1 == 0, number + 1 == packets.len());
            whole.extend(&piece[48..]);
        }
        let pseudo = pseudo_v6(host6(), node6(), 17, whole.len());
        prop_assert_eq!(naive_checksum(&[&pseudo, &whole]), 0);
        prop_assert_eq!(&whole[8..], &body[..]);
    }

    #[test]
    fn x6_12_pieces_of_an_ipv6_packet_make_it_whole(
        body in vec(any::<u8>(), 0..1232), mtu4 in 68..1260u16,
    ) {
        let policy = Policy { mtu4, ..policy() };
        let packet = V6::new(17).packet(&udp(from_node6(17), &body));
        let packets = match run_policy(policy, &packet) {
            Out::Split(pieces) => pieces,
            Out::Forward(packet, _) => vec![packet],
            other => panic!("{other:?}"),
        };
        let mut whole = Vec::new();
        for piece in &packets {
            prop_assert!(piece.len() <= usize::from(mtu4));
            prop_assert_eq!(usize::from(word_at(piece, 6) & 0x1fff) * 8, whole.len());
            prop_assert_eq!(naive_checksum(&[&piece[..20]]), 0);
            whole.extend(&piece[20..]);
        }
        let pseudo = pseudo_v4(NODE4, HOST4, 17, whole.len());
        prop_assert_eq!(naive_checksum(&[&pseudo, &whole]), 0);
        prop_assert_eq!(&whole[8..], &body[..]);
    }

    #[test]
    fn l4_11_cutting_a_translated_super_packet_is_translating_its_pieces(
        v4: bool, is_tcp: bool, size in 1..1400u16, body in vec(any::<u8>(), 1..9000),
    ) {
        // The kernel makes no more than a few dozen segments; so do we.
        let size = size.max(body.len() as u16 / 60);
        let (packet, offload) = super_packet(v4, is_tcp, DF, size, &body);
        let Out::Forward(whole, after) = run_with(&mut translator(policy()), &packet, offload) else {
            panic!("forwarded");
        };
        let cut_after = segments(&whole, after);
        let cut_before = segments(&packet, offload);
        prop_assert_eq!(cut_after.len(), cut_before.len());
        for (after, before) in cut_after.into_iter().zip(cut_before) {
            let translated = run(&before).forwarded();
            prop_assert_eq!(without_df_and_id(after), without_df_and_id(translated));
        }
    }

    #[test]
    fn ad_03_ad_05_ad_07_embedding_is_reversible_and_leaves_the_rest_zero(
        address: u32, prefix: u128, length in prop::sample::select(PREF64_LENGTHS.to_vec()),
    ) {
        // The u octet of a /96 must be zero.
        let prefix = prefix & !(0xff << 56);
        let prefix = Ipv6Prefix::containing(Ipv6Addr::from_bits(prefix), length);
        let pref64 = Pref64::new(prefix).unwrap();
        let v4 = Ipv4Addr::from_bits(address);
        let v6 = pref64.embed(v4);
        prop_assert_eq!(pref64.extract(v6), Some(v4));
        prop_assert_eq!(v6.octets()[8], 0);
        if length < 96 {
            let used = u32::from(length) + 32 + if length > 32 { 8 } else { 0 };
            prop_assert_eq!(v6.to_bits().checked_shl(used).unwrap_or(0), 0, "suffix");
        }
        prop_assert!(prefix.contains(v6));
    }

    #[test]
    fn ad_14_neutral_prefixes_leave_checksums_alone(address: u32) {
        let v4 = Ipv4Addr::from_bits(address);
        for neutral in ["64:ff9b::/96", "64:ff9b:1:fffe::/96"] {
            let v6 = neutral.parse::<Pref64>().unwrap().embed(v4);
            let (a, b) = (naive_checksum(&[&v4.octets()]), naive_checksum(&[&v6.octets()]));
            prop_assert_eq!(a % 0xffff, b % 0xffff);
        }
    }

    #[test]
    fn ea_02_ea_03_explicit_mappings_are_reversible(
        v4: u32, v6: u128, n4 in 0..=32u8, extra in 0..=96u8, host: u32,
    ) {
        // The first bit is set, so that the well-known prefix is not met.
        let n6 = (96 + n4).saturating_sub(extra).max(1);
        let v4 = Ipv4Prefix::containing(Ipv4Addr::from_bits(v4), n4);
        let v6 = Ipv6Prefix::containing(Ipv6Addr::from_bits(v6 | 1 << 127), n6);
        let eam = Eam::new(v4, v6).unwrap();
        let address = Ipv4Addr::from_bits(v4.address().to_bits() | host & !v4.mask());
        let mapped = eam.lookup_v4(address).unwrap();
        prop_assert!(v6.contains(mapped));
        prop_assert_eq!(eam.lookup_v6(mapped), Some(address));
    }
}
