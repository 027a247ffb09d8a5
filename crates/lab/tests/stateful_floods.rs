//! Floods: what a stateful `plat` keeps to while somebody sends without end. Memory stays within
//! bounds, what runs goes on, each packet is counted, and the log says so once.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use lab::fake_host::{FakeHosts, fake_host4, fake_host6};
use lab::fixture::{Fixture, SHARED, shown};
use lab::suite::Test;
use lab::topology::embedded;
use lab::traffic::PATIENCE;
use lab::traffic::packets::{
    ACK, Place, SYN, Seen, error, piece_v4, piece_v6, tcp, udp, udp_datagram,
};

const TESTS: &[Test] = lab::tests![
    se_15_nb_01_a_flood_of_new_sources_leaves_what_runs_alone,
    se_15_a_flood_of_syns_from_outside_leaves_room_for_the_clients,
    se_15_a_flood_at_one_port_forward_leaves_the_others_alone,
    nc_21_a_flood_of_syns_that_wait_stays_within_its_bounds,
    se_14_a_flood_of_first_fragments_keeps_nobody_from_theirs,
    se_14_a_flood_of_fragments_from_outside_keeps_nobody_from_theirs,
    ne_01_a_flood_of_icmp_errors_is_counted,
    se_02_a_flood_of_spoofed_sources_makes_no_state,
];

/// Packets of a flood.
const MANY: u32 = 20_000;

/// What a flood may cost, in KiB.
const GROWTH: u64 = 16 * 1024;

const SERVER: u8 = 1;

fn main() {
    lab::suite::run(TESTS)
}

fn se_15_nb_01_a_flood_of_new_sources_leaves_what_runs_alone() -> Result<()> {
    let mut flood = Flood::begin(&["--max-sessions=2000"])?;
    flood.inside_sends(|number| {
        let source = (fake_host6(100 + number as u16, 1), 4000);
        udp(source.into(), shown(server(53)), b"flood")
    })?;
    flood.end("table-full", u64::from(MANY) - 2000 - LOST)?;
    // The limit is no reason for another mapping (RFC 4787 REQ-11).
    let bound = flood.udp;
    let fixture = &mut flood.fixture;
    let seen = fixture.back(&udp(server(53), bound, b"still there"))?;
    ensure!(seen.to() == inside(5000), "{seen:?}");
    Ok(())
}

fn se_15_a_flood_of_syns_from_outside_leaves_room_for_the_clients() -> Result<()> {
    let flags = [
        "--max-sessions=2000",
        "--subscriber-sessions=500",
        "--shards=1",
    ];
    let mut flood = Flood::begin(&flags)?;
    let bound = flood.tcp;
    flood.outside_sends(|number| {
        let source = (fake_host4(100 + (number % 100) as u8), 1000 + number as u16);
        tcp(source.into(), bound, SYN, (1, 0), b"")
    })?;
    flood.end("subscriber-limit", u64::from(MANY) - 500 - LOST)?;
    // An eighth is the client's own.
    flood.fixture.bind(inside(5001), server(53))?;
    Ok(())
}

fn se_15_a_flood_at_one_port_forward_leaves_the_others_alone() -> Result<()> {
    let bind = format!("--bind=tcp:{SHARED}:443=[{}]:8443", fake_host6(9, 1));
    let flags = [
        "--max-sessions=2000",
        "--subscriber-sessions=500",
        "--shards=1",
        &bind,
    ];
    let mut flood = Flood::begin(&flags)?;
    flood.outside_sends(|number| {
        let source = (fake_host4(100 + (number % 100) as u8), 1000 + number as u16);
        tcp(source.into(), (SHARED, 443).into(), SYN, (1, 0), b"")
    })?;
    flood.end("subscriber-limit", u64::from(MANY) - 500 - LOST)?;
    flood
        .fixture
        .bind((fake_host6(8, 1), 5000).into(), server(53))?;
    Ok(())
}

