//! What becomes of packets in the stateful NAT64: fragments, hairpins and ICMP errors, between
//! fake hosts.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Result, ensure};
use lab::fake_host::{fake_host4, fake_host6};
use lab::fixture::{Fixture, SHARED, shown};
use lab::suite::Test;
use lab::topology::embedded;
use lab::traffic::content::Content;
use lab::traffic::fragments::checksum;
use lab::traffic::packets::{
    ACK, Place, SYN, Seen, error, packet, piece_v4, piece_v6, tcp, udp, udp_datagram,
};

const TESTS: &[Test] = lab::tests![
    nf_01_three_fragments_cross_in_any_order_both_ways,
    nf_02_more_fragmented_datagrams_a_second_than_places,
    l4_05_a_fragmented_datagram_without_checksum_gets_one,
    nf_07_a_datagram_without_df_is_cut,
    nh_01_nh_03_connections_and_errors_turn_round,
    ne_01_an_unreachable_host_is_reported_to_the_client,
    ne_02_a_routers_error_hides_behind_the_clients_address,
    nt_07_se_02_an_error_from_inside_the_prefix_is_dropped,
    nt_08_other_transports_are_refused_on_both_sides,
];

const SERVER: u8 = 1;

/// All orders of three.
const ORDERS: [[usize; 3]; 6] = [
    [0, 1, 2],
    [0, 2, 1],
    [1, 0, 2],
    [1, 2, 0],
    [2, 0, 1],
    [2, 1, 0],
];

fn main() {
    lab::suite::run(TESTS)
}

fn nf_01_three_fragments_cross_in_any_order_both_ways() -> Result<()> {
    let mut fixture = Fixture::new(&[])?;
    let server = outside(SERVER, 53);
    let bound = fixture.bind(inside(5000), server)?;
    let content = Content::new(1).take(3000);
    let there = udp_datagram(inside(5000), shown(server), &content);
    let back = udp_datagram(server, bound, &content);
    for (id, order) in (1..).zip(ORDERS) {
        let pieces = Place::pieces(&there, 1200);
        let send = |number: usize| {
            let (from, to) = (fake_host6(1, 7), embedded(fake_host4(SERVER)));
            piece_v6(from, to, 17, id, pieces[number])
        };
        for packet in order.map(send) {
            fixture.inside.send(&packet)?;
        }
        let came = three(|| fixture.outside.expect(|seen| seen.protocol == 17))?;
        let whole = join(&came)?;
        ensure!(whole[..2] == bound.port().to_be_bytes(), "{order:?}");
        ensure!(whole[8..] == content, "{order:?}");
        ensure!(is_sound(&came[0], &whole), "{order:?}");

        let pieces = Place::pieces(&back, 1200);
        let send =
            |number: usize| piece_v4(fake_host4(SERVER), SHARED, 17, id as u16, pieces[number]);
        for packet in order.map(send) {
            fixture.outside.send(&packet)?;
        }
        let came = three(|| fixture.inside.expect(|seen| seen.protocol == 17))?;
        let whole = join(&came)?;
        ensure!(whole[2..4] == 5000_u16.to_be_bytes(), "{order:?}");
        ensure!(whole[8..] == content, "{order:?}");
        ensure!(is_sound(&came[0], &whole), "{order:?}");
    }
    Ok(())
}

fn nf_02_more_fragmented_datagrams_a_second_than_places() -> Result<()> {
    let mut fixture = Fixture::new(&["--fragment-memory=1"])?;
    let server = outside(SERVER, 53);
    fixture.bind(inside(5000), server)?;
    let datagram = udp_datagram(inside(5000), shown(server), &[7; 100]);
    let pieces = Place::pieces(&datagram, 64);
    let mut came = 0;
    for id in 0..3000 {
        for piece in &pieces {
            let (from, to) = (fake_host6(1, 7), embedded(fake_host4(SERVER)));
            fixture.inside.send(&piece_v6(from, to, 17, id, *piece))?;
        }
        // No faster than a busy machine takes them.
        while 2 * id - came > 64 {
            fixture.outside.expect(|seen| seen.protocol == 17)?;
            came += 1;
        }
    }
    let status = fixture.installed.ask_plat(&["status", "--json"])?;
    ensure!(!status.contains("fragment-"), "{status}");
    Ok(())
}

