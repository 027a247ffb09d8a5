//! Stateful translation of UDP, ICMP and TCP in virtual time: bindings, filters, timers, hairpins
//! and ICMP errors (NT, NU, NP, NH and NE of the requirements).
#![allow(clippy::unwrap_used)]

mod world;

use std::collections::BTreeSet;
use std::net::SocketAddrV4;

use nat64::Protocol;
use nat64::config::{Destination, Filtering, StaticBinding};
use nat64::event::{Change, EventKind};
use pnet_packet::ip::IpNextHeaderProtocols;
use world::{
    ACK, BINDINGS, ICMP, ICMPV6, SESSIONS, SYN, TCP, UDP, World, answer, config, embed, flow4,
    flow6, silent, sock4, sock6,
};
use xlat_core::addr::Pref64s;
use xlat_core::mapper::Unreachable::{Address, Prohibited, Protocol as ProtocolUnreachable};
use xlat_core::mapper::{ErrorFlow, Pass};
use xlat_core::{DropReason, Mapper};

const CLIENT: &str = "[2001:db8::7]:5000";
const SERVER: &str = "198.51.100.7:53";
const OTHER: &str = "203.0.113.9:99";

#[test]
fn nt_04_all_sessions_of_a_client_port_share_one_binding() {
    let mut world = World::with_pool("192.0.2.0/28");
    let one = world.udp_out(CLIENT, SERVER).unwrap();
    assert_eq!(world.udp_out(CLIENT, OTHER), Ok(one));
    assert_eq!(world.udp_in(SERVER, one), Ok(sock6(CLIENT)));
    assert_eq!(world.udp_in(OTHER, one), Ok(sock6(CLIENT)));
    let counts = world.counts();
    assert_eq!((counts.bindings, counts.sessions), (1, [2, 0, 0]));
}

#[test]
fn nt_01_bindings_are_per_protocol() {
    let mut world = World::with_pool("192.0.2.1:4000-4000");
    let udp = world.udp_out(CLIENT, SERVER).unwrap();
    let tcp = world.tcp_out(SYN, "[2001:db8::8]:1", SERVER).unwrap();
    let icmp = world.ping_out("[2001:db8::9]:77", "198.51.100.7").unwrap();
    assert_eq!([udp, tcp, icmp], [sock4("192.0.2.1:4000"); 3]);
    assert_eq!(world.udp_in(SERVER, udp), Ok(sock6(CLIENT)));
    assert_eq!(
        world.tcp_in(SYN | ACK, SERVER, tcp),
        Ok(sock6("[2001:db8::8]:1"))
    );
    assert_eq!(
        world.ping_in("198.51.100.7", icmp),
        Ok(sock6("[2001:db8::9]:77"))
    );
}

#[test]
fn nt_03_a_binding_goes_with_its_last_session() {
    let mut world = World::with_pool("192.0.2.1");
    let bound = world.udp_out(CLIENT, SERVER).unwrap();
    world.wait(200);
    world.udp_out(CLIENT, OTHER).unwrap();
    world.wait(200);
    world.expire();
    let counts = world.counts();
    assert_eq!((counts.bindings, counts.sessions), (1, [1, 0, 0]));
    assert_eq!(world.udp_in(SERVER, bound), Ok(sock6(CLIENT)));
    world.wait(301);
    world.expire();
    let counts = world.counts();
    assert_eq!(
        (counts.bindings, counts.sessions, counts.subscribers),
        (0, [0; 3], 0)
    );
}

#[test]
fn nt_07_only_packets_between_a_pref64_and_the_pool_are_taken() {
    let mut world = World::with_pool("192.0.2.0/28");
    let forged = flow6(
        UDP,
        0,
        sock6("[2001:db8:64::c000:205]:5"),
        embed(sock4(SERVER)),
    );
    assert_eq!(
        world.worker.map_v6(&forged, world.now),
        silent(DropReason::SourceInPref64)
    );
    let elsewhere = flow6(UDP, 0, sock6(CLIENT), sock6("[2001:db8:65::1]:53"));
    assert_eq!(
        world.worker.map_v6(&elsewhere, world.now),
        answer(DropReason::UnmappedDestination, Prohibited)
    );
    assert_eq!(
        world.udp_in(SERVER, sock4("192.0.2.16:5000")),
        silent(DropReason::UnmappedDestination)
    );
    assert_eq!(
        world.udp_in("192.0.2.5:53", sock4("192.0.2.1:5000")),
        silent(DropReason::IllegalSource)
    );
    assert_eq!(world.counts().bindings, 0);
}

