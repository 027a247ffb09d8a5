//! A network namespace that exists only as long as this process wants it to.
//!
//! It has no name and no file under `/run/netns`: a thread enters it by the descriptor kept here,
//! and processes that are started from such a thread are born in it. When the [`Namespace`] is
//! dropped and its processes are gone, the kernel removes it with every link inside, so that
//! nothing can be left behind, not even by a run that is killed.
//!
//! `/proc/sys/net` shows the namespace of the thread that reads it, so that closures given to
//! [`Namespace::run`] see the right values there.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::panic::resume_unwind;
use std::process::{Child, Command};
use std::sync::mpsc;
use std::thread;

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, setns, unshare};

use crate::netlink;

/// A network namespace of our own; `lo` is up in it, and it has nothing else. Duplicate address
/// detection is off, so that an address can be used when it is there.
pub struct Namespace {
    name: String,
    net: File,
    /// Closed before `keeper` is joined: that ends the thread.
    commands: Option<mpsc::Sender<Order>>,
    keeper: Option<thread::JoinHandle<()>>,
}

/// A command to start, and where to answer.
type Order = (Command, mpsc::Sender<io::Result<Child>>);

impl Namespace {
    /// Makes a namespace. `name` is for messages only.
    ///
    /// # Errors
    /// Without the right to make network namespaces.
    pub fn new(name: impl Into<String>) -> Result<Self> {
        let name = name.into();
        let (tell, told) = mpsc::channel();
        let (commands, orders) = mpsc::channel::<Order>();
        let keeper = thread::Builder::new()
            .name(format!("netns {name}"))
            .spawn(move || {
                let made = make();
                let ready = made.is_ok();
                if tell.send(made).is_err() || !ready {
                    return;
                }
                for (mut command, answer) in orders {
                    let _ = answer.send(command.spawn());
                }
            })?;
        let net = told
            .recv()
            .context("the thread of the namespace is gone")?
            .with_context(|| format!("no network namespace for {name}"))?;
        let namespace = Self {
            name,
            net,
            commands: Some(commands),
            keeper: Some(keeper),
        };
        // The kernel takes the larger of this and the interface's own value.
        namespace.set_sysctl("ipv6/conf/all/accept_dad", "0")?;
        namespace.run(|| netlink::set_up("lo"))?;
        Ok(namespace)
    }

    /// The name given to [`Namespace::new`].
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `work` on a new thread inside the namespace and waits for it. Threads and processes
    /// started by `work` are in the namespace as well. A panic goes on in the caller.
    ///
    /// # Errors
    /// Those of `work`, and those of entering the namespace.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let enter = || {
            setns(&self.net, CloneFlags::CLONE_NEWNET)
                .with_context(|| format!("namespace {} cannot be entered", self.name))?;
            work().with_context(|| format!("in namespace {}", self.name))
        };
        let outcome = thread::scope(|scope| scope.spawn(enter).join());
        outcome.unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// Starts a process inside. It is the child of a thread that lives as long as the namespace,
    /// so that a death signal of the parent means the end of this namespace.
    ///
    /// # Errors
    /// Those of [`Command::spawn`].
    pub fn spawn(&self, command: Command) -> Result<Child> {
        let program = command.get_program().to_string_lossy().into_owned();
        let (answer, child) = mpsc::channel();
        let commands = self.commands.as_ref().context("the namespace is closing")?;
        commands
            .send((command, answer))
            .context("the thread of the namespace is gone")?;
        child
            .recv()
            .context("the thread of the namespace is gone")?
            .with_context(|| format!("{program} cannot be started"))
    }

    /// Writes a value below `/proc/sys/net`, for example `ipv6/conf/all/forwarding`.
    ///
    /// # Errors
    /// When there is no such key, or the kernel refuses the value.
    pub fn set_sysctl(&self, key: &str, value: &str) -> Result<()> {
        let path = format!("/proc/sys/net/{key}");
        self.run(|| std::fs::write(&path, value).with_context(|| path.clone()))
    }

    /// Reads a value below `/proc/sys/net`.
    ///
    /// # Errors
    /// When there is no such key.
    pub fn sysctl(&self, key: &str) -> Result<String> {
        let path = format!("/proc/sys/net/{key}");
        let text = self.run(|| std::fs::read_to_string(&path).with_context(|| path.clone()))?;
        Ok(text.trim().to_owned())
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.net.as_fd()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        self.commands = None;
        if let Some(keeper) = self.keeper.take() {
            let _ = keeper.join();
        }
    }
}

fn make() -> io::Result<File> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    File::open("/proc/thread-self/ns/net")
}
