//! Packets that hosts, routers and middleboxes send although no RFC wants them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use ipnet::{IpNet, Ipv6Net};
use lab::binaries::Binaries;
use lab::fake_host::{fake_host4, fake_host6};
use lab::fixture::{Fixture, SHARED, shown};
use lab::installed::{Installed, Setup};
use lab::link::{add_address, add_route};
use lab::suite::Test;
use lab::topology::{Plan, Topology, UPLINK, embedded};
use lab::traffic::PATIENCE;
use lab::traffic::fragments::checksum;
use lab::traffic::packets::{
    Place, SYN, Seen, echo, error, packet, piece_v6, tcp, udp, udp_datagram,
};
use lab::traffic::ping::ping;
use lab::traffic::udp::{Echo, exchange};

pub(crate) const TESTS: &[Test] = lab::tests![
    fp_16_hosts_with_translatable_addresses_are_served,
    fp_16_an_error_that_quotes_a_rewritten_header_reaches_the_client,
    fp_16_an_error_with_segments_left_is_not_answered,
    fp_17_malformed_fragments_and_misplaced_headers_are_answered,
    fp_17_datagrams_without_a_checksum_are_refused_aloud,
    fp_17_own_addresses_have_no_other_transport,
    fp_17_an_error_about_what_never_crosses_is_dropped,
    fp_17_a_syn_to_an_unbound_port_is_answered_where_told_to,
    l4_05_a_vpn_behind_a_nat_keeps_its_session_alive,
];

/// A host with the IPv4 address 198.18.5.5 and the IPv6 address that embeds it.
fn fp_16_hosts_with_translatable_addresses_are_served() -> Result<()> {
    const OWN: Ipv4Addr = Ipv4Addr::new(198, 18, 5, 5);
    let hosts = Ipv6Net::new(embedded(Ipv4Addr::new(198, 18, 5, 0)), 120)?;
    let topology = Topology::new(&Plan::default())?;
    add_address(
        (topology.client(), UPLINK),
        IpNet::new(embedded(OWN).into(), 128)?,
    )?;
    let gateway = Topology::client_address(0).into();
    add_route(&topology.edge, hosts.into(), gateway, None)?;
    let setup = Setup::plat_alone(&[&format!("--translatable={hosts}")]);
    let installed = Installed::with(&Binaries::find()?, topology, setup)?;
    let network = &installed.topology;
    let (client, server) = (network.client(), &network.server);
    // In from IPv4, by its own address.
    server.run(|| ping(OWN, 56, PATIENCE))?;
    let service = Echo::start(client, embedded(OWN).into())?;
    let own = SocketAddr::from((OWN, service.address().port()));
    server.run(|| exchange(own, [1, 100, 1200], PATIENCE))?;
    Ok(())
}

/// A router on the way has changed the quoted header (its TOS, its addresses) and not its checksum.
fn fp_16_an_error_that_quotes_a_rewritten_header_reaches_the_client() -> Result<()> {
    let mut fixture = Fixture::new(&[])?;
    let bound = fixture.bind(inside(5000), outside(53))?;
    let mut quoted = udp(bound, outside(53), b"bind");
    quoted[1] = 0x20;
    let router = fake_host4(99).into();
    let told = fixture.back(&error(router, SHARED.into(), [3, 1], &quoted))?;
    ensure!(told.kind() == Some([1, 0]), "{told:?}");
    let quoted = told.quoted();
    let is_own = |quoted: &Seen| quoted.from() == inside(5000);
    ensure!(quoted.as_ref().is_some_and(is_own), "{quoted:?}");
    Ok(())
}

fn fp_16_an_error_with_segments_left_is_not_answered() -> Result<()> {
    let mut fixture = Fixture::new(&[])?;
    let bound = fixture.bind(inside(5000), outside(53))?;
    ensure!(bound.ip() == IpAddr::from(SHARED), "{bound}");
    let (from, to) = (inside(0).ip(), shown(outside(0)).ip());
    let routed = |message: &[u8]| {
        let routing = [58, 0, 3, 1, 0, 0, 0, 0];
        packet(from, to, 43, &[&routing, message].concat())
    };
    let got = udp(shown(outside(53)), inside(5000), b"answer");
    fixture
        .inside
        .send(&routed(&error(from, to, [1, 4], &got)[40..]))?;
    fixture.wait_for_count("ipv6-segments-left", 1)?;
    fixture
        .inside
        .send(&routed(&echo(from, to, 1, b"ping")[40..]))?;
    // The first and only answer is about the echo request.
    let told = fixture.inside.expect(|seen| seen.protocol == 58)?;
    ensure!(told.kind() == Some([4, 0]), "{told:?}");
    let quoted = told.quoted().map(|quoted| quoted.body.len());
    ensure!(quoted == Some(8 + 8 + 4), "{told:?}");
    Ok(())
}

fn fp_17_malformed_fragments_and_misplaced_headers_are_answered() -> Result<()> {
    let mut fixture = Fixture::new(&[])?;
    let (from, to) = (fake_host6(1, 7), embedded(fake_host4(1)));
    let odd = Place {
        payload: &[7; 15],
        offset: 40,
        more: true,
    };
    fixture.inside.send(&piece_v6(from, to, 17, 1, odd))?;
    let told = fixture.inside.expect(|seen| seen.protocol == 58)?;
    // Points at the Payload Length field (RFC 8200 section 4.5).
    ensure!(told.kind() == Some([4, 0]), "{told:?}");
    ensure!(told.body[4..8] == [0, 0, 0, 4], "{told:?}");
    let options = [&[17, 0, 1, 4, 0, 0, 0, 0][..], &[7; 64]].concat();
    let behind = Place {
        payload: &options,
        offset: 0,
        more: true,
    };
    fixture.inside.send(&piece_v6(from, to, 60, 2, behind))?;
    let told = fixture.inside.expect(|seen| seen.protocol == 58)?;
    ensure!(told.kind() == Some([1, 1]), "{told:?}");
    Ok(())
}

