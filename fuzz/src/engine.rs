//! Packets through the translator, with each of the stateless mappers.

use std::net::{Ipv4Addr, Ipv6Addr};

use fast_path::StaticMapping;
use xlat_core::addr::{Eam, EamTable, Ipv6Prefix, Pref64, Pref64s, translatable};
use xlat_core::frame::{HEADROOM, TAILROOM};
use xlat_core::identification::Identifications;
use xlat_core::mapper::{PacketHolder, Prefetch};
use xlat_core::mappers::{Clat, Guarded, Hairpin, Siit};
use xlat_core::policy::{ErrorRate, MssClamp, UdpZeroChecksum};
use xlat_core::{Frame, Instant, Mapper, Offload, Policy, Translator, Verdict};
use xlat_tun::vnet;

use crate::{check, kernel};

const OWN4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const OWN6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x64, 0, 0, 0, 0xcb00, 0x7101);
const NODE6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 9);
const NODE4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 9);

/// The bytes are an IPv4 packet behind one byte that picks policy and mapper.
///
/// # Panics
/// If the translator breaks a promise.
pub fn v4_to_v6(data: &[u8]) {
    packet(data, 4);
}

/// The bytes are an IPv6 packet behind one byte that picks policy and mapper.
///
/// # Panics
/// If the translator breaks a promise.
pub fn v6_to_v4(data: &[u8]) {
    packet(data, 6);
}

fn packet(data: &[u8], version: u8) {
    let Some((&choice, bytes)) = data.split_first() else {
        return;
    };
    let mut bytes = bytes.to_vec();
    if let Some(first) = bytes.first_mut() {
        *first = version << 4 | *first & 15;
    }
    // Every other input gets the lengths and sums that let it through the first checks, and the
    // addresses that have a mapping.
    if choice & 1 == 1 {
        check::make_plausible(&mut bytes, NODE4, NODE6);
    }
    translate(choice, &bytes, Offload::NONE);
}

/// The bytes are an ICMP error's type, code, rest and quoted packet, behind a byte that picks
/// policy, mapper and direction: headers and checksums are put in front, so that every input
/// reaches the depths.
///
/// # Panics
/// If the translator breaks a promise.
pub fn icmp_errors(data: &[u8]) {
    let Some((&choice, message)) = data.split_first() else {
        return;
    };
    let message = &message[..message.len().min(4000)];
    if message.len() < 8 {
        return;
    }
    let host4 = Ipv4Addr::new(198, 51, 100, 7);
    let bytes = if choice & 1 == 0 {
        check::icmp4(host4, NODE4, message)
    } else {
        let host6 = pref64().embed(host4);
        check::icmp6(NODE6, host6, message)
    };
    translate(choice, &bytes, Offload::NONE);
}

/// The bytes are a virtio-net header and a packet, as a TUN hands them over, behind a byte that
/// picks policy and mapper.
///
/// # Panics
/// If the translator breaks a promise.
pub fn offload(data: &[u8]) {
    let Some((&choice, data)) = data.split_first() else {
        return;
    };
    let Some((header, bytes)) = data.split_first_chunk() else {
        return;
    };
    let mut bytes = bytes.to_vec();
    if choice & 1 == 1 {
        check::make_plausible(&mut bytes, NODE4, NODE6);
    }
    let header = vnet::Header::from_bytes(header);
    let Ok(offload) = header.offload(&bytes) else {
        return;
    };
    translate(choice, &bytes, offload);
}

pub(crate) fn pref64() -> Pref64 {
    let address = Ipv6Addr::new(0x2001, 0xdb8, 0x64, 0, 0, 0, 0, 0);
    let prefix = xlat_core::addr::Ipv6Prefix::containing(address, 96);
    Pref64::new(prefix).unwrap_or(Pref64::WELL_KNOWN)
}

pub(crate) fn policy(choice: u8) -> Policy {
    let mut policy = Policy::new(OWN4, OWN6);
    policy.icmpv4_errors = ErrorRate::Unlimited;
    policy.icmpv6_errors = ErrorRate::Unlimited;
    if choice & 2 != 0 {
        policy.mtu4 = 576;
        policy.mtu6 = 1280;
        policy.mss_clamp = MssClamp::Auto;
    }
    if choice & 4 != 0 {
        policy.udp_zero_checksum = UdpZeroChecksum::Forward;
        policy.tolerate_quoted_checksum = false;
    }
    policy
}

