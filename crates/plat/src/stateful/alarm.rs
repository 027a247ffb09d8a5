//! How a worker tells the keeper that there is state again.
//!
//! A translator without sessions has nothing that ends, so its keeper sleeps without a time-out.
//! The first packet wakes it. A worker looks at a flag after each batch; only when the keeper
//! sleeps does it cost more than that.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// What wakes the keeper.
#[derive(Debug, Default)]
pub(crate) struct Alarm {
    is_set: AtomicBool,
    bell: Notify,
}

impl Alarm {
    /// To be called before the last look at whether there is anything to do.
    pub(crate) fn set(&self) {
        self.is_set.store(true, Ordering::SeqCst);
    }

    /// Waits for a worker.
    pub(crate) async fn wait(&self) {
        self.bell.notified().await;
    }

    /// To be called by a worker after each batch.
    #[inline]
    pub(crate) fn ring(&self) {
        if self.is_set.load(Ordering::Relaxed) && self.is_set.swap(false, Ordering::SeqCst) {
            self.bell.notify_one();
        }
    }
}
