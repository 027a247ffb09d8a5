//! Who may do what through the stateful NAT64: packet by packet, between fake hosts.

use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use lab::binaries::Binaries;
use lab::fake_host::{fake_host4, fake_host6};
use lab::fixture::{Fixture, SHARED, shown};
use lab::process::Daemon;
use lab::suite::Test;
use lab::topology::embedded;
use lab::traffic::PATIENCE;
use lab::traffic::packets::{ACK, FIN, SYN, echo, echo_reply, tcp, udp};

const TESTS: &[Test] = lab::tests![
    nt_04_nu_06_all_servers_see_one_address_and_strangers_may_come_in,
    nt_07_se_02_a_source_inside_the_prefix_makes_no_state,
    nu_04_nu_10_what_nobody_has_is_unreachable,
    nu_05_ne_06_a_stranger_is_told_that_the_filter_keeps_it_out,
    nu_08_two_clients_with_one_echo_identifier_are_kept_apart,
    cg_01_cg_07_a_subscriber_at_its_limit_is_told_and_so_is_the_log,
    cg_10_a_block_of_ports_is_one_record,
    nc_18_connections_open_from_both_sides_and_close_by_halves,
    nc_05_nc_07_a_stored_syn_waits_and_is_answered_within_the_rate,
    se_19_outsiders_open_no_connections_where_they_must_not,
    se_07_two_translators_that_point_at_each_other_end_by_hop_limit,
];

const CLIENT: (u16, u16) = (1, 7);
const SERVER: u8 = 1;
const OTHER: u8 = 2;
const STRANGER: u8 = 3;

fn main() {
    lab::suite::run(TESTS)
}

fn nt_04_nu_06_all_servers_see_one_address_and_strangers_may_come_in() -> Result<()> {
    let mut fixture = Fixture::new(&[])?;
    let one = fixture.bind(inside(5000), outside(SERVER, 53))?;
    ensure!(one.ip() == SHARED, "{one}");
    ensure!(fixture.bind(inside(5000), outside(OTHER, 99))? == one);
    // Somebody whom the client has never sent to.
    let seen = fixture.back(&udp(outside(STRANGER, 4242), one, b"stranger"))?;
    ensure!(
        seen.data() == b"stranger" && seen.to() == inside(5000),
        "{seen:?}"
    );
    ensure!(seen.from() == shown(outside(STRANGER, 4242)), "{seen:?}");
    let sessions = fixture.sessions()?;
    ensure!(sessions.lines().count() == 3, "{sessions}");
    Ok(())
}

fn nt_07_se_02_a_source_inside_the_prefix_makes_no_state() -> Result<()> {
    let mut fixture = Fixture::new(&[])?;
    let spoofed: SocketAddr = (embedded(fake_host4(77)), 5000).into();
    let server = outside(SERVER, 53);
    fixture
        .inside
        .send(&udp(spoofed, shown(server), b"spoofed"))?;
    fixture
        .inside
        .send(&tcp(spoofed, shown(server), SYN, (1, 0), b""))?;
    fixture
        .inside
        .send(&echo(spoofed.ip(), shown(server).ip(), 7, b""))?;
    fixture.wait_for_count("source-in-pref64", 3)?;
    ensure!(fixture.outside.forget()? == 0, "it came through");
    ensure!(fixture.sessions()?.is_empty());
    let said = "source-in-pref64: ";
    fixture.installed.plat.wait_for_line(said, PATIENCE)
}

fn nu_04_nu_10_what_nobody_has_is_unreachable() -> Result<()> {
    let mut fixture = Fixture::new(&[])?;
    let nobody = SocketAddr::from((SHARED, 4000));
    let server = outside(SERVER, 53);
    for packet in [
        udp(server, nobody, b"anybody?"),
        echo(server.ip(), nobody.ip(), 77, b"anybody?"),
    ] {
        fixture.outside.send(&packet)?;
        // ICMPv4 3/1, host unreachable, about this packet.
        let told = fixture.outside.expect(|seen| seen.protocol == 1)?;
        ensure!(told.kind() == Some([3, 1]), "{told:?}");
        ensure!(
            told.quoted()
                .is_some_and(|quoted| quoted.source == server.ip())
        );
    }
    ensure!(fixture.inside.forget()? == 0 && fixture.sessions()?.is_empty());
    // A SYN gets no answer of any kind (RFC 5382 REQ-4).
    fixture
        .outside
        .send(&tcp(server, nobody, SYN, (1, 0), b""))?;
    fixture.wait_for_count("no-binding", 3)?;
    ensure!(fixture.outside.forget()? == 0);
    Ok(())
}