fn l4_05_a_fragmented_datagram_without_checksum_gets_one() -> Result<()> {
    let mut fixture = Fixture::new(&[])?;
    let server = outside(SERVER, 53);
    let bound = fixture.bind(inside(5000), server)?;
    let content = Content::new(1).take(3000);
    let mut datagram = udp_datagram(server, bound, &content);
    datagram[6..8].fill(0);
    let pieces = Place::pieces(&datagram, 1200);
    for (id, order) in (1..).zip(ORDERS) {
        for number in order {
            let packet = piece_v4(fake_host4(SERVER), SHARED, 17, id, pieces[number]);
            fixture.outside.send(&packet)?;
        }
        // It is cut again to fit the IPv6 side.
        let came = three(|| fixture.inside.expect(|seen| seen.protocol == 17))?;
        let whole = join(&came)?;
        ensure!(whole[8..] == content && whole[6..8] != [0, 0], "{order:?}");
        ensure!(is_sound(&came[0], &whole), "{order:?}");
    }
    Ok(())
}

fn nf_07_a_datagram_without_df_is_cut() -> Result<()> {
    let mut fixture = Fixture::new(&[])?;
    let server = outside(SERVER, 53);
    let bound = fixture.bind(inside(5000), server)?;
    let content = Content::new(1).take(1472);
    fixture.outside.send(&udp(server, bound, &content))?;
    let mut came = Vec::new();
    for _ in 0..2 {
        came.push(fixture.inside.expect(|seen| seen.protocol == 17)?);
    }
    ensure!(came.iter().all(|seen| seen.body.len() + 48 <= 1280));
    let whole = join(&came)?;
    ensure!(whole[8..] == content && is_sound(&came[0], &whole));
    Ok(())
}

fn nh_01_nh_03_connections_and_errors_turn_round() -> Result<()> {
    let mut fixture = Fixture::new(&[])?;
    let server = outside(SERVER, 80);
    let (one, other) = (inside(5000), SocketAddr::from((fake_host6(2, 7), 6000)));
    let mut open = |from| -> Result<SocketAddr> {
        Ok(fixture
            .out(&tcp(from, shown(server), SYN, (1, 0), b""))?
            .from())
    };
    let outer = [open(one)?, open(other)?];
    // Each sees the other under its external address (RFC 5382 REQ-8).
    let syn = tcp(one, shown(outer[1]), SYN, (1, 0), b"");
    fixture.inside.send(&syn)?;
    let seen = fixture.inside.expect(|seen| seen.protocol == 6)?;
    ensure!(
        seen.to() == other && seen.from() == shown(outer[0]),
        "{seen:?}"
    );
    fixture
        .inside
        .send(&tcp(other, shown(outer[0]), SYN | ACK, (9, 2), b""))?;
    let seen = fixture.inside.expect(|seen| seen.protocol == 6)?;
    ensure!(
        seen.to() == one && seen.from() == shown(outer[1]),
        "{seen:?}"
    );

    // A closed port of the other's: its error finds the way back (RFC 5508 REQ-7).
    let bound = [fixture.bind(one, server)?, fixture.bind(other, server)?];
    let sent = udp(one, shown(bound[1]), b"anybody?");
    fixture.inside.send(&sent)?;
    let seen = fixture.inside.expect(|seen| seen.protocol == 17)?;
    ensure!(seen.to() == other, "{seen:?}");
    let got = udp(shown(bound[0]), other, b"anybody?");
    let refusal = error(other.ip(), seen.source, [1, 4], &got);
    fixture.inside.send(&refusal)?;
    let told = fixture.inside.expect(|seen| seen.protocol == 58)?;
    ensure!(
        told.destination == one.ip() && told.kind() == Some([1, 4]),
        "{told:?}"
    );
    ensure!(told.source == shown(bound[1]).ip(), "{told:?}");
    let quoted = told.quoted();
    let is_own = |quoted: &Seen| quoted.from() == one && quoted.to() == shown(bound[1]);
    ensure!(quoted.as_ref().is_some_and(is_own), "{quoted:?}");
    Ok(())
}

fn ne_01_an_unreachable_host_is_reported_to_the_client() -> Result<()> {
    let mut fixture = Fixture::new(&[])?;
    let server = outside(SERVER, 53);
    let bound = fixture.bind(inside(5000), server)?;
    let router = fake_host4(99).into();
    let quoted = udp(bound, server, b"bind");
    let told = fixture.back(&error(router, SHARED.into(), [3, 1], &quoted))?;
    // Host unreachable becomes no route to destination (RFC 7915 section 4.2).
    ensure!(told.kind() == Some([1, 0]), "{told:?}");
    ensure!(
        told.source == IpAddr::from(embedded(fake_host4(99))),
        "{told:?}"
    );
    ensure!(told.destination == inside(5000).ip(), "{told:?}");
    let quoted = told.quoted();
    let is_own = |quoted: &Seen| quoted.from() == inside(5000) && quoted.to() == shown(server);
    ensure!(quoted.as_ref().is_some_and(is_own), "{quoted:?}");
    Ok(())
}

