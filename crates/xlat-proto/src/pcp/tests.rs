use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};
use std::time::Duration;

use proptest::prelude::*;
use xlat_core::Instant;

use super::*;

const CLIENT: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 7);
const POOL: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const START: Instant = Instant::from_secs(100);
const NOW: Instant = Instant::from_secs(142);

/// A NAT of one address: the suggested port, the client's own or the next free one.
#[derive(Default)]
struct Nat {
    open: BTreeMap<Internal, u16>,
    kept: BTreeMap<(Internal, Remote), u16>,
    idle_until: BTreeMap<(Internal, Remote), Instant>,
    filters: BTreeMap<Internal, Vec<Filter>>,
    refusal: Option<Refusal>,
}

impl Nat {
    fn is_kept(&self, internal: Internal) -> bool {
        self.kept.keys().any(|(kept, _)| *kept == internal)
    }

    fn port(&self, internal: Internal, suggested: Suggestion) -> Result<u16, Refusal> {
        if let Some(refusal) = self.refusal {
            return Err(refusal);
        }
        let wrong_address = suggested.address.is_some_and(|address| address != POOL);
        let used = |port: u16| {
            let mut others = self.open.iter().filter(|(who, _)| **who != internal);
            others.any(|(_, other)| *other == port)
        };
        if let Some(&port) = self.open.get(&internal) {
            let is_other = suggested.port.is_some_and(|wanted| wanted != port);
            return match suggested.exact && is_other {
                true => Err(Refusal::NotThisOne),
                false => Ok(port),
            };
        }
        let wanted = suggested.port.unwrap_or(internal.port);
        if suggested.exact && (wrong_address || used(wanted)) {
            return Err(Refusal::NotThisOne);
        }
        (wanted..=u16::MAX)
            .find(|port| !used(*port))
            .ok_or(Refusal::NoResources)
    }
}

impl PortMapper for Nat {
    fn map(
        &mut self,
        internal: Internal,
        suggested: Suggestion,
        filters: &[Filter],
    ) -> Result<SocketAddrV4, Refusal> {
        let port = self.port(internal, suggested)?;
        self.open.insert(internal, port);
        self.filters.insert(internal, filters.to_vec());
        Ok(SocketAddrV4::new(POOL, port))
    }

    fn keep(
        &mut self,
        internal: Internal,
        remote: Remote,
        suggested: Suggestion,
        until: Instant,
    ) -> Result<SocketAddrV4, Refusal> {
        let port = self.port(internal, suggested)?;
        self.kept.insert((internal, remote), port);
        self.idle_until.insert((internal, remote), until);
        Ok(SocketAddrV4::new(POOL, port))
    }

    fn let_go(&mut self, internal: Internal, remote: Remote) {
        let held = self.idle_until.remove(&(internal, remote));
        assert!(held.is_some(), "{internal:?} {remote:?}");
    }

    fn close(&mut self, internal: Internal) {
        assert!(self.open.remove(&internal).is_some(), "{internal:?}");
        assert!(self.is_kept(internal), "{internal:?}");
    }

    fn release(&mut self, internal: Internal) {
        let was_open = self.open.remove(&internal).is_some();
        assert!(was_open || self.is_kept(internal), "{internal:?}");
        self.kept.retain(|(kept, _), _| *kept != internal);
    }
}

fn settings() -> Settings {
    Settings {
        lifetimes: (120, 86_400),
        third_party: Vec::new(),
        mappings_max: 4,
        pref64: Some("64:ff9b::/96".parse().unwrap()),
    }
}

fn server() -> Server {
    Server::new(settings(), START)
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(pair).collect()
}

/// A request as section 7.1 and 11.1 draw it: TCP port 80 for an hour, no suggestion.
fn map_request() -> Vec<u8> {
    bytes(
        "02 01 0000  00000e10  20010db8000100000000000000000007 \
         0102030405060708090a0b0c  06 000000  0050 0000  00000000000000000000ffff00000000",
    )
}

/// The same for a connection from port 4000 to port 443 of 198.51.100.7 (section 12.1).
fn peer_request() -> Vec<u8> {
    bytes(
        "02 02 0000  00000e10  20010db8000100000000000000000007 \
         0102030405060708090a0b0c  06 000000  0fa0 0000  00000000000000000000ffff00000000 \
         01bb 0000  0064ff9b0000000000000000c6336407",
    )
}

fn with(mut request: Vec<u8>, changes: &[(usize, u8)]) -> Vec<u8> {
    for &(at, value) in changes {
        request[at] = value;
    }
    request
}