fn nc_21_a_flood_of_syns_that_wait_stays_within_its_bounds() -> Result<()> {
    let mut flood = Flood::begin(&["--filtering=address-dependent"])?;
    let bound = flood.tcp;
    flood.outside_sends(|number| {
        let source = (fake_host4(100 + (number % 100) as u8), 1000 + number as u16);
        tcp(source.into(), bound, SYN, (1, 0), b"")
    })?;
    // Each of the shards keeps 1024, and this one client has one.
    flood.end("syn-limit", u64::from(MANY) - 1024 - LOST)
}

fn se_14_a_flood_of_first_fragments_keeps_nobody_from_theirs() -> Result<()> {
    let mut flood = Flood::begin(&["--fragment-memory=1"])?;
    let source = SocketAddr::from((fake_host6(7, 1), 4000));
    let datagram = udp_datagram(source, shown(server(53)), &[7; 200]);
    let first = Place::pieces(&datagram, 128)[0];
    flood.inside_sends(|number| {
        // Addresses of one /64 are one source.
        let from = fake_host6(7, 1 + number as u16 % 8);
        piece_v6(from, embedded(fake_host4(SERVER)), 17, number, first)
    })?;
    flood.end("fragment-limit", u64::from(MANY) / 2)?;
    flood.exchange_fragments()
}

fn se_14_a_flood_of_fragments_from_outside_keeps_nobody_from_theirs() -> Result<()> {
    let mut flood = Flood::begin(&["--fragment-memory=1"])?;
    // Nobody has these ports, and nobody sends the first fragments.
    let datagram = udp_datagram(server(9), (SHARED, 1).into(), &[7; 1400]);
    let last = Place::pieces(&datagram, 1200)[1];
    flood.outside_sends(|number| {
        let from = fake_host4(2 + (number % 200) as u8);
        piece_v4(from, SHARED, 17, number as u16, last)
    })?;
    flood.end("fragment-limit", u64::from(MANY) / 2)?;
    flood.exchange_fragments()?;
    // Those that waited are gone after two seconds, and counted too.
    flood.fixture.wait_for_count("fragment-timeout", 1)
}

fn ne_01_a_flood_of_icmp_errors_is_counted() -> Result<()> {
    let mut flood = Flood::begin(&[])?;
    flood.outside_sends(|number| {
        let quoted = udp(
            (SHARED, 1000 + number as u16).into(),
            server(9),
            b"never sent",
        );
        error(fake_host4(3).into(), SHARED.into(), [3, 1], &quoted)
    })?;
    flood.end("quoted-unmapped", u64::from(MANY) - LOST)
}

fn se_02_a_flood_of_spoofed_sources_makes_no_state() -> Result<()> {
    let mut flood = Flood::begin(&[])?;
    flood.inside_sends(|number| {
        let source = (embedded(fake_host4(number as u8)), 1000 + number as u16);
        udp(source.into(), shown(server(53)), b"spoofed")
    })?;
    flood.end("source-in-pref64", u64::from(MANY) - LOST)?;
    let sessions = flood.fixture.sessions()?;
    ensure!(sessions.lines().count() == 2, "{sessions}");
    Ok(())
}

/// Packets that queues of the kernel may lose.
const LOST: u64 = 5000;

/// A flood beside a UDP flow and a TCP connection.
struct Flood {
    fixture: Fixture,
    udp: SocketAddr,
    tcp: SocketAddr,
    memory: u64,
}

impl Flood {
    fn begin(flags: &[&str]) -> Result<Self> {
        let mut fixture = Fixture::new(flags)?;
        let udp = fixture.bind(inside(5000), server(53))?;
        let syn = tcp(inside(5000), shown(server(80)), SYN, (1, 0), b"");
        let bound = fixture.out(&syn)?.from();
        fixture.back(&tcp(server(80), bound, SYN | ACK, (1, 2), b""))?;
        let memory = fixture.installed.plat.resident()?;
        Ok(Self {
            fixture,
            udp,
            tcp: bound,
            memory,
        })
    }

    fn inside_sends(&mut self, make: impl Fn(u32) -> Vec<u8>) -> Result<()> {
        for number in 0..MANY {
            self.fixture.inside.send(&make(number))?;
            self.breathe(number)?;
        }
        Ok(())
    }