#[test]
fn se_05_illegal_sources_make_no_state() {
    let mut world = World::with_pool("192.0.2.0/28");
    let bound = world.udp_out(CLIENT, SERVER).unwrap();
    for source in [
        "127.0.0.1:53",
        "0.1.2.3:53",
        "224.0.0.1:53",
        "169.254.1.1:53",
    ] {
        assert_eq!(
            world.udp_in(source, bound),
            silent(DropReason::IllegalSource)
        );
    }
    let well_known = xlat_core::addr::Pref64s::new(["64:ff9b::/96".parse().unwrap()], true);
    let mut world = World::behind(well_known, config("192.0.2.0/28"));
    let flow = flow6(UDP, 0, sock6(CLIENT), sock6("[64:ff9b::5db8:d822]:53"));
    let out = world.worker.map_v6(&flow, world.now).unwrap();
    let to = std::net::SocketAddrV4::new(out.src, out.ports.unwrap().src);
    let private = flow4(UDP, 0, sock4("10.0.0.1:53"), to);
    assert_eq!(
        world.worker.map_v4(&private, Pass::First, world.now),
        silent(DropReason::WellKnownPrefix)
    );
    assert_eq!(world.counts().sessions, [1, 0, 0]);
}

#[test]
fn nt_08_other_transports_are_refused() {
    let mut world = World::with_pool("192.0.2.0/28");
    for protocol in [
        IpNextHeaderProtocols::Sctp,
        IpNextHeaderProtocols::Gre,
        IpNextHeaderProtocols::Esp,
    ] {
        assert_eq!(
            world.send(protocol, 0, CLIENT, SERVER),
            answer(DropReason::UnsupportedProtocol, ProtocolUnreachable)
        );
        assert_eq!(
            world.receive(protocol, 0, SERVER, sock4("192.0.2.1:5000")),
            answer(DropReason::UnsupportedProtocol, ProtocolUnreachable)
        );
    }
}

#[test]
fn nt_09_icmp_errors_change_nothing() {
    let mut world = World::with_pool("192.0.2.0/28");
    let bound = world.udp_out(CLIENT, SERVER).unwrap();
    for _ in 0..299 {
        world.wait(1);
        assert!(world.error_in(UDP, "203.0.113.1", bound, SERVER).is_ok());
        assert!(world.error_out(UDP, "2001:db8::7", SERVER, CLIENT).is_ok());
    }
    world.wait(2);
    assert_eq!(
        world.error_in(UDP, "203.0.113.1", bound, SERVER),
        silent(DropReason::QuotedUnmapped)
    );
    world.expire();
    assert_eq!(world.counts().bindings, 0);
}

#[test]
fn nt_10_a_remote_is_shown_in_the_prefix_that_the_client_used() {
    let prefixes = ["2001:db8:64::/96", "2001:db8:128::/48"].map(|text| text.parse().unwrap());
    let pref64s = xlat_core::addr::Pref64s::new(prefixes, true);
    let mut world = World::behind(pref64s, config("192.0.2.0/28"));
    for (client, remote) in [
        ("[2001:db8::7]:1000", "[2001:db8:64::c633:6407]:53"),
        ("[2001:db8::8]:1000", "[2001:db8:128:c633:64:700::]:53"),
    ] {
        let flow = flow6(UDP, 0, sock6(client), sock6(remote));
        let out = world.worker.map_v6(&flow, world.now).unwrap();
        assert_eq!(out.dst.to_string(), "198.51.100.7");
        let to = std::net::SocketAddrV4::new(out.src, out.ports.unwrap().src);
        let back = world
            .worker
            .map_v4(&flow4(UDP, 0, sock4(SERVER), to), Pass::First, world.now)
            .unwrap();
        assert_eq!(
            (back.src, back.dst),
            (*sock6(remote).ip(), *sock6(client).ip())
        );
    }
}