fn and(mut request: Vec<u8>, option: &str) -> Vec<u8> {
    request.extend(bytes(option));
    request
}

fn ask(server: &mut Server, nat: &mut Nat, request: &[u8]) -> Vec<u8> {
    server.handle(request, CLIENT, NOW, nat).unwrap()
}

#[track_caller]
fn expect_code(request: &[u8], code: u8, lifetime: u32) {
    let response = ask(&mut server(), &mut Nat::default(), request);
    assert_eq!(response[..4], [2, request[1] | 0x80, 0, code]);
    assert_eq!(response[4..8], lifetime.to_be_bytes());
    assert_eq!(response[8..12], 42u32.to_be_bytes());
    assert_eq!(response[12..24], [0; 12]);
    // What was asked comes back.
    let end = request.len().min(1100);
    assert_eq!(response.get(24..end), request.get(24..end));
    assert!(response.len().is_multiple_of(4));
}

#[test]
fn pc_01_a_port_is_mapped_and_renewed() {
    let (mut server, mut nat) = (server(), Nat::default());
    let expected = bytes(
        "02 81 00 00  00000e10  0000002a  000000000000000000000000 \
         0102030405060708090a0b0c  06 000000  0050 0050  00000000000000000000ffffc0000201",
    );
    assert_eq!(ask(&mut server, &mut nat, &map_request()), expected);
    assert_eq!(ask(&mut server, &mut nat, &map_request()), expected);
    assert_eq!(server.mappings().count(), 1);
    assert_eq!(server.next_expiry(), Some(NOW + Duration::from_secs(3600)));
}

#[test]
fn pc_02_lifetimes_are_kept_within_bounds() {
    for (wanted, given) in [(1, 120), (0xffff_ffff, 86_400)] {
        let mut request = map_request();
        request[4..8].copy_from_slice(&u32::to_be_bytes(wanted));
        let response = ask(&mut server(), &mut Nat::default(), &request);
        assert_eq!(response[4..8], u32::to_be_bytes(given));
    }
}

#[test]
fn pc_03_a_mapping_ends_in_time_and_not_before() {
    let (mut server, mut nat) = (server(), Nat::default());
    ask(&mut server, &mut nat, &map_request());
    server.expire(NOW + Duration::from_secs(3599), &mut nat);
    assert_eq!(nat.open.len(), 1);
    server.expire(NOW + Duration::from_secs(3600), &mut nat);
    assert!(nat.open.is_empty());
    assert_eq!(server.next_expiry(), None);
}

#[test]
fn pc_04_only_the_holder_renews_and_deletes() {
    const NONCE: usize = 24;
    let (mut server, mut nat) = (server(), Nat::default());
    ask(&mut server, &mut nat, &map_request());
    let delete: &[(usize, u8)] = &[(6, 0), (7, 0)];
    for changes in [&[][..], delete] {
        let spoofed = with(with(map_request(), changes), &[(NONCE, 0xff)]);
        let response = ask(&mut server, &mut nat, &spoofed);
        assert_eq!(response[3], 2);
        // For as long as the mapping stays.
        assert_eq!(response[4..8], 3600u32.to_be_bytes());
    }
    assert_eq!(nat.open.len(), 1);
    let response = ask(&mut server, &mut nat, &with(map_request(), delete));
    assert_eq!(response[3..8], [0, 0, 0, 0, 0]);
    assert!(nat.open.is_empty());
    // Again: there is nothing left to delete, which is what was wanted.
    let response = ask(&mut server, &mut nat, &with(map_request(), delete));
    assert_eq!(response[3], 0);
}

#[test]
fn pc_05_all_ports_of_a_protocol_are_deleted_at_once() {
    const PORT: usize = 41;
    const PROTOCOL: usize = 36;
    let (mut server, mut nat) = (server(), Nat::default());
    ask(&mut server, &mut nat, &map_request());
    ask(&mut server, &mut nat, &with(map_request(), &[(PORT, 81)]));
    ask(
        &mut server,
        &mut nat,
        &with(map_request(), &[(PROTOCOL, 17)]),
    );
    let all = with(map_request(), &[(6, 0), (7, 0), (PORT, 0)]);
    assert_eq!(ask(&mut server, &mut nat, &all)[3], 0);
    let left: Vec<u8> = nat.open.keys().map(|internal| internal.protocol).collect();
    assert_eq!(left, [17]);
}

