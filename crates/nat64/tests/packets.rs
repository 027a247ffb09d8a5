//! Whole packets through the translator with the stateful mapper, read back by an independent
//! decoder: ports and identifiers are replaced, checksums are right, payloads are untouched.
#![allow(clippy::unwrap_used)]

mod world;

use std::net::SocketAddrV6;

use etherparse::{
    IcmpEchoHeader, Icmpv4Type, Icmpv6Type, NetHeaders, PacketBuilder, PacketHeaders,
    TransportHeader,
};
use nat64::config::Filtering;
use world::{World, config, embed, sock4, sock6};
use xlat_core::frame::{HEADROOM, TAILROOM};
use xlat_core::identification::Identifications;
use xlat_core::policy::ErrorRate;
use xlat_core::{DropReason, Frame, Instant, Offload, Policy, Translator, Verdict};

const CLIENT: &str = "[2001:db8::7]:5000";
const SERVER: &str = "198.51.100.7:53";

#[test]
fn nt_11_a_udp_datagram_and_its_answer_cross_with_right_checksums() {
    let mut translator = translator("192.0.2.1:4000-4000");
    let (client, server6) = (sock6(CLIENT), embed(sock4(SERVER)));
    let packet = PacketBuilder::ipv6(client.ip().octets(), server6.ip().octets(), 64)
        .udp(client.port(), server6.port());
    let (out, payload) = translate(&mut translator, &built(packet, b"question"));
    let (Some(NetHeaders::Ipv4(ip, _)), Some(TransportHeader::Udp(udp))) = (out.net, out.transport)
    else {
        panic!("not UDP over IPv4");
    };
    assert_eq!(
        (ip.source, ip.destination),
        ([192, 0, 2, 1], [198, 51, 100, 7])
    );
    assert_eq!((udp.source_port, udp.destination_port), (4000, 53));
    assert_eq!(udp.checksum, udp.calc_checksum_ipv4(&ip, &payload).unwrap());
    assert_eq!(payload, b"question");

    let packet = PacketBuilder::ipv4(ip.destination, ip.source, 64).udp(53, 4000);
    let (back, payload) = translate(&mut translator, &built(packet, b"answer"));
    let (Some(NetHeaders::Ipv6(ip, _)), Some(TransportHeader::Udp(udp))) =
        (back.net, back.transport)
    else {
        panic!("not UDP over IPv6");
    };
    assert_eq!(ip.source_addr(), *server6.ip());
    assert_eq!(ip.destination_addr(), *client.ip());
    assert_eq!((udp.source_port, udp.destination_port), (53, 5000));
    assert_eq!(udp.checksum, udp.calc_checksum_ipv6(&ip, &payload).unwrap());
    assert_eq!(payload, b"answer");
}

#[test]
fn nt_11_an_echo_and_its_reply_cross_with_their_identifiers() {
    let mut translator = translator("192.0.2.1:4000-4000");
    let (client, server6) = (sock6(CLIENT), embed(sock4(SERVER)));
    let packet = PacketBuilder::ipv6(client.ip().octets(), server6.ip().octets(), 64)
        .icmpv6_echo_request(77, 3);
    let (out, payload) = translate(&mut translator, &built(packet, b"ping"));
    let Some(TransportHeader::Icmpv4(icmp)) = out.transport else {
        panic!("not ICMPv4");
    };
    let echo = IcmpEchoHeader { id: 4000, seq: 3 };
    assert_eq!(icmp.icmp_type, Icmpv4Type::EchoRequest(echo));
    assert_eq!(icmp.checksum, icmp.icmp_type.calc_checksum(&payload));

    let packet =
        PacketBuilder::ipv4([198, 51, 100, 7], [192, 0, 2, 1], 64).icmpv4_echo_reply(4000, 3);
    let (back, payload) = translate(&mut translator, &built(packet, b"ping"));
    let (Some(NetHeaders::Ipv6(ip, _)), Some(TransportHeader::Icmpv6(icmp))) =
        (back.net, back.transport)
    else {
        panic!("not ICMPv6");
    };
    let echo = IcmpEchoHeader { id: 77, seq: 3 };
    assert_eq!(icmp.icmp_type, Icmpv6Type::EchoReply(echo));
    let checksum = icmp
        .icmp_type
        .calc_checksum(ip.source, ip.destination, &payload)
        .unwrap();
    assert_eq!(icmp.checksum, checksum);
    assert_eq!(ip.destination_addr(), *client.ip());
}

#[test]
fn nh_01_a_hairpin_leaves_as_ipv6_with_the_external_source() {
    let mut translator = translator("192.0.2.1");
    let (a, b) = (sock6("[2001:db8::a]:1111"), sock6("[2001:db8::b]:2222"));
    let server6 = embed(sock4(SERVER));
    let packet = PacketBuilder::ipv6(b.ip().octets(), server6.ip().octets(), 64)
        .udp(b.port(), server6.port());
    let (out, _) = translate(&mut translator, &built(packet, b"hello"));
    let Some(TransportHeader::Udp(udp)) = out.transport else {
        panic!("not UDP");
    };
    let b4 = embed(sock4(&format!("192.0.2.1:{}", udp.source_port)));
    let packet =
        PacketBuilder::ipv6(a.ip().octets(), b4.ip().octets(), 64).udp(a.port(), b4.port());
    let (turned, payload) = translate(&mut translator, &built(packet, b"neighbour"));
    let (Some(NetHeaders::Ipv6(ip, _)), Some(TransportHeader::Udp(udp))) =
        (turned.net, turned.transport)
    else {
        panic!("not UDP over IPv6");
    };
    assert_eq!(
        (ip.source_addr(), ip.destination_addr()),
        (*b4.ip(), *b.ip())
    );
    assert_eq!(udp.destination_port, 2222);
    assert_ne!(udp.source_port, 1111);
    assert_eq!(udp.checksum, udp.calc_checksum_ipv6(&ip, &payload).unwrap());
    assert_eq!((ip.hop_limit, &payload[..]), (63, &b"neighbour"[..]));
}