#[test]
fn nu_02_a_udp_session_lives_300_seconds() {
    let mut world = World::with_pool("192.0.2.0/28");
    let bound = world.udp_out(CLIENT, SERVER).unwrap();
    world.wait(300);
    assert_eq!(world.udp_in(SERVER, bound), Ok(sock6(CLIENT)));
    world.wait(300);
    world.udp_out(CLIENT, SERVER).unwrap();
    world.wait_ms(300_300);
    assert_eq!(
        world.udp_in(SERVER, bound),
        answer(DropReason::NoBinding, Address)
    );
}

#[test]
fn nu_03_inbound_packets_need_not_prolong_a_session() {
    let mut config = config("192.0.2.0/28");
    config.inbound.refreshes = false;
    let mut world = World::new(config);
    let bound = world.udp_out(CLIENT, SERVER).unwrap();
    world.wait(299);
    world.udp_in(SERVER, bound).unwrap();
    world.wait(2);
    assert_eq!(
        world.udp_in(SERVER, bound),
        answer(DropReason::NoBinding, Address)
    );
}

#[test]
fn nu_04_nu_10_unbound_transport_addresses_are_answered() {
    let mut world = World::with_pool("192.0.2.0/28");
    let nobody = sock4("192.0.2.1:5000");
    assert_eq!(
        world.udp_in(SERVER, nobody),
        answer(DropReason::NoBinding, Address)
    );
    assert_eq!(
        world.ping_in("198.51.100.7", nobody),
        answer(DropReason::NoBinding, Address)
    );
    assert_eq!(world.counts().sessions, [0; 3]);
}

#[test]
fn nu_05_the_address_dependent_filter_admits_known_addresses_on_any_port() {
    let mut config = config("192.0.2.0/28");
    config.filtering = Filtering::AddressDependent;
    let mut world = World::new(config);
    let bound = world.udp_out(CLIENT, SERVER).unwrap();
    assert_eq!(world.udp_in("198.51.100.7:9999", bound), Ok(sock6(CLIENT)));
    assert_eq!(
        world.udp_in(OTHER, bound),
        answer(DropReason::Filtered, Prohibited)
    );
    world.udp_out(CLIENT, OTHER).unwrap();
    assert_eq!(world.udp_in(OTHER, bound), Ok(sock6(CLIENT)));

    world.wait(200);
    world.udp_out(CLIENT, SERVER).unwrap();
    world.wait(200);
    assert_eq!(
        world.udp_in(OTHER, bound),
        answer(DropReason::Filtered, Prohibited)
    );
    assert_eq!(world.udp_in(SERVER, bound), Ok(sock6(CLIENT)));
}

#[test]
fn nu_06_without_a_filter_a_new_remote_makes_a_session() {
    let mut world = World::with_pool("192.0.2.0/28");
    let bound = world.udp_out(CLIENT, SERVER).unwrap();
    world.wait(200);
    assert_eq!(world.udp_in(OTHER, bound), Ok(sock6(CLIENT)));
    assert_eq!(world.counts().sessions, [2, 0, 0]);
    world.wait(200);
    assert_eq!(world.udp_in(OTHER, bound), Ok(sock6(CLIENT)));
}

#[test]
fn nu_07_an_icmp_query_lives_60_seconds() {
    let mut world = World::with_pool("192.0.2.0/28");
    let bound = world.ping_out("[2001:db8::7]:77", "198.51.100.7").unwrap();
    world.wait(60);
    assert!(world.ping_in("198.51.100.7", bound).is_ok());
    world.wait_ms(60_300);
    assert_eq!(
        world.ping_in("198.51.100.7", bound),
        answer(DropReason::NoBinding, Address)
    );
}

#[test]
fn nu_08_clients_with_the_same_identifier_are_kept_apart() {
    let mut world = World::with_pool("192.0.2.1");
    let one = world.ping_out("[2001:db8::1]:77", "198.51.100.7").unwrap();
    let other = world.ping_out("[2001:db8::2]:77", "198.51.100.7").unwrap();
    assert_ne!(one, other);
    assert_eq!(
        world.ping_in("198.51.100.7", one),
        Ok(sock6("[2001:db8::1]:77"))
    );
    assert_eq!(
        world.ping_in("198.51.100.7", other),
        Ok(sock6("[2001:db8::2]:77"))
    );
}

