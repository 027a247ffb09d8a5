//! Messages from the control plane to one worker.
//!
//! A busy worker checks a flag between two batches, which costs no system call; an eventfd wakes a
//! sleeping one.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::event::EventfdFlags;

/// A change that a message makes to the worker's engine.
pub(super) type Change<E> = dyn Fn(&mut E) + Send + Sync;

/// A message from the control plane to one worker.
pub(super) enum Message<E> {
    Change(Arc<Change<E>>),
    Stop,
}

/// The queue of messages for one worker.
pub(super) struct Mailbox<E> {
    messages: Mutex<Vec<Message<E>>>,
    /// True while there are messages. A busy worker checks it between batches without a system
    /// call.
    full: AtomicBool,
    /// Wakes a sleeping worker.
    wakeup: OwnedFd,
}

impl<E> Mailbox<E> {
    pub(super) fn new() -> io::Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        Ok(Self {
            messages: Mutex::new(Vec::new()),
            full: AtomicBool::new(false),
            wakeup: rustix::event::eventfd(0, flags)?,
        })
    }

    pub(super) fn post(&self, message: Message<E>) {
        self.messages
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(message);
        self.full.store(true, Ordering::Release);
        // Fails only if the worker has missed 2^64 - 2 messages.
        let _ = rustix::io::write(&self.wakeup, &1_u64.to_ne_bytes());
    }

    /// Takes all messages, in the order of posting.
    pub(super) fn take(&self) -> Vec<Message<E>> {
        // A load keeps the cache line shared; a swap would claim it.
        if !self.full.load(Ordering::Acquire) || !self.full.swap(false, Ordering::Acquire) {
            return Vec::new();
        }
        let mut messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut messages)
    }

    /// Becomes readable when a message is posted, for a sleeping worker to poll.
    pub(super) fn wakeup(&self) -> BorrowedFd<'_> {
        self.wakeup.as_fd()
    }

    /// Call after waking, before taking messages: a message that is posted later wakes again.
    pub(super) fn clear_wakeup(&self) {
        let _ = rustix::io::read(&self.wakeup, &mut [0; 8]);
    }
}
