//! The control plane's hold on the workers: messages to them, their counters, their end.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use super::mailbox::{Change, Mailbox, Message};
use crate::counters::{Counters, Snapshot};

/// The control plane's hold on the workers. Dropping it stops them.
pub struct Handle<E> {
    pub(super) workers: Vec<Running<E>>,
}

/// All workers' counters, to be read from anywhere.
#[derive(Clone, Debug)]
pub struct Totals(Arc<[Arc<Counters>]>);

impl Totals {
    /// Their sum.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::sum(self.0.iter().map(Arc::as_ref))
    }
}

/// One worker, seen from outside.
pub(super) struct Running<E> {
    pub(super) mailbox: Arc<Mailbox<E>>,
    pub(super) counters: Arc<Counters>,
    /// `None` once it was joined.
    pub(super) thread: Option<JoinHandle<()>>,
}

impl<E> Handle<E> {
    /// Runs `change` on every worker's engine, between two batches. Returns at once; the changes of
    /// one caller happen in the order of the calls.
    pub fn update(&self, change: impl Fn(&mut E) + Send + Sync + 'static) {
        let change: Arc<Change<E>> = Arc::new(change);
        for worker in &self.workers {
            worker.mailbox.post(Message::Change(Arc::clone(&change)));
        }
    }

    /// The sum of all workers' counters.
    pub fn counters(&self) -> Snapshot {
        Snapshot::sum(self.workers.iter().map(|worker| worker.counters.as_ref()))
    }

    /// The counters for somebody who does not hold the workers.
    pub fn totals(&self) -> Totals {
        let counters = self.workers.iter().map(|one| Arc::clone(&one.counters));
        Totals(counters.collect())
    }

    /// Stops the workers, waits until they are done and returns their last figures. With them the
    /// TUN interface goes.
    pub fn stop(mut self) -> Snapshot {
        self.join();
        self.counters()
    }

    fn join(&mut self) {
        for worker in &self.workers {
            worker.mailbox.post(Message::Stop);
        }
        for worker in &mut self.workers {
            if let Some(thread) = worker.thread.take() {
                // A panic was reported to `on_failure` when it happened.
                let _ = thread.join();
            }
        }
    }
}

impl<E> Drop for Handle<E> {
    fn drop(&mut self) {
        self.join();
    }
}

impl<E> fmt::Debug for Handle<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("workers", &self.workers.len())
            .finish()
    }
}

/// A worker ended without having been told to.
#[derive(Debug)]
pub struct Failure {
    /// Which one, from 0 on.
    pub worker: usize,
    /// What the kernel said about the TUN; `None` if the worker panicked.
    pub error: Option<io::Error>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { worker, error } = self;
        match error {
            Some(error) => write!(f, "worker {worker} lost the TUN interface: {error}"),
            None => write!(f, "worker {worker} panicked"),
        }
    }
}

impl std::error::Error for Failure {}

pub(super) type OnFailure = dyn Fn(Failure) + Send + Sync;
/// Reports how a worker's thread ended.
pub(super) struct Watch {
    pub(super) number: usize,
    pub(super) on_failure: Arc<OnFailure>,
}

impl Watch {
    /// Runs `work` and reports its error; a panic is reported when `self` goes.
    pub(super) fn over(self, work: impl FnOnce() -> io::Result<()>) {
        if let Err(error) = work() {
            self.report(Some(error));
        }
    }

    fn report(&self, error: Option<io::Error>) {
        (self.on_failure)(Failure {
            worker: self.number,
            error,
        });
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if thread::panicking() {
            self.report(None);
        }
    }
}
