//! The address by which the IPv4 side knows the pool.

use std::net::Ipv4Addr;
use std::sync::Arc;

use xlat_core::Instant;
use xlat_core::mappers::SharedAddress;

use super::{Nat64, View, lock};
use crate::outer::OuterAddress;

impl Nat64 {
    /// The IPv4 side sees an address of the pool as another one from now on. TCP connections by the
    /// address before end; other sessions stay, with their ports. Returns what each worker has to
    /// [`adopt`](crate::Worker::adopt).
    pub fn set_outer(&self, outer: OuterAddress, now: Instant) -> View {
        let mut current = lock(&self.shared.current);
        let epoch = current.view.epoch.wrapping_add(1);
        self.begin_epoch(epoch);
        for mut shard in self.each_shard() {
            shard.set_outer(outer, now);
        }
        let shared = Arc::new(outer.shared(&current.config));
        let view = &mut current.view;
        (view.outer, view.shared, view.epoch) = (Some(outer), Some(shared), epoch);
        view.clone()
    }

    /// The address of the pool that the IPv4 side sees as another one, and that one.
    pub fn outer(&self) -> Option<OuterAddress> {
        lock(&self.shared.current).view.outer
    }

    /// The address that the IPv4 side sees of an external address of the tables.
    pub fn seen(&self, external: Ipv4Addr) -> Ipv4Addr {
        OuterAddress::seen(lock(&self.shared.current).view.outer, external)
    }

    /// The external address of the tables that the IPv4 side sees as `seen`.
    pub fn meant(&self, seen: Ipv4Addr) -> Ipv4Addr {
        OuterAddress::meant(lock(&self.shared.current).view.outer, seen)
    }

    /// The ports of the outer address that belong to clients, if there is one.
    pub fn shared_address(&self) -> Option<SharedAddress> {
        let current = lock(&self.shared.current);
        current.view.shared.as_deref().cloned()
    }
}
