//! Sessions that a worker offers to the [offload](crate::offload), after the batch in which they
//! became ripe: no packet waits for it.

use std::net::{Ipv4Addr, Ipv6Addr};

use xlat_core::Instant;
use xlat_core::mapper::Flow;

use super::Worker;
use super::tuples::{client_tuple, external_tuple};
use crate::offload::Side;
use crate::tuple::{ClientTuple, Inside};

impl Worker {
    /// Offers the session of a client's packet after the batch.
    #[cold]
    #[inline(never)]
    pub(super) fn note_offer_v6(&mut self, flow: &Flow<Ipv6Addr>) {
        let Ok((remote, _)) = self.remote(flow.dst) else {
            return;
        };
        if let Ok(tuple) = client_tuple(flow, remote) {
            self.note(tuple, Side::Client, flow);
        }
    }

    /// Offers the session of a remote node's packet to `inside` after the batch.
    #[cold]
    #[inline(never)]
    pub(super) fn note_offer_v4(&mut self, flow: &Flow<Ipv4Addr>, inside: Inside) {
        if let Ok(tuple) = external_tuple(flow) {
            let tuple = ClientTuple {
                protocol: inside.protocol,
                client: inside.client,
                client_port: inside.port,
                remote: tuple.remote,
                remote_port: tuple.remote_port,
            };
            self.note(tuple, Side::Remote, flow);
        }
    }

    /// A hairpin or a fragment makes no offer.
    fn note<A>(&mut self, tuple: ClientTuple, from: Side, flow: &Flow<A>) {
        let remote = Ipv4Addr::from_bits(tuple.remote);
        let turns = self.turns(remote, flow.protocol, tuple.remote_port);
        let outer = self.view.outer.map(|address| address.outer);
        if !turns && outer != Some(remote) && flow.fragment.is_none() {
            self.offers.push((tuple, from));
        }
    }

    /// Offers the sessions that became ripe, those of a shard together.
    #[cold]
    pub(super) fn offer(&mut self, now: Instant) {
        let epoch = self.view.epoch;
        let mut offers = std::mem::take(&mut self.offers);
        let shard =
            |(tuple, _): &(ClientTuple, Side)| self.view.layout.shard_of_client(tuple.client);
        offers.sort_unstable_by_key(shard);
        for offers in offers.chunk_by(|one, other| shard(one) == shard(other)) {
            self.shard_of_client(offers[0].0.client)
                .offload(offers, epoch, now);
        }
        offers.clear();
        self.offers = offers;
    }

    /// Takes back the offer that the client's last packet made, if it made one: the packet turned out
    /// to be a hairpin.
    #[cold]
    pub(crate) fn withhold(&mut self, client: Ipv6Addr) {
        self.offers.retain(|(tuple, _)| tuple.client != client);
    }
}
