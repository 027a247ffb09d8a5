//! Hosts with IPv4-translatable addresses (RFC 6052 section 2): both addresses of a packet lie in the
//! NAT64 prefix (RFC 7915 sections 4.1 and 5.1).

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod support;

use std::net::{Ipv4Addr, Ipv6Addr};

use support::*;
use xlat_core::addr::{EamTable, Pref64s, translatable};
use xlat_core::identification::Identifications;
use xlat_core::mappers::{Guarded, Hairpin, Siit};
use xlat_core::{DropReason, Offload, Translator};

const TRANSLATABLE4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 77);

fn translatable6() -> Ipv6Addr {
    "2001:db8:64::203.0.113.77".parse().unwrap()
}

/// Serves 2001:db8:64::203.0.113.64/122, and hides one host of IPv4.
fn gateway() -> Translator<Guarded<Siit>> {
    let nodes = "2001:db8:64::203.0.113.64/122".parse().unwrap();
    let eam = translatable(&pref64(), nodes).unwrap();
    let siit = Siit::new(
        EamTable::new([eam]).unwrap(),
        Pref64s::single(pref64()),
        Hairpin::Intrinsic,
    );
    let hidden = vec!["198.51.100.1/32".parse().unwrap()];
    let mapper = Guarded::new(siit, Pref64s::single(pref64()), hidden).with_nodes(vec![eam]);
    Translator::new(mapper, policy(), Identifications::new([7, 13], 0, 1)).unwrap()
}

fn sent(packet: &[u8]) -> Out {
    run_with(&mut gateway(), packet, Offload::NONE)
}

fn out(dst: Ipv6Addr, src: Ipv6Addr) -> Vec<u8> {
    V6 {
        src,
        dst,
        ..V6::new(17)
    }
    .packet(&udp(|len| pseudo_v6(src, dst, 17, len), b"x"))
}

#[test]
fn ad_07_both_addresses_lie_in_the_prefix_and_cross() {
    let there = sent(&out(host6(), translatable6())).forwarded();
    assert_eq!(
        (v4_at(&there, 12), v4_at(&there, 16)),
        (TRANSLATABLE4, HOST4)
    );
    assert_checksums(&there);
    let back = V4 {
        dst: TRANSLATABLE4,
        ..V4::new(17)
    }
    .packet(&udp(|len| pseudo_v4(HOST4, TRANSLATABLE4, 17, len), b"x"));
    let back = sent(&back).forwarded();
    assert_eq!(
        (v6_at(&back, 8), v6_at(&back, 24)),
        (host6(), translatable6())
    );
    assert_checksums(&back);
}

#[test]
fn ix_01_errors_about_their_packets_cross_too() {
    let quoted = V4 {
        src: TRANSLATABLE4,
        dst: HOST4,
        ..V4::new(17)
    }
    .packet(&udp(|len| pseudo_v4(TRANSLATABLE4, HOST4, 17, len), b"x"));
    let error = V4 {
        dst: TRANSLATABLE4,
        ..V4::new(1)
    }
    .packet(&icmp4(3, 3, [0; 4], &quoted));
    let told = sent(&error).forwarded();
    assert_eq!(v6_at(&told, 24), translatable6());
    assert_eq!(
        (v6_at(&told, 56), v6_at(&told, 72)),
        (translatable6(), host6())
    );
}

/// All other addresses of the prefix stand for IPv4 hosts.
#[test]
fn se_02_se_07_the_rest_of_the_prefix_is_guarded_as_before() {
    let forged = "2001:db8:64::203.0.113.63".parse().unwrap();
    let reason = sent(&out(host6(), forged)).dropped();
    assert_eq!(reason, DropReason::SourceInPref64);
    // A route to another host is missing: the packet would come back.
    let other = "2001:db8:64::203.0.113.78".parse().unwrap();
    for src in [translatable6(), node6()] {
        let (reason, reply) = sent(&out(other, src)).replied();
        assert_eq!((reason, &reply[40..42]), (DropReason::Denied, &[1, 1][..]));
    }
    let hidden = "2001:db8:64::198.51.100.1".parse().unwrap();
    let (reason, _) = sent(&out(hidden, translatable6())).replied();
    assert_eq!(reason, DropReason::Denied);
    // Other hidden addresses change nothing of that.
    let mut gateway = gateway();
    gateway.mapper_mut().hide(Vec::new());
    let end = run_with(&mut gateway, &out(other, translatable6()), Offload::NONE);
    assert_eq!(end.refused(), DropReason::Denied);
    let strange = V4 {
        dst: Ipv4Addr::new(203, 0, 113, 63),
        ..V4::new(17)
    };
    let packet = strange.packet(&udp(|len| pseudo_v4(HOST4, strange.dst, 17, len), b"x"));
    assert_eq!(sent(&packet).refused(), DropReason::UnmappedDestination);
}
