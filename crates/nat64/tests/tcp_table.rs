//! The TCP state machine in virtual time: every cell of RFC 6146 section 3.5.2.2 (Annex D of the
//! requirements), reached and watched through packets alone.
#![allow(clippy::unwrap_used)]

mod world;

use std::net::SocketAddrV4;
use std::time::Duration;

use nat64::config::{Config, Filtering, StaticBinding, StoreSyns};
use nat64::{Protocol, TcpState};
use world::{ACK, FIN, RST, SYN, TCP, World, config, embed, flow4, silent, sock4, sock6};
use xlat_core::DropReason;
use xlat_core::mapper::{PacketHolder, PendingPacket, Refusal};

const CLIENT: &str = "[2001:db8::7]:5000";
const OUTSIDE: &str = "192.0.2.1:4000";
const SERVER: &str = "198.51.100.7:80";

type Script = &'static [(Side, u8)];

#[derive(Clone, Copy, Debug)]
enum Side {
    V6,
    V4,
}

/// State, then what V6 SYN, V4 SYN, V6 SYN+ACK, V4 SYN+ACK, V6 FIN, V4 FIN, V6 RST, V4 RST, V6 data
/// and V4 data make of it, each with the lifetime in seconds; `-` leaves state and lifetime as they
/// are.
const TABLE: &str = "
V4Init      Established/7440 - Established/7440 - - - - - - -
V6Init      V6Init/240 Established/7440 V6Init/240 Established/7440 - - - - - -
Established Established/7440 Established/7440 Established/7440 Established/7440 V6Fin/- V4Fin/- Trans/240 Trans/240 Established/7440 Established/7440
V4Fin       V4Fin/7440 V4Fin/7440 V4Fin/7440 V4Fin/7440 V4V6Fin/240 V4Fin/7440 Trans/240 Trans/240 V4Fin/7440 V4Fin/7440
V6Fin       V6Fin/7440 V6Fin/7440 V6Fin/7440 V6Fin/7440 V6Fin/7440 V4V6Fin/240 Trans/240 Trans/240 V6Fin/7440 V6Fin/7440
V4V6Fin     V6Init/240 V4Init/240 - - - - - - - -
Trans       V6Init/240 Established/7440 Established/7440 Established/7440 Established/7440 Established/7440 - - Established/7440 Established/7440
";

#[test]
fn nc_05_to_nc_15_every_cell_of_the_state_table_holds() {
    for line in TABLE.trim().lines() {
        let mut cells = line.split_whitespace();
        let state = state(cells.next().unwrap());
        for ((from, flags), cell) in EVENTS.into_iter().zip(cells.by_ref()) {
            check(state, from, flags, cell);
        }
        assert_eq!(cells.next(), None);
    }
}

const EVENTS: [(Side, u8); 10] = [
    (Side::V6, SYN),
    (Side::V4, SYN),
    (Side::V6, SYN | ACK),
    (Side::V4, SYN | ACK),
    (Side::V6, FIN | ACK),
    (Side::V4, FIN | ACK),
    (Side::V6, RST),
    (Side::V4, RST | ACK),
    (Side::V6, ACK),
    (Side::V4, ACK),
];

fn check(start: TcpState, from: Side, flags: u8, cell: &str) {
    let (mut world, life) = in_state(start);
    world.wait(100);
    packet(&mut world, from, flags);
    let (next, life) = match cell.split_once('/') {
        None => (start, life - 100),
        Some((next, "-")) => (state(next), life - 100),
        Some((next, life)) => (state(next), life.parse().unwrap()),
    };
    let case = format!("{start:?} {from:?} {flags:#x}");
    assert_eq!(sole_state(&world), Some(next), "{case}");
    world.wait(life - 1);
    world.expire();
    assert_eq!(sole_state(&world), Some(next), "{case}: too early");
    world.wait(2);
    world.expire();
    let after = (next == TcpState::Established).then_some(TcpState::Trans);
    assert_eq!(sole_state(&world), after, "{case}: too late");
}

