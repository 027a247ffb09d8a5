//! Confined threads. One that the kernel kills runs no destructor, wakes no one who joins it, and
//! would be missed by none: so a thread of its own waits for the end of each.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fd::OwnedFd;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::thread::gettid;
use tracing::{debug, error};

use crate::{Kind, Mode, enter, mode};

/// A confined thread.
#[derive(Debug)]
pub struct Thread {
    handle: JoinHandle<()>,
    has_ended: Arc<AtomicBool>,
    id: Arc<OnceLock<Pid>>,
}

/// The kernel has killed the thread, for a system call that it may not make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Killed;

/// Starts a thread that is confined to its kind after `prepare`. If the kernel kills it, the log
/// says so, and `killed` is called on another thread.
///
/// # Errors
/// If the thread cannot be started.
pub fn spawn(
    kind: Kind,
    name: &str,
    prepare: impl FnOnce() + Send + 'static,
    work: impl FnOnce() + Send + 'static,
    killed: impl FnOnce() + Send + 'static,
) -> io::Result<Thread> {
    let (has_ended, id) = (Arc::new(AtomicBool::new(false)), Arc::new(OnceLock::new()));
    let end = SetAtEnd(Arc::clone(&has_ended));
    let (theirs, called) = (Arc::clone(&id), name.to_owned());
    if mode() != Mode::Off {
        watcher();
    }
    let handle = Builder::new().name(name.into()).spawn(move || {
        let end = end;
        let own = gettid();
        let _ = theirs.set(own);
        prepare();
        if mode() != Mode::Off {
            watch(own, (kind, called), Arc::clone(&end.0), killed);
        }
        enter(kind);
        work();
    })?;
    Ok(Thread {
        handle,
        has_ended,
        id,
    })
}

/// From now on a process whose worker was killed has this long to end, and then is ended as it is: the
/// thread may have held a lock of the tables, which whoever saves them waits for.
pub fn end_within(grace: Duration) {
    let _ = GRACE.set(grace);
}

impl Thread {
    /// Waits for its end.
    ///
    /// # Errors
    /// If the kernel has killed it. What it held stays as it is.
    pub fn join(self) -> Result<(), Killed> {
        while !self.handle.is_finished() {
            let is_gone = self.id.get().is_some_and(|id| !task(*id).exists());
            if is_gone && !self.has_ended.load(Ordering::Acquire) {
                // To join it would wait for a result that never comes.
                std::mem::forget(self);
                return Err(Killed);
            }
            std::thread::sleep(STEP);
        }
        // A panic is reported by who needs to know.
        let _ = self.handle.join();
        Ok(())
    }
}

fn task(id: Pid) -> PathBuf {
    PathBuf::from(format!("/proc/self/task/{}", id.as_raw_nonzero()))
}

/// Set when a thread returns or panics.
struct SetAtEnd(Arc<AtomicBool>);

impl Drop for SetAtEnd {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// A thread whose end is waited for.
struct Watched {
    descriptor: OwnedFd,
    kind: Kind,
    name: String,
    has_ended: Arc<AtomicBool>,
    killed: Box<dyn FnOnce() + Send>,
}

struct Watcher {
    wake: OwnedFd,
    new: Mutex<Vec<Watched>>,
}

/// Waits for the end of the calling thread, whose number is `id`. Linux before 6.9 has no descriptor
/// for a thread: it is missed only when it is joined.
fn watch(
    id: Pid,
    (kind, name): (Kind, String),
    has_ended: Arc<AtomicBool>,
    killed: impl FnOnce() + Send + 'static,
) {
    let Some(watcher) = watcher() else { return };
    match pidfd_open(id, PIDFD_THREAD) {
        Ok(descriptor) => {
            let watched = Watched {
                descriptor,
                kind,
                name,
                has_ended,
                killed: Box::new(killed),
            };
            let mut new = watcher.new.lock().unwrap_or_else(PoisonError::into_inner);
            new.push(watched);
            drop(new);
            let _ = rustix::io::write(&watcher.wake, &1_u64.to_ne_bytes());
        }
        Err(error) => debug!("the end of {name} will not be noticed: {error}"),
    }
}

/// The thread that waits for all others; `None` if there is none.
fn watcher() -> Option<&'static Watcher> {
    static WATCHER: OnceLock<Option<Watcher>> = OnceLock::new();
    static STARTED: OnceLock<()> = OnceLock::new();
    let watcher = WATCHER.get_or_init(|| {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).ok()?;
        let new = Mutex::new(Vec::new());
        Some(Watcher { wake, new })
    });
    let watcher = watcher.as_ref()?;
    STARTED.get_or_init(|| {
        let thread = Builder::new().name("thread-watch".into()).spawn(|| {
            enter(Kind::Watch);
            wait_for_ends(watcher);
        });
        if let Err(error) = thread {
            debug!("the end of no thread will be noticed: {error}");
        }
    });
    Some(watcher)
}

fn wait_for_ends(watcher: &Watcher) {
    let mut all: Vec<Watched> = Vec::new();
    let mut over: Option<Instant> = None;
    loop {
        let left = over.map(|over| over.saturating_duration_since(Instant::now()));
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        let first = PollFd::new(&watcher.wake, PollFlags::IN);
        let others = all
            .iter()
            .map(|one| PollFd::new(&one.descriptor, PollFlags::IN));
        let mut descriptors: Vec<PollFd<'_>> = std::iter::once(first).chain(others).collect();
        if poll(&mut descriptors, left.as_ref()).is_err() {
            continue;
        }
        let ended: Vec<bool> = descriptors
            .iter()
            .map(|one| !one.revents().is_empty())
            .collect();
        let mut ended = ended.into_iter();
        if ended.next() == Some(true) {
            let _ = rustix::io::read(&watcher.wake, &mut [0; 8]);
        }
        let mut gone = Vec::new();
        for at in (0..all.len()).rev() {
            if ended.next_back() == Some(true) {
                gone.push(all.swap_remove(at));
            }
        }
        for one in gone {
            if !one.has_ended.load(Ordering::Acquire) {
                if let (Kind::Worker, Some(grace)) = (one.kind, GRACE.get()) {
                    over.get_or_insert(Instant::now() + *grace);
                }
                report(one);
            }
        }
        if over.is_some_and(|over| over <= Instant::now()) {
            end();
        }
        all.append(&mut watcher.new.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

fn report(one: Watched) {
    error!(
        "the thread {} made a system call that it may not make, and the kernel has killed it: an \
         attack, or a bug to report with what the kernel's log says of it",
        one.name
    );
    (one.killed)();
}

/// Ends the process as it is. The kernel takes TUN and nftables tables with it, and the journal has the rest.
fn end() -> ! {
    error!(
        "the end is not reached: the killed thread holds what others wait for. Ended without saving; the \
         next start, or recover, undoes the changes of the host that are left"
    );
    std::process::exit(1)
}

static GRACE: OnceLock<Duration> = OnceLock::new();
/// `PIDFD_THREAD` of `linux/pidfd.h`.
const PIDFD_THREAD: PidfdFlags = PidfdFlags::from_bits_retain(0o200);
/// How often a thread that is joined is looked at.
const STEP: Duration = Duration::from_millis(1);
