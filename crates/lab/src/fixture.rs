//! A stateful `plat` between fake hosts on both sides: what a test sends and sees packet by packet.

use std::net::{Ipv4Addr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::binaries::Binaries;
use crate::fake_host::FakeHosts;
use crate::installed::{Installed, Setup};
use crate::topology::{Plan, Topology, embedded};
use crate::traffic::PATIENCE;
use crate::traffic::packets::{Seen, udp};

/// The one address that clients share.
pub const SHARED: Ipv4Addr = Ipv4Addr::new(192, 168, 64, 9);

/// A `plat` with fake hosts.
pub struct Fixture {
    /// The hosts behind the client.
    pub inside: FakeHosts,
    /// The hosts behind the server.
    pub outside: FakeHosts,
    /// The daemon and the network.
    pub installed: Installed,
}

impl Fixture {
    /// A `plat` that shares [`SHARED`], with these flags besides.
    ///
    /// # Errors
    /// When the network cannot be built, or `plat` does not get ready.
    pub fn new(flags: &[&str]) -> Result<Self> {
        let shared = format!("--pool={SHARED}");
        Self::with_pool(&[&[shared.as_str()], flags].concat())
    }

    /// A `plat` with these flags, the pool among them.
    ///
    /// # Errors
    /// When the network cannot be built, or `plat` does not get ready.
    pub fn with_pool(flags: &[&str]) -> Result<Self> {
        let topology = Topology::new(&Plan::default())?;
        let (inside, outside) = (FakeHosts::ipv6(&topology)?, FakeHosts::ipv4(&topology)?);
        let setup = Setup::plat_alone(flags);
        let installed = Installed::with(&Binaries::find()?, topology, setup)?;
        Ok(Self {
            inside,
            outside,
            installed,
        })
    }

    /// Sends a packet from inside: how it arrives outside.
    ///
    /// # Errors
    /// When it does not arrive.
    pub fn out(&mut self, packet: &[u8]) -> Result<Seen> {
        self.inside.send(packet)?;
        let kind = protocol(packet);
        self.outside.expect(|seen| seen.protocol == kind)
    }

    /// Sends a packet from outside: how it arrives inside.
    ///
    /// # Errors
    /// When it does not arrive.
    pub fn back(&mut self, packet: &[u8]) -> Result<Seen> {
        self.outside.send(packet)?;
        let kind = protocol(packet);
        self.inside.expect(|seen| seen.protocol == kind)
    }

    /// Sends a datagram from inside: the address that it has outside.
    ///
    /// # Errors
    /// When it does not arrive.
    pub fn bind(&mut self, from: SocketAddr, to: SocketAddr) -> Result<SocketAddr> {
        let seen = self.out(&udp(from, shown(to), b"bind"))?;
        ensure!(seen.to() == to, "{seen:?}");
        Ok(seen.from())
    }

    /// How many packets `plat` has dropped or answered for a reason.
    ///
    /// # Errors
    /// When `plat` does not say.
    pub fn counted(&self, reason: &str) -> Result<u64> {
        let status = self.installed.ask_plat(&["status", "--json"])?;
        let key = format!("\"{reason}\":");
        let figures = status.split(&key).skip(1).map(|rest| {
            let end = rest
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(rest.len());
            rest[..end].parse::<u64>()
        });
        figures
            .sum::<Result<u64, _>>()
            .with_context(|| status.clone())
    }

    /// Waits until so many packets were dropped or answered for a reason.
    ///
    /// # Errors
    /// When they are not in time.
    pub fn wait_for_count(&self, reason: &str, least: u64) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let counted = self.counted(reason)?;
            if counted >= least {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("{reason}: {counted} packets, not {least}");
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// The sessions of `plat`, a line each.
    ///
    /// # Errors
    /// When `plat` does not say.
    pub fn sessions(&self) -> Result<String> {
        self.installed.sessions()
    }
}

/// An IPv4 socket address as clients see it.
#[must_use]
pub fn shown(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) => (embedded(*v4.ip()), v4.port()).into(),
        SocketAddr::V6(_) => address,
    }
}

/// The protocol number that a packet has on the other side.
fn protocol(packet: &[u8]) -> u8 {
    let (is_v4, own) = match packet[0] >> 4 {
        4 => (true, packet[9]),
        _ if packet[6] == 44 => (false, packet[40]),
        _ => (false, packet[6]),
    };
    match (is_v4, own) {
        (true, 1) => 58,
        (false, 58) => 1,
        (_, own) => own,
    }
}
