//! A TUN of the laboratory's own, by which packets made here enter a namespace.
//!
//! It reads and writes bare IP packets, without queues and offloads: nothing of the translator's
//! data path is in it.

use std::io::{ErrorKind, Read, Write};

use anyhow::Result;

use crate::link::set_up;
use crate::namespace::Namespace;

/// Longest packet that is read.
const PACKET_MAX: usize = 65_535;

/// An open TUN interface, which goes when this is dropped.
pub struct Tun {
    device: ::tun::Device,
    buffer: Vec<u8>,
}

impl Tun {
    /// Makes a TUN of this name in the namespace and sets it up, without duplicate address
    /// detection.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn open(namespace: &Namespace, name: &str) -> Result<Self> {
        let mut configuration = ::tun::configure();
        // The rest is set through netlink, as for every other interface here.
        configuration
            .tun_name(name)
            .platform_config(|linux| _ = linux.ensure_root_privileges(false));
        let device = namespace.run(|| Ok(::tun::create(&configuration)?))?;
        device.set_nonblock()?;
        namespace.set_sysctl(&format!("ipv6/conf/{name}/accept_dad"), "0")?;
        set_up(namespace, name)?;
        Ok(Self {
            device,
            buffer: vec![0; PACKET_MAX],
        })
    }

    /// Sends a packet, IP header included, into the namespace.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn send(&mut self, packet: &[u8]) -> Result<()> {
        Ok(self.device.write_all(packet)?)
    }

    /// The next packet that the namespace has sent here, if there is one now.
    ///
    /// # Errors
    /// When the interface is gone.
    pub fn recv(&mut self) -> Result<Option<&[u8]>> {
        match self.device.read(&mut self.buffer) {
            Ok(length) => Ok(Some(&self.buffer[..length])),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}
