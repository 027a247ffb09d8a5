//! Two translators back to back: what one sends out comes in at the other, as if each were the
//! other's way to its destination.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod support;

use support::*;
use xlat_core::addr::{EamTable, Pref64s};
use xlat_core::identification::Identifications;
use xlat_core::mapper::{PacketHolder, Prefetch};
use xlat_core::mappers::{Guarded, Hairpin, Siit};
use xlat_core::{DropReason, Mapper, Offload, Translator};

/// One that knows nothing but the prefix.
fn bare() -> Siit {
    let none = EamTable::new([]).unwrap();
    Siit::new(none, Pref64s::single(pref64()), Hairpin::Off)
}

fn guarded(mapper: Siit) -> Guarded<Siit> {
    Guarded::new(mapper, Pref64s::single(pref64()), Vec::new())
}

fn translator<M: Mapper + PacketHolder + Prefetch>(mapper: M) -> Translator<M> {
    Translator::new(mapper, policy(), Identifications::new([7, 13], 0, 1)).unwrap()
}

/// Sends a packet of an IPv6 node round until it ends: how many turns it made, and why it ended.
fn go_round<A, B>(first: A, second: B) -> (u32, DropReason)
where
    A: Mapper + PacketHolder + Prefetch,
    B: Mapper + PacketHolder + Prefetch,
{
    let (mut first, mut second) = (translator(first), translator(second));
    let mut packet = V6::new(17).packet(&udp(from_node6(17), b"round"));
    for turn in 0..1000 {
        let out = match turn % 2 {
            0 => run_with(&mut first, &packet, Offload::NONE),
            _ => run_with(&mut second, &packet, Offload::NONE),
        };
        match out {
            Out::Forward(next, _) => packet = next,
            Out::Drop(reason) | Out::Reply(reason, _) => return (turn, reason),
            Out::Split(_) => panic!("a small packet was cut"),
        }
    }
    panic!("it goes round for ever");
}

#[test]
fn se_07_two_translators_back_to_back_end_by_hop_limit() {
    let (turns, reason) = go_round(siit(Hairpin::Off), bare());
    assert_eq!((turns, reason), (63, DropReason::HopLimit));
}

#[test]
fn se_02_se_07_the_translator_of_a_gateway_ends_the_loop_by_itself() {
    let (turns, reason) = go_round(guarded(siit(Hairpin::Off)), bare());
    assert_eq!((turns, reason), (2, DropReason::SourceInPref64));
    let (turns, reason) = go_round(siit(Hairpin::Off), guarded(bare()));
    assert_eq!((turns, reason), (1, DropReason::UnmappedDestination));
}

#[test]
fn se_02_packets_from_the_prefix_are_dropped_silently_and_so_are_errors() {
    let mut translator = translator(guarded(siit(Hairpin::Intrinsic)));
    let forged = pref64().embed("198.51.100.99".parse().unwrap());
    let datagram = udp(|len| pseudo_v6(forged, host6(), 17, len), b"forged");
    let packet = V6 {
        src: forged,
        ..V6::new(17)
    }
    .packet(&datagram);
    let mut run = |packet: &[u8]| run_with(&mut translator, packet, Offload::NONE).dropped();
    assert_eq!(run(&packet), DropReason::SourceInPref64);
    // The same packet with nothing but a fragment of an ICMPv6 message in it.
    let mut echo = fragment(58, 0, true, 7);
    echo.extend([128, 0, 0, 0, 0, 1, 0, 1]);
    let packet = V6 {
        src: forged,
        ..V6::new(44)
    }
    .packet(&echo);
    assert_eq!(run(&packet), DropReason::SourceInPref64);
    // An error of a node with such an address, about a packet that the node got from IPv4.
    let mut error = error6(1, 4, [0; 4], &quoted6(b"x"));
    error[8..24].copy_from_slice(&forged.octets());
    fix_icmpv6(&mut error);
    assert_eq!(run(&error), DropReason::SourceInPref64);
}

/// Puts the right checksum into an ICMPv6 message right behind its IPv6 header.
fn fix_icmpv6(packet: &mut [u8]) {
    packet[42..44].fill(0);
    let pseudo = pseudo_v6(v6_at(packet, 8), v6_at(packet, 24), 58, packet.len() - 40);
    let sum = naive_checksum(&[&pseudo, &packet[40..]]);
    packet[42..44].copy_from_slice(&sum.to_be_bytes());
}