#[test]
fn nc_07_nh_03_the_answer_to_a_stored_syn_turns_round_too() {
    for (rate, is_told) in [(ErrorRate::Unlimited, true), (ErrorRate::Off, false)] {
        let mut config = config("192.0.2.1");
        config.filtering = Filtering::AddressDependent;
        let policy = Policy {
            icmpv4_errors: rate,
            ..policy()
        };
        let worker = World::new(config).worker;
        let mut translator =
            Translator::new(worker, policy, Identifications::new([1, 2], 0, 1)).unwrap();
        let (a, b) = (sock6("[2001:db8::a]:1111"), sock6("[2001:db8::b]:2222"));
        let server6 = embed(sock4(SERVER));
        let syn = |from: SocketAddrV6, to: SocketAddrV6| {
            let packet = PacketBuilder::ipv6(from.ip().octets(), to.ip().octets(), 64);
            built(packet.tcp(from.port(), to.port(), 1, 1000).syn(), b"")
        };
        let (out, _) = translate(&mut translator, &syn(b, server6));
        let Some(TransportHeader::Tcp(tcp)) = out.transport else {
            panic!("not TCP");
        };
        // The other client is a stranger to the filter.
        let b4 = embed(sock4(&format!("192.0.2.1:{}", tcp.source_port)));
        let own = syn(a, b4);
        let mut buffer = [vec![0; HEADROOM], own.clone(), vec![0; TAILROOM]].concat();
        let mut frame = Frame::new(&mut buffer, HEADROOM, own.len(), Offload::NONE).unwrap();
        let held = translator.translate(&mut frame, Instant::from_secs(1000));
        assert!(matches!(held, Verdict::Held), "{held:?}");

        let mut buffer = vec![0; HEADROOM + 2000 + TAILROOM];
        let mut frame = Frame::new(&mut buffer, HEADROOM, 0, Offload::NONE).unwrap();
        let verdict = translator.poll_packet(&mut frame, Instant::from_secs(1007));
        if !is_told {
            assert!(matches!(verdict, Some(Verdict::Drop(DropReason::Filtered))));
            continue;
        }
        assert!(
            matches!(verdict, Some(Verdict::Reply(DropReason::Filtered))),
            "{verdict:?}"
        );
        let packet = frame.packet();
        // ICMPv6 1/4, port unreachable, from the other's external address to the sender, about
        // what the sender has sent.
        assert_eq!((packet[6], packet[40], packet[41]), (58, 1, 4));
        assert_eq!(packet[8..24], b4.ip().octets());
        assert_eq!(packet[24..40], a.ip().octets());
        assert_eq!(packet[48 + 8..48 + 40], own[8..40]);
        assert_eq!(packet[88..92], own[40..44]);
    }
}

fn translator(pool: &str) -> Translator<nat64::Worker> {
    let worker = World::with_pool(pool).worker;
    Translator::new(worker, policy(), Identifications::new([1, 2], 0, 1)).unwrap()
}

fn policy() -> Policy {
    Policy::new("192.0.0.2".parse().unwrap(), "2001:db8::2".parse().unwrap())
}

fn built<L>(builder: etherparse::PacketBuilderStep<L>, payload: &[u8]) -> Vec<u8>
where
    etherparse::PacketBuilderStep<L>: Write,
{
    builder.bytes(payload)
}

/// The builder's last steps have the same method, but no trait for it.
trait Write {
    fn bytes(self, payload: &[u8]) -> Vec<u8>;
}

macro_rules! write {
    ($($step:ty),*) => {$(
        impl Write for etherparse::PacketBuilderStep<$step> {
            fn bytes(self, payload: &[u8]) -> Vec<u8> {
                let mut packet = Vec::new();
                self.write(&mut packet, payload).unwrap();
                packet
            }
        }
    )*};
}

write!(
    etherparse::UdpHeader,
    etherparse::TcpHeader,
    etherparse::Icmpv4Header,
    etherparse::Icmpv6Header
);

fn translate(translator: &mut Translator<nat64::Worker>, packet: &[u8]) -> (Headers, Vec<u8>) {
    let mut buffer = vec![0xa5; HEADROOM + packet.len() + TAILROOM];
    buffer[HEADROOM..HEADROOM + packet.len()].copy_from_slice(packet);
    let mut frame = Frame::new(&mut buffer, HEADROOM, packet.len(), Offload::NONE).unwrap();
    let verdict = translator.translate(&mut frame, Instant::from_secs(1000));
    assert!(matches!(verdict, Verdict::Forward), "{verdict:?}");
    let headers = PacketHeaders::from_ip_slice(frame.packet()).unwrap();
    let payload = headers.payload.slice().to_vec();
    let headers = Headers {
        net: headers.net,
        transport: headers.transport,
    };
    (headers, payload)
}

struct Headers {
    net: Option<NetHeaders>,
    transport: Option<TransportHeader>,
}
