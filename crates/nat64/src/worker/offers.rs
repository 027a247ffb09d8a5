//! Sessions that a worker offers to the [offload](crate::offload), after the batch in which they
//! became ripe: no packet waits for it.

use std::net::{Ipv4Addr, Ipv6Addr};

use xlat_core::Instant;
use xlat_core::mapper::Flow;

use super::Worker;
use super::tuples::client_tuple;
use crate::tuple::ClientTuple;

impl Worker {
    /// Offers the session of a client's packet after the batch. A hairpin or a fragment makes no
    /// offer.
    #[cold]
    #[inline(never)]
    pub(super) fn note_offer(&mut self, flow: &Flow<Ipv6Addr>) {
        let Some(tuple) = self.tuple_of(flow) else {
            return;
        };
        let remote = Ipv4Addr::from_bits(tuple.remote);
        let turns = self.turns(remote, flow.protocol, tuple.remote_port);
        let outer = self.view.outer.map(|address| address.outer);
        if !turns && outer != Some(remote) && flow.fragment.is_none() {
            self.offers.push(tuple);
        }
    }

    fn tuple_of(&self, flow: &Flow<Ipv6Addr>) -> Option<ClientTuple> {
        let (remote, _) = self.remote(flow.dst).ok()?;
        client_tuple(flow, remote).ok()
    }

    /// Offers the sessions that became ripe.
    #[cold]
    pub(super) fn offer(&mut self, now: Instant) {
        let epoch = self.view.epoch;
        let mut offers = std::mem::take(&mut self.offers);
        for tuple in offers.drain(..) {
            self.shard_of_client(tuple.client)
                .offload(&tuple, epoch, now);
        }
        self.offers = offers;
    }

    /// Takes back the offer that the client's last packet made, if it made one: the packet turned out
    /// to be a hairpin.
    #[cold]
    pub(crate) fn withhold(&mut self, client: Ipv6Addr) {
        self.offers.retain(|tuple| tuple.client != client);
    }
}