#[test]
fn pc_06_every_error_has_its_code() {
    const LONG: u32 = 1800;
    let request = map_request;
    // UNSUPP_VERSION, for NAT-PMP too.
    expect_code(&with(request(), &[(0, 1)]), 1, LONG);
    expect_code(&[0, 0], 1, LONG);
    // MALFORMED_REQUEST: length, and what contradicts itself.
    expect_code(&request()[..23], 3, LONG);
    expect_code(&request()[..56], 3, LONG);
    expect_code(&and(request(), "00"), 3, LONG);
    expect_code(&[request(), vec![0; 1044]].concat(), 3, LONG);
    expect_code(&with(request(), &[(36, 0)]), 3, LONG);
    expect_code(&and(peer_request(), "02000000"), 3, LONG);
    expect_code(&with(peer_request(), &[(60, 0), (61, 0)]), 3, LONG);
    // UNSUPP_OPCODE, UNSUPP_OPTION, MALFORMED_OPTION.
    expect_code(&with(request(), &[(1, 3)]), 4, LONG);
    expect_code(&and(request(), "04000000"), 5, LONG);
    expect_code(&and(request(), "02000004 00000000"), 6, LONG);
    expect_code(&and(request(), "02000000 02000000"), 6, LONG);
    expect_code(&and(request(), "03000014 00000000"), 6, LONG);
    let filter = "03000014 00810000 20010db8000000000000000000000000";
    expect_code(&and(request(), filter), 6, LONG);
    let mapped = "03000014 005f0000 00000000000000000000ffffc6336400";
    expect_code(&and(request(), mapped), 6, LONG);
    // UNSUPP_PROTOCOL: SCTP, all protocols, all ports.
    expect_code(&with(request(), &[(36, 132)]), 9, LONG);
    expect_code(&with(request(), &[(36, 0), (41, 0)]), 9, LONG);
    expect_code(&with(request(), &[(41, 0)]), 9, LONG);
    // ADDRESS_MISMATCH.
    expect_code(&with(request(), &[(23, 8)]), 12, LONG);
    // Other hosts are none of the client's business unless the operator says so.
    let other = "01000010 20010db8000100000000000000000009";
    expect_code(&and(request(), other), 5, LONG);
}

/// Section 7.3: options are padded to four bytes, and their length does not count the padding.
#[test]
fn pc_18_options_that_are_not_aligned_are_read_by_their_length() {
    let padded = and(map_request(), "c0000005 0102030405 000000 02000000");
    let response = ask(&mut server(), &mut Nat::default(), &padded);
    // Ignored, and the option behind it is not.
    assert_eq!((response[3], &response[60..]), (0, &[2, 0, 0, 0][..]));
    // The padding is missing, or the length leads beyond the end.
    expect_code(&and(map_request(), "c0000005 0102030405"), 3, 1800);
    for option in [
        "c0000005 01020304",
        "c000ffff 00000000",
        "03000015 00000000",
    ] {
        expect_code(&and(map_request(), option), 6, 1800);
    }
}

#[test]
fn pc_07_what_the_nat_refuses_has_its_code() {
    for (refusal, code, lifetime) in [
        (Refusal::NotAuthorized, 2, 1800u32),
        (Refusal::Temporary, 7, 30),
        (Refusal::NoResources, 8, 30),
        (Refusal::Quota, 10, 30),
        (Refusal::NotThisOne, 11, 30),
    ] {
        let (mut server, mut nat) = (server(), Nat::default());
        nat.refusal = Some(refusal);
        for request in [map_request(), peer_request()] {
            let response = ask(&mut server, &mut nat, &request);
            assert_eq!(response[3], code);
            assert_eq!(response[4..8], lifetime.to_be_bytes());
        }
        assert_eq!(server.mappings().count(), 0);
    }
}

#[test]
fn pc_08_responses_and_fragments_of_requests_get_no_answer() {
    let (mut server, mut nat) = (server(), Nat::default());
    for datagram in [&[][..], &[2], &with(map_request(), &[(1, 0x81)])] {
        assert_eq!(server.handle(datagram, CLIENT, NOW, &mut nat), None);
    }
}

#[test]
fn pc_09_another_port_will_do_unless_the_client_says_no() {
    const NONCE: usize = 24;
    const INTERNAL: usize = 41;
    const EXTERNAL: usize = 43;
    let (mut server, mut nat) = (server(), Nat::default());
    ask(&mut server, &mut nat, &map_request());
    let second = with(map_request(), &[(INTERNAL, 81), (EXTERNAL, 80), (NONCE, 9)]);
    let response = ask(&mut server, &mut nat, &and(second.clone(), "02000000"));
    assert_eq!(response[3], 11);
    let response = ask(&mut server, &mut nat, &second);
    assert_eq!((response[3], &response[42..44]), (0, &[0, 81][..]));
    let third = with(map_request(), &[(INTERNAL, 82), (EXTERNAL, 99)]);
    let response = ask(&mut server, &mut nat, &and(third, "02000000"));
    assert_eq!((response[3], &response[42..44]), (0, &[0, 99][..]));
    // The option was processed, so it comes back.
    assert_eq!(response[60..], [2, 0, 0, 0]);
}