fn nu_05_ne_06_a_stranger_is_told_that_the_filter_keeps_it_out() -> Result<()> {
    let mut fixture = Fixture::new(&["--filtering=address-dependent"])?;
    let bound = fixture.bind(inside(5000), outside(SERVER, 53))?;
    let packet = udp(outside(STRANGER, 53), bound, b"stranger");
    fixture.outside.send(&packet)?;
    // ICMPv4 3/13, communication administratively prohibited.
    let told = fixture.outside.expect(|seen| seen.protocol == 1)?;
    ensure!(told.kind() == Some([3, 13]), "{told:?}");
    // Another port of the server's may.
    let seen = fixture.back(&udp(outside(SERVER, 54), bound, b"known"))?;
    ensure!(seen.data() == b"known", "{seen:?}");
    // And so may an error from any router (RFC 4787 REQ-12).
    let quoted = udp(bound, outside(SERVER, 53), b"bind");
    let router = fake_host4(STRANGER).into();
    let error = lab::traffic::packets::error(router, SHARED.into(), [3, 1], &quoted);
    let seen = fixture.back(&error)?;
    ensure!(
        seen.source == IpAddr::from(embedded(fake_host4(STRANGER))),
        "{seen:?}"
    );
    Ok(())
}

fn nu_08_two_clients_with_one_echo_identifier_are_kept_apart() -> Result<()> {
    let mut fixture = Fixture::new(&[])?;
    let server = outside(SERVER, 0).ip();
    let clients = [fake_host6(1, 7), fake_host6(2, 7)];
    let mut outer = Vec::new();
    for client in clients {
        let seen = fixture.out(&echo(
            client.into(),
            shown((server, 0).into()).ip(),
            77,
            b"ping",
        ))?;
        ensure!(seen.source == IpAddr::from(SHARED), "{seen:?}");
        outer.push(seen.identifier());
    }
    ensure!(outer[0] != outer[1], "{outer:?}");
    for (client, id) in clients.into_iter().zip(outer) {
        let seen = fixture.back(&echo_reply(server, SHARED.into(), id, b"ping"))?;
        ensure!(seen.destination == IpAddr::from(client), "{seen:?}");
        ensure!(seen.identifier() == 77, "{seen:?}");
    }
    Ok(())
}

fn cg_01_cg_07_a_subscriber_at_its_limit_is_told_and_so_is_the_log() -> Result<()> {
    let mut fixture = Fixture::new(&["--subscriber-ports=10", "--subscriber-prefix=64"])?;
    let server = outside(SERVER, 53);
    for port in 1..=10 {
        fixture.bind(inside(5000 + port), server)?;
    }
    let eleventh = udp((fake_host6(1, 8), 5000).into(), shown(server), b"one more");
    fixture.inside.send(&eleventh)?;
    // ICMPv6 1/3, address unreachable.
    let told = fixture.inside.expect(|seen| seen.protocol == 58)?;
    ensure!(told.kind() == Some([1, 3]), "{told:?}");
    fixture.bind((fake_host6(2, 7), 5000).into(), server)?;
    fixture.bind(inside(5001), outside(OTHER, 53))?;
    let line = "subscriber-limit: 1 packet dropped";
    fixture.installed.plat.wait_for_line(line, PATIENCE)
}

fn cg_10_a_block_of_ports_is_one_record() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("sessions.log");
    let log = format!("--session-log={}", path.display());
    let mut fixture = Fixture::new(&["--port-block=64x4", "--subscriber-prefix=64", &log])?;
    let mut ports = Vec::new();
    for port in 0..20 {
        ports.push(
            fixture
                .bind(inside(5000 + port), outside(SERVER, 53))?
                .port(),
        );
    }
    let deadline = Instant::now() + PATIENCE;
    while !std::fs::read_to_string(&path)?.contains("block-allocated") {
        ensure!(Instant::now() < deadline, "no record");
        thread::sleep(Duration::from_millis(20));
    }
    let text = std::fs::read_to_string(&path)?;
    ensure!(text.lines().count() == 1, "{text}");
    let first = ports[0] / 64 * 64;
    ensure!(
        ports.iter().all(|port| port / 64 == ports[0] / 64),
        "{ports:?}"
    );
    let block = format!(
        r#""subscriber":"2001:db8:5:1::/64","external":"{SHARED}","first_port":{first},"last_port":{}}}"#,
        first + 63
    );
    ensure!(text.contains(&block), "{block} in {text}");
    Ok(())
}

