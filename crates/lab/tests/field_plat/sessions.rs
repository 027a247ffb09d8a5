//! Sessions, packets and saved state as clients and crashes make them.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use lab::fake_host::{fake_host4, fake_host6};
use lab::fixture::{Fixture, shown};
use lab::suite::Test;
use lab::traffic::packets::{ACK, FIN, RST, SYN, tcp};

pub(crate) const TESTS: &[Test] = lab::tests![
    fp_04_a_connection_with_the_ports_of_a_closed_one_is_not_cut,
    fp_04_a_connection_with_the_ports_of_a_reset_one_is_established_only_by_its_answer,
];

/// How long a closing session lives in these tests.
const CLOSING: Duration = Duration::from_secs(2);

const SHORT: [&str; 2] = ["--tcp-trans-timeout=2s", "--allow-short-timeouts"];

/// A client with one source port (a CPE whose NAT has few, a health check) connects again to the
/// server that has just closed.
fn fp_04_a_connection_with_the_ports_of_a_closed_one_is_not_cut() -> Result<()> {
    let mut fixture = Fixture::new(&SHORT)?;
    let (client, server) = (inside(5000), outside(80));
    let mut connection = Connection::open(&mut fixture, client, server)?;
    connection.out(FIN | ACK)?;
    connection.back(FIN | ACK)?;
    connection.out(ACK)?;
    let closed = Instant::now();
    connection.out(SYN)?;
    connection.back(SYN | ACK)?;
    // Well beyond the end of the session that it would have been a part of.
    while closed.elapsed() < 2 * CLOSING {
        connection.out(ACK)?;
        connection.back(ACK)?;
    }
    Ok(())
}

fn fp_04_a_connection_with_the_ports_of_a_reset_one_is_established_only_by_its_answer() -> Result<()>
{
    let mut fixture = Fixture::new(&SHORT)?;
    let (client, server) = (inside(5000), outside(80));
    let mut connection = Connection::open(&mut fixture, client, server)?;
    connection.back(RST | ACK)?;
    connection.out(SYN)?;
    connection.expect_state("v6-init")?;
    connection.back(SYN | ACK)?;
    connection.expect_state("established")
}

/// A TCP connection between fake hosts, segment by segment.
struct Connection<'a> {
    fixture: &'a mut Fixture,
    client: SocketAddr,
    server: SocketAddr,
    /// The client's address outside.
    bound: SocketAddr,
}

impl<'a> Connection<'a> {
    fn open(fixture: &'a mut Fixture, client: SocketAddr, server: SocketAddr) -> Result<Self> {
        let bound = client;
        let mut connection = Self {
            fixture,
            client,
            server,
            bound,
        };
        connection.out(SYN)?;
        connection.back(SYN | ACK)?;
        connection.out(ACK)?;
        Ok(connection)
    }

    /// A segment of the client's arrives.
    fn out(&mut self, flags: u8) -> Result<()> {
        let segment = tcp(self.client, shown(self.server), flags, (1, 1), b"");
        let seen = self.fixture.out(&segment)?;
        ensure!(seen.flags() == Some(flags), "{seen:?}");
        self.bound = seen.from();
        Ok(())
    }

    /// A segment of the server's arrives.
    fn back(&mut self, flags: u8) -> Result<()> {
        let seen = self
            .fixture
            .back(&tcp(self.server, self.bound, flags, (1, 1), b""))?;
        ensure!(
            seen.flags() == Some(flags) && seen.to() == self.client,
            "{seen:?}"
        );
        Ok(())
    }

    fn expect_state(&self, state: &str) -> Result<()> {
        let sessions = self.fixture.sessions()?;
        ensure!(sessions.contains(state), "{state}: {sessions}");
        Ok(())
    }
}

fn inside(port: u16) -> SocketAddr {
    (fake_host6(1, 7), port).into()
}

fn outside(port: u16) -> SocketAddr {
    (fake_host4(1), port).into()
}
