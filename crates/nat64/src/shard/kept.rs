//! Bindings that clients ask for explicitly (RFC 6887): they stay without sessions until they are
//! released. They count towards the subscriber's limits as all of its bindings do.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};

use xlat_core::addr::Ipv4Prefix;
use xlat_core::mapper::Refusal;
use xlat_core::{DropReason, Instant};

use super::Shard;
use crate::clock::Tick;
use crate::ports::deterministic::Block;
use crate::table::bib::BindingState;
use crate::table::session::Session;
use crate::table::subscribers::NO_ADDRESS;
use crate::tuple::{ClientTuple, ExternalTuple, Inside, Outside, Protocol};

/// An external port that a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRequest {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The client.
    pub client: Ipv6Addr,
    /// Its port.
    pub client_port: u16,
    /// The external address that it would like to have.
    pub address: Option<Ipv4Addr>,
    /// The external port that it would like to have.
    pub port: Option<u16>,
    /// It wants nothing else.
    pub exact: bool,
}

/// Why a client does not get an external port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PortRefusal {
    /// The client is not served.
    NotServed,
    /// Nothing is left.
    Exhausted,
    /// The subscriber has as much as it may have.
    Limit,
    /// There are others, but not this one.
    NotThisOne,
    /// The administrator's binding for the client's port comes or goes at this moment.
    Busy,
}

/// Remote nodes that may send to an open binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoteFilter {
    /// Their addresses.
    pub prefix: Ipv4Prefix,
    /// Their port; `None` for any.
    pub port: Option<u16>,
}

impl Shard {
    /// Gives a client's port an external one that stays until it is released, and the transport
    /// address that it has then. One that the port has already stays the same.
    pub(crate) fn keep(
        &mut self,
        wanted: &PortRequest,
        now: Instant,
    ) -> Result<Outside, PortRefusal> {
        let handle = match self.bib.of_inside(inside(wanted)) {
            Some(handle) => handle,
            None => self.bind_wanted(wanted, now)?,
        };
        let bound = self.bib.binding(handle);
        let outside = bound.outside();
        if bound.state == BindingState::Closed {
            return Err(PortRefusal::Busy);
        }
        if wanted.exact && !is_wanted(wanted, outside) {
            return Err(PortRefusal::NotThisOne);
        }
        if bound.state == BindingState::Dynamic {
            self.bib.binding_mut(handle).state = BindingState::Kept;
        }
        Ok(outside)
    }

    /// Lets those send to a kept binding whom the filters admit: everybody, if there are none.
    pub(crate) fn open(&mut self, inside: Inside, filters: &[RemoteFilter]) {
        let Some(handle) = self.kept(inside) else {
            return;
        };
        self.bib.binding_mut(handle).state = BindingState::Open;
        if filters.is_empty() {
            self.remote_filters.remove(&handle);
        } else {
            self.remote_filters.insert(handle, filters.into());
        }
    }

    /// Filters a kept binding as any other again.
    pub(crate) fn close(&mut self, inside: Inside) {
        if let Some(handle) = self.kept(inside) {
            self.remote_filters.remove(&handle);
            self.bib.binding_mut(handle).state = BindingState::Kept;
        }
    }

    /// Lets a binding go with its last session: at once, if it has none.
    pub(crate) fn release(&mut self, inside: Inside, now: Instant) {
        if let Some(handle) = self.kept(inside) {
            self.remote_filters.remove(&handle);
            self.held.retain(|(binding, ..), _| *binding != handle);
            self.bib.binding_mut(handle).state = BindingState::Dynamic;
            self.release_if_unused(handle, now);
        }
    }

    /// Lets a kept binding's connection with a remote node be idle until then.
    pub(crate) fn hold(&mut self, inside: Inside, remote: SocketAddrV4, until: Instant) {
        if let Some(handle) = self.kept(inside) {
            let place = (handle, remote.ip().to_bits(), remote.port());
            self.held.insert(place, Tick::at(until));
        }
    }

    /// Lets that connection end by its own timeout again.
    pub(crate) fn let_go(&mut self, inside: Inside, remote: SocketAddrV4) {
        if let Some(handle) = self.kept(inside) {
            let place = (handle, remote.ip().to_bits(), remote.port());
            self.held.remove(&place);
        }
    }