#[test]
fn np_01_a_subscriber_stays_on_one_address() {
    let mut config = config("192.0.2.0/24");
    config.limits.subscriber_prefix = 64;
    let mut world = World::new(config);
    let mut used = BTreeSet::new();
    for subscriber in 0..50 {
        let mut own = BTreeSet::new();
        for host in 0..20 {
            let client = format!("[2001:db8:0:{subscriber:x}::{host}]:5000");
            own.insert(*world.udp_out(&client, SERVER).unwrap().ip());
            own.insert(*world.tcp_out(SYN, &client, SERVER).unwrap().ip());
            own.insert(*world.ping_out(&client, "198.51.100.7").unwrap().ip());
        }
        assert_eq!(own.len(), 1);
        used.extend(own);
    }
    assert!(used.len() > 30, "{}", used.len());
}

#[test]
fn np_01_a_subscriber_gets_no_second_address_when_its_own_is_full() {
    let mut config = config("192.0.2.0/31:4000-4001");
    config.limits.subscriber_prefix = 64;
    let mut world = World::new(config);
    for port in [1, 2] {
        world
            .udp_out(&format!("[2001:db8::1]:{port}"), SERVER)
            .unwrap();
    }
    assert_eq!(
        world.udp_out("[2001:db8::1]:3", SERVER),
        answer(DropReason::PoolExhausted, Address)
    );
    assert!(world.udp_out("[2001:db8:0:1::1]:3", SERVER).is_ok());
}

#[test]
fn np_05_no_two_clients_share_an_external_port() {
    let mut world = World::with_pool("192.0.2.1:2000-2999");
    let mut seen = BTreeSet::new();
    for client in 0..1000 {
        let bound = world
            .udp_out(&format!("[2001:db8::{client:x}]:5000"), SERVER)
            .unwrap();
        assert!(seen.insert(bound));
    }
    assert_eq!(
        world.udp_out("[2001:db8::ffff]:5000", SERVER),
        answer(DropReason::PoolExhausted, Address)
    );
}

#[test]
fn np_07_port_0_is_not_translated() {
    let mut world = World::with_pool("192.0.2.1");
    assert_eq!(
        world.udp_out("[2001:db8::7]:0", SERVER),
        silent(DropReason::BadTransport)
    );
    assert_eq!(
        world.tcp_out(SYN, "[2001:db8::7]:0", SERVER),
        silent(DropReason::BadTransport)
    );
}

#[test]
fn np_09_a_port_is_not_given_to_another_client_for_120_seconds() {
    let mut world = World::with_pool("192.0.2.1:4000-4000");
    world.udp_out(CLIENT, SERVER).unwrap();
    world.wait(301);
    world.expire();
    assert_eq!(world.counts().bindings, 0);
    let other = "[2001:db8::8]:1";
    world.wait(119);
    assert_eq!(
        world.udp_out(other, SERVER),
        answer(DropReason::PoolExhausted, Address)
    );
    world.wait(2);
    assert!(world.udp_out(other, SERVER).is_ok());
}

#[test]
fn np_12_exhaustion_takes_nothing_from_anybody() {
    let mut world = World::with_pool("192.0.2.1:4000-4009");
    let clients: Vec<String> = (0..10).map(|n| format!("[2001:db8::{n}]:5000")).collect();
    let bound: Vec<_> = clients
        .iter()
        .map(|client| world.udp_out(client, SERVER).unwrap())
        .collect();
    for intruder in 100..1100 {
        let refused = world.udp_out(&format!("[2001:db8::{intruder}]:5000"), SERVER);
        assert_eq!(refused, answer(DropReason::PoolExhausted, Address));
    }
    for (client, bound) in clients.iter().zip(bound) {
        assert_eq!(world.udp_in(SERVER, bound), Ok(sock6(client)));
    }
    assert_eq!(world.counts().subscribers, 10);
}

