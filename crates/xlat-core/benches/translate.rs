//! Time per packet of the whole pipeline, both directions.
//!
//! The payload is never read, so a 64 KiB super-packet must cost what a 64-byte packet costs; the
//! two stand side by side to show it. Every iteration puts the packet's first bytes back before it
//! translates them, because translation happens in place; `restore` measures that part alone.

use std::hint::black_box;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use etherparse::{Icmpv4Type, Icmpv6Type, PacketBuilder, icmpv4, icmpv6};
use xlat_core::addr::Pref64;
use xlat_core::checksum::Sum;
use xlat_core::frame::{HEADROOM, TAILROOM};
use xlat_core::identification::Identifications;
use xlat_core::mappers::Clat;
use xlat_core::offload::{Checksum, Gso, GsoKind, PartialChecksum};
use xlat_core::{Frame, Instant, Offload, Policy, Translator, Verdict};

const HOST4: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 1);
const SERVER4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const HOST6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0xc1a7);

fn prefix() -> Pref64 {
    "2001:db8:64::/96".parse().expect("a valid prefix")
}

fn translator() -> Translator<Clat> {
    let mapper = Clat::new(HOST4, HOST6, prefix()).expect("a valid map");
    let mut policy = Policy::new(Ipv4Addr::new(192, 0, 0, 2), HOST6);
    policy.answer_v6 = false;
    (policy.mtu4, policy.mtu6) = (65535, 65535);
    Translator::new(mapper, policy, Identifications::new([1, 2], 0, 1)).expect("a valid policy")
}

/// A packet and the work that was put off for it.
struct Case {
    name: &'static str,
    packet: Vec<u8>,
    offload: Offload,
}

fn v4() -> etherparse::PacketBuilderStep<etherparse::IpHeaders> {
    PacketBuilder::ipv4(HOST4.octets(), SERVER4.octets(), 64)
}

fn v6() -> etherparse::PacketBuilderStep<etherparse::IpHeaders> {
    PacketBuilder::ipv6(prefix().embed(SERVER4).octets(), HOST6.octets(), 64)
}

type Ip = fn() -> etherparse::PacketBuilderStep<etherparse::IpHeaders>;

fn udp(ip: Ip, header: usize, size: usize) -> Vec<u8> {
    let mut packet = Vec::new();
    let payload = vec![0x5a; size - header - 8];
    ip().udp(4000, 53)
        .write(&mut packet, &payload)
        .expect("in memory");
    packet
}

fn tcp(ip: Ip, header: usize, size: usize) -> Vec<u8> {
    let mut packet = Vec::new();
    let payload = vec![0x5a; size - header - 20];
    ip().tcp(4000, 443, 1, 65535)
        .ack(1)
        .write(&mut packet, &payload)
        .expect("in memory");
    packet
}

fn super_packet(start: u16, offset: u16, size: u16, kind: GsoKind) -> Offload {
    Offload {
        checksum: Checksum::Partial(PartialChecksum { start, offset }),
        gso: Some(Gso {
            kind,
            size,
            ecn: false,
        }),
    }
}