fn translate(choice: u8, bytes: &[u8], offload: Offload) {
    let ids = Identifications::new([3, 5], 0, 1);
    let policy = policy(choice);
    if choice & 8 == 0 {
        let Ok(eam) = "192.0.2.0/24=2001:db8:1::/120".parse::<Eam>() else {
            return;
        };
        let Ok(eams) = EamTable::new([eam]) else {
            return;
        };
        let pref64s = Pref64s::single(pref64());
        if choice & 16 != 0 {
            guarded(eam, policy, bytes, offload);
            return;
        }
        let mapping = StaticMapping::gateway([eam], &pref64s, true, []);
        let mapper = Siit::new(eams, pref64s, Hairpin::Intrinsic);
        run(
            Translator::new(mapper, policy, ids),
            &mapping,
            bytes,
            offload,
        );
    } else {
        let Ok(mapper) = Clat::new(NODE4, NODE6, pref64()) else {
            return;
        };
        let policy = Policy {
            answer_v6: false,
            ..policy
        };
        let Ok(local) = Eam::host(NODE4, NODE6) else {
            return;
        };
        let mapping = StaticMapping::clat([local], pref64());
        run(
            Translator::new(mapper, policy, ids),
            &mapping,
            bytes,
            offload,
        );
    }
}

/// The translator of a gateway, with hosts in its prefix that have IPv4-translatable addresses.
fn guarded(eam: Eam, policy: Policy, bytes: &[u8], offload: Offload) {
    let part = Ipv6Prefix::containing(pref64().embed(NODE4), 120);
    let Ok(nodes) = translatable(&pref64(), part) else {
        return;
    };
    // The part has the IPv4 addresses of the explicit mapping, so that takes its place.
    let row = if policy.mtu4 == 576 { nodes } else { eam };
    let Ok(eams) = EamTable::new([row]) else {
        return;
    };
    let pref64s = Pref64s::single(pref64());
    let mapping = StaticMapping::gateway([row], &pref64s, true, [nodes.v4()]);
    let siit = Siit::new(eams, pref64s.clone(), Hairpin::Intrinsic);
    let mapper = Guarded::new(siit, pref64s, Vec::new()).with_nodes(vec![nodes]);
    let ids = Identifications::new([3, 5], 0, 1);
    run(
        Translator::new(mapper, policy, ids),
        &mapping,
        bytes,
        offload,
    );
}

fn run<M: Mapper + PacketHolder + Prefetch, E: std::fmt::Debug>(
    translator: Result<Translator<M>, E>,
    mapping: &StaticMapping,
    bytes: &[u8],
    offload: Offload,
) {
    let Ok(mut translator) = translator else {
        return;
    };
    let mut buffer = vec![0xa5; HEADROOM + bytes.len() + TAILROOM];
    buffer[HEADROOM..HEADROOM + bytes.len()].copy_from_slice(bytes);
    let frame = Frame::new(&mut buffer, HEADROOM, bytes.len(), offload);
    let Some(mut frame) = frame else { return };
    let verdict = translator.translate(&mut frame, Instant::ZERO);
    if offload == Offload::NONE {
        let translated = matches!(verdict, Verdict::Forward).then(|| frame.packet());
        kernel::compare(translator.policy(), mapping, bytes, translated);
    }
    match verdict {
        Verdict::Forward => check::forwarded(bytes, offload, &frame, translator.policy()),
        Verdict::Reply(_) => check::reply(bytes, frame.packet(), translator.policy()),
        Verdict::Split(mut split) => {
            let mut pieces = 0;
            while let Some(piece) = split.next(&mut frame) {
                check::piece(piece.packet(), translator.policy());
                pieces += 1;
                assert!(pieces <= 65536, "pieces without end");
            }
        }
        // But for bytes behind its end, which no packet has; an offload may have been completed,
        // and the first pass of a hairpin has been made.
        Verdict::Drop(_)
            if offload == Offload::NONE && bytes.first().is_some_and(|b| b >> 4 == 4) =>
        {
            assert!(bytes.starts_with(frame.packet()), "changed, but not sent");
        }
        Verdict::Drop(_) => {}
        Verdict::Held => panic!("a stateless mapper holds nothing"),
    }
}
