//! Notices that other programs write kernel parameters.
//!
//! A parameter that this process has set may be what another program wants as well: it writes the
//! value that is there already, and netlink says nothing. File notifications (inotify) do.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::{Host, sysctl};

/// A watch on a kernel parameter. Writes of this process count too: watch after them.
#[derive(Debug)]
pub struct WriteWatch {
    key: String,
    is_written: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Host {
    /// Notices from now on that a kernel parameter is written. Must be called within a tokio
    /// runtime.
    ///
    /// # Errors
    /// If the kernel does not have the parameter, or no watch is to be had.
    pub fn watch_parameter(&self, key: impl Into<String>) -> io::Result<WriteWatch> {
        let key = key.into();
        let watch = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        inotify::add_watch(&watch, sysctl::path(&key), WatchFlags::MODIFY)?;
        // In fact no pipe: tokio reads both in the same way.
        let events = Receiver::from_owned_fd_unchecked(watch)?;
        let is_written = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(forward(
            events,
            Arc::clone(&is_written),
            Arc::clone(&self.written),
        ));
        Ok(WriteWatch {
            key,
            is_written,
            task,
        })
    }

    /// Waits until a parameter is written that is watched. Cancelling the wait loses nothing.
    pub async fn parameter_written(&self) {
        self.written.notified().await;
    }
}

impl WriteWatch {
    /// The parameter.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// True if it was written since the last call.
    pub fn take(&self) -> bool {
        self.is_written.swap(false, Ordering::AcqRel)
    }
}

impl Drop for WriteWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn forward(mut events: Receiver, is_written: Arc<AtomicBool>, written: Arc<Notify>) {
    let mut buffer = [0; 1024];
    while let Ok(1..) = events.read(&mut buffer).await {
        is_written.store(true, Ordering::Release);
        written.notify_one();
    }
}