fn ne_02_a_routers_error_hides_behind_the_clients_address() -> Result<()> {
    // The router is no client.
    let mut fixture = Fixture::new(&["--client=2001:db8:5:1::/64"])?;
    let server = outside(SERVER, 53);
    let bound = fixture.bind(inside(5000), server)?;
    let got = udp(shown(server), inside(5000), b"answer");
    let router = fake_host6(999, 1).into();
    let told = fixture.out(&error(router, shown(server).ip(), [1, 0], &got))?;
    ensure!(
        told.source == bound.ip() && told.destination == server.ip(),
        "{told:?}"
    );
    ensure!(told.kind() == Some([3, 1]), "{told:?}");
    let quoted = told.quoted();
    let is_own = |quoted: &Seen| quoted.from() == server && quoted.to() == bound;
    ensure!(quoted.as_ref().is_some_and(is_own), "{quoted:?}");
    Ok(())
}

fn nt_07_se_02_an_error_from_inside_the_prefix_is_dropped() -> Result<()> {
    let mut fixture = Fixture::new(&[])?;
    let server = outside(SERVER, 53);
    fixture.bind(inside(5000), server)?;
    let got = udp(shown(server), inside(5000), b"answer");
    let forged = embedded(fake_host4(77)).into();
    fixture
        .inside
        .send(&error(forged, shown(server).ip(), [1, 0], &got))?;
    fixture.wait_for_count("source-in-pref64", 1)?;
    // To somebody else than who sent the packet.
    let other = shown(outside(2, 53)).ip();
    fixture
        .inside
        .send(&error(fake_host6(1, 7).into(), other, [1, 4], &got))?;
    fixture.wait_for_count("quoted-unmapped", 1)?;
    ensure!(fixture.outside.forget()? == 0, "it came through");
    Ok(())
}

fn nt_08_other_transports_are_refused_on_both_sides() -> Result<()> {
    const SCTP: u8 = 132;
    let mut fixture = Fixture::new(&[])?;
    let server = outside(SERVER, 0);
    let (from, to) = (inside(0).ip(), shown(server).ip());
    fixture.inside.send(&packet(from, to, SCTP, &[0; 12]))?;
    let told = fixture.inside.expect(|seen| seen.protocol == 58)?;
    ensure!(told.kind() == Some([1, 4]), "{told:?}");
    fixture
        .outside
        .send(&packet(server.ip(), SHARED.into(), SCTP, &[0; 12]))?;
    let told = fixture.outside.expect(|seen| seen.protocol == 1)?;
    ensure!(told.kind() == Some([3, 2]), "{told:?}");
    Ok(())
}

fn three(mut next: impl FnMut() -> Result<Seen>) -> Result<Vec<Seen>> {
    (0..3).map(|_| next()).collect()
}

/// The datagram whose pieces these are.
fn join(pieces: &[Seen]) -> Result<Vec<u8>> {
    let mut whole = Vec::new();
    let mut places: Vec<(usize, bool, &[u8], u32)> = Vec::new();
    for seen in pieces {
        let Some((id, offset, more)) = seen.fragment else {
            anyhow::bail!("no fragment: {seen:?}");
        };
        places.push((offset, more, &seen.body, id));
    }
    places.sort_unstable();
    for (number, (offset, more, body, id)) in places.iter().enumerate() {
        ensure!(*offset == whole.len() && *id == places[0].3, "{places:?}");
        ensure!(*more == (number + 1 < places.len()), "{places:?}");
        whole.extend_from_slice(body);
    }
    Ok(whole)
}

/// True if the datagram's checksum is right.
fn is_sound(piece: &Seen, whole: &[u8]) -> bool {
    let mut bare = whole.to_vec();
    bare[6..8].fill(0);
    let (from, to) = ((piece.source, 0).into(), (piece.destination, 0).into());
    checksum(17, from, to, &bare).to_be_bytes() == whole[6..8]
}

fn inside(port: u16) -> SocketAddr {
    (fake_host6(1, 7), port).into()
}

fn outside(host: u8, port: u16) -> SocketAddr {
    (fake_host4(host), port).into()
}