#[test]
fn nh_01_nh_02_two_clients_reach_each_other_through_their_external_addresses() {
    for (protocol6, protocol4) in [(UDP, UDP), (TCP, TCP)] {
        let mut world = World::with_pool("192.0.2.0/28");
        let a = "[2001:db8::a]:1111";
        let b = "[2001:db8::b]:2222";
        let b4 = world.send(protocol6, SYN, b, SERVER).unwrap();
        let to_b = flow6(protocol6, SYN, sock6(a), embed(b4));
        let first = world.worker.map_v6(&to_b, world.now).unwrap();
        assert!(first.hairpin);
        let a4 = std::net::SocketAddrV4::new(first.src, first.ports.unwrap().src);
        let second = world
            .worker
            .map_v4(&flow4(protocol4, SYN, a4, b4), Pass::Hairpin, world.now)
            .unwrap();
        assert_eq!(second.src, *embed(a4).ip());
        assert_eq!(second.dst, *sock6(b).ip());
        let ports = second.ports.unwrap();
        assert_eq!((ports.src, ports.dst), (a4.port(), 2222));

        let answer = flow6(protocol6, SYN | ACK, sock6(b), embed(a4));
        let first = world.worker.map_v6(&answer, world.now).unwrap();
        assert!(first.hairpin);
        assert_eq!((first.src, first.ports.unwrap().src), (*b4.ip(), b4.port()));
        let second = world
            .worker
            .map_v4(
                &flow4(protocol4, SYN | ACK, b4, a4),
                Pass::Hairpin,
                world.now,
            )
            .unwrap();
        assert_eq!(
            (second.dst, second.ports.unwrap().dst),
            (*sock6(a).ip(), 1111)
        );
    }
}

#[test]
fn nh_03_an_error_about_a_hairpinned_packet_reaches_its_sender() {
    let mut world = World::with_pool("192.0.2.0/28");
    let (a, b) = ("[2001:db8::a]:1111", "[2001:db8::b]:2222");
    let b4 = world.udp_out(b, SERVER).unwrap();
    let a4 = world.udp_out(a, &b4.to_string()).unwrap();
    world
        .worker
        .map_v4(&flow4(UDP, 0, a4, b4), Pass::Hairpin, world.now)
        .unwrap();

    let error6 = xlat_core::mapper::ErrorFlow {
        src: *sock6(b).ip(),
        dst: *embed(a4).ip(),
        quoted: flow6(UDP, 0, embed(a4), sock6(b)),
    };
    let first = world.worker.map_v6_error(&error6, world.now).unwrap();
    assert!(first.hairpin);
    assert_eq!((first.src, first.dst), (Some(*b4.ip()), *a4.ip()));
    let error4 = xlat_core::mapper::ErrorFlow {
        src: *b4.ip(),
        dst: *a4.ip(),
        quoted: flow4(UDP, 0, a4, b4),
    };
    let second = world
        .worker
        .map_v4_error(&error4, Pass::Hairpin, world.now)
        .unwrap();
    assert_eq!(second.dst, *sock6(a).ip());
    assert_eq!(
        (second.quoted.src, second.quoted.dst),
        (*sock6(a).ip(), *embed(b4).ip())
    );
    let ports = second.quoted.ports.unwrap();
    assert_eq!((ports.src, ports.dst), (1111, b4.port()));
}

#[test]
fn ne_01_an_error_without_a_session_is_dropped() {
    let mut world = World::with_pool("192.0.2.0/28");
    let bound = world.udp_out(CLIENT, SERVER).unwrap();
    let cases = [
        world.error_in(UDP, "203.0.113.1", bound, OTHER),
        world.error_in(TCP, "203.0.113.1", bound, SERVER),
        world.error_in(UDP, "203.0.113.1", sock4("192.0.2.9:9"), SERVER),
        world.error_in(UDP, "203.0.113.1", sock4("198.51.100.1:9"), SERVER),
    ];
    for case in cases {
        assert_eq!(case, silent(DropReason::QuotedUnmapped));
    }
    assert_eq!(
        world.error_out(UDP, "2001:db8::8", SERVER, "[2001:db8::8]:5000"),
        silent(DropReason::QuotedUnmapped)
    );
}

#[test]
fn ne_01_ne_03_an_inbound_error_comes_from_its_router_and_quotes_the_clients_packet() {
    let mut world = World::with_pool("192.0.2.0/28");
    let bound = world.udp_out(CLIENT, SERVER).unwrap();
    let error = world.error_in(UDP, "203.0.113.1", bound, SERVER).unwrap();
    assert_eq!(error.src, Some("2001:db8:64::203.0.113.1".parse().unwrap()));
    assert_eq!(error.dst, *sock6(CLIENT).ip());
    assert_eq!(error.quoted.src, *sock6(CLIENT).ip());
    assert_eq!(error.quoted.dst, *embed(sock4(SERVER)).ip());
    let ports = error.quoted.ports.unwrap();
    assert_eq!((ports.src, ports.dst), (5000, 53));

    let ping = world.ping_out("[2001:db8::7]:77", "198.51.100.7").unwrap();
    let error = world
        .error_in(ICMP, "203.0.113.1", ping, "198.51.100.7:0")
        .unwrap();
    assert_eq!(error.quoted.ports.unwrap().src, 77);
}

