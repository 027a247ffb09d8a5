//! Lets a worker wake the keeper when sessions may exist again.
//!
//! Without sessions nothing expires, so the keeper sleeps without a timeout until the first packet
//! wakes it. A worker reads a flag after each batch; it does more only when the keeper sleeps.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// Wakes the keeper when a worker has had packets.
#[derive(Debug, Default)]
pub struct Wakeup {
    is_armed: AtomicBool,
    notify: Notify,
}

impl Wakeup {
    /// Makes the next batch wake the keeper. Call before the last check for work, so that no batch
    /// is missed.
    pub(crate) fn arm(&self) {
        self.is_armed.store(true, Ordering::SeqCst);
    }

    /// Waits until a worker has had a batch.
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