/// A session in this state, and its lifetime in seconds.
fn in_state(state: TcpState) -> (World, u64) {
    let mut world = World::new(forwarding());
    let opened_by_client = [(Side::V6, SYN), (Side::V4, SYN | ACK)];
    let (packets, life): (&[_], _) = match state {
        TcpState::V4Init => (&[(Side::V4, SYN)], 240),
        TcpState::V6Init => (&[(Side::V6, SYN)], 240),
        TcpState::Established => (&opened_by_client, 7440),
        TcpState::V4Fin => (&[(Side::V6, SYN), (Side::V4, SYN), (Side::V4, FIN)], 7440),
        TcpState::V6Fin => (&[(Side::V6, SYN), (Side::V4, SYN), (Side::V6, FIN)], 7440),
        TcpState::V4V6Fin => (
            &[
                (Side::V6, SYN),
                (Side::V4, SYN),
                (Side::V6, FIN),
                (Side::V4, FIN),
            ],
            240,
        ),
        TcpState::Trans => (&[(Side::V6, SYN), (Side::V4, SYN), (Side::V4, RST)], 240),
    };
    for &(from, flags) in packets {
        packet(&mut world, from, flags);
    }
    assert_eq!(sole_state(&world), Some(state));
    (world, life)
}

/// Every packet of a session passes, whatever its state.
fn packet(world: &mut World, from: Side, flags: u8) {
    match from {
        Side::V6 => assert_eq!(world.tcp_out(flags, CLIENT, SERVER), Ok(sock4(OUTSIDE))),
        Side::V4 => assert_eq!(
            world.tcp_in(flags, SERVER, sock4(OUTSIDE)),
            Ok(sock6(CLIENT))
        ),
    }
}

fn sole_state(world: &World) -> Option<TcpState> {
    let counts = world.counts();
    let total: u32 = counts.tcp.iter().sum();
    assert_eq!(total, counts.sessions[Protocol::Tcp as usize]);
    assert!(total <= 1, "{counts:?}");
    let place = counts.tcp.iter().position(|&count| count == 1)?;
    Some(TcpState::ALL[place])
}

fn state(name: &str) -> TcpState {
    TcpState::ALL
        .into_iter()
        .find(|state| format!("{state:?}") == name)
        .unwrap()
}

fn forwarding() -> Config {
    let mut config = config("192.0.2.0/28");
    config.bindings = vec![StaticBinding {
        protocol: Protocol::Tcp,
        external: *sock4(OUTSIDE).ip(),
        external_port: sock4(OUTSIDE).port(),
        client: *sock6(CLIENT).ip(),
        client_port: sock6(CLIENT).port(),
    }];
    config
}

#[test]
fn nc_03_a_stray_segment_passes_a_binding_and_nothing_else() {
    for (policy, flags) in [(true, ACK), (true, RST), (true, FIN | ACK), (false, ACK)] {
        let mut config = forwarding();
        config.inbound.stray_tcp = policy;
        let mut world = World::new(config);
        let there = world.tcp_out(flags, CLIENT, SERVER);
        let back = world.tcp_in(flags, SERVER, sock4(OUTSIDE));
        if policy {
            assert_eq!(there, Ok(sock4(OUTSIDE)));
            assert_eq!(back, Ok(sock6(CLIENT)));
        } else {
            assert_eq!(there, silent(DropReason::NoBinding));
            assert_eq!(back, silent(DropReason::NoBinding));
        }
        let unbound = world.tcp_out(flags, "[2001:db8::9]:1", SERVER);
        assert_eq!(unbound, silent(DropReason::NoBinding));
        let unbound = world.tcp_in(flags, SERVER, sock4("192.0.2.1:4001"));
        assert_eq!(unbound, silent(DropReason::NoBinding));
        assert_eq!(sole_state(&world), None);
    }
}

#[test]
fn nc_17_opening_and_closing_have_times_of_their_own() {
    let mut config = config("192.0.2.0/28");
    config.timers.tcp_opening = Duration::from_secs(300);
    config.timers.tcp_closing = Duration::from_secs(500);
    let mut world = World::new(config.clone());
    world.tcp_out(SYN, CLIENT, SERVER).unwrap();
    world.wait(299);
    world.expire();
    assert_eq!(sole_state(&world), Some(TcpState::V6Init));
    world.wait(2);
    world.expire();
    assert_eq!(sole_state(&world), None);

    let mut world = World::new(config);
    let outside = world.tcp_out(SYN, CLIENT, SERVER).unwrap();
    world.tcp_in(SYN | ACK, SERVER, outside).unwrap();
    world.tcp_out(FIN | ACK, CLIENT, SERVER).unwrap();
    world.tcp_in(FIN | ACK, SERVER, outside).unwrap();
    world.wait(499);
    world.expire();
    assert_eq!(sole_state(&world), Some(TcpState::V4V6Fin));
    world.wait(2);
    world.expire();
    assert_eq!(sole_state(&world), None);
}

