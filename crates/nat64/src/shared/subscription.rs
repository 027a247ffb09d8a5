//! Subscriptions to the feed of changes, and what tells a session from its successor.

use std::sync::atomic::Ordering;

use super::{Nat64, lock};
use crate::event::{Event, SessionHandle};
use crate::feed::Subscribe;

/// A subscriber's end of the feed. Dropping it ends the subscription.
#[derive(Debug)]
pub struct Subscription {
    nat: Nat64,
    id: u32,
}

impl Nat64 {
    /// Subscribes to changes from now on.
    pub fn subscribe(&self, wanted: Subscribe) -> Subscription {
        let id = self.shared.subscriptions.fetch_add(1, Ordering::Relaxed);
        for mut shard in self.each_shard() {
            shard.feed.add(id, wanted);
        }
        Subscription {
            nat: self.clone(),
            id,
        }
    }

    /// True as long as the session that `handle` was made for is in its table. An expired session
    /// stays there until its timer fires or a packet for it comes.
    pub fn is_current(&self, handle: SessionHandle) -> bool {
        let shard = self.shared.shards.get(handle.shard as usize);
        shard.is_some_and(|shard| lock(shard).is_current(handle))
    }
}

impl Subscription {
    /// Asks for other kinds of events from now on. Those that wait stay.
    pub fn change(&self, wanted: Subscribe) {
        for mut shard in self.nat.each_shard() {
            shard.feed.change(self.id, wanted);
        }
    }

    /// Moves all events that wait to the end of `into`, in order of time within a shard; returns the
    /// number of events lost since the last call.
    pub fn drain(&self, into: &mut Vec<Event>) -> u64 {
        let shards = self.nat.each_shard();
        shards
            .map(|mut shard| shard.feed.drain(self.id, into))
            .sum()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        for mut shard in self.nat.each_shard() {
            shard.feed.remove(self.id);
        }
    }
}
