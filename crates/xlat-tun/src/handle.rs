//! The control plane's handle to the workers: messages to them, their counters, stopping them.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::thread;

use confinement::Thread;

use super::mailbox::{Change, Mailbox, Message};
use crate::counters::{Counters, Snapshot};

/// A handle to the workers. Dropping it stops them.
pub struct Handle<E> {
    pub(super) workers: Vec<WorkerHandle<E>>,
}

/// The counters of all workers, readable from any thread.
#[derive(Clone, Debug)]
pub struct Totals(Arc<[Arc<Counters>]>);

impl Totals {
    /// The sum over all workers.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::sum(self.0.iter().map(Arc::as_ref))
    }

    /// The counters of one worker, for another in its place.
    pub(super) fn of_worker(&self, number: usize) -> Option<Arc<Counters>> {
        self.0.get(number).cloned()
    }
}

/// One worker, as its handle sees it.
pub(super) struct WorkerHandle<E> {
    pub(super) mailbox: Arc<Mailbox<E>>,
    pub(super) counters: Arc<Counters>,
    /// `None` after it was joined.
    pub(super) thread: Option<Thread>,
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

    /// The counters, for threads that do not own the handle.
    pub fn totals(&self) -> Totals {
        let counters = self.workers.iter().map(|one| Arc::clone(&one.counters));
        Totals(counters.collect())
    }

    /// Stops the workers, waits until they have ended and returns their final counters. The TUN
    /// interface disappears with them.
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
                // A panic and a killed thread have already been reported to `on_failure`.
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

/// A worker ended without a stop message.
#[derive(Debug)]
pub struct Failure {
    /// Number of the worker, from 0.
    pub worker: usize,
    /// The kernel's error on the TUN; `None` if the worker panicked or was killed.
    pub error: Option<io::Error>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { worker, error } = self;
        match error {
            Some(error) => write!(f, "worker {worker} lost the TUN interface: {error}"),
            None => write!(f, "worker {worker} panicked or was killed"),
        }
    }
}

impl std::error::Error for Failure {}

pub(super) type OnFailure = dyn Fn(Failure) + Send + Sync;
/// Reports a worker's thread that fails.
pub(super) struct FailureWatch {
    pub(super) number: usize,
    pub(super) on_failure: Arc<OnFailure>,
}

impl FailureWatch {
    /// Runs `work` and reports its error. A panic is reported when `self` is dropped.
    pub(super) fn run(self, work: impl FnOnce() -> io::Result<()>) {
        if let Err(error) = work() {
            self.report(Some(error));
        }
    }

    pub(super) fn report(&self, error: Option<io::Error>) {
        (self.on_failure)(Failure {
            worker: self.number,
            error,
        });
    }
}

impl Drop for FailureWatch {
    fn drop(&mut self) {
        if thread::panicking() {
            self.report(None);
        }
    }
}
