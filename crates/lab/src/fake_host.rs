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
use xlat_core::frame::HEADROOM;
use xlat_core::{Frame, Offload};
use xlat_tun::{Options, Queue, Received, Slot, Tun};

use crate::link::{add_address, add_route, set_up};
use crate::namespace::Namespace;
use crate::topology::{SERVER, Topology};
use crate::traffic::PATIENCE;
use crate::traffic::packets::Seen;

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
    queue: Queue,
    slot: Slot,
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
        let mut buffer = [&[0; HEADROOM], packet].concat();
        let mut frame =
            Frame::new(&mut buffer, HEADROOM, packet.len(), Offload::NONE).context("no frame")?;
        self.queue.send(&mut frame)?;
        Ok(())
    }

    /// The next packet that is `wanted`; others are passed over.
    ///
    /// # Errors
    /// When it does not come in time.
    pub fn expect(&mut self, wanted: impl Fn(&Seen) -> bool) -> Result<Seen> {
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
        wanted: impl Fn(&Seen) -> bool,
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
            while let Received::Packet(frame) = self.queue.recv(&mut self.slot)? {
                if let Some(seen) = Seen::parse(frame.packet()) {
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
        let mut options = Options::new(TUN);
        options.offloads = xlat_tun::Offloads::NONE;
        let tun = namespace.run(|| Ok(Tun::open(&options)?))?;
        namespace.set_sysctl(forwarding, "1")?;
        namespace.set_sysctl(&format!("ipv6/conf/{TUN}/accept_dad"), "0")?;
        set_up(namespace, TUN)?;
        let net = match own {
            IpAddr::V4(own) => IpNet::new_assert(own.into(), FAKE_HOSTS4.prefix_len()),
            IpAddr::V6(own) => IpNet::new_assert(own.into(), FAKE_HOSTS6.prefix_len()),
        };
        add_address((namespace, TUN), net)?;
        let queue = tun.into_queues().pop().context("a TUN without queue")?;
        Ok(Self {
            queue,
            slot: Slot::new(),
        })
    }
}

const TUN: &str = "fake";
