//! Nothing is allocated per packet, whatever becomes of it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod support;

use support::*;
use xlat_core::offload::{Checksum, Gso, GsoKind, PartialChecksum};
use xlat_core::{Frame, Instant, Offload, Verdict};

/// Counts allocations while the packet is translated and its pieces are taken out.
fn allocations(packet: &[u8], offload: Offload) -> (u64, &'static str) {
    let mut translator = translator(policy());
    let mut buffer = [vec![0; 128], packet.to_vec(), vec![0; 256]].concat();
    let mut verdict = "";
    let counted = allocation_counter::measure(|| {
        let mut frame = Frame::new(&mut buffer, 128, packet.len(), offload).unwrap();
        verdict = match translator.translate(&mut frame, Instant::ZERO) {
            Verdict::Forward => "forward",
            Verdict::Split(mut split) => {
                while split.next(&mut frame).is_some() {}
                "split"
            }
            Verdict::Reply(_) => "reply",
            Verdict::Drop(_) => "drop",
            Verdict::Held => "held",
        };
    });
    (counted.count_total, verdict)
}

#[test]
fn no_packet_costs_an_allocation() {
    let datagram = udp(from_host4(17), &pattern(64));
    let large = udp(from_host4(17), &pattern(3000));
    let partial = Checksum::Partial(PartialChecksum {
        start: 20,
        offset: 6,
    });
    let gso = Some(Gso {
        kind: GsoKind::Udp,
        size: 1400,
        ecn: false,
    });
    let plain = Offload::NONE;
    for (packet, offload, expected) in [
        (V4::new(17).packet(&datagram), plain, "forward"),
        (
            V6::new(17).packet(&udp(from_node6(17), b"x")),
            plain,
            "forward",
        ),
        (
            V4::new(1).packet(&icmp4(8, 0, [0; 4], b"x")),
            plain,
            "forward",
        ),
        (error4(3, 3, [0; 4], &quoted4(b"x")), plain, "forward"),
        (error6(1, 4, [0; 4], &quoted6(b"x")), plain, "forward"),
        (V4::new(17).packet(&large), plain, "split"),
        (
            V4::new(17).packet(&large),
            Offload {
                checksum: partial,
                gso,
            },
            "split",
        ),
        (
            V4 {
                ttl: 1,
                ..V4::new(17)
            }
            .packet(&datagram),
            plain,
            "reply",
        ),
        (
            V4 {
                flags: DF,
                ..V4::new(17)
            }
            .packet(&large),
            plain,
            "reply",
        ),
        (
            V6 {
                hop_limit: 1,
                ..V6::new(17)
            }
            .packet(&udp(from_node6(17), b"x")),
            plain,
            "reply",
        ),
        (V4::new(2).packet(b"igmp"), plain, "drop"),
        (vec![0x45], plain, "drop"),
    ] {
        assert_eq!(allocations(&packet, offload), (0, expected));
    }
}