/// RFC 7915 section 4.1: who complains is shown, whatever its address. The rule for the well-known
/// prefix (RFC 6052 section 3.1) would keep routers that a provider numbers privately out of each
/// traceroute.
#[test]
fn ne_03_a_private_router_is_shown_in_the_well_known_prefix() {
    let pref64s = Pref64s::new(["64:ff9b::/96".parse().unwrap()], true);
    let mut world = World::behind(pref64s, config("192.88.97.0/28"));
    let (client, server) = (sock6("[2001:db8::7]:5000"), sock6("[64:ff9b::9.9.9.9]:53"));
    let flow = flow6(UDP, 0, client, server);
    let bound = world.worker.map_v6(&flow, world.now).unwrap();
    let outside = SocketAddrV4::new(bound.src, bound.ports.unwrap().src);
    let told = world
        .error_in(UDP, "10.1.2.3", outside, "9.9.9.9:53")
        .unwrap();
    assert_eq!(told.src, "64:ff9b::10.1.2.3".parse().ok());
    assert_eq!(told.dst, *client.ip());
}

#[test]
fn ne_02_an_outbound_error_hides_behind_the_clients_address() {
    let mut world = World::with_pool("192.0.2.0/28");
    let bound = world.udp_out(CLIENT, SERVER).unwrap();
    for router in ["2001:db8::7", "2001:db8:ffff::1"] {
        let error = world.error_out(UDP, router, SERVER, CLIENT).unwrap();
        assert_eq!(error.src, Some(*bound.ip()));
        assert_eq!(error.dst, *sock4(SERVER).ip());
        assert_eq!(
            (error.quoted.src, error.quoted.dst),
            (*sock4(SERVER).ip(), *bound.ip())
        );
        let ports = error.quoted.ports.unwrap();
        assert_eq!((ports.src, ports.dst), (53, bound.port()));
    }
    let ping = world.ping_out("[2001:db8::7]:77", "198.51.100.7").unwrap();
    let error = world
        .error_out(ICMPV6, "2001:db8::7", "198.51.100.7:0", "[2001:db8::7]:77")
        .unwrap();
    assert_eq!(error.quoted.ports.unwrap().src, ping.port());
}

#[test]
fn nt_07_se_02_an_outbound_error_from_behind_the_prefix_is_dropped() {
    let mut world = World::with_pool("192.0.2.0/28");
    world.udp_out(CLIENT, SERVER).unwrap();
    let spoofed = world.error_out(UDP, "2001:db8:64::192.0.2.77", SERVER, CLIENT);
    assert_eq!(spoofed, silent(DropReason::SourceInPref64));
    // A router on the way to the client need not be a client itself.
    assert!(
        world
            .error_out(UDP, "2001:db8:ffff::1", SERVER, CLIENT)
            .is_ok()
    );
}

#[test]
fn ne_02_an_error_goes_to_who_sent_the_packet_and_to_nobody_else() {
    let mut world = World::with_pool("192.0.2.0/28");
    let bound = world.udp_out(CLIENT, SERVER).unwrap();
    let (server, other) = (embed(sock4(SERVER)), embed(sock4("203.0.113.5:53")));
    let error = ErrorFlow {
        src: *sock6(CLIENT).ip(),
        dst: *other.ip(),
        quoted: flow6(UDP, 0, server, sock6(CLIENT)),
    };
    let sent = world.worker.map_v6_error(&error, world.now);
    assert_eq!(sent, silent(DropReason::QuotedUnmapped));
    let error = ErrorFlow {
        src: "203.0.113.5".parse().unwrap(),
        dst: "192.0.2.15".parse().unwrap(),
        quoted: flow4(UDP, 0, bound, sock4(SERVER)),
    };
    let got = world.worker.map_v4_error(&error, Pass::First, world.now);
    assert_eq!(got, silent(DropReason::QuotedUnmapped));
}