    fn outside_sends(&mut self, make: impl Fn(u32) -> Vec<u8>) -> Result<()> {
        for number in 0..MANY {
            self.fixture.outside.send(&make(number))?;
            self.breathe(number)?;
        }
        Ok(())
    }

    /// Reads what comes, and looks in the middle of the flood whether what runs still does.
    fn breathe(&mut self, number: u32) -> Result<()> {
        if number.is_multiple_of(64) {
            self.fixture.inside.forget()?;
            self.fixture.outside.forget()?;
            std::thread::sleep(Duration::from_micros(500));
        }
        match number % (MANY / 4) == MANY / 8 {
            true => self.exchange().context("in the middle of the flood"),
            false => Ok(()),
        }
    }

    /// One packet each way of the UDP flow and the connection.
    fn exchange(&mut self) -> Result<()> {
        let (flow, connection) = (self.udp, self.tcp);
        let fixture = &mut self.fixture;
        let is = |marker: &'static [u8]| move |seen: &Seen| seen.body.ends_with(marker);
        let out = [
            udp(inside(5000), shown(server(53)), b"flow out"),
            tcp(inside(5000), shown(server(80)), ACK, (2, 2), b"data out"),
        ];
        let back = [
            udp(server(53), flow, b"flow back"),
            tcp(server(80), connection, ACK, (2, 2), b"data back"),
        ];
        for (packet, marker) in out.iter().zip([&b"flow out"[..], b"data out"]) {
            crosses(
                packet,
                &mut fixture.inside,
                &mut fixture.outside,
                is(marker),
            )?;
        }
        for (packet, marker) in back.iter().zip([&b"flow back"[..], b"data back"]) {
            crosses(
                packet,
                &mut fixture.outside,
                &mut fixture.inside,
                is(marker),
            )?;
        }
        Ok(())
    }

    /// A datagram in fragments of another source each way, the last one first.
    fn exchange_fragments(&mut self) -> Result<()> {
        let content = [9; 2000];
        let datagram = udp_datagram(inside(5000), shown(server(53)), &content);
        let fixture = &mut self.fixture;
        for piece in Place::pieces(&datagram, 1200).into_iter().rev() {
            let (from, to) = (fake_host6(1, 7), embedded(fake_host4(SERVER)));
            fixture.inside.send(&piece_v6(from, to, 17, 77, piece))?;
        }
        for _ in 0..2 {
            fixture.outside.expect(|seen| seen.fragment.is_some())?;
        }
        let datagram = udp_datagram(server(53), self.udp, &content);
        for piece in Place::pieces(&datagram, 1200) {
            fixture
                .outside
                .send(&piece_v4(fake_host4(SERVER), SHARED, 17, 77, piece))?;
        }
        for _ in 0..2 {
            fixture.inside.expect(|seen| seen.fragment.is_some())?;
        }
        Ok(())
    }

    /// What is to be seen behind the flood.
    fn end(&mut self, reason: &str, least: u64) -> Result<()> {
        self.fixture.wait_for_count(reason, least)?;
        self.exchange().context("behind the flood")?;
        let plat = &self.fixture.installed.plat;
        let grown = plat.resident()?.saturating_sub(self.memory);
        ensure!(grown <= GROWTH, "{grown} KiB more");
        let line = format!("{reason}: ");
        plat.wait_for_line(&line, PATIENCE)?;
        let log = plat.log();
        let said = log.matches(&line).count();
        // The flood takes a second or two, and lines come every ten.
        ensure!(said <= 2, "{log}");
        Ok(())
    }
}

/// Sends a packet until it arrives. A queue of the kernel's may be full for a moment, and nobody's
/// packets are spared then.
fn crosses(
    packet: &[u8],
    from: &mut FakeHosts,
    to: &mut FakeHosts,
    is_it: impl Fn(&Seen) -> bool,
) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        from.send(packet)?;
        let soon = Instant::now() + Duration::from_millis(300);
        if to.find(soon, &is_it)?.is_some() {
            return Ok(());
        }
    }
    bail!("it did not arrive")
}

fn inside(port: u16) -> SocketAddr {
    (fake_host6(1, 7), port).into()
}

fn server(port: u16) -> SocketAddr {
    (fake_host4(SERVER), port).into()
}