fn cases() -> Vec<Case> {
    let plain = |name, packet| Case {
        name,
        packet,
        offload: Offload::NONE,
    };
    let mut echo4 = Vec::new();
    v4().icmpv4_echo_request(1, 1)
        .write(&mut echo4, &[0x5a; 56])
        .expect("in memory");
    let mut echo6 = Vec::new();
    v6().icmpv6_echo_reply(1, 1)
        .write(&mut echo6, &[0x5a; 56])
        .expect("in memory");
    let mut quoted4 = Vec::new();
    PacketBuilder::ipv4(SERVER4.octets(), HOST4.octets(), 60)
        .udp(53, 4000)
        .write(&mut quoted4, &[0x5a; 56])
        .expect("in memory");
    let mut error4 = Vec::new();
    v4().icmpv4(Icmpv4Type::DestinationUnreachable(
        icmpv4::DestUnreachableHeader::Port,
    ))
    .write(&mut error4, &quoted4)
    .expect("in memory");
    let mut quoted6 = Vec::new();
    PacketBuilder::ipv6(HOST6.octets(), prefix().embed(SERVER4).octets(), 60)
        .udp(4000, 53)
        .write(&mut quoted6, &[0x5a; 56])
        .expect("in memory");
    let mut error6 = Vec::new();
    v6().icmpv6(Icmpv6Type::DestinationUnreachable(
        icmpv6::DestUnreachableCode::Port,
    ))
    .write(&mut error6, &quoted6)
    .expect("in memory");
    vec![
        plain("4to6/udp/64", udp(v4, 20, 64)),
        plain("4to6/udp/1500", udp(v4, 20, 1500)),
        Case {
            name: "4to6/udp/64KiB-super",
            packet: udp(v4, 20, 65000),
            offload: super_packet(20, 6, 1400, GsoKind::Udp),
        },
        plain("4to6/tcp/64", tcp(v4, 20, 64)),
        plain("4to6/tcp/1500", tcp(v4, 20, 1500)),
        Case {
            name: "4to6/tcp/64KiB-super",
            packet: tcp(v4, 20, 65000),
            offload: super_packet(20, 16, 1400, GsoKind::TcpV4),
        },
        plain("4to6/icmp-echo/84", echo4),
        plain("4to6/icmp-error/112", error4),
        plain("6to4/udp/64", udp(v6, 40, 64)),
        plain("6to4/udp/1500", udp(v6, 40, 1500)),
        Case {
            name: "6to4/udp/64KiB-super",
            packet: udp(v6, 40, 65000),
            offload: super_packet(40, 6, 1400, GsoKind::Udp),
        },
        plain("6to4/tcp/64", tcp(v6, 40, 64)),
        plain("6to4/tcp/1500", tcp(v6, 40, 1500)),
        Case {
            name: "6to4/tcp/64KiB-super",
            packet: tcp(v6, 40, 65000),
            offload: super_packet(40, 16, 1400, GsoKind::TcpV6),
        },
        plain("6to4/icmp-echo/104", echo6),
        plain("6to4/icmp-error/152", error6),
    ]
}

/// The part of a packet that translation may change, restored before every run.
const CHANGED: usize = 256;

fn translate(c: &mut Criterion) {
    let mut translator = translator();
    let now = Instant::ZERO;
    let mut group = c.benchmark_group("translate");
    group
        .throughput(Throughput::Elements(1))
        .warm_up_time(Duration::from_millis(500));
    group.measurement_time(Duration::from_secs(2));
    for Case {
        name,
        packet,
        offload,
    } in cases()
    {
        let mut buffer = vec![0; HEADROOM + packet.len() + TAILROOM];
        buffer[HEADROOM..HEADROOM + packet.len()].copy_from_slice(&packet);
        let changed = packet.len().min(CHANGED);
        // A packet without DF that has to be cut is another story than the one told here.
        if packet[0] >> 4 == 4 && packet.len() > 1260 {
            set_dont_fragment(&mut buffer[HEADROOM..]);
        }
        let original = buffer[HEADROOM..HEADROOM + changed].to_vec();
        group.bench_function(name, |b| {
            b.iter(|| {
                buffer[HEADROOM..HEADROOM + changed].copy_from_slice(&original);
                let frame = Frame::new(black_box(&mut buffer), HEADROOM, packet.len(), offload);
                let mut frame = frame.expect("fits");
                let verdict = translator.translate(&mut frame, now);
                assert!(matches!(verdict, Verdict::Forward), "{verdict:?}");
                frame.len()
            });
        });
    }
    let mut buffer = vec![0; HEADROOM + CHANGED];
    let original = vec![0x5a; CHANGED];
    group.bench_function("restore", |b| {
        b.iter(|| black_box(&mut buffer)[HEADROOM..].copy_from_slice(black_box(&original)));
    });
}

/// What is summed where a checksum has to be made or verified.
fn checksum(c: &mut Criterion) {
    let bytes = vec![0x5a; 65_535];
    let mut group = c.benchmark_group("checksum");
    for length in [20, 72, 1460, 65_535] {
        group.bench_function(length.to_string(), |b| {
            b.iter(|| Sum::of(black_box(&bytes[..length])).checksum());
        });
    }
}

fn set_dont_fragment(packet: &mut [u8]) {
    packet[6] |= 0x40;
    let (mut header, _) = etherparse::Ipv4Header::from_slice(packet).expect("an IPv4 header");
    header.header_checksum = header.calc_header_checksum();
    packet[..20].copy_from_slice(&header.to_bytes());
}

criterion_group!(benches, translate, checksum);
criterion_main!(benches);
