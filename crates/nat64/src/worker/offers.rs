//! Sessions that a worker offers to the [offload](crate::offload), after the batch in which they
//! became ripe: no packet waits for it.

use std::net::Ipv6Addr;

use xlat_core::Instant;

use super::Worker;

impl Worker {
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
