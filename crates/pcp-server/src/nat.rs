//! The ports of the stateful NAT64, as the protocol asks for them.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};

use nat64::{Nat64, PortRefusal, PortRequest, Protocol, RemoteFilter};
use xlat_core::Instant;
use xlat_core::addr::{Ipv4Prefix, Pref64s};
use xlat_core::wire::IpNextHeaderProtocols as Protocols;
use xlat_proto::pcp::{Filter, Internal, PortMapper, Refusal, Remote, Suggestion};

/// The ports at one moment.
pub(crate) struct Ports<'a> {
    nat: &'a Nat64,
    pref64s: &'a Pref64s,
    now: Instant,
}

impl<'a> Ports<'a> {
    pub(crate) fn new(nat: &'a Nat64, pref64s: &'a Pref64s, now: Instant) -> Self {
        Self { nat, pref64s, now }
    }

    fn keep_port(
        &self,
        internal: Internal,
        suggested: Suggestion,
    ) -> Result<SocketAddrV4, Refusal> {
        let wanted = PortRequest {
            protocol: protocol(internal),
            client: internal.client,
            client_port: internal.port,
            address: suggested.address.map(|address| self.nat.meant(address)),
            port: suggested.port,
            exact: suggested.exact,
        };
        self.nat
            .keep_port(&wanted, self.now)
            .map_err(|refusal| match refusal {
                PortRefusal::NotServed => Refusal::NotAuthorized,
                PortRefusal::Exhausted => Refusal::NoResources,
                PortRefusal::Limit => Refusal::Quota,
                PortRefusal::NotThisOne => Refusal::NotThisOne,
                PortRefusal::Busy => Refusal::Temporary,
            })
    }

    /// A filter as the IPv4 side sees it; `None` if it admits no IPv4 node.
    fn filter(&self, filter: &Filter) -> Option<RemoteFilter> {
        const MAPPED: u8 = 96;
        let (address, len) = match filter.address.to_ipv4_mapped() {
            Some(address) => (address, filter.prefix_len.saturating_sub(MAPPED)),
            // The client knows IPv4 nodes by their addresses in the prefix.
            None if filter.prefix_len == 128 => (self.remote(filter.address)?, 32),
            None => return None,
        };
        Some(RemoteFilter {
            prefix: Ipv4Prefix::containing(address, len),
            port: (filter.port != 0).then_some(filter.port),
        })
    }

    /// The far end of a connection as the IPv4 side sees it.
    fn far_end(&self, remote: Remote) -> Option<SocketAddrV4> {
        Some(SocketAddrV4::new(self.remote(remote.address)?, remote.port))
    }

    fn remote(&self, address: Ipv6Addr) -> Option<Ipv4Addr> {
        self.pref64s.lookup(address)?.extract(address)
    }
}

impl PortMapper for Ports<'_> {
    fn map(
        &mut self,
        internal: Internal,
        suggested: Suggestion,
        filters: &[Filter],
    ) -> Result<SocketAddrV4, Refusal> {
        let external = self.keep_port(internal, suggested)?;
        let mut admitted: Vec<_> = filters.iter().filter_map(|one| self.filter(one)).collect();
        if !filters.is_empty() && admitted.is_empty() {
            // Nobody at all: no node has the unspecified address.
            admitted.push(RemoteFilter {
                prefix: Ipv4Prefix::host(Ipv4Addr::UNSPECIFIED),
                port: None,
            });
        }
        let (protocol, port) = (protocol(internal), internal.port);
        self.nat
            .open_port(protocol, internal.client, port, &admitted);
        Ok(external)
    }

    fn keep(
        &mut self,
        internal: Internal,
        remote: Remote,
        suggested: Suggestion,
        until: Instant,
    ) -> Result<SocketAddrV4, Refusal> {
        let far = self.far_end(remote).ok_or(Refusal::NotAuthorized)?;
        let external = self.keep_port(internal, suggested)?;
        let (protocol, port) = (protocol(internal), internal.port);
        self.nat
            .hold_connection(protocol, internal.client, port, far, until);
        Ok(external)
    }

    fn let_go(&mut self, internal: Internal, remote: Remote) {
        let (protocol, port) = (protocol(internal), internal.port);
        if let Some(far) = self.far_end(remote) {
            self.nat
                .let_connection_go(protocol, internal.client, port, far);
        }
    }

    fn seen(&self, external: SocketAddrV4) -> SocketAddrV4 {
        SocketAddrV4::new(self.nat.seen(*external.ip()), external.port())
    }

    fn close(&mut self, internal: Internal) {
        let (protocol, port) = (protocol(internal), internal.port);
        self.nat.close_port(protocol, internal.client, port);
    }

    fn release(&mut self, internal: Internal) {
        let (protocol, port) = (protocol(internal), internal.port);
        self.nat
            .release_port(protocol, internal.client, port, self.now);
    }
}

fn protocol(internal: Internal) -> Protocol {
    if internal.protocol == Protocols::Tcp.0 {
        Protocol::Tcp
    } else {
        Protocol::Udp
    }
}