fn fp_17_datagrams_without_a_checksum_are_refused_aloud() -> Result<()> {
    let mut fixture = Fixture::new(&["--udp-zero-checksum=drop"])?;
    let bound = fixture.bind(inside(5000), outside(53))?;
    let mut bare = udp(outside(53), bound, b"bare");
    bare[26..28].fill(0);
    fixture.outside.send(&bare)?;
    let told = fixture.outside.expect(|seen| seen.protocol == 1)?;
    ensure!(told.kind() == Some([3, 13]), "{told:?}");
    let mut bare = udp(inside(5000), shown(outside(53)), b"bare");
    bare[46..48].fill(0);
    fixture.inside.send(&bare)?;
    let told = fixture.inside.expect(|seen| seen.protocol == 58)?;
    ensure!(told.kind() == Some([1, 1]), "{told:?}");
    Ok(())
}

fn fp_17_own_addresses_have_no_other_transport() -> Result<()> {
    const SCTP: u8 = 132;
    let own = Ipv4Addr::new(192, 168, 64, 77);
    let mut fixture = Fixture::new(&[&format!("--ipv4={own}")])?;
    let (inner, outer) = (inside(5000), outside(5000));
    fixture
        .outside
        .send(&packet(outer.ip(), own.into(), SCTP, &[0; 16]))?;
    let told = fixture.outside.expect(|seen| seen.protocol == 1)?;
    ensure!(told.kind() == Some([3, 2]), "{told:?}");
    let own = SocketAddr::from((embedded(own), 80));
    fixture
        .inside
        .send(&packet(inner.ip(), own.ip(), SCTP, &[0; 16]))?;
    let told = fixture.inside.expect(|seen| seen.protocol == 58)?;
    ensure!(told.kind() == Some([4, 1]), "{told:?}");
    ensure!(told.body[4..8] == [0, 0, 0, 6], "{told:?}");
    fixture.inside.send(&tcp(inner, own, SYN, (1, 0), b""))?;
    let told = fixture.inside.expect(|seen| seen.protocol == 58)?;
    ensure!(told.kind() == Some([4, 1]), "{told:?}");
    Ok(())
}

fn fp_17_an_error_about_what_never_crosses_is_dropped() -> Result<()> {
    const HOP_BY_HOP: u8 = 0;
    let mut fixture = Fixture::new(&[])?;
    fixture.bind(inside(5000), outside(53))?;
    let quoted = packet(SHARED.into(), outside(0).ip(), HOP_BY_HOP, &[0; 16]);
    let router = fake_host4(99).into();
    fixture
        .outside
        .send(&error(router, SHARED.into(), [3, 1], &quoted))?;
    fixture.wait_for_count("quoted-protocol", 1)
}

/// RFC 5382 REQ-4: nothing for six seconds, then port unreachable.
fn fp_17_a_syn_to_an_unbound_port_is_answered_where_told_to() -> Result<()> {
    let mut fixture = Fixture::new(&["--store-syns=all"])?;
    let sent = Instant::now();
    let unbound = (SHARED, 4001).into();
    fixture
        .outside
        .send(&tcp(outside(80), unbound, SYN, (1, 0), b""))?;
    let told = fixture.outside.expect(|seen| seen.protocol == 1)?;
    ensure!(told.kind() == Some([3, 3]), "{told:?}");
    ensure!(sent.elapsed() >= Duration::from_secs(6), "{sent:?}");
    Ok(())
}

/// IPsec in UDP (RFC 3948): datagrams without a checksum from IPv4, and keepalives of one byte.
fn l4_05_a_vpn_behind_a_nat_keeps_its_session_alive() -> Result<()> {
    let mut fixture = Fixture::new(&[])?;
    let (client, gateway) = (inside(4500), outside(4500));
    let bound = fixture.bind(client, gateway)?;
    let keepalive = fixture.out(&udp(client, shown(gateway), &[0xff]))?;
    ensure!(
        keepalive.from() == bound && keepalive.data() == [0xff],
        "{keepalive:?}"
    );
    let mut esp = udp(gateway, bound, &[7; 300]);
    esp[26..28].fill(0);
    let seen = fixture.back(&esp)?;
    ensure!(seen.to() == client && seen.data() == [7; 300], "{seen:?}");
    // RFC 8200 section 8.1: over IPv6 it needs one.
    let bare = udp_datagram(shown(gateway), client, &[7; 300]);
    ensure!(seen.body == bare, "{seen:?}");
    let mut zeroed = seen.body.clone();
    zeroed[6..8].fill(0);
    let sum = checksum(17, shown(gateway), client, &zeroed);
    ensure!(seen.body[6..8] == sum.to_be_bytes(), "{sum:#x}");
    Ok(())
}

fn inside(port: u16) -> SocketAddr {
    (fake_host6(1, 7), port).into()
}

fn outside(port: u16) -> SocketAddr {
    (fake_host4(1), port).into()
}
