//! Messages from the control plane to one worker.
//!
//! A busy worker looks at a flag between two batches, which costs no system call; a sleeping one is
//! woken by a bell (an eventfd).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::event::EventfdFlags;

/// What a message does to the worker's engine.
pub(super) type Change<E> = dyn Fn(&mut E) + Send + Sync;

/// What the control plane may want.
pub(super) enum Message<E> {
    Change(Arc<Change<E>>),
    Stop,
}

/// Where the control plane leaves messages for one worker.
pub(super) struct Mailbox<E> {
    messages: Mutex<Vec<Message<E>>>,
    /// Looked at between batches, so that a busy worker needs no system call to find out.
    full: AtomicBool,
    /// Wakes a sleeping worker.
    bell: OwnedFd,
}

impl<E> Mailbox<E> {
    pub(super) fn new() -> io::Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        Ok(Self {
            messages: Mutex::new(Vec::new()),
            full: AtomicBool::new(false),
            bell: rustix::event::eventfd(0, flags)?,
        })
    }

    pub(super) fn post(&self, message: Message<E>) {
        self.messages
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(message);
        self.full.store(true, Ordering::Release);
        // It only fails when the bell has been rung 2^64 - 2 times and nobody listened.
        let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
    }

    /// The messages in the order they came.
    pub(super) fn take(&self) -> Vec<Message<E>> {
        // A load leaves the cache line where it is, which a swap would not.
        if !self.full.load(Ordering::Acquire) || !self.full.swap(false, Ordering::Acquire) {
            return Vec::new();
        }
        let mut messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut messages)
    }

    /// What a sleeping worker waits for.
    pub(super) fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// To be called by whom the bell woke, before looking at the messages: a message that comes
    /// later rings again.
    pub(super) fn silence(&self) {
        let _ = rustix::io::read(&self.bell, &mut [0; 8]);
    }
}