#[test]
fn nc_04_an_unsolicited_syn_gets_no_answer() {
    let mut world = World::with_pool("192.0.2.0/28");
    let refused = world.tcp_in(SYN, SERVER, sock4("192.0.2.1:4001"));
    assert_eq!(refused, silent(DropReason::NoBinding));
    assert_eq!(world.counts().bindings, 0);
}

#[test]
fn nc_04_a_syn_to_an_unbound_port_is_answered_after_six_seconds_if_told_to() {
    let mut config = config("192.0.2.0/28");
    config.inbound.stores_syns = StoreSyns::All;
    let mut world = World::new(config);
    let unbound = sock4("192.0.2.1:4001");
    assert_eq!(world.tcp_in(SYN, SERVER, unbound), Err(Refusal::Hold));
    hold(&mut world, SERVER, unbound);
    // Its repetitions, and the answers to SYNs that bear a forged address of the pool, do not wait.
    for flags in [SYN, SYN | ACK, ACK, RST] {
        let refused = world.tcp_in(flags, SERVER, unbound);
        assert_eq!(refused, silent(DropReason::NoBinding), "{flags:#x}");
    }
    world.wait_ms(5900);
    assert_eq!(world.worker.poll_packet(world.now), None);
    world.wait_ms(400);
    let Some(PendingPacket::Answer { packet, .. }) = world.worker.poll_packet(world.now) else {
        panic!("no answer");
    };
    // ICMPv4 3/3 from the pool's address to who sent the SYN.
    assert_eq!((packet[9], &packet[20..22]), (1, &[3, 3][..]));
    assert_eq!(packet[12..16], [192, 0, 2, 1]);
    assert_eq!(packet[16..20], [198, 51, 100, 7]);
    assert_eq!(world.counts().bindings, 0);
}

#[test]
fn se_19_outsiders_can_be_kept_from_opening_connections() {
    let mut config = config("192.0.2.0/28");
    config.inbound.opens_tcp = false;
    let mut world = World::new(config);
    let bound = world.tcp_out(SYN, CLIENT, SERVER).unwrap();
    let other = "203.0.113.9:99";
    assert_eq!(
        world.tcp_in(SYN, other, bound),
        silent(DropReason::Filtered)
    );
    assert_eq!(world.tcp_in(SYN | ACK, SERVER, bound), Ok(sock6(CLIENT)));
    assert_eq!(world.counts().tcp[TcpState::Established as usize], 1);
}

/// A stranger's SYN to a bound port with the address-dependent filter on, held by the translator.
fn stored_syn() -> (World, SocketAddrV4) {
    let mut config = config("192.0.2.0/28");
    config.filtering = Filtering::AddressDependent;
    let mut world = World::new(config);
    let bound = world.tcp_out(SYN, CLIENT, SERVER).unwrap();
    assert_eq!(world.tcp_in(SYN, STRANGER, bound), Err(Refusal::Hold));
    hold(&mut world, STRANGER, bound);
    (world, bound)
}

/// Gives the translator a copy of a SYN that it wants to hold.
fn hold(world: &mut World, from: &str, to: SocketAddrV4) {
    let mut syn = [0; 40];
    syn[0] = 0x45;
    syn[12..16].copy_from_slice(&sock4(from).ip().octets());
    syn[16..20].copy_from_slice(&to.ip().octets());
    let flow = flow4(TCP, SYN, sock4(from), to);
    assert_eq!(world.worker.hold_v4(&flow, &syn, world.now), Ok(()));
}

const STRANGER: &str = "203.0.113.9:99";

#[test]
fn nc_05_the_address_dependent_filter_keeps_strangers_syns_out() {
    let (mut world, bound) = stored_syn();
    assert_eq!(world.counts().sessions[Protocol::Tcp as usize], 1);
    let known = world.tcp_in(SYN, "198.51.100.7:81", bound);
    assert_eq!(known, Ok(sock6(CLIENT)));
}

#[test]
fn nc_06_the_clients_own_syn_completes_a_simultaneous_open() {
    let (mut world, bound) = stored_syn();
    world.wait(5);
    assert_eq!(world.tcp_out(SYN, CLIENT, STRANGER), Ok(bound));
    assert_eq!(world.counts().tcp[TcpState::Established as usize], 1);
    assert_eq!(world.tcp_in(SYN, STRANGER, bound), Ok(sock6(CLIENT)));
    world.wait(100);
    assert_eq!(world.worker.poll_packet(world.now), None);
}

