//! Ports of hosts that share an address in the network.

use std::net::Ipv4Addr;

use super::hosts::Place;
use super::{IsFree, Key, Proxy, Refused, refused};
use crate::pcp::ResultCode;

/// A host's port and the port that stands for it at the address that it shares: packets to the one
/// go to the other, and back. The caller's NAT has to do that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Forward {
    /// IP protocol number.
    pub protocol: u8,
    /// The host.
    pub host: Ipv4Addr,
    /// Its port.
    pub port: u16,
    /// The port at the shared address.
    pub outer: u16,
}

/// How many ports are tried.
const TRIES: u32 = 512;

impl Proxy {
    /// The ports to forward now: those asked for, too, so that none is missing when it is given.
    pub fn forwards(&self) -> Vec<Forward> {
        let real = self.mappings.iter().filter(|(_, it)| !it.is_probe);
        let translated = real.filter(|(key, _)| {
            let place = self.hosts.place(key.host);
            place.is_some_and(|place| place.ports.is_some())
        });
        let mut all: Vec<Forward> = translated
            .map(|(key, mapping)| Forward {
                protocol: key.protocol,
                host: key.host,
                port: key.port,
                outer: mapping.port,
            })
            .collect();
        // A port that is open and has connections that are kept is one port.
        all.sort_unstable();
        all.dedup();
        all
    }

    /// The port by which the server is to know a host's port: its own if that can be.
    pub(super) fn choose_port(
        &self,
        place: &Place,
        key: &Key,
        is_free: IsFree<'_>,
    ) -> Result<u16, Refused> {
        let same = |other: &Key| {
            (other.host, other.protocol, other.port) == (key.host, key.protocol, key.port)
        };
        let mut mappings = self.mappings.iter();
        if let Some((_, mapping)) = mappings.find(|(other, _)| same(other)) {
            return Ok(mapping.port);
        }
        let is_taken = |port: u16| {
            let mut mappings = self.mappings.iter();
            mappings.any(|(other, it)| {
                it.port == port && other.protocol == key.protocol && it.client == place.client
            })
        };
        let Some(ports) = &place.ports else {
            let is_taken = is_taken(key.port);
            return match is_taken {
                true => Err(refused(ResultCode::NoResources)),
                false => Ok(key.port),
            };
        };
        let usable = |port: &u16| !is_taken(*port) && is_free(key.protocol, *port);
        if ports.contains(&key.port) && usable(&key.port) {
            return Ok(key.port);
        }
        let (first, count) = (u32::from(*ports.start()), ports.len() as u32);
        let begin = self.hash(key, 3) as u32 % count.max(1);
        let candidates = (0..TRIES.min(count)).map(|n| (first + (begin + n) % count) as u16);
        let found = { candidates }.find(usable);
        found.ok_or_else(|| refused(ResultCode::NoResources))
    }
}