#[test]
fn pc_10_filters_add_up_until_they_are_cleared() {
    let one = "03000014 00800050 00000000000000000000ffffc6336407";
    let two = "03000014 00780000 00000000000000000000ffffcb007100";
    let clear = "03000014 00000000 00000000000000000000000000000000";
    let (mut server, mut nat) = (server(), Nat::default());
    let mut after = |options: &[&str]| {
        let request = and(map_request(), &options.concat());
        let response = ask(&mut server, &mut nat, &request);
        assert_eq!(response[60..], request[60..]);
        nat.filters.values().next().unwrap().clone()
    };
    let first = Filter {
        prefix_len: 128,
        address: Ipv4Addr::new(198, 51, 100, 7).to_ipv6_mapped(),
        port: 80,
    };
    assert_eq!(after(&[one]), [first]);
    assert_eq!(after(&[one]), [first]);
    assert_eq!(after(&[two]).len(), 2);
    assert_eq!(after(&[clear, one]), [first]);
    assert_eq!(after(&[clear]), []);
}

#[test]
fn pc_11_more_filters_than_there_is_room_for_are_refused() {
    let filter = |port: u8| {
        let mut option = bytes("03000014 00800000 00000000000000000000ffffc6336407");
        option[7] = port;
        option
    };
    let filters: Vec<u8> = (1..=17).flat_map(filter).collect();
    let request = [map_request(), filters].concat();
    expect_code(&request, 13, 1800);
}

#[test]
fn pc_12_a_connection_is_kept_and_let_go() {
    let (mut server, mut nat) = (server(), Nat::default());
    let response = ask(&mut server, &mut nat, &peer_request());
    let expected = bytes(
        "02 82 00 00  00000e10  0000002a  000000000000000000000000 \
         0102030405060708090a0b0c  06 000000  0fa0 0fa0  00000000000000000000ffffc0000201 \
         01bb 0000  0064ff9b0000000000000000c6336407",
    );
    assert_eq!(response, expected);
    // It may be idle for as long as the response says.
    let until = nat.idle_until.values().copied().collect::<Vec<_>>();
    assert_eq!(until, [NOW + Duration::from_secs(3600)]);
    let response = ask(
        &mut server,
        &mut nat,
        &with(peer_request(), &[(6, 0), (7, 0)]),
    );
    assert_eq!(response[3..8], [0, 0, 0, 0, 0]);
    assert!(nat.kept.is_empty() && nat.idle_until.is_empty());
}

#[test]
fn pc_12_a_port_is_released_with_the_last_that_is_held_of_it() {
    let delete: &[(usize, u8)] = &[(6, 0), (7, 0)];
    for first in [map_request, peer_request] {
        let (mut server, mut nat) = (server(), Nat::default());
        // Port 4000 for both.
        let both = [
            with(map_request(), &[(40, 0x0f), (41, 0xa0)]),
            peer_request(),
        ];
        for request in &both {
            assert_eq!(ask(&mut server, &mut nat, request)[3], 0);
        }
        let is_peer = first()[1] == 2;
        let ended = both[usize::from(is_peer)].clone();
        ask(&mut server, &mut nat, &with(ended, delete));
        assert_eq!(nat.open.is_empty(), !is_peer);
        assert!(!nat.open.is_empty() || !nat.kept.is_empty());
        let other = both[usize::from(!is_peer)].clone();
        ask(&mut server, &mut nat, &with(other, delete));
        assert!(nat.open.is_empty() && nat.kept.is_empty());
    }
}

#[test]
fn pc_13_the_server_says_that_it_is_there() {
    let request = bytes("02 00 0000 00000000 20010db8000100000000000000000007");
    let response = ask(&mut server(), &mut Nat::default(), &request);
    let expected = bytes("02 80 00 00 00000000 0000002a 000000000000000000000000");
    assert_eq!(response, expected);
    assert_eq!(server().announcement(NOW).emit(), expected);
}