#[test]
fn nc_07_a_syn_that_the_client_does_not_want_is_answered_after_six_seconds() {
    let (mut world, bound) = stored_syn();
    world.wait_ms(5900);
    assert_eq!(world.worker.poll_packet(world.now), None);
    world.wait_ms(400);
    let Some(PendingPacket::Answer {
        packet, hairpin, ..
    }) = world.worker.poll_packet(world.now)
    else {
        panic!("no answer");
    };
    let (answer, is_hairpin) = (packet.to_vec(), hairpin);
    assert!(!is_hairpin);
    assert_eq!(
        (answer[0], answer[9], &answer[20..22]),
        (0x45, 1, &[3, 3][..])
    );
    assert_eq!(answer[12..16], bound.ip().octets());
    assert_eq!(answer[16..20], sock4(STRANGER).ip().octets());
    assert_eq!(world.worker.poll_packet(world.now), None);
}

#[test]
fn nc_06_a_syn_that_is_stored_a_moment_too_late_passes() {
    let mut config = config("192.0.2.0/28");
    config.filtering = Filtering::AddressDependent;
    let mut world = World::new(config);
    let bound = world.tcp_out(SYN, CLIENT, SERVER).unwrap();
    assert_eq!(world.tcp_in(SYN, STRANGER, bound), Err(Refusal::Hold));
    // Another worker has the client's own SYN before this one stores the stranger's.
    let mut other = World {
        nat: world.nat.clone(),
        worker: world.nat.worker(),
        now: world.now,
        subscription: None,
    };
    assert_eq!(other.tcp_out(SYN, CLIENT, STRANGER), Ok(bound));
    let flow = flow4(TCP, SYN, sock4(STRANGER), bound);
    let held = world.worker.hold_v4(&flow, &[0x45; 40], world.now);
    assert_eq!(held, Ok(()));
    let released = world.worker.poll_packet(world.now);
    assert_eq!(released, Some(PendingPacket::Translate(&[0x45; 40])));
    world.wait(100);
    assert_eq!(world.worker.poll_packet(world.now), None);
}

#[test]
fn nc_08_a_repeated_syn_neither_passes_nor_lets_itself_in() {
    let (mut world, bound) = stored_syn();
    for _ in 0..2 {
        world.wait(2);
        assert_eq!(
            world.tcp_in(SYN, STRANGER, bound),
            silent(DropReason::Filtered)
        );
        assert_eq!(
            world.tcp_in(ACK, STRANGER, bound),
            silent(DropReason::Filtered)
        );
    }
    world.wait_ms(2300);
    assert!(world.worker.poll_packet(world.now).is_some());
}

#[test]
fn nc_12_an_idle_connection_is_probed_and_a_live_peer_revives_it() {
    let (mut world, _) = in_state(TcpState::Established);
    world.wait(7440);
    world.expire();
    assert_eq!(world.worker.poll_packet(world.now), None);
    world.wait(1);
    world.expire();
    let Some(PendingPacket::Send(probe)) = world.worker.poll_packet(world.now) else {
        panic!("no probe");
    };
    // Version 6, to the client, from the server's port to the client's, ACK alone.
    assert_eq!((probe.len(), probe[0], probe[6]), (60, 0x60, 6));
    assert_eq!(probe[8..24], embed(sock4(SERVER)).ip().octets());
    assert_eq!(probe[24..40], sock6(CLIENT).ip().octets());
    assert_eq!((&probe[40..44], probe[53]), (&[0, 80, 0x13, 0x88][..], ACK));
    assert_eq!(world.worker.poll_packet(world.now), None);

    assert_eq!(sole_state(&world), Some(TcpState::Trans));
    packet(&mut world, Side::V6, ACK);
    assert_eq!(sole_state(&world), Some(TcpState::Established));
}