    /// The end of a session that its client holds for longer than its timeout. One that ends, or has
    /// never been established, is not held (RFC 6887 section 12.3).
    pub(super) fn held_until(&self, session: &Session) -> Option<Tick> {
        if self.held.is_empty() {
            return None;
        }
        let place = (session.binding, session.remote, session.remote_port);
        let until = *self.held.get(&place)?;
        (until > session.expires()).then_some(until)
    }

    /// False if the client has said whom it wants to hear, and the remote node is not among them.
    #[inline]
    pub(super) fn passes_remote_filters(&self, binding: u32, tuple: &ExternalTuple) -> bool {
        if self.remote_filters.is_empty() {
            return true;
        }
        let remote = Ipv4Addr::from_bits(tuple.remote);
        let admits = |filter: &RemoteFilter| {
            let is_port = filter.port.is_none_or(|port| port == tuple.remote_port);
            is_port && filter.prefix.contains(remote)
        };
        self.remote_filters
            .get(&binding)
            .is_none_or(|filters| filters.iter().any(admits))
    }

    fn kept(&self, inside: Inside) -> Option<u32> {
        let handle = self.bib.of_inside(inside)?;
        let state = self.bib.binding(handle).state;
        matches!(state, BindingState::Kept | BindingState::Open).then_some(handle)
    }

    /// Makes a binding: with the external port that the client would like, or else with any.
    fn bind_wanted(&mut self, wanted: &PortRequest, now: Instant) -> Result<u32, PortRefusal> {
        if self.drains && !self.subscribers.knows(wanted.client) {
            return Err(PortRefusal::NotServed);
        }
        let tuple = ClientTuple {
            protocol: wanted.protocol,
            client: wanted.client,
            client_port: wanted.client_port,
            remote: 0,
            remote_port: 0,
        };
        if let Some(outside) = self.suggestion(wanted) {
            let subscriber = self.subscribers.of_client(wanted.client);
            let subscriber = subscriber.ok_or(PortRefusal::Exhausted)?;
            let allowed = self.check_quota(subscriber, &tuple, now);
            self.subscribers.remove_if_idle(subscriber);
            allowed.map_err(refusal)?;
            if let Ok(handle) = self.rebind(inside(wanted), outside, 0, now) {
                return Ok(handle);
            }
        }
        if wanted.exact {
            return Err(PortRefusal::NotThisOne);
        }
        self.binding_for(tuple, 0, now).map_err(refusal)
    }

    /// The external transport address that a client would like, if its subscriber may have it.
    fn suggestion(&mut self, wanted: &PortRequest) -> Option<Outside> {
        let subscriber = self.subscribers.of_client(wanted.client)?;
        let fixed = self.fixed_block(wanted.client);
        let payer = self.subscribers.subscriber(subscriber);
        let paired = (payer.address != NO_ADDRESS).then(|| self.pool.address(payer.address));
        let port = wanted.port.unwrap_or(wanted.client_port);
        let may_have = self.rules.ports.blocks.is_none_or(|blocks| {
            let first = port & !((blocks.size - 1) as u16);
            let has_room = payer.blocks().len() < blocks.per_subscriber as usize;
            let is_fixed = |fixed: Block| fixed.first_port == first;
            let may_get = matches!(fixed, Ok(fixed) if fixed.is_none_or(is_fixed));
            payer.blocks().contains(&first) || has_room && may_get
        });
        let usual = self
            .pool
            .open_address(wanted.protocol, self.favourite(subscriber));
        let usual = usual.map(|index| self.pool.address(index));
        self.subscribers.remove_if_idle(subscriber);
        let fixed = fixed.ok().flatten().map(|block| block.address);
        let address = paired.or(fixed).or(wanted.address).or(usual)?;
        may_have.then_some(Outside {
            protocol: wanted.protocol,
            external: address.to_bits(),
            port,
        })
    }
}

fn inside(wanted: &PortRequest) -> Inside {
    Inside {
        protocol: wanted.protocol,
        client: wanted.client,
        port: wanted.client_port,
    }
}

fn is_wanted(wanted: &PortRequest, outside: Outside) -> bool {
    let external = Ipv4Addr::from_bits(outside.external);
    wanted.address.is_none_or(|address| address == external)
        && wanted.port.is_none_or(|port| port == outside.port)
}

fn refusal(refusal: Refusal) -> PortRefusal {
    match refusal {
        Refusal::Answer(DropReason::SubscriberLimit, _) => PortRefusal::Limit,
        Refusal::Silent(_) => PortRefusal::Busy,
        _ => PortRefusal::Exhausted,
    }
}