fn nc_18_connections_open_from_both_sides_and_close_by_halves() -> Result<()> {
    let mut fixture = Fixture::new(&[])?;
    let server = outside(SERVER, 80);
    let is_in = |fixture: &Fixture, state: &str| -> Result<()> {
        let sessions = fixture.sessions()?;
        ensure!(sessions.contains(state), "{state} in {sessions}");
        Ok(())
    };
    // Three segments, the first with data.
    let out = |flags, numbers, data: &[u8]| tcp(inside(5000), shown(server), flags, numbers, data);
    let bound = fixture.out(&out(SYN, (100, 0), b"early"))?.from();
    is_in(&fixture, "v6-init")?;
    let back = |flags, numbers, data: &[u8]| tcp(server, bound, flags, numbers, data);
    fixture.back(&back(SYN | ACK, (500, 106), b""))?;
    is_in(&fixture, "established")?;
    fixture.out(&out(ACK, (106, 501), b"request"))?;
    // The server is done; the client goes on for long.
    fixture.back(&back(FIN | ACK, (501, 113), b""))?;
    is_in(&fixture, "v4-fin")?;
    for number in 0..100 {
        let seen = fixture.out(&out(ACK, (113 + number, 502), b"x"))?;
        ensure!(seen.body.ends_with(b"x"), "{seen:?}");
        fixture.back(&back(ACK, (502, 114 + number), b""))?;
    }
    is_in(&fixture, "v4-fin")?;
    fixture.out(&out(FIN | ACK, (213, 502), b""))?;
    is_in(&fixture, "v4-v6-fin")?;
    fixture.back(&back(ACK, (502, 214), b""))?;

    // Both at once: each SYN crosses the other.
    let peer = outside(OTHER, 6000);
    let out = |flags, numbers| tcp(inside(5001), shown(peer), flags, numbers, b"");
    let bound = fixture.out(&out(SYN, (100, 0)))?.from();
    let back = |flags, numbers| tcp(peer, bound, flags, numbers, b"");
    let crossing = fixture.back(&back(SYN, (900, 0)))?;
    ensure!(crossing.flags() == Some(SYN), "{crossing:?}");
    let answer = fixture.out(&out(SYN | ACK, (100, 901)))?;
    ensure!(answer.flags() == Some(SYN | ACK), "{answer:?}");
    fixture.back(&back(SYN | ACK, (900, 101)))?;
    let sessions = fixture.sessions()?;
    let own = sessions.lines().find(|line| line.contains("5001"));
    ensure!(
        own.is_some_and(|line| line.contains("established")),
        "{sessions}"
    );
    Ok(())
}

fn nc_05_nc_07_a_stored_syn_waits_and_is_answered_within_the_rate() -> Result<()> {
    let flags = ["--filtering=address-dependent", "--icmp-error-rate=4"];
    let mut fixture = Fixture::new(&flags)?;
    let server = outside(SERVER, 80);
    let bound = fixture
        .out(&tcp(inside(5000), shown(server), SYN, (1, 0), b""))?
        .from();
    let begin = Instant::now();
    for port in 1..=20 {
        fixture
            .outside
            .send(&tcp(outside(STRANGER, port), bound, SYN, (1, 0), b""))?;
    }
    let told = fixture.outside.expect(|seen| seen.protocol == 1)?;
    ensure!(told.kind() == Some([3, 3]), "{told:?}");
    ensure!(
        begin.elapsed() >= Duration::from_secs(6),
        "{:?}",
        begin.elapsed()
    );
    fixture.wait_for_count("filtered", 20)?;
    // Half the rate at once, and a quarter of that for one source.
    let more = fixture.outside.forget()?;
    ensure!(more <= 2, "{more} more answers");
    ensure!(fixture.inside.forget()? == 0);
    Ok(())
}

fn se_19_outsiders_open_no_connections_where_they_must_not() -> Result<()> {
    let mut fixture = Fixture::new(&["--inbound-tcp=off"])?;
    let server = outside(SERVER, 80);
    let bound = fixture
        .out(&tcp(inside(5000), shown(server), SYN, (1, 0), b""))?
        .from();
    fixture.back(&tcp(server, bound, SYN | ACK, (1, 2), b""))?;
    fixture
        .outside
        .send(&tcp(outside(STRANGER, 80), bound, SYN, (1, 0), b""))?;
    fixture.wait_for_count("filtered", 1)?;
    ensure!(fixture.inside.forget()? == 0, "the SYN came through");
    Ok(())
}

fn se_07_two_translators_that_point_at_each_other_end_by_hop_limit() -> Result<()> {
    // Without --client the second would be no client of the first, and the loop end at once.
    let mut fixture = Fixture::new(&["--client=::/0"])?;
    // What the first sends to this IPv4 host, the second sends to the first's prefix.
    let looped = fake_host4(77);
    let map = format!("--map={looped}={}", embedded(looped));
    let directory = fixture.installed.directory().join("second");
    let place = |kind: &str| format!("--{kind}-dir={}", directory.join(kind).display());
    let flags = [
        "--prefix=2001:db8:65::/96".to_owned(),
        map,
        "--tun=second".to_owned(),
        place("run"),
        place("state"),
    ];
    let edge = &fixture.installed.topology.edge;
    let second = Daemon::start(edge, &Binaries::find()?.plat, &flags)?;
    second.wait_for_line("ready: ", PATIENCE)?;
    let to = shown((looped, 53).into());
    fixture
        .inside
        .send(&udp(inside(5000), to, b"round and round"))?;
    let deadline = Instant::now() + PATIENCE;
    let mut before = 0;
    let rounds = loop {
        thread::sleep(Duration::from_millis(200));
        let sessions = fixture.sessions()?.lines().count();
        if sessions > 1 && sessions == before {
            break sessions;
        }
        before = sessions;
        ensure!(Instant::now() < deadline, "{sessions} sessions and no end");
    };
    // The packet began with 64 hops, and each round costs four.
    ensure!((8..=16).contains(&rounds), "{rounds} rounds");
    Ok(())
}

fn inside(port: u16) -> SocketAddr {
    (fake_host6(CLIENT.0, CLIENT.1), port).into()
}

fn outside(host: u8, port: u16) -> SocketAddr {
    (fake_host4(host), port).into()
}