#[test]
fn pc_14_the_nat64_prefix_is_told_to_those_who_ask() {
    let request = and(map_request(), "81000000");
    let response = ask(&mut server(), &mut Nat::default(), &request);
    let prefix = bytes("8100000e 000c 0064ff9b0000000000000000 0000");
    assert_eq!(response[60..], prefix);
    // Options from 128 on that are unknown may be ignored, and do not come back.
    let request = and(map_request(), "c0000004 00000000");
    let response = ask(&mut server(), &mut Nat::default(), &request);
    assert_eq!((response[3], response.len()), (0, 60));
}

#[test]
fn pc_15_mappings_for_other_hosts_need_the_operators_consent() {
    let other = "01000010 20010db8000100000000000000000009";
    let (mut server, mut nat) = (server(), Nat::default());
    server.reconfigure(Settings {
        third_party: vec!["2001:db8:1::7/128".parse().unwrap()],
        ..settings()
    });
    let response = ask(&mut server, &mut nat, &and(map_request(), other));
    assert_eq!((response[3], &response[60..]), (0, &bytes(other)[..]));
    let host = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 9);
    assert!(nat.open.keys().all(|internal| internal.client == host));
    let own = "01000010 20010db8000100000000000000000007";
    let response = ask(&mut server, &mut nat, &and(map_request(), own));
    assert_eq!(response[3], 3);
    // The host itself has no such right.
    let back = and(with(map_request(), &[(23, 9)]), own);
    let response = server.handle(&back, host, NOW, &mut nat).unwrap();
    assert_eq!(
        (response[3], &response[4..8]),
        (2, &1800u32.to_be_bytes()[..])
    );
}

#[test]
fn pc_16_the_table_has_an_end() {
    let (mut server, mut nat) = (server(), Nat::default());
    for port in 1..=4 {
        let request = with(map_request(), &[(41, port)]);
        assert_eq!(ask(&mut server, &mut nat, &request)[3], 0);
    }
    let fifth = with(map_request(), &[(41, 5)]);
    assert_eq!(ask(&mut server, &mut nat, &fifth)[3], 8);
    // Who has one may keep it.
    let first = with(map_request(), &[(41, 1)]);
    assert_eq!(ask(&mut server, &mut nat, &first)[3], 0);
}

#[test]
fn pc_17_a_mapping_survives_a_restart_with_its_port_or_not_at_all() {
    let (mut before, mut nat) = (server(), Nat::default());
    ask(&mut before, &mut nat, &map_request());
    let saved: Vec<Mapping> = before.mappings().cloned().collect();
    let (mut after, mut nat) = (server(), Nat::default());
    assert!(after.restore(saved[0].clone(), &mut nat));
    assert_eq!(after.mappings().next(), Some(&saved[0]));
    // Another client has the port now.
    let (mut after, mut nat) = (server(), Nat::default());
    let other = Internal {
        port: 81,
        ..saved[0].internal
    };
    nat.open.insert(other, 80);
    assert!(!after.restore(saved[0].clone(), &mut nat));
    assert_eq!(after.mappings().count(), 0);
}

proptest! {
    /// Whatever comes: no panic, no amplification beyond the header, well-formed responses, and
    /// each mapping that the server has is one that the NAT has.
    #[test]
    fn pc_18_hostile_datagrams(
        datagrams in proptest::collection::vec(
            (0..3usize, proptest::collection::vec((0..120usize, any::<u8>()), 0..6), 0..1200usize),
            1..40,
        )
    ) {
        let (mut server, mut nat) = (server(), Nat::default());
        let mut now = NOW;
        for (kind, changes, length) in datagrams {
            let filter = "03000014 00800050 00000000000000000000ffffc6336407";
            let mut datagram = match kind {
                0 => map_request(),
                1 => peer_request(),
                _ => and(map_request(), filter),
            };
            for (at, value) in changes {
                if let Some(byte) = datagram.get_mut(at) {
                    *byte = value;
                }
            }
            if length > 600 {
                datagram.resize(length, 0);
            }
            now = now + Duration::from_secs(60);
            server.expire(now, &mut nat);
            if let Some(response) = server.handle(&datagram, CLIENT, now, &mut nat) {
                prop_assert!(response.len().is_multiple_of(4) && response.len() <= 1100);
                prop_assert!(response.len() <= datagram.len().max(24) + 3);
                prop_assert_eq!(response[1], datagram[1] | 0x80);
            }
            let held = server.mappings().map(|mapping| mapping.internal);
            let held: BTreeSet<Internal> = held.collect();
            let kept = nat.kept.keys().map(|(internal, _)| internal);
            let given: BTreeSet<Internal> = nat.open.keys().chain(kept).copied().collect();
            prop_assert_eq!(held, given);
        }
    }
}
