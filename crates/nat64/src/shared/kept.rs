//! External ports that clients ask for (RFC 6887).

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};
use std::sync::MutexGuard;

use xlat_core::Instant;

use super::{Nat64, lock};
use crate::shard::{PortRefusal, PortRequest, RemoteFilter, Shard};
use crate::tuple::{Inside, Protocol};

impl Nat64 {
    /// Gives a client's port an external one that stays until it is released, with sessions or
    /// without. The port that it has already, if it has one, stays.
    ///
    /// # Errors
    /// Why not; nothing has changed then.
    pub fn keep_port(
        &self,
        wanted: &PortRequest,
        now: Instant,
    ) -> Result<SocketAddrV4, PortRefusal> {
        let clients = self.view().clients;
        let is_served =
            clients.is_empty() || clients.iter().any(|prefix| prefix.contains(wanted.client));
        if !is_served {
            return Err(PortRefusal::NotServed);
        }
        let outside = self.shard_of(wanted.client).keep(wanted, now)?;
        let address = Ipv4Addr::from_bits(outside.external);
        Ok(SocketAddrV4::new(address, outside.port))
    }

    /// Lets remote nodes begin sessions with a port that was given by
    /// [`keep_port`](Self::keep_port), whatever the filtering of others: those whom a filter
    /// admits, or all if there is none.
    pub fn open_port(
        &self,
        protocol: Protocol,
        client: Ipv6Addr,
        port: u16,
        filters: &[RemoteFilter],
    ) {
        let inside = inside(protocol, client, port);
        self.shard_of(client).open(inside, filters);
    }

    /// Takes back what [`open_port`](Self::open_port) allowed; the external port stays.
    pub fn close_port(&self, protocol: Protocol, client: Ipv6Addr, port: u16) {
        let inside = inside(protocol, client, port);
        self.shard_of(client).close(inside);
    }

    /// Lets the connection of such a port with a remote node be idle until then, whatever the
    /// timeouts of others.
    pub fn hold_connection(
        &self,
        protocol: Protocol,
        client: Ipv6Addr,
        port: u16,
        remote: SocketAddrV4,
        until: Instant,
    ) {
        let inside = inside(protocol, client, port);
        self.shard_of(client).hold(inside, remote, until);
    }

    /// Takes back what [`hold_connection`](Self::hold_connection) promised; the connection goes on.
    pub fn let_connection_go(
        &self,
        protocol: Protocol,
        client: Ipv6Addr,
        port: u16,
        remote: SocketAddrV4,
    ) {
        let inside = inside(protocol, client, port);
        self.shard_of(client).let_go(inside, remote);
    }

    /// Lets a port go with its last session: at once, if it has none.
    pub fn release_port(&self, protocol: Protocol, client: Ipv6Addr, port: u16, now: Instant) {
        let inside = inside(protocol, client, port);
        self.shard_of(client).release(inside, now);
    }

    fn shard_of(&self, client: Ipv6Addr) -> MutexGuard<'_, Shard> {
        let number = self.view().layout.shard_of_client(client);
        lock(&self.shared.shards[number as usize])
    }
}

fn inside(protocol: Protocol, client: Ipv6Addr, port: u16) -> Inside {
    Inside {
        protocol,
        client,
        port,
    }
}
