//! Packets cut off at every byte and with every length field lied about: no panic, and a reason
//! for each that goes no further.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod support;

use support::*;
use xlat_core::offload::{Checksum, Gso, GsoKind, PartialChecksum};
use xlat_core::policy::MssClamp;
use xlat_core::{Offload, Policy};

/// One packet of every kind.
fn kinds() -> Vec<Vec<u8>> {
    let tcp4 = tcp(from_host4(6), 2, &[2, 4, 5, 180], b"data");
    let tcp6 = tcp(from_node6(6), 2, &[2, 4, 5, 180], b"data");
    let options = vec![131, 7, 8, 1, 2, 3, 4, 0];
    let chain = [
        vec![60, 0, 1, 4, 0, 0, 0, 0],
        vec![43, 0, 1, 4, 0, 0, 0, 0],
        vec![44, 0, 4, 0, 0, 0, 0, 0],
        fragment(17, 0, true, 7),
        udp(from_node6(17), &pattern(64)),
    ];
    let mut extended = vec![0x20, 0, 0, 0, 0, 12, 1, 1, 1, 2, 3, 4, 5, 6, 7, 8];
    let sum = naive_checksum(&[&extended]);
    extended[2..4].copy_from_slice(&sum.to_be_bytes());
    vec![
        V4::new(17).packet(&udp(from_host4(17), &pattern(64))),
        V4 {
            options,
            ..V4::new(6)
        }
        .packet(&tcp4),
        V4 {
            flags: MF,
            ..V4::new(17)
        }
        .packet(&udp(from_host4(17), &pattern(64))),
        V4::new(1).packet(&icmp4(8, 0, [0, 1, 0, 2], b"ping")),
        error4(3, 3, [0; 4], &quoted4(&pattern(64))),
        error4(
            11,
            0,
            [0, 33, 0, 0],
            &[quoted4(&pattern(104)), extended.clone()].concat(),
        ),
        V6::new(17).packet(&udp(from_node6(17), &pattern(64))),
        V6::new(6).packet(&tcp6),
        V6::new(0).packet(&chain.concat()),
        V6::new(58).packet(&icmp6(node6(), host6(), 128, 0, [0, 1, 0, 2], b"ping")),
        error6(1, 4, [0; 4], &quoted6(&pattern(64))),
        error6(
            3,
            0,
            [19, 0, 0, 0],
            &[quoted6(&pattern(104)), extended].concat(),
        ),
    ]
}

fn offloads() -> Vec<Offload> {
    let mut all = vec![Offload::NONE];
    for (start, offset) in [(20, 6), (40, 6), (40, 16), (20, 16), (65535, 65535), (0, 0)] {
        for kind in [GsoKind::TcpV4, GsoKind::TcpV6, GsoKind::Udp] {
            for size in [0, 1, 8, 65535] {
                let checksum = Checksum::Partial(PartialChecksum { start, offset });
                all.push(Offload {
                    checksum,
                    gso: Some(Gso {
                        kind,
                        size,
                        ecn: true,
                    }),
                });
                all.push(Offload {
                    checksum,
                    gso: None,
                });
            }
        }
    }
    all
}

/// All that can be switched on.
fn everything() -> Policy {
    Policy {
        mss_clamp: MssClamp::To(536),
        mtu4: 576,
        mtu6: 1280,
        ..policy()
    }
}

/// Sets the checksums that would otherwise hide what lies behind them.
fn fix(packet: &mut [u8]) {
    if packet.len() >= 20 && packet[0] >> 4 == 4 {
        fix_v4(packet);
    }
}

#[test]
fn se_01_every_packet_cut_at_every_byte() {
    for whole in kinds() {
        run(&whole).forwarded();
        for len in 0..whole.len() {
            let out = run(&whole[..len]);
            assert!(matches!(out, Out::Drop(_)), "{len}: {out:?}");
        }
    }
}

#[test]
fn se_01_every_packet_cut_at_every_byte_with_lengths_that_fit() {
    for whole in kinds() {
        for len in 20..whole.len() {
            let mut packet = whole[..len].to_vec();
            if packet[0] >> 4 == 4 {
                packet[2..4].copy_from_slice(&(len as u16).to_be_bytes());
                fix(&mut packet);
            } else if len >= 40 {
                packet[4..6].copy_from_slice(&((len - 40) as u16).to_be_bytes());
            }
            run(&packet);
        }
    }
}

#[test]
fn se_01_every_byte_set_to_every_interesting_value() {
    for whole in kinds() {
        for at in 0..whole.len() {
            for value in [
                0, 1, 2, 4, 7, 8, 15, 16, 44, 59, 60, 127, 128, 200, 254, 255,
            ] {
                let mut packet = whole.clone();
                packet[at] = value;
                run(&packet);
                fix(&mut packet);
                run(&packet);
                run_policy(everything(), &packet);
            }
        }
    }
}

#[test]
fn se_01_offload_headers_that_do_not_belong() {
    for whole in kinds() {
        for offload in offloads() {
            run_with(&mut translator(policy()), &whole, offload);
        }
    }
}

#[test]
fn ix_02_quotes_inside_quotes_end_at_the_first() {
    let mut packet = error4(3, 3, [0; 4], &quoted4(b"x"));
    for _ in 0..5 {
        let ip = V4 {
            src: NODE4,
            dst: HOST4,
            ..V4::new(1)
        };
        let inner = ip.packet(&packet[20..]);
        packet = error4(3, 3, [0; 4], &inner);
        run(&packet).dropped();
    }
}