/// The whole exchange: a RST with a guessed number, the question, the client's answer (its challenge
/// ACK, or one to the probe itself).
#[test]
fn nc_23_a_forged_rst_does_not_shorten_the_life_of_an_idle_connection() {
    for (start, from, after) in [
        (TcpState::Established, Side::V4, TcpState::Established),
        (TcpState::Established, Side::V6, TcpState::Established),
        (TcpState::V4Fin, Side::V4, TcpState::Established),
        (TcpState::V6Fin, Side::V4, TcpState::Established),
    ] {
        let (mut world, _) = in_state(start);
        packet(&mut world, from, RST);
        let Some(PendingPacket::Send(probe)) = world.worker.poll_packet(world.now) else {
            panic!("{start:?} {from:?}: the client is not asked");
        };
        // Version 6, TCP, from the server to the client, ports 80 and 5000, numbers 0, ACK alone.
        assert_eq!((probe.len(), probe[0], probe[6]), (60, 0x60, 6));
        assert_eq!(probe[8..24], embed(sock4(SERVER)).ip().octets());
        assert_eq!(probe[24..40], sock6(CLIENT).ip().octets());
        assert_eq!(probe[40..52], [0, 80, 0x13, 0x88, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(probe[53], ACK);
        assert_eq!(world.worker.poll_packet(world.now), None);
        packet(&mut world, Side::V6, ACK);
        world.wait(7439);
        world.expire();
        assert_eq!(sole_state(&world), Some(after), "{start:?} {from:?}");
    }
}

/// A client that has closed answers the question with a RST, or not at all.
#[test]
fn nc_23_a_connection_that_a_rst_has_ended_goes_after_four_minutes_and_is_asked_once() {
    for answers in [true, false] {
        let (mut world, _) = in_state(TcpState::Established);
        packet(&mut world, Side::V4, RST);
        assert!(world.worker.poll_packet(world.now).is_some());
        world.wait(1);
        if answers {
            packet(&mut world, Side::V6, RST);
        }
        packet(&mut world, Side::V4, RST);
        assert_eq!(world.worker.poll_packet(world.now), None);
        world.wait(240);
        world.expire();
        assert_eq!(sole_state(&world), None);
    }
}

/// A browser that closes a connection before it has read all of the answer.
#[test]
fn nc_13_a_rst_that_answers_a_fin_ends_the_session_soon() {
    let (mut world, _) = in_state(TcpState::V6Fin);
    packet(&mut world, Side::V4, ACK);
    packet(&mut world, Side::V6, RST);
    packet(&mut world, Side::V4, ACK);
    packet(&mut world, Side::V6, RST);
    world.wait(241);
    world.expire();
    assert_eq!(sole_state(&world), None);
    // A forged one ends nothing: what follows revives the session, as without the FIN.
    let (mut world, _) = in_state(TcpState::V4Fin);
    packet(&mut world, Side::V4, RST);
    packet(&mut world, Side::V6, ACK);
    world.wait(7000);
    world.expire();
    assert_eq!(sole_state(&world), Some(TcpState::Established));
}

/// Accurate ECN (RFC 9768) negotiates with ECE and CWR in the SYN, Fast Open (RFC 7413) sends data.
#[test]
fn nc_20_a_syn_that_negotiates_ecn_opens_a_session() {
    const ECE_CWR: u8 = 0xc0;
    let mut world = World::with_pool("192.0.2.0/28");
    let bound = world.tcp_out(SYN | ECE_CWR, CLIENT, SERVER).unwrap();
    assert_eq!(
        world.tcp_in(SYN | ACK | 0x40, SERVER, bound),
        Ok(sock6(CLIENT))
    );
    assert_eq!(sole_state(&world), Some(TcpState::Established));
}

#[test]
fn nc_14_last_segments_pass_for_240_seconds_after_both_fins() {
    let (mut world, _) = in_state(TcpState::V4V6Fin);
    for _ in 0..239 {
        world.wait(1);
        packet(&mut world, Side::V6, ACK);
        packet(&mut world, Side::V4, ACK);
    }
    world.wait(2);
    world.expire();
    assert_eq!(sole_state(&world), None);
}

/// A connection between the same endpoints as one that both sides closed, or that a RST ended.
#[test]
fn nc_14_a_connection_that_reuses_its_ports_outlives_the_one_before() {
    for (end, opener) in [
        (TcpState::V4V6Fin, Side::V6),
        (TcpState::V4V6Fin, Side::V4),
        (TcpState::Trans, Side::V6),
    ] {
        let (mut world, _) = in_state(end);
        world.wait(60);
        let answerer = match opener {
            Side::V6 => Side::V4,
            Side::V4 => Side::V6,
        };
        packet(&mut world, opener, SYN);
        packet(&mut world, answerer, SYN | ACK);
        packet(&mut world, opener, ACK);
        assert_eq!(sole_state(&world), Some(TcpState::Established), "{end:?}");
        for _ in 0..20 {
            world.wait(60);
            world.expire();
            packet(&mut world, opener, ACK);
            packet(&mut world, answerer, ACK);
        }
        assert_eq!(sole_state(&world), Some(TcpState::Established), "{end:?}");
    }
}

/// The same port after a connection that the server never confirmed the end of: what is left of the
/// old connection does not keep the new one from its lifetime.
#[test]
fn nc_14_segments_of_the_old_connection_do_not_disturb_the_new_one() {
    let (mut world, _) = in_state(TcpState::V4V6Fin);
    packet(&mut world, Side::V6, SYN);
    // RFC 9293 section 3.10.7.4: a server that still has the old connection acknowledges that one,
    // and the client resets it and tries again.
    packet(&mut world, Side::V4, ACK);
    packet(&mut world, Side::V6, RST);
    packet(&mut world, Side::V4, FIN | ACK);
    assert_eq!(sole_state(&world), Some(TcpState::V6Init));
    packet(&mut world, Side::V6, SYN);
    packet(&mut world, Side::V4, SYN | ACK);
    assert_eq!(sole_state(&world), Some(TcpState::Established));
}

#[test]
fn nc_14_se_19_an_outsider_does_not_open_a_closed_session_where_it_must_not() {
    let mut config = config("192.0.2.0/28");
    config.inbound.opens_tcp = false;
    let mut world = World::new(config);
    let bound = world.tcp_out(SYN, CLIENT, SERVER).unwrap();
    for (from, flags) in [
        (Side::V4, SYN | ACK),
        (Side::V6, FIN | ACK),
        (Side::V4, FIN | ACK),
        (Side::V4, SYN),
    ] {
        match from {
            Side::V6 => assert!(world.tcp_out(flags, CLIENT, SERVER).is_ok()),
            Side::V4 => assert!(world.tcp_in(flags, SERVER, bound).is_ok()),
        }
    }
    assert_eq!(sole_state(&world), Some(TcpState::V4V6Fin));
}

#[test]
fn nc_19_no_icmp_error_ends_a_connection() {
    let (mut world, _) = in_state(TcpState::Established);
    for _ in 0..100 {
        assert!(
            world
                .error_in(TCP, "203.0.113.1", sock4(OUTSIDE), SERVER)
                .is_ok()
        );
        assert!(world.error_out(TCP, "2001:db8::7", SERVER, CLIENT).is_ok());
    }
    assert_eq!(sole_state(&world), Some(TcpState::Established));
}

#[test]
fn nc_20_impossible_segments_open_nothing() {
    let mut world = World::new(forwarding());
    for flags in [0, SYN | FIN, SYN | RST, SYN | FIN | ACK, FIN | 8 | 32] {
        assert_eq!(
            world.tcp_out(flags, CLIENT, SERVER),
            silent(DropReason::BadTransport)
        );
        let inbound = world.tcp_in(flags, SERVER, sock4(OUTSIDE));
        assert_eq!(inbound, silent(DropReason::BadTransport));
    }
    assert_eq!(sole_state(&world), None);
}

#[test]
fn nc_18_legal_sequences_end_where_they_should() {
    use Side::{V4, V6};
    let sequences: [(&str, Script, TcpState); 6] = [
        (
            "handshake",
            &[(V6, SYN), (V4, SYN | ACK), (V6, ACK)],
            TcpState::Established,
        ),
        (
            "from outside",
            &[(V4, SYN), (V6, SYN | ACK), (V4, ACK)],
            TcpState::Established,
        ),
        (
            "simultaneous",
            &[(V6, SYN), (V4, SYN), (V6, SYN | ACK), (V4, SYN | ACK)],
            TcpState::Established,
        ),
        (
            "split",
            &[(V6, SYN), (V4, ACK), (V4, SYN), (V6, SYN | ACK), (V4, ACK)],
            TcpState::Established,
        ),
        (
            "half close",
            &[(V6, SYN), (V4, SYN | ACK), (V6, FIN), (V4, ACK), (V4, ACK)],
            TcpState::V6Fin,
        ),
        (
            "closed",
            &[(V6, SYN), (V4, SYN | ACK), (V4, FIN), (V6, FIN), (V4, ACK)],
            TcpState::V4V6Fin,
        ),
    ];
    for (name, packets, end) in sequences {
        let mut world = World::new(forwarding());
        for &(from, flags) in packets {
            packet(&mut world, from, flags);
        }
        assert_eq!(sole_state(&world), Some(end), "{name}");
    }
}