#[test]
fn cg_03_errors_do_not_reach_who_is_denied() {
    let mut world = World::with_pool("192.0.2.0/28");
    world.udp_out(CLIENT, SERVER).unwrap();
    let mut config = config("192.0.2.0/28");
    config.denied = vec![Destination {
        prefix: "198.51.100.0/24".parse().unwrap(),
        ports: None,
    }];
    let view = world.nat.reconfigure(config, world.now).unwrap();
    world.worker.adopt(view);
    let sent = world.error_out(UDP, "2001:db8::7", SERVER, CLIENT);
    assert_eq!(sent, silent(DropReason::Denied));
}

#[test]
fn ne_06_the_filter_does_not_look_at_errors() {
    let mut config = config("192.0.2.0/28");
    config.filtering = Filtering::AddressDependent;
    let mut world = World::new(config);
    let bound = world.udp_out(CLIENT, SERVER).unwrap();
    assert!(world.error_in(UDP, "203.0.113.1", bound, SERVER).is_ok());
}

#[test]
fn cg_03_denied_destinations_and_foreign_clients_make_no_state() {
    let mut config = config("192.0.2.0/28");
    config.clients = vec!["2001:db8::/48".parse().unwrap()];
    config.denied = vec![
        Destination {
            prefix: "10.0.0.0/8".parse().unwrap(),
            ports: None,
        },
        Destination {
            prefix: "0.0.0.0/0".parse().unwrap(),
            ports: Some(25..=25),
        },
    ];
    let mut world = World::new(config);
    let denied = answer(DropReason::Denied, Prohibited);
    assert_eq!(world.udp_out(CLIENT, "10.1.2.3:53"), denied);
    assert_eq!(world.tcp_out(SYN, CLIENT, "198.51.100.7:25"), denied);
    assert_eq!(world.ping_out(CLIENT, "10.1.2.3"), denied);
    assert_eq!(world.udp_out("[2001:db9::7]:5000", SERVER), denied);
    assert_eq!(world.counts().bindings, 0);
    assert!(world.ping_out(CLIENT, "198.51.100.7").is_ok());
    assert!(world.tcp_out(SYN, CLIENT, "198.51.100.7:26").is_ok());
}

#[test]
fn a_port_forward_works_from_both_sides_and_stays() {
    for shards in [1, 4] {
        let mut config = config("192.0.2.0/28");
        config.shards = shards;
        config.bindings = vec![StaticBinding {
            protocol: Protocol::Tcp,
            external: "192.0.2.1".parse().unwrap(),
            external_port: 443,
            client: "2001:db8::10".parse().unwrap(),
            client_port: 8443,
        }];
        let mut world = World::new(config);
        let (outside, inside) = (sock4("192.0.2.1:443"), "[2001:db8::10]:8443");
        for round in 0..3 {
            assert_eq!(
                world.tcp_in(SYN, SERVER, outside),
                Ok(sock6(inside)),
                "{round}"
            );
            assert_eq!(world.tcp_out(SYN | ACK, inside, SERVER), Ok(outside));
            world.wait(10_000);
            world.expire();
            assert_eq!(
                (world.counts().bindings, world.counts().sessions),
                (1, [0; 3])
            );
        }
        assert_eq!(world.tcp_out(SYN, inside, OTHER), Ok(outside));
    }
}

#[test]
fn cg_08_cg_09_bindings_are_logged_without_destinations() {
    let mut world = World::with_pool("192.0.2.0/28");
    world.subscribe(BINDINGS);
    let bound = world.udp_out(CLIENT, SERVER).unwrap();
    world.udp_out(CLIENT, OTHER).unwrap();
    world.wait(302);
    world.expire();
    let events = world.events();
    let [
        EventKind::Binding(Change::Created(created)),
        EventKind::Binding(Change::Removed(removed)),
    ] = events[..]
    else {
        panic!("{events:?}");
    };
    assert_eq!(created, removed);
    assert_eq!(created.client, *sock6(CLIENT).ip());
    assert_eq!(
        (created.client_port, created.external_port),
        (5000, bound.port())
    );
    assert_eq!(
        (created.external, created.protocol),
        (*bound.ip(), Protocol::Udp)
    );
}

#[test]
fn sessions_are_logged_when_asked_for() {
    let mut world = World::with_pool("192.0.2.0/28");
    world.subscribe(SESSIONS);
    world.udp_out(CLIENT, SERVER).unwrap();
    world.wait(302);
    world.expire();
    let kinds: Vec<u8> = world
        .events()
        .iter()
        .filter_map(EventKind::nat_event)
        .collect();
    assert_eq!(kinds, [10, 6, 7, 11]);
}
