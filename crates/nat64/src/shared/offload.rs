//! The control plane's side of the [offload](crate::offload): what sessions are offered to, and how
//! all of them are taken back at once.

use std::sync::Arc;

use super::{Nat64, View, lock};
use crate::offload::OffloadConfig;

impl Nat64 {
    /// Offers sessions to this from now on, or to nothing. Those that are installed are taken back
    /// first.
    pub fn set_offload(&self, config: Option<&OffloadConfig>) {
        let current = lock(&self.shared.current);
        let epoch = current.view.epoch;
        self.begin_epoch(epoch.wrapping_add(1));
        let share = config.map_or(0, |config| {
            config.flows / self.shared.shards.len().max(1) as u32
        });
        *lock(&self.shared.offload) = config.map(|config| Arc::clone(&config.offload));
        for mut shard in self.each_shard() {
            shard.set_offload(config, share);
            shard.set_epoch(epoch);
        }
    }

    /// Takes back all sessions that are installed: from now on all packets come to the workers. What
    /// decides about packets can now be changed. No session is installed before a worker has
    /// [adopted](crate::Worker::adopt) the view that is returned.
    pub fn recall(&self) -> View {
        let mut current = lock(&self.shared.current);
        current.view.epoch = current.view.epoch.wrapping_add(1);
        self.begin_epoch(current.view.epoch);
        current.view.clone()
    }

    /// Begins an epoch, whose view workers must have to install sessions, with none installed.
    pub(super) fn begin_epoch(&self, epoch: u32) {
        for mut shard in self.each_shard() {
            shard.set_epoch(epoch);
        }
        if let Some(offload) = &*lock(&self.shared.offload) {
            offload.invalidate();
        }
        for shard in &self.shared.shards {
            while lock(shard).recall_some() {}
        }
    }
}
