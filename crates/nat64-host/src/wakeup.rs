//! How a worker tells the keeper that there is state again.
//!
//! A translator without sessions has nothing that ends, so its keeper sleeps without a time-out.
//! The first packet wakes it. A worker looks at a flag after each batch; only when the keeper
//! sleeps does it cost more than that.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// Wakes the keeper when a worker has had packets.
#[derive(Debug, Default)]
pub struct Wakeup {
    is_armed: AtomicBool,
    notify: Notify,
}

impl Wakeup {
    /// Makes the next batch wake the keeper. Call before the last look at whether there is anything
    /// to do.
    pub(crate) fn arm(&self) {
        self.is_armed.store(true, Ordering::SeqCst);
    }

    /// Waits for a worker's batch.
    pub(crate) async fn wait(&self) {
        self.notify.notified().await;
    }

    /// Wakes the keeper if it sleeps. Call from a worker after each batch.
    #[inline]
    pub fn wake(&self) {
        if self.is_armed.load(Ordering::Relaxed) && self.is_armed.swap(false, Ordering::SeqCst) {
            self.notify.notify_one();
        }
    }
}
