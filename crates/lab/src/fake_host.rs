//! Hosts that are not there: any number of addresses on one side of the network, whose packets the
//! test makes itself and reads itself.
//!
//! No kernel answers for them, so a test decides about every segment, may send what no honest host
//! would, and sees all that comes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::link::{add_address, add_route};
use crate::namespace::Namespace;
use crate::topology::{SERVER, Topology};
use crate::traffic::PATIENCE;
use crate::traffic::packets::Seen;
use crate::tun::Tun;

/// The network of the fake hosts behind the first client.
pub const FAKE_HOSTS6: Ipv6Net =
    Ipv6Net::new_assert(Ipv6Addr::new(0x2001, 0xdb8, 5, 0, 0, 0, 0, 0), 48);

/// The network of the fake hosts behind the server.
pub const FAKE_HOSTS4: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(192, 0, 2, 0), 24);

/// A fake host behind the first client: address `host` in the /64 with this number.
#[must_use]
pub fn fake_host6(network: u16, host: u16) -> Ipv6Addr {
    let low = u128::from(network) << 64 | u128::from(host);
    (FAKE_HOSTS6.network().to_bits() | low).into()
}

/// A fake host behind the server.
#[must_use]
pub fn fake_host4(host: u8) -> Ipv4Addr {
    (FAKE_HOSTS4.network().to_bits() | u32::from(host)).into()
}

/// All fake hosts of one side.
pub struct FakeHosts {
    tun: Tun,
}

impl FakeHosts {
    /// Those behind the first client.
    ///
    /// # Errors
    /// When the kernel refuses the TUN or a route.
    pub fn ipv6(topology: &Topology) -> Result<Self> {
        let client = topology.client();
        let own = Ipv6Addr::from_bits(FAKE_HOSTS6.broadcast().to_bits());
        let hosts = Self::attach(client, own.into(), "ipv6/conf/all/forwarding")?;
        let gateway = Topology::client_address(0).into();
        add_route(&topology.edge, FAKE_HOSTS6.into(), gateway, None)?;
        Ok(hosts)
    }

    /// Those behind the server.
    ///
    /// # Errors
    /// When the kernel refuses the TUN or a route.
    pub fn ipv4(topology: &Topology) -> Result<Self> {
        let hosts = Self::attach(
            &topology.server,
            fake_host4(254).into(),
            "ipv4/conf/all/forwarding",
        )?;
        add_route(&topology.edge, FAKE_HOSTS4.into(), SERVER.into(), None)?;
        Ok(hosts)
    }

    /// Sends a packet, IP header included.
    ///
    /// # Errors
    /// Those of the TUN.
    pub fn send(&mut self, packet: &[u8]) -> Result<()> {
        self.tun.send(packet)
    }

    /// The next packet that is `wanted`; others are passed over.
    ///
    /// # Errors
    /// When it does not come in time.
    pub fn expect(&mut self, wanted: impl FnMut(&Seen) -> bool) -> Result<Seen> {
        let seen = self.find(Instant::now() + PATIENCE, wanted)?;
        seen.context("what was expected did not come in time")
    }

    /// The same; `None` when `deadline` comes first.
    ///
    /// # Errors
    /// Those of the TUN.
    pub fn find(
        &mut self,
        deadline: Instant,
        mut wanted: impl FnMut(&Seen) -> bool,
    ) -> Result<Option<Seen>> {
        while let Some(seen) = self.next(deadline)? {
            if wanted(&seen) {
                return Ok(Some(seen));
            }
        }
        Ok(None)
    }

    /// The next packet; `None` when `deadline` comes first. The kernel's own messages are passed
    /// over.
    ///
    /// # Errors
    /// Those of the TUN.
    pub fn next(&mut self, deadline: Instant) -> Result<Option<Seen>> {
        loop {
            while let Some(packet) = self.tun.recv()? {
                if let Some(seen) = Seen::parse(packet) {
                    return Ok(Some(seen));
                }
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            thread::sleep(Duration::from_micros(200));
        }
    }

    /// Throws away what has come.
    ///
    /// # Errors
    /// Those of the TUN.
    pub fn forget(&mut self) -> Result<usize> {
        let mut count = 0;
        while self.next(Instant::now())?.is_some() {
            count += 1;
        }
        Ok(count)
    }

    fn attach(namespace: &Namespace, own: IpAddr, forwarding: &str) -> Result<Self> {
        namespace.set_sysctl(forwarding, "1")?;
        let tun = Tun::open(namespace, TUN)?;
        let length = match own {
            IpAddr::V4(_) => FAKE_HOSTS4.prefix_len(),
            IpAddr::V6(_) => FAKE_HOSTS6.prefix_len(),
        };
        add_address((namespace, TUN), IpNet::new_assert(own, length))?;
        Ok(Self { tun })
    }
}

const TUN: &str = "fake";
